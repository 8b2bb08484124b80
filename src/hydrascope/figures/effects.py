"""Direct effect against total effect (figure 2 of McGrath et al. 2023, arXiv 2307.15771)."""

from __future__ import annotations

from typing import Literal

import altair as alt
import pandas as pd

from hydrascope.figures.build import (
    LEGEND,
    MARKS,
    UNIT,
    View,
    compact,
    depth,
    every_nth,
    finish,
    kind_colour,
    kind_shape,
    line_with_interval,
    reading,
    with_labels,
    zero_line,
)
from hydrascope.figures.theme import LIGHT

Effect = Literal["direct_effect", "drop"]
Agreement = Literal["r2", "share_exceeds"]

_EFFECTS: dict[Effect, str] = {
    "direct_effect": "Direct effect: what it writes",
    "drop": "Drop: what is lost without it",
}
_AGREEMENTS: dict[Agreement, str] = {
    "r2": "R² of drop on direct effect",
    "share_exceeds": "Prompts: direct effect above drop",
}


def effect_by_layer(table: pd.DataFrame, effect: Effect, *, layers: int, legend: bool = True, unit: str = UNIT) -> View:
    """Mean effect of each attention layer and MLP over depth, with intervals.

    Both effects have the same vertical axis, so that two such charts can be compared.

    Args:
        table: from `analysis.repair.layer_effects`.
        effect: `direct_effect` or `drop` (minus the total effect), logits.
        layers: number of blocks of the model.
        legend: whether to explain the colours; leave it to the first of several charts.
        unit: what the logits are of, on the axis.
    """
    table = with_labels(table)
    ends = [f"{name}{end}" for name in _EFFECTS for end in ("", "_lo", "_hi")]
    low, high = min(0.0, table[ends].min().min()), max(0.0, table[ends].max().max())
    y = alt.Y(f"{effect}:Q", title=unit, scale=alt.Scale(domain=[low, high], nice=True))
    lines = line_with_interval(
        _columns(table, effect),
        effect,
        title=unit,
        x=depth("ablated_layer", layers=layers),
        legend=legend,
        y=y,
        tooltip=[alt.Tooltip("ablated:N", title="component"), *_readings(effect)],
    )
    title = _EFFECTS[effect]
    return finish(
        zero_line() + lines,
        title=title,
        description=f"{title}, over the layers, by kind.",
        spare=0 if legend else LEGEND,
    )


def unembed_against_drop(points: pd.DataFrame, *, legend: bool = True) -> View:
    """One point per prompt and component: direct effect across, drop upwards, and the line where they agree.

    Args:
        points: from `analysis.repair.effect_points`.
        legend: whether to explain the colours.
    """
    points = with_labels(every_nth(points, MARKS - 2))
    both = points[["direct_effect", "drop"]]
    low, high = float(both.min().min()), float(both.max().max())
    x = alt.X("direct_effect:Q", title="direct effect (logits)", axis=alt.Axis(grid=True, domain=False))
    y = alt.Y("drop:Q", title="drop when knocked out (logits)")
    columns = ["ablated", "kind", "prompt", "direct_effect", "drop"]
    cloud = (
        alt.Chart(compact(points[columns]))
        .mark_point(size=12, opacity=0.35)
        .encode(
            x=x,
            y=y,
            color=kind_colour(points, legend),
            shape=kind_shape(points, legend),
            tooltip=[
                alt.Tooltip("ablated:N", title="component"),
                alt.Tooltip("prompt:N", title="prompt"),
                reading("direct_effect", "direct effect"),
                reading("drop", "drop"),
            ],
        )
    )
    ends = alt.Data(values=[{"direct_effect": low, "drop": low}, {"direct_effect": high, "drop": high}])
    agree = alt.Chart(ends).mark_line(strokeWidth=1.2, strokeDash=[5, 4], color=LIGHT.own).encode(x=x, y=y)
    return finish(
        cloud + agree,
        title="Every prompt and component",
        description="Scatter of direct effect against drop; the dashed line is where both are equal.",
        height=420,
    )


def agreement_by_layer(table: pd.DataFrame, measure: Agreement, *, layers: int) -> View:
    """How well the direct effect tells the drop, over depth.

    Args:
        table: from `analysis.repair.layer_effects`.
        measure: `r2`, or `share_exceeds`, the share of prompts above the line of agreement.
        layers: number of blocks of the model.
    """
    table = with_labels(table)
    percent = measure == "share_exceeds"
    axis = alt.Axis(format="%" if percent else ".1f", tickCount=5)
    y = alt.Y(f"{measure}:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=axis)
    lines = line_with_interval(
        _columns(table, measure),
        measure,
        title="",
        x=depth("ablated_layer", layers=layers),
        legend=False,
        y=y,
        tooltip=[
            alt.Tooltip("ablated:N", title="component"),
            *_readings(measure, ".0%" if percent else ".2f"),
        ],
    )
    title = _AGREEMENTS[measure]
    return finish(lines, title=title, description=f"{title}, over the layers, by kind.", height=150)


def _columns(table: pd.DataFrame, value: str) -> pd.DataFrame:
    return table[["ablated", "ablated_layer", "ablated_kind", "kind", value, f"{value}_lo", f"{value}_hi"]]


def _readings(value: str, form: str = "+.3~g") -> list[alt.Tooltip]:
    return [
        reading(value, "mean", form),
        reading(f"{value}_lo", "from", form),
        reading(f"{value}_hi", "to", form),
    ]
