"""A quantity of every head (or other unit) on the grid of layers and units."""

from __future__ import annotations

from typing import Literal

import altair as alt
import pandas as pd

from hydrascope.figures.build import MARKS, View, compact, finish, reading
from hydrascope.figures.theme import LIGHT, diverging_scale

Shown = Literal["own_change", "compensation_attn", "total_effect", "restored_with_norm"]

_TITLES: dict[Shown, str] = {
    "own_change": "Own change",
    "compensation_attn": "Answer of later attention",
    "total_effect": "Total effect",
    "restored_with_norm": "Share restored, norm included",
}
UNIT = 22
"""Height of a row."""
WIDEST = 128
"""Most units in a layer that can be told apart."""


def unit_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `analysis.repair.repair` that are single heads, neurons ..., with a column `unit`.

    Only the most frequent kind of unit is kept; no rows where none was knocked out by itself.
    """
    found = table["ablated"].astype(str).str.extract(r"^(?P<kind>\w+)\.\d+\.(?P<unit>\d+)$")
    rows = table.assign(unit=found["unit"], kind=found["kind"]).dropna(subset=["unit"])
    if rows.empty:
        return rows
    found_most: pd.DataFrame = rows[rows["kind"] == rows["kind"].mode()[0]]
    return found_most.astype({"unit": int})


def has_unit_grid(table: pd.DataFrame) -> bool:
    """Whether there are units enough, and few enough, for a grid to show more than a list."""
    rows = unit_rows(table)
    return 2 < len(rows) <= MARKS and rows["ablated_layer"].nunique() > 1 and int(rows["unit"].max()) < WIDEST


def unit_grid(table: pd.DataFrame, value: Shown) -> View:
    """Heat map over layers (downwards) and units (across).

    Own change and total effect have the same colours for the same numbers; answers, which are smaller, have their own.
    Shares are left empty where they may not be read, and take the colour of the end beyond 100 %.

    Args:
        table: from `analysis.repair.repair`.
        value: what is drawn.
    """
    rows = unit_rows(table)
    share = value == "restored_with_norm"
    together = ["own_change", "total_effect"] if value != "compensation_attn" else [value]
    limit = 1.0 if share else float(rows[together].abs().max().max())
    kind = str(rows["kind"].iloc[0])
    layers = sorted({int(layer) for layer in rows["ablated_layer"]})
    units = list(range(int(rows["unit"].max()) + 1))
    legend = alt.Legend(
        title="share of the loss" if share else "logits",
        gradientLength=150,
        gradientThickness=10,
        tickCount=3,
        format=".0%" if share else "~g",
        titlePadding=6,
    )
    encoding = {
        "x": alt.X(
            "unit:O",
            title=kind,
            scale=alt.Scale(domain=units),
            axis=alt.Axis(labelAngle=0, values=units[:: -(-len(units) // 16)], grid=False, domain=False),
        ),
        "y": alt.Y(
            "ablated_layer:O", title="layer", scale=alt.Scale(domain=layers), axis=alt.Axis(grid=False, domain=False)
        ),
    }
    columns = ["ablated", "ablated_layer", "unit", value, f"{value}_lo", f"{value}_hi"]
    form = "+.0%" if share else "+.3~g"
    known = rows[rows["meaningful"]] if share else rows
    empty = (
        alt.Chart(rows[["ablated", "ablated_layer", "unit"]])
        .mark_rect(fill=LIGHT.grid, stroke=LIGHT.paper, strokeWidth=1, opacity=0.45)
        .encode(**encoding)
    )
    tiles = (
        alt.Chart(compact(known[columns]))
        .mark_rect(stroke=LIGHT.paper, strokeWidth=1)
        .encode(
            **encoding,
            color=alt.Color(f"{value}:Q", scale=diverging_scale(limit), legend=legend),
            tooltip=[
                alt.Tooltip("ablated:N", title="knocked out"),
                reading(value, _TITLES[value].lower(), form),
                reading(f"{value}_lo", "from", form),
                reading(f"{value}_hi", "to", form),
            ],
        )
    )
    return finish(
        alt.layer(empty, tiles),
        title=_TITLES[value],
        description=f"{_TITLES[value]}: heat map over layers and {kind}s.",
        height=UNIT * len(layers),
    )
