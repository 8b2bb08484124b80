"""Bars of parts stacked on zero, one bar a knock-out, with their sums as diamonds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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
    rows, order = place.table, list(outwards) or [column for column, _ in parts.values()]
    long = pd.concat(
        [
            rows[["ablated", "at"]].assign(part=label, order=order.index(column), value=rows[column])
            for column, label in parts.values()
        ],
        ignore_index=True,
    )
    bars = (
        alt.Chart(compact(long))
        .transform_stack(
            as_=["from", "to"], stack="value", groupby=["ablated"], sort=[alt.SortField("order")], offset="zero"
        )
        .transform_calculate(left="datum.at - 0.38", right="datum.at + 0.38")
        .mark_rect(stroke=None)
        .encode(
            x=place.x("left"),
            x2="right:Q",
            y=alt.Y("from:Q", title=title),
            y2="to:Q",
            color=alt.Color(
                "part:N", scale=colour_scale({role: label for role, (_, label) in parts.items()}), legend=legend
            ),
            tooltip=[
                alt.Tooltip("ablated:N", title="knocked out"),
                alt.Tooltip("part:N", title="part"),
                reading("value", "logits"),
            ],
        )
    )
    return alt.layer(bars, zero_line(), sums(rows))
