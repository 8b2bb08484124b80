"""Direct against total effects (McGrath et al. 2023, figure 2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import altair as alt
import pandas as pd

from hydrascope.figures._chart import (
    LEGEND,
    MARKS,
    UNIT,
    View,
    compact,
    diagonal,
    estimate,
    every_nth,
    finish,
    knockout_picker,
    picker,
    reading,
    rule,
)
from hydrascope.figures._over_layers import depth, kind_colour, kind_shape, line_with_interval, with_labels

Effect = Literal["direct_effect", "drop"]
Agreement = Literal["r2", "share_exceeds"]

_EFFECTS: dict[Effect, str] = {
    "direct_effect": "Direct effect: what it writes",
    "drop": "Minus total effect: what is lost without it",
}
_AGREEMENTS: dict[Agreement, str] = {
    "r2": "R² of total on direct effect",
    "share_exceeds": "Prompts: direct effect exceeds loss",
}
_COMPONENT = alt.Tooltip("ablated:N", title="component")
RUNS = {"clean": "clean", "ablated": "knocked out"}


def effect_by_layer(table: pd.DataFrame, effect: Effect, *, layers: int, legend: bool = True, unit: str = UNIT) -> View:
    """Mean effect of each attention layer and MLP over depth, with intervals.

    Both effects have the same vertical axis, so that two such charts can be compared.

    Args:
        table: from `analysis.layer_effects`.
        effect: `direct_effect` or `drop` (minus the total effect), logits.
        layers: number of blocks of the model.
        legend: whether to explain the colours; leave it to the first of several charts.
        unit: unit of the logits, on the axis.
    """
    ends = [f"{name}{end}" for name in _EFFECTS for end in ("", "_lo", "_hi")]
    low, high = min(0.0, table[ends].min().min()), max(0.0, table[ends].max().max())
    y = alt.Y(f"{effect}:Q", title=unit, scale=alt.Scale(domain=[low, high], nice=True))
    lines = line_with_interval(
        table,
        effect,
        x=depth("ablated_layer", layers=layers),
        y=y,
        tooltip=[_COMPONENT, *estimate(effect, "mean")],
        legend=legend,
    )
    title = _EFFECTS[effect]
    return finish(
        rule(0) + lines,
        title=title,
        description=f"{title}, over the layers, by kind.",
        spare=0 if legend else LEGEND,
    )


def direct_against_total(points: pd.DataFrame, *, legend: bool = True) -> View:
    """Direct effect (across) against minus total effect, per prompt and component.

    Args:
        points: from `analysis.effect_points`.
        legend: whether to explain the colours.
    """
    points = with_labels(every_nth(points, MARKS - 2))
    both = points[["direct_effect", "drop"]]
    low, high = float(both.min().min()), float(both.max().max())
    x = alt.X("direct_effect:Q", title="direct effect (logits)", axis=alt.Axis(grid=True, domain=False))
    y = alt.Y("drop:Q", title="minus total effect (logits)")
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
                _COMPONENT,
                alt.Tooltip("prompt:N", title="prompt"),
                reading("direct_effect", "direct effect"),
                reading("drop", "lost in total"),
            ],
        )
    )
    return finish(
        cloud + diagonal(x, y, ["direct_effect", "drop"], low, high),
        title="Every prompt and component",
        description="Scatter of minus total effect against direct effect; on the dashed line both are equal.",
        height=420,
    )


def agreement_by_layer(table: pd.DataFrame, measure: Agreement, *, layers: int, legend: bool = True) -> View:
    """How well the direct effect predicts the total effect, over depth.

    Args:
        table: from `analysis.layer_effects`.
        measure: `r2`, or `share_exceeds`, the share of prompts above the line of agreement.
        layers: number of blocks of the model.
        legend: whether to explain the colours.
    """
    percent = measure == "share_exceeds"
    axis = alt.Axis(format="%" if percent else ".1f", tickCount=5)
    y = alt.Y(f"{measure}:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=axis)
    lines = line_with_interval(
        table,
        measure,
        x=depth("ablated_layer", layers=layers),
        y=y,
        tooltip=[_COMPONENT, *estimate(measure, "mean", ".0%" if percent else ".2f")],
        legend=legend,
    )
    title = _AGREEMENTS[measure]
    return finish(lines, title=title, description=f"{title}, over the layers, by kind.", height=150)


def prompt_views(
    views: Mapping[tuple[str, str], pd.DataFrame],
    *,
    layers: int,
    shown: tuple[str, str] | None = None,
    unit: str = UNIT,
) -> View:
    """Direct effect of every writer on one prompt, clean and under one knock-out.

    Args:
        views: (prompt as it is written in the list, knock-out) to the table of `analysis.prompt_view`.
        layers: number of blocks of the model.
        shown: pair shown first.
        unit: unit of the logits, on the axis.
    """
    table = pd.concat([_one(view, text, name) for (text, name), view in views.items()], ignore_index=True)
    shown = shown or next(iter(views))
    texts, names = (
        list(dict.fromkeys(text for text, _ in views)),
        list(dict.fromkeys(name for _, name in views)),
    )
    lines = pd.concat(
        [table.assign(run=label, value=table[column]) for column, label in RUNS.items()], ignore_index=True
    )
    band = table.assign(low=table["ablated"] - table["sd"], high=table["ablated"] + table["sd"])

    x = depth("writer_layer", layers=layers)
    y = alt.Y("value:Q", title=f"direct effect ({unit})")
    chosen = "datum.text == prompt && datum.knockout == knocked"
    keys = ["text", "knockout", "writer_layer", "kind"]
    spread = (
        alt.Chart(compact(band[[*keys, "low", "high"]]))
        .transform_filter(chosen)
        .mark_area(opacity=0.2)
        .encode(x=x, y="low:Q", y2="high:Q", color=kind_colour(table))
    )
    base = alt.Chart(compact(lines[[*keys, "writer", "run", "value"]])).transform_filter(chosen)
    dash = alt.StrokeDash(
        "run:N",
        scale=alt.Scale(domain=list(RUNS.values()), range=[[4, 4], [1, 0]]),
        legend=alt.Legend(symbolType="stroke", symbolStrokeWidth=2, symbolSize=300),
    )
    curves = base.mark_line().encode(x=x, y=y, color=kind_colour(table), strokeDash=dash)
    dots = base.mark_point(size=34).encode(
        x=x,
        y=y,
        color=kind_colour(table),
        shape=kind_shape(table),
        opacity=alt.condition(f"datum.run == '{RUNS['clean']}'", alt.value(0.35), alt.value(1)),
        tooltip=[
            alt.Tooltip("writer:N", title="writer"),
            alt.Tooltip("run:N", title="run"),
            reading("value", "direct effect"),
        ],
    )
    places = table.loc[table["is_own"], ["knockout", "writer_layer"]].drop_duplicates()
    mark = (
        alt.Chart(places)
        .transform_filter("datum.knockout == knocked")
        .mark_rule(strokeDash=[2, 3])
        .encode(x=alt.X("writer_layer:Q"))
    )
    known = band[["low", "high"]].notna().all(axis=1)
    bands = [spread] if known.any() else []
    chart = alt.layer(rule(0), mark, *bands, curves, dots).add_params(
        picker("prompt", "Prompt", texts, shown[0]), knockout_picker(names, shown[1])
    )
    return finish(
        chart,
        title=alt.ExprRef("['Without ' + knocked, prompt]"),
        description="Direct effects of attention layers and MLPs on one prompt, clean and knocked out.",
        height=320,
    )


def _one(view: pd.DataFrame, text: str, knockout: str) -> pd.DataFrame:
    inside = view[~view["writer_kind"].isin(["embed", "bias"])]
    return with_labels(inside, "writer_kind").assign(text=text, knockout=knockout)
