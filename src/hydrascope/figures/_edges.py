"""Values beyond an axis: marked at its edge, never left out of sight."""

from __future__ import annotations

from typing import Any, TypeAlias

import altair as alt
import pandas as pd

from hydrascope.figures._chart import compact

Limits: TypeAlias = tuple[float, float]
"""Least and largest value of an axis."""

SHARES_SHOWN: Limits = (-1.0, 1.5)
"""Shares on an axis: little is lost in some places, and shares of little are anything."""

INSIDE = 6
"""Pixels from the edge to the middle of an arrow, which keep it inside the plot."""


def scale_of(limits: Limits) -> alt.Scale:
    """A scale that ends where the limits are."""
    return alt.Scale(domain=list(limits), nice=False)


def within(table: pd.DataFrame, value: str, limits: Limits) -> pd.DataFrame:
    """The rows whose value is on the axis, or missing."""
    return table[~(table[value] < limits[0]) & ~(table[value] > limits[1])]


def arrows(table: pd.DataFrame, value: str, limits: Limits, *, filled: bool = True, **encoded: Any) -> list[alt.Chart]:
    """Arrows at the edges of the vertical axis, one for each value beyond it.

    Args:
        table: a row per value, with nothing but the columns that the chart needs.
        value: column of the values.
        limits: ends of the axis.
        filled: whether the arrows are filled.
        encoded: channels of altair beside `y`: place, colour, tooltip.

    Returns:
        A chart for each edge that has values beyond it.
    """
    edges = ((limits[0], 180, -INSIDE, table[value] < limits[0]), (limits[1], 0, INSIDE, table[value] > limits[1]))
    return [
        alt.Chart(compact(table[outside]))
        .mark_point(shape="arrow", angle=angle, yOffset=offset, size=130, strokeWidth=1, filled=filled)
        .encode(y=alt.datum(edge), **encoded)
        for edge, angle, offset, outside in edges
        if outside.any()
    ]
