"""What routed MLPs do about a knock-out: change what the same experts write, or ask others."""

from __future__ import annotations

import altair as alt
import pandas as pd

from hydrascope.figures.build import LEGEND, View, compact, finish, places, reading, zero_line
from hydrascope.figures.stacked import stacked
from hydrascope.figures.theme import LIGHT

PARTS = {"mlp": ("same_experts", "same experts"), "mixer": ("rerouted", "re-routed")}
"""Role in the theme to a part of the change and its name."""

SQUARES = LEGEND - 6
"""Height of a legend of squares, which is less than that of a legend of points."""


def rerouted_by_layer(table: pd.DataFrame, ablated_kind: str, *, layers: int, legend: bool = True) -> View:
    """What all routed MLPs behind each knock-out change, split by what their routers did.

    Args:
        table: from `analysis.routing.routing_totals`.
        ablated_kind: kind of component knocked out.
        layers: number of blocks of the model.
        legend: whether to explain the colours.
    """
    bars = stacked(
        table[table["ablated_kind"] == ablated_kind],
        PARTS,
        layers=layers,
        title="change of routed MLPs (logits)",
        legend=alt.Legend() if legend else None,
    )
    title = f"Routed MLPs, {_WITHOUT.get(ablated_kind, ablated_kind)} knocked out"
    return finish(
        bars,
        title=title,
        description=f"{title}: change split into what the same experts write and what re-routing adds; "
        "diamonds are sums.",
        spare=0 if legend else SQUARES,
    )


def routing_change_by_layer(table: pd.DataFrame, ablated_kind: str, *, layers: int) -> View:
    """Share of the chosen experts that are others than in the clean run, mean over the routed MLPs behind.

    Args:
        table: from `analysis.routing.routing_totals`.
        ablated_kind: kind of component knocked out.
        layers: number of blocks of the model.
    """
    columns = ["ablated", "at", "writers", "routing_change", "routing_change_lo", "routing_change_hi"]
    here = table[table["ablated_kind"] == ablated_kind]
    place = places(here.assign(own_change=here["change"]), layers)
    base = alt.Chart(compact(place.table[columns])).transform_calculate(
        left="datum.at - 0.3", right="datum.at + 0.3", zero="0"
    )
    y = alt.Y("routing_change:Q", title="experts that are new", axis=alt.Axis(format="%"))
    bars = base.mark_rect(stroke=None, fill=LIGHT.mixer).encode(
        x=place.x("left"),
        x2="right:Q",
        y=y,
        y2="zero:Q",
        tooltip=[
            alt.Tooltip("ablated:N", title="knocked out"),
            reading("routing_change", "experts that are new", ".1%"),
            reading("routing_change_lo", "from", ".1%"),
            reading("routing_change_hi", "to", ".1%"),
            alt.Tooltip("writers:Q", title="routed MLPs behind it"),
        ],
    )
    spans = []
    if place.table["routing_change_lo"].notna().any():
        span = base.mark_rule(strokeWidth=1.5, color=LIGHT.total)
        spans.append(span.encode(x="at:Q", y="routing_change_lo:Q", y2="routing_change_hi:Q"))
    title = f"Routing change, {_WITHOUT.get(ablated_kind, ablated_kind)} knocked out"
    return finish(
        alt.layer(bars, *spans, zero_line()),
        title=title,
        description=f"{title}: share of the experts asked that the clean run did not ask.",
        spare=SQUARES,
    )


_WITHOUT = {"attn": "attention", "mlp": "an MLP", "mixer": "a mixer", "layer": "a layer", "joint": "several parts"}
"""What was knocked out, for a title."""
