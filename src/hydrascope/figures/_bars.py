"""Bars over the knock-outs: stacked parts, values with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import altair as alt
import pandas as pd

from hydrascope.figures._chart import KNOCKED_OUT, LEGEND, View, compact, reading, rule
from hydrascope.figures._over_layers import places
from hydrascope.figures._theme import LIGHT, colour_scale

Parts = Mapping[str, tuple[str, str]]
"""Role in the theme to the column of a part of a change and its name."""

SQUARES = LEGEND - 6
"""Height of a legend of squares, less than that of points."""


def stacked(
    table: pd.DataFrame,
    parts: Parts,
    *,
    layers: int,
    title: str,
    legend: alt.Legend | None,
    outwards: Sequence[str] = (),
) -> View:
    """Parts of the change under each knock-out, stacked, side by side.

    Args:
        table: a row per knock-out: `ablated`, `ablated_layer`, `ablated_kind`, a column per part, and `change`, their
            sum.
        parts: parts in the order of the legend.
        layers: number of blocks of the model.
        title: title of the vertical axis.
        legend: legend of the colours, if any.
        outwards: columns in the order of stacking from zero, where it is not that of `parts`.
    """
    place = places(table, layers, by="change")
    drawn = bars(place.table, place.x("left"), parts, title=title, legend=legend, outwards=outwards)
    return alt.layer(drawn, rule(0), sums(place.table, place.x()))


def bars(
    rows: pd.DataFrame,
    x: alt.X,
    parts: Parts,
    *,
    title: str,
    legend: alt.Legend | None,
    outwards: Sequence[str] = (),
    told: Mapping[str, str] = MappingProxyType({"ablated": "knocked out"}),
) -> alt.Chart:
    """Stacked bars alone, at any places across.

    Args:
        rows: a row per bar: `at` (its place across), the columns of `told`, and a column per part.
        x: the axis across, of a column `left`.
        parts: parts in the order of the legend.
        title: title of the vertical axis.
        legend: legend of the colours, if any.
        outwards: columns in the order of stacking from zero, where it is not that of `parts`.
        told: columns that together identify a bar, to their names in the tooltip.
    """
    order = list(outwards) or [column for column, _ in parts.values()]
    long = pd.concat(
        [
            rows[[*told, "at"]].assign(part=label, order=order.index(column), value=rows[column])
            for column, label in parts.values()
        ],
        ignore_index=True,
    )
    drawn: alt.Chart = (
        alt.Chart(compact(long))
        .transform_stack(
            as_=["from", "to"], stack="value", groupby=list(told), sort=[alt.SortField("order")], offset="zero"
        )
        .transform_calculate(left="datum.at - 0.38", right="datum.at + 0.38")
        .mark_rect(stroke=None)
        .encode(
            x=x,
            x2="right:Q",
            y=alt.Y("from:Q", title=title),
            y2="to:Q",
            color=alt.Color(
                "part:N", scale=colour_scale({role: label for role, (_, label) in parts.items()}), legend=legend
            ),
            tooltip=[
                *(alt.Tooltip(f"{column}:N", title=called) for column, called in told.items()),
                alt.Tooltip("part:N", title="part"),
                reading("value", "logits"),
            ],
        )
    )
    return drawn


def sums(table: pd.DataFrame, x: alt.X | str = "at:Q") -> alt.Chart:
    """Diamonds at the sums (`at`, `change`) of bars that are split into parts.

    Args:
        table: a row per bar.
        x: the axis of the bars, of the column `at`; it must be given where it has names, or some are left out.
    """
    diamonds: alt.Chart = (
        alt.Chart(compact(table[["ablated", "at", "change"]]))
        .mark_point(size=36, shape="diamond", fill=LIGHT.total, stroke=LIGHT.paper, strokeWidth=1)
        .encode(x=x, y="change:Q", tooltip=[KNOCKED_OUT, reading("change", "sum")])
    )
    return diamonds


def with_intervals(
    rows: pd.DataFrame, value: str, *, x: alt.X, y: alt.Y, colour: str, tooltip: Sequence[alt.Tooltip]
) -> View:
    """Bars of one colour from zero, each with its interval.

    Args:
        rows: a row per bar: `at` (its place across), the value, the ends of its interval and what `tooltip` names.
        value: column of the bars' length.
        x: the axis across, of a column `left`.
        y: the vertical axis.
        colour: colour of the bars.
        tooltip: tooltip of a bar.
    """
    base = alt.Chart(compact(rows)).transform_calculate(left="datum.at - 0.34", right="datum.at + 0.34", zero="0")
    bar = base.mark_rect(stroke=None, fill=colour)
    drawn = [bar.encode(x=x, x2="right:Q", y=y, y2="zero:Q", tooltip=list(tooltip))]
    if rows[f"{value}_lo"].notna().any():
        span = base.mark_rule(strokeWidth=1.5, color=LIGHT.total)
        drawn.append(span.encode(x=_at(x), y=f"{value}_lo:Q", y2=f"{value}_hi:Q"))
    return alt.layer(*drawn, rule(0))


def _at(x: alt.X) -> alt.X:
    """The same axis, of the column `at`; two axes of one chart would lose names of each other."""
    given: dict[str, Any] = x.to_dict()  # type: ignore[assignment]
    return alt.X("at:Q", **{key: value for key, value in given.items() if key in ("scale", "axis", "title")})
