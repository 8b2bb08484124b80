"""What routed MLPs do about a knock-out: change what the same experts write, or ask others."""

from __future__ import annotations

import altair as alt
import pandas as pd

from hydrascope.figures.build import View, finish
from hydrascope.figures.shares import SQUARES, share_by_layer, without
from hydrascope.figures.stacked import stacked
from hydrascope.figures.theme import LIGHT

PARTS = {"mlp": ("same_experts", "same experts"), "mixer": ("rerouted", "re-routed")}
"""Role in the theme to a part of the change and its name."""


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
    title = f"Routed MLPs, {without(ablated_kind)}"
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
    title = f"Routing change, {without(ablated_kind)}"
    return share_by_layer(
        table[table["ablated_kind"] == ablated_kind],
        "routing_change",
        layers=layers,
        colour=LIGHT.mixer,
        axis="experts that are new",
        many="routed MLPs behind it",
        title=title,
        description=f"{title}: share of the experts asked that the clean run did not ask.",
    )
