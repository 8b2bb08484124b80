"""Erasure by late MLPs, and how much of it a knock-out releases."""

from __future__ import annotations

import altair as alt
import pandas as pd

from hydrascope.figures._bars import stacked, with_intervals
from hydrascope.figures._chart import LEGEND, UNIT, View, estimate, finish, reading
from hydrascope.figures._over_layers import depth
from hydrascope.figures._theme import LIGHT

PARTS = {
    "positive": ("relaxed", "relaxed suppression"),
    "positive_soft": ("promoted", "new promotion"),
    "negative_soft": ("lost", "lost promotion"),
    "negative": ("strengthened", "stronger suppression"),
}
"""Role in the theme to a part of the change and its name."""


def late_mlp_effects(table: pd.DataFrame, *, layers: int, unit: str = UNIT) -> View:
    """Clean direct effect of each late MLP on the answer, with its interval.

    Args:
        table: from `analysis.late_mlps`.
        layers: number of blocks of the model.
        unit: unit of the logits, on the axis.
    """
    ends = ["direct_effect", "direct_effect_lo", "direct_effect_hi"]
    rows = table[["writer", "writer_layer", *ends, "share_negative"]]
    drawn = with_intervals(
        rows.rename(columns={"writer_layer": "at"}),
        "direct_effect",
        x=depth("left", "MLP", layers, int(table["writer_layer"].min())),
        y=alt.Y("direct_effect:Q", title=f"direct effect ({unit})"),
        colour=LIGHT.mlp,
        tooltip=[
            alt.Tooltip("writer:N", title="writer"),
            *estimate("direct_effect", "direct effect"),
            reading("share_negative", "prompts it writes against", ".0%"),
        ],
    )
    title = "Late MLPs in the clean run"
    return finish(
        drawn,
        title=title,
        description=f"{title}: mean direct effect on the answer, below zero is against it.",
        spare=LEGEND + 14,
    )


def released_by_layer(table: pd.DataFrame, ablated_kind: str, *, layers: int, legend: bool = True) -> View:
    """Change of all late MLPs under each knock-out, in four parts split at zero.

    Args:
        table: from `analysis.released`, the rows of the MLPs.
        ablated_kind: kind of component knocked out.
        layers: number of blocks of the model.
        legend: whether to explain the colours.
    """
    bars = stacked(
        table[table["ablated_kind"] == ablated_kind],
        PARTS,
        layers=layers,
        title="change of late MLPs (logits)",
        legend=alt.Legend(columns=2) if legend else None,
        outwards=("promoted", "lost", "relaxed", "strengthened"),
    )
    title = "Under each knock-out"
    return finish(
        bars,
        title=title,
        description=f"{title}: change of the late MLPs, split into suppression and promotion; diamonds are sums.",
    )
