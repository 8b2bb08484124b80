"""How far the cause of a change moved: a share for each knock-out."""

from __future__ import annotations

import altair as alt
import pandas as pd

from hydrascope.figures.build import LEGEND, View, compact, finish, places, reading, zero_line
from hydrascope.figures.theme import LIGHT

SQUARES = LEGEND - 6
"""Height of a legend of squares, which is less than that of a legend of points."""

_KINDS = {
    "attn": "attention",
    "mlp": "an MLP",
    "mixer": "a mixer",
    "layer": "a layer",
    "head": "a head",
    "neuron": "a neuron",
    "expert": "an expert",
    "edge": "an edge",
    "joint": "several parts",
}


def without(kind: str) -> str:
    """A kind of knock-out, for a title."""
    return f"{_KINDS.get(kind, kind)} knocked out"


def share_by_layer(
    table: pd.DataFrame,
    share: str,
    *,
    layers: int,
    colour: str,
    axis: str,
    many: str,
    title: str,
    description: str,
) -> View:
    """A share, the mean over the writers behind each knock-out, with its interval.

    Args:
        table: rows of `analysis.two_ways.totals`.
        share: its column.
        layers: number of blocks of the model.
        colour: of the bars.
        axis: title of the vertical axis.
        many: what the writers are called.
        title: of the chart.
        description: for those who cannot see it.
    """
    place = places(table.assign(own_change=table["change"]), layers)
    columns = ["ablated", "at", "writers", share, f"{share}_lo", f"{share}_hi"]
    base = alt.Chart(compact(place.table[columns])).transform_calculate(
        left="datum.at - 0.3", right="datum.at + 0.3", zero="0"
    )
    y = alt.Y(f"{share}:Q", title=axis, axis=alt.Axis(format="%"))
    bars = base.mark_rect(stroke=None, fill=colour).encode(
        x=place.x("left"),
        x2="right:Q",
        y=y,
        y2="zero:Q",
        tooltip=[
            alt.Tooltip("ablated:N", title="knocked out"),
            reading(share, axis, ".1%"),
            reading(f"{share}_lo", "from", ".1%"),
            reading(f"{share}_hi", "to", ".1%"),
            alt.Tooltip("writers:Q", title=many),
        ],
    )
    spans = []
    if place.table[f"{share}_lo"].notna().any():
        span = base.mark_rule(strokeWidth=1.5, color=LIGHT.total)
        spans.append(span.encode(x="at:Q", y=f"{share}_lo:Q", y2=f"{share}_hi:Q"))
    return finish(alt.layer(bars, *spans, zero_line()), title=title, description=description, spare=SQUARES)
