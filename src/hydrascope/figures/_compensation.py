"""Compensation over prompts (McGrath et al. 2023, figures 7 and 8)."""

from __future__ import annotations

from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd

from hydrascope.figures._chart import (
    CHOSEN,
    KNOCKED_OUT,
    LEGEND,
    MARKS,
    UNIT,
    View,
    compact,
    estimate,
    every_nth,
    finish,
    knockout_picker,
    reading,
    rule,
)
from hydrascope.figures._edges import Limits, arrows, scale_of, within
from hydrascope.figures._over_layers import (
    depth,
    kind_colour,
    kind_shape,
    line_with_interval,
    many,
    places,
    with_labels,
    without,
)
from hydrascope.figures._theme import LIGHT, PART_LABELS, colour_scale

CONVENTIONS = {
    "restored": "without the norm (McGrath et al.)",
    "restored_with_norm": "with the norm (Rushing & Nanda)",
}


def compensation_by_prompt(points: pd.DataFrame, table: pd.DataFrame, *, shown: str | None = None) -> View:
    """Compensation against own change, a point per prompt.

    Args:
        points: tables of `analysis.compensation_points`, one below the other, with a column `ablated`.
        table: from `analysis.repair`, with the fitted lines.
        shown: address of the knock-out shown first.
    """
    names = [str(name) for name in dict.fromkeys(points["ablated"])]
    table = table[table["ablated"].isin(names)]
    each = max(1, (MARKS - 3 * len(names)) // len(names))
    prompts = every_nth(points.drop_duplicates("prompt"), each)
    cloud = points[points["prompt"].isin(prompts["prompt"])]
    texts = prompts[["prompt", "text"]].assign(text=prompts["text"].str.slice(0, 90))

    x = alt.X("own_change:Q", title="own change (logits)", axis=alt.Axis(grid=True, domain=False))
    y = alt.Y("compensation:Q", title="compensation by all others (logits)")
    dots = (
        alt.Chart(compact(cloud[["ablated", "prompt", "own_change", "compensation"]]))
        .transform_filter(CHOSEN)
        .transform_lookup(lookup="prompt", from_=alt.LookupData(data=texts, key="prompt", fields=["text"]))
        .mark_point(size=26, opacity=0.55, color=LIGHT.muted)
        .encode(
            x=x,
            y=y,
            tooltip=[
                alt.Tooltip("text:N", title="prompt"),
                reading("own_change", "own change"),
                reading("compensation", "compensation"),
            ],
        )
    )
    fitted = _fitted_lines(points, table)
    base = alt.Chart(compact(fitted)).transform_filter(CHOSEN)
    line = base.transform_filter("datum.line == 'fit'").mark_line(strokeWidth=2.5).encode(x=x, y=y)
    full = base.transform_filter("datum.line == 'full'").mark_line(strokeWidth=1.2, strokeDash=[5, 4]).encode(x=x, y=y)
    told = (
        alt.Chart(compact(table[["ablated", "slope", "r2"]]))
        .transform_filter(CHOSEN)
        .transform_calculate(
            told="'slope ' + format(datum.slope, '.2f') + ',  R² '"
            " + (isValid(datum.r2) ? format(datum.r2, '.2f') : '–')"
        )
        .mark_text(align="left", baseline="top", fontSize=13, fontWeight=600)
        .encode(x=alt.value(8), y=alt.value(4), text="told:N")
    )
    chart = alt.layer(rule(0), dots, _paint(full, "own"), _paint(line, "total"), told)
    return finish(
        chart.add_params(knockout_picker(names, shown)),
        title=alt.ExprRef("'Without ' + knocked + ', prompt by prompt'"),
        description="Scatter of compensation against own change, with the fitted line and the line of full repair.",
        height=380,
    )


def slope_by_layer(table: pd.DataFrame, measure: Literal["slope", "r2"], *, layers: int, legend: bool = True) -> View:
    """Slope or R² of compensation on own change (figure 7d), of the knock-outs in `slopes_shown`.

    The random-direction control is hollow where the run has one. An arrow at an edge is a value beyond the axis.

    Args:
        table: from `analysis.repair`.
        measure: `slope` (-1 is full repair) or `r2`.
        layers: number of blocks of the model.
        legend: whether to explain the colours.
    """
    table = with_labels(table)
    slope = measure == "slope"
    estimates = [measure, f"{measure}_lo", f"{measure}_hi", "null"]
    table = table.assign(null=table[f"{measure}_null"])
    # rows stay, without values, so that no line runs over what is left out
    table[estimates] = table[estimates].where(slopes_shown(table))
    low, high = _readable(-table[estimates].to_numpy(dtype=np.float64)) if slope else (-1.03, 0.03)
    limits = (-high, -low)
    y = alt.Y(f"{measure}:Q", title=None, scale=scale_of(limits), axis=alt.Axis(tickCount=5))
    x = depth("ablated_layer", "layer knocked out", layers)
    lines = line_with_interval(
        table,
        measure,
        x=x,
        y=y,
        tooltip=[KNOCKED_OUT, *estimate(measure, "slope" if slope else "R²", ".2f")],
        legend=legend,
        limits=limits,
    )
    null = table.dropna(subset=["null"])[["ablated", "ablated_layer", "kind", "null"]]
    title = "Slope (hollow: random direction)" if slope else "R² (hollow: random direction)"
    if null.empty:
        title = title.split(" (")[0]
    encoded: dict[str, Any] = {
        "x": x,
        "color": kind_colour(table, legend),
        "tooltip": [KNOCKED_OUT, reading("null", "random direction", ".2f")],
    }
    hollow = (
        alt.Chart(compact(within(null, "null", limits)))
        .mark_point(filled=False, size=30, opacity=0.75)
        .encode(y="null:Q", shape=kind_shape(table, legend), **encoded)
    )
    control = [] if null.empty else [hollow, *arrows(null, "null", limits, filled=False, **encoded)]
    return finish(
        alt.layer(rule(0), lines, *control), title=title, description=f"{title}, over the layers, by kind.", height=150
    )


def slopes_shown(table: pd.DataFrame) -> pd.Series[bool]:
    """Which slopes of an `analysis.repair` table can tell full repair from none.

    A slope has a writer behind the knock-out that can respond, and an interval narrower than the distance between full
    repair, -1, and none, 0; without intervals every slope with a writer behind it is shown.
    """
    width = table["slope_hi"] - table["slope_lo"]
    return table["r2"].notna() & ~(width >= 1)


def parts_by_layer(
    table: pd.DataFrame, ablated_kind: str, *, layers: int, legend: bool = True, unit: str = UNIT
) -> View:
    """Compensation by kind of writer, stacked (figure 8).

    Args:
        table: from `analysis.repair`.
        ablated_kind: kind of component knocked out, such as `attn`.
        layers: number of blocks of the model.
        legend: whether to explain the colours.
        unit: unit of the logits, on the axis.
    """
    place = places(table[table["ablated_kind"] == ablated_kind], layers)
    table = place.table
    columns = {"attn": "compensation_attn", "mlp": "compensation_mlp", "mixer": "compensation_mixer"}
    columns = {part: name for part, name in columns.items() if name in table} | {"norm": "norm_effect"}
    long = pd.concat(
        [
            table[["ablated", "at"]].assign(part=PART_LABELS[part], order=i, value=table[name])
            for i, (part, name) in enumerate(columns.items())
        ],
        ignore_index=True,
    )
    roles = {part: PART_LABELS[part] for part in columns}
    width = 0.38
    bars = (
        alt.Chart(compact(long))
        .transform_calculate(left=f"datum.at - {width}", right=f"datum.at + {width}")
        .mark_rect(stroke=None)
        .transform_stack(
            as_=["from", "to"],
            stack="value",
            groupby=["ablated"],
            sort=[alt.SortField("order")],
            offset="zero",
        )
        .encode(
            x=place.x("left"),
            x2="right:Q",
            y=alt.Y("from:Q", title=unit),
            y2="to:Q",
            color=alt.Color("part:N", scale=colour_scale(roles), legend=alt.Legend() if legend else None),
            tooltip=[
                KNOCKED_OUT,
                alt.Tooltip("part:N", title="compensation by"),
                reading("value", "logits"),
            ],
        )
    )
    lost = table[["ablated"]].assign(lost=-table["own_change"], start=table["at"] - width, stop=table["at"] + width)
    ticks = (
        alt.Chart(compact(lost))
        .mark_rule(strokeWidth=2.5, strokeCap="butt")
        .encode(
            x=place.x("start"),
            x2="stop:Q",
            y="lost:Q",
            tooltip=[KNOCKED_OUT, reading("lost", "lost")],
        )
    )
    title = without(ablated_kind)
    chart = alt.layer(bars, rule(0), _paint(ticks, "total"))
    return finish(
        chart,
        title=title,
        description=f"{title}: compensation by kind, stacked, over the layers; lines are the losses.",
        spare=0 if legend else LEGEND,
    )


def restored_by_layer(table: pd.DataFrame, ablated_kind: str, *, layers: int, legend: bool = True) -> View:
    """Share of the loss that is given back, with and without the norm.

    Args:
        table: from `analysis.repair`; rows that are not `meaningful` are left out.
        ablated_kind: kind of component knocked out.
        layers: number of blocks of the model.
        legend: whether to explain the symbols.
    """
    place = places(table[table["ablated_kind"] == ablated_kind], layers)
    table = place.table[place.table["meaningful"]]
    long = pd.concat(
        [
            table[["ablated"]].assign(
                convention=label,
                at=table["at"] + shift,
                share=table[name],
                share_lo=table[f"{name}_lo"],
                share_hi=table[f"{name}_hi"],
            )
            for (name, label), shift in zip(CONVENTIONS.items(), (-0.12, 0.12), strict=True)
        ],
        ignore_index=True,
    )
    limits = _readable(long["share"].to_numpy(dtype=np.float64))
    y = alt.Y("share:Q", title="share of the loss", scale=scale_of(limits), axis=alt.Axis(format="%", tickCount=5))
    x = place.x()
    colours = colour_scale({"total": CONVENTIONS["restored"], "norm": CONVENTIONS["restored_with_norm"]})
    key = alt.Legend(direction="vertical", symbolOpacity=1) if legend else None
    colour = alt.Color("convention:N", scale=colours, legend=key)
    shape = alt.Shape(
        "convention:N",
        scale=alt.Scale(domain=list(CONVENTIONS.values()), range=["circle", "diamond"]),
        legend=key,
    )
    encoded: dict[str, Any] = {
        "x": x,
        "color": colour,
        "tooltip": [
            KNOCKED_OUT,
            alt.Tooltip("convention:N", title="counted"),
            *estimate("share", "restored", ".0%"),
        ],
    }
    spans = alt.Chart(compact(long)).mark_rule(strokeWidth=2, opacity=0.6, clip=True)
    spans = spans.encode(x=x, color=colour, y=alt.Y("share_lo:Q", scale=scale_of(limits)), y2="share_hi:Q")
    dots = alt.Chart(compact(within(long, "share", limits))).mark_point(size=50).encode(y=y, shape=shape, **encoded)
    title = f"Share restored, {many(ablated_kind)}"
    return finish(
        alt.layer(rule(0), rule(1, dash=[5, 4]), spans, dots, *arrows(long, "share", limits, **encoded)),
        title=title,
        description=f"{title}: share of the loss with intervals, over the layers.",
        height=220,
        spare=0 if legend else LEGEND + 14,
    )


def _fitted_lines(points: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Ends of the fitted line and of full repair, per knock-out."""
    rows = []
    for row in table.to_dict("records"):
        name, intercept, slope = row["ablated"], row["intercept"], row["slope"]
        here = points[points["ablated"] == name]
        own, top = here["own_change"], float(here["compensation"].max())
        low, high = float(min(0.0, own.min())), float(max(0.0, own.max()))
        # the line of full repair would stretch the picture where hardly anything comes back
        reach = float(np.clip(max(top, -0.25 * low), 0.0, -low))
        for at in (low, high):
            rows.append((name, "fit", at, intercept + slope * at))
        for at in (0.0, -reach):
            rows.append((name, "full", at, -at))
    return pd.DataFrame(rows, columns=["ablated", "line", "own_change", "compensation"])


def _readable(values: np.ndarray) -> Limits:
    """Limits around 0, 1 and all but the wildest values."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return (0.0, 1.0)
    return (float(np.clip(finite.min(), -1.0, 0.0) - 0.1), float(np.clip(finite.max(), 1.0, 2.0) + 0.1))


def _paint(chart: alt.Chart, role: str) -> alt.Chart:
    painted: alt.Chart = chart.encode(color=alt.value(getattr(LIGHT, role)))
    return painted
