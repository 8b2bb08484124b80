"""Many runs side by side: claims by run, shares by model and task, over size, training and depth."""

from __future__ import annotations

from typing import Any, Literal

import altair as alt
import pandas as pd

from hydrascope.figures._chart import KNOCKED_OUT, View, compact, estimate, finish, picker, reading, rule
from hydrascope.figures._edges import SHARES_SHOWN, arrows, scale_of, within
from hydrascope.figures._over_layers import many, renamed
from hydrascope.figures._theme import LIGHT

Share = Literal["restored", "restored_with_norm"]
Across = Literal["parameters", "step"]
Effect = Literal["own_change", "total_effect", "restored_with_norm"]

SIGNS = {"holds": "+", "does not": "−", "cannot be told": "?"}
"""Verdict to the sign in its cell, so that colour is never alone."""
_COLOURS = {"holds": LIGHT.positive_soft, "does not": LIGHT.negative_soft, "cannot be told": LIGHT.grid}
_SERIES = (
    *(LIGHT.attn, LIGHT.mlp, LIGHT.norm, LIGHT.mixer, LIGHT.own, LIGHT.negative, LIGHT.positive_soft),
    *(LIGHT.total, LIGHT.negative_soft, LIGHT.positive),
)
"""Colours of models or tasks, in their order; with more of these than colours they begin again."""
_SHARES = {"restored": "Given back by later layers", "restored_with_norm": "Given back, norm included"}
_ACROSS = {"parameters": "parameters", "step": "step of training"}
_DRAWN = "hollow: random weights"
ROW = 34
"""Height of a run's row in pixels; its label has two lines."""
APART = 1.04
"""Factor between neighbours of one size on a logarithmic axis, lest they hide each other."""

_RUN = alt.Tooltip("label:N", title="run")


def claims_by_run(table: pd.DataFrame) -> View:
    """Which claim holds in which run: a tile for each, with a sign; none where the run says nothing of it.

    Args:
        table: `claims` of `analysis.atlas.Survey`.
    """
    claims, labels = list(dict.fromkeys(table["claim"])), list(dict.fromkeys(table["label"]))
    rows = table[table["value"].notna()]
    rows = rows.assign(sign=rows["verdict"].map(SIGNS))
    columns = ["label", "claim", "verdict", "sign", "value", "value_lo", "value_hi", "where", "paper"]
    x = alt.X(
        "claim:N",
        sort=claims,
        title=None,
        scale=alt.Scale(domain=claims),
        axis=alt.Axis(orient="top", labelAngle=-90, labelLimit=240, domain=False, labelOverlap=False),
    )
    base = alt.Chart(compact(rows[columns])).encode(x=x, y=_by_run(labels))
    legend = alt.Legend(orient="bottom", title=None, symbolType="square", symbolOpacity=1)
    verdict = alt.Color(
        "verdict:N", scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())), legend=legend
    )
    tips = [
        _RUN,
        alt.Tooltip("claim:N", title="claim"),
        alt.Tooltip("verdict:N", title="here"),
        *estimate("value", "number"),
        alt.Tooltip("where:N", title="at"),
        alt.Tooltip("paper:N", title="in the paper"),
    ]
    tiles = base.mark_rect(stroke=LIGHT.paper, strokeWidth=2).encode(color=verdict, tooltip=tips)
    signs = base.mark_text(fontSize=14).encode(text="sign:N", tooltip=tips)
    title = "Which claim holds where"
    return finish(
        alt.layer(tiles, signs),
        title=title,
        description=f"{title}: {len(claims)} claims across, {len(labels)} runs down; +: holds, −: does not.",
        height=ROW * len(labels),
    )


def shares_by_run(table: pd.DataFrame, share: Share) -> View:
    """What of the loss at middle depth comes back, a row per run.

    Args:
        table: `runs` of `analysis.atlas.Survey`.
        share: with the final norm or without it.
    """
    column = f"pooled_{share}"
    rows = table[table[column].notna()]
    labels = list(dict.fromkeys(rows["label"]))
    span = (min(0.0, float(rows[column].min())) - 0.1, max(1.0, float(rows[column].max())) + 0.1)
    x = alt.X(f"{column}:Q", title=None, scale=scale_of(span), axis=alt.Axis(format="%", tickCount=5, grid=True))
    title, tips = _SHARES[share], _share_tips(column)
    return finish(
        alt.layer(
            rule(0, "x"),
            rule(1, "x", dash=(4, 4)),
            *_points(rows, column, _colour(table, "shape", legend=False), along=x, y=_by_run(labels), tips=tips),
        ),
        title=title,
        description=f"{title}: share of what attention loses at middle depth, by run, with 95 % intervals. {_DRAWN}.",
        height=ROW * len(labels),
    )


def shares_over(table: pd.DataFrame, across: Across, share: Share = "restored_with_norm") -> View:
    """What of the loss comes back over the size of the model or the step of training, a point per run.

    No line is fitted: a few models differ in much else than size.

    Args:
        table: `runs` of `analysis.atlas.Survey`.
        across: what stands across.
        share: with the final norm or without it.
    """
    column = f"pooled_{share}"
    rows = table[table[column].notna() & table[across].notna()]
    tasks = list(dict.fromkeys(rows["task"]))
    place = rows["task"].map({task: i - (len(tasks) - 1) / 2 for i, task in enumerate(tasks)})
    rows = rows.assign(at=rows[across].clip(lower=1) * APART ** place.astype(float))
    thousands = alt.Axis(format="~s", labelExpr="replace(datum.label, 'G', 'B')", tickCount=6)
    x = alt.X("at:Q", title=_ACROSS[across], scale=alt.Scale(type="log", nice=True), axis=thousands)
    y = alt.Y(f"{column}:Q", title=None, scale=scale_of(SHARES_SHOWN), axis=alt.Axis(format="%", tickCount=5))
    tips = [*_share_tips(column), reading(across, _ACROSS[across], ",.0f")]
    title = f"{_SHARES[share]}, over the {'size of the model' if across == 'parameters' else 'steps of training'}"
    return finish(
        alt.layer(rule(0), *_points(rows, column, _colour(rows, "task"), along=y, x=x, tips=tips)),
        title=title,
        description=f"{title}: a point per run with its 95 % interval, coloured by task. {_DRAWN}.",
        height=300,
    )


def over_depth(
    table: pd.DataFrame, unit: str, value: Literal["own_change", "total_effect", "restored_with_norm"]
) -> View:
    """An effect of every part of one kind over relative depth, a colour per model; the task is chosen.

    Args:
        table: `parts` of `analysis.atlas.Survey`.
        unit: kind of part.
        value: own change, total effect, or the share that comes back, of clear losses alone.
    """
    rows = table[(table["unit"] == unit) & table[value].notna()]
    is_share = value == "restored_with_norm"
    rows = rows[rows["lost"].astype(bool)] if is_share else rows
    tasks = list(dict.fromkeys(rows["task"]))
    x = alt.X("depth:Q", title="relative depth", scale=alt.Scale(domain=[-0.02, 1.02], nice=False))
    axis = alt.Axis(format="%" if is_share else "~g", tickCount=5)
    y = alt.Y(f"{value}:Q", title=None, axis=axis, scale=scale_of(SHARES_SHOWN) if is_share else alt.Scale(zero=True))
    tips = [_RUN, KNOCKED_OUT, *estimate(value, _VALUES[value], "+.0%" if is_share else "+.3~g")]
    title = f"{_VALUES[value][0].upper()}{_VALUES[value][1:]}: {many(unit)}"
    points = _points(rows, value, _colour(table, "shape"), along=y, x=x, tips=tips, chosen="datum.task == task")
    drawn: View = alt.layer(rule(0), *points).add_params(picker("task", "Task", tasks))
    said = f"{title} over relative depth, a point per part with its 95 % interval, coloured by model. {_DRAWN}."
    return finish(drawn, title=title, description=said)


_VALUES = {
    "own_change": "what is lost directly (logits)",
    "total_effect": "what is lost in the end (logits)",
    "restored_with_norm": "share that comes back",
}


def _by_run(labels: list[str]) -> alt.Y:
    """A row per run, model and task on a line each."""
    lines = alt.Axis(
        labelExpr="split(datum.label, ' · ')",
        labelBaseline="bottom",
        labelLimit=200,
        labelOverlap=False,
        grid=False,
        domain=False,
    )
    return alt.Y("label:N", sort=labels, title=None, scale=alt.Scale(domain=labels), axis=lines)


def _share_tips(column: str) -> list[alt.Tooltip]:
    return [
        _RUN,
        reading("pooled_parts", "parts", "d"),
        *estimate("pooled_own_change", "mean loss of each"),
        *estimate(column, "comes back", "+.0%"),
    ]


def _colour(table: pd.DataFrame, by: Literal["shape", "task"], *, legend: bool = True) -> alt.Color:
    """A colour for every model or task of a table; random weights have that of the trained model."""
    names = list(dict.fromkeys(table[by]))
    scale = alt.Scale(domain=names, range=[_SERIES[i % len(_SERIES)] for i in range(len(names))])
    shown = alt.Legend(columns=3, symbolOpacity=1) if legend and len(names) > 1 else None
    return alt.Color(f"{by}:N", scale=scale, legend=shown)


def _points(
    rows: pd.DataFrame,
    value: str,
    colour: alt.Color,
    *,
    along: alt.X | alt.Y,
    tips: list[alt.Tooltip],
    x: alt.X | None = None,
    y: alt.Y | None = None,
    chosen: str = "",
) -> list[alt.Chart]:
    """Points with intervals, filled for trained models and hollow for random weights.

    Args:
        rows: a row per point.
        value: column of the points.
        colour: their colour.
        along: axis of the value.
        tips: tooltip of a point.
        x: the other axis, if the value stands upright.
        y: the other axis, if it lies.
        chosen: filter of the rows, as an expression.
    """
    axes = [axis for axis in (x, y) if axis is not None]
    told = [str(_given(channel)["field"]) for channel in (*tips, *axes, colour)]
    rows = rows[list(dict.fromkeys([value, f"{value}_lo", f"{value}_hi", "task", "random_weights", *told]))]
    upright = x is not None
    limits = SHARES_SHOWN if upright and "restored" in value else None
    side: str = "y" if upright else "x"
    other: dict[str, Any] = {"x": x} if upright else {"y": y}
    ends = {side: renamed(along, f"{value}_lo:Q"), f"{side}2": f"{value}_hi:Q"}

    def chart(of: pd.DataFrame) -> alt.Chart:
        made = alt.Chart(compact(of))
        return made.transform_filter(chosen) if chosen else made

    drawn = [chart(rows).mark_rule(strokeWidth=1.5, opacity=0.5, clip=True).encode(color=colour, **other, **ends)]
    inside = rows if limits is None else within(rows, value, limits)
    for control in (False, True):
        some = inside[inside["random_weights"] == control]
        if len(some):
            mark = chart(some).mark_point(size=46, filled=not control, strokeWidth=1.6, clip=True)
            drawn.append(mark.encode(color=colour, tooltip=tips, **other, **{side: along}))
    if limits is not None:
        beyond = arrows(rows, value, limits, color=colour, tooltip=tips, **other)
        drawn += [one.transform_filter(chosen) if chosen else one for one in beyond]
    return drawn


def _given(channel: alt.X | alt.Y | alt.Color | alt.Tooltip) -> dict[str, Any]:
    found: dict[str, Any] = channel.to_dict()  # type: ignore[assignment]
    return found
