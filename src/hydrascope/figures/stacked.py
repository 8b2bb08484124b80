"""Bars of parts stacked on zero, as a rule one bar a knock-out, with their sums as diamonds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import altair as alt
import pandas as pd

from hydrascope.figures.build import View, compact, places, reading, sums, zero_line
from hydrascope.figures.theme import colour_scale


def stacked(
    table: pd.DataFrame,
    parts: Mapping[str, tuple[str, str]],
    *,
    layers: int,
    title: str,
    legend: alt.Legend | None,
    outwards: Sequence[str] = (),
) -> View:
    """What several parts add to each knock-out, side by side over the knock-outs.

    Args:
        table: a row per knock-out: `ablated`, `ablated_layer`, `ablated_kind`, a column per part, and `change`, their
            sum.
        parts: role in the theme to a column and its name, as the legend lists them.
        layers: number of blocks of the model.
        title: of the vertical axis.
        legend: how the colours are explained; None for not at all.
        outwards: columns as they are stacked from zero, where that is another order.
    """
    place = places(table.assign(own_change=table["change"]), layers)
    drawn = bars(place.table, place.x("left"), parts, title=title, legend=legend, outwards=outwards)
    return alt.layer(drawn, zero_line(), sums(place.table))


def bars(
    rows: pd.DataFrame,
    x: alt.X,
    parts: Mapping[str, tuple[str, str]],
    *,
    title: str,
    legend: alt.Legend | None,
    outwards: Sequence[str] = (),
    told: Mapping[str, str] = MappingProxyType({"ablated": "knocked out"}),
) -> alt.Chart:
    """The bars alone, wherever they stand.

    Args:
        rows: one for each bar: `at` (its place across), the columns of `told`, and a column per part.
        x: the axis across, of a column `left`.
        parts: role in the theme to a column and its name, as the legend lists them.
        title: of the vertical axis.
        legend: how the colours are explained; None for not at all.
        outwards: columns as they are stacked from zero, where that is another order.
        told: columns that together tell a bar from the others, and what they are called.
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
