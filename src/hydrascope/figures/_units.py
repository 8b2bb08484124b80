"""Quantities of heads, and of other units, on the grid of layers and units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt
import pandas as pd

from hydrascope.figures._chart import (
    CHOSEN,
    KNOCKED_OUT,
    MARKS,
    View,
    compact,
    estimate,
    finish,
    knockout_picker,
    reading,
)
from hydrascope.figures._theme import LIGHT, diverging_scale

Shown = Literal["direct_effect", "own_change", "compensation_attn", "total_effect", "restored_with_norm"]

_TITLES: dict[Shown, str] = {
    "direct_effect": "Direct effect",
    "own_change": "Own change",
    "compensation_attn": "Compensation by later attention",
    "total_effect": "Total effect",
    "restored_with_norm": "Share restored, norm included",
}
UNIT = 22
"""Height of a row."""
WIDEST = 128
"""Most units of a layer that can be told apart."""


def unit_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `analysis.repair` of single units, with a column `unit`.

    Only the most frequent kind of unit is kept.
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

    Direct effect, own change and total effect have the same colours for the same numbers; compensation, which is
    smaller, has its own. Shares are left empty where they may not be read, and take the colour of the end beyond 100 %.

    Args:
        table: from `analysis.repair`.
        value: quantity shown.
    """
    rows = unit_rows(table)
    return _grid(rows, value, str(rows["kind"].iloc[0]), [KNOCKED_OUT])


def head_grid(table: pd.DataFrame, value: Shown) -> View:
    """Heat map over layers (downwards) and heads (across), with tooltips.

    Args:
        table: from `analysis.heads`.
        value: quantity shown.
    """
    rows = table.rename(columns={"head": "ablated", "layer": "ablated_layer"})
    repairers = zip(table["repairer"].astype(str), table["repairer_change"].astype(float), strict=True)
    rows = rows.assign(who=[f"{name} ({change:+.2g})" if name else "nobody" for name, change in repairers])
    told = [alt.Tooltip("ablated:N", title="head")]
    others: dict[Shown, str] = {"direct_effect": "+.3~g", "own_change": "+.3~g", "restored_with_norm": "+.0%"}
    told += [
        reading(name, _TITLES[name].lower(), form)
        for name, form in others.items()
        if name != value and name in rows and rows[name].notna().all()
    ]
    told += [alt.Tooltip("who:N", title="repaired most by")] if rows["knocked_out"].all() else []
    return _grid(rows, value, "head", told)


def head_answers(table: pd.DataFrame, every: pd.DataFrame, names: Sequence[str], shown: str | None = None) -> View:
    """How every head responds to one knock-out, on the grid of layers and heads.

    Args:
        table: from `analysis.head_answers`.
        every: from `analysis.heads`.
        names: addresses of the knock-outs that can be chosen.
        shown: address of the knock-out shown first.
    """
    rows = table[table["ablated"].isin(names)]
    every = every.loc[every["direct_effect"].notna(), ["layer", "unit"]]
    encoding, height = _axes(every["layer"], every["unit"], "layer", "head")
    tiles = (
        alt.Chart(compact(rows))
        .transform_filter(CHOSEN)
        .mark_rect(stroke=LIGHT.paper, strokeWidth=1)
        .encode(
            **encoding,
            color=alt.Color(
                "change:Q", scale=diverging_scale(float(rows["change"].abs().max())), legend=_legend(share=False)
            ),
            tooltip=[
                alt.Tooltip("head:N", title="head"),
                *estimate("change", "writes more by"),
                reading("direct_effect", "direct effect"),
            ],
        )
        .add_params(knockout_picker(names, shown))
    )
    return finish(
        alt.layer(_empty(every, encoding), tiles),
        title=alt.ExprRef("'Compensation by heads without ' + knocked"),
        description="How much more or less every head writes for the answer under one knock-out.",
        height=height,
    )


def _grid(rows: pd.DataFrame, value: Shown, kind: str, told: Sequence[alt.Tooltip]) -> View:
    share = value == "restored_with_norm"
    together = [name for name in ("direct_effect", "own_change", "total_effect") if name in rows]
    limit = 1.0 if share else float(rows[together if value in together else [value]].abs().max().max())
    encoding, height = _axes(rows["ablated_layer"], rows["unit"], "ablated_layer", kind)
    form = "+.0%" if share else "+.3~g"
    known = rows[rows["meaningful"] if share else rows[value].notna()]
    fields: list[dict[str, Any]] = [tip.to_dict() for tip in told]  # type: ignore[misc]
    told_of = [str(field["field"]) for field in fields]
    columns = dict.fromkeys([*told_of, "ablated", "ablated_layer", "unit", value, f"{value}_lo", f"{value}_hi"])
    tiles = (
        alt.Chart(compact(known[list(columns)]))
        .mark_rect(stroke=LIGHT.paper, strokeWidth=1)
        .encode(
            **encoding,
            color=alt.Color(f"{value}:Q", scale=diverging_scale(limit), legend=_legend(share)),
            tooltip=[
                told[0],
                *estimate(value, _TITLES[value].lower(), form),
                *told[1:],
            ],
        )
    )
    return finish(
        alt.layer(_empty(rows[["ablated", "ablated_layer", "unit"]], encoding), tiles),
        title=_TITLES[value],
        description=f"{_TITLES[value]}: heat map over layers and {kind}s.",
        height=height,
    )


def _axes(layers: pd.Series[int], units: pd.Series[int], field: str, kind: str) -> tuple[dict[str, Any], int]:
    """Layers downwards and units across, and the height that they need."""
    down = sorted({int(layer) for layer in layers})
    across = list(range(int(units.max()) + 1))
    encoding = {
        "x": alt.X(
            "unit:O",
            title=kind,
            scale=alt.Scale(domain=across),
            axis=alt.Axis(labelAngle=0, values=across[:: -(-len(across) // 16)], grid=False, domain=False),
        ),
        "y": alt.Y(f"{field}:O", title="layer", scale=alt.Scale(domain=down), axis=alt.Axis(grid=False, domain=False)),
    }
    return encoding, UNIT * len(down)


def _empty(rows: pd.DataFrame, encoding: dict[str, Any]) -> alt.Chart:
    """Squares where there is a unit, whether or not anything can be said of it."""
    chart: alt.Chart = (
        alt.Chart(rows).mark_rect(fill=LIGHT.grid, stroke=LIGHT.paper, strokeWidth=1, opacity=0.45).encode(**encoding)
    )
    return chart


def _legend(share: bool) -> alt.Legend:
    return alt.Legend(
        title="share of the loss" if share else "logits",
        gradientLength=150,
        gradientThickness=10,
        tickCount=3,
        format=".0%" if share else "~g",
        titlePadding=6,
    )
