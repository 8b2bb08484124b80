"""What every chart is made with: data, tooltips, rules, pickers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import altair as alt
import numpy as np
import pandas as pd
from jaxtyping import Int

from hydrascope.figures._theme import LIGHT

View: TypeAlias = alt.Chart | alt.LayerChart | alt.FacetChart
"""A chart of this package: a single view, which can be as wide as its surroundings."""

MARKS = 5000
"""Most marks in one chart; the rest is left out of the picture, never of a statistic."""

UNIT = "logits of the answer"
"""Unit of effects on an axis, unless a chart is given another."""

DIGITS = 4
HEIGHT = 260
TITLE_OFFSET = 12
LEGEND = 20
"""Height of a legend with one line, as spare room in charts beside one."""

KNOCKED_OUT = alt.Tooltip("ablated:N", title="knocked out")
"""Tooltip with what was knocked out."""

CHOSEN = "datum.ablated == knocked"
"""Filter for the knock-out chosen from `knockout_picker`."""


def compact(table: pd.DataFrame) -> pd.DataFrame:
    """Cut numbers to a few significant digits, which halves the size of a chart."""
    out = table.reset_index(drop=True).copy()
    for name in out.columns:
        if pd.api.types.is_float_dtype(out[name]):
            out[name] = [float(f"{value:.{DIGITS}g}") for value in out[name].to_numpy(dtype=np.float64)]
    return out


def every_nth(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most `most` rows, evenly spaced; always the same ones."""
    return table if len(table) <= most else table.iloc[evenly(len(table), most)]


def evenly(count: int, most: int) -> Int[np.ndarray, " chosen"]:
    """Which of `count` are taken: at most `most`, evenly spaced; always the same ones."""
    taken: Int[np.ndarray, " chosen"] = np.linspace(0, count - 1, min(most, count)).round().astype(int)
    return taken


def strongest(table: pd.DataFrame, most: int, by: str = "own_change") -> pd.DataFrame:
    """The rows with the largest absolute values of a column, in the order of the table."""
    return table if len(table) <= most else table.loc[table[by].abs().nlargest(most).index].sort_index()


def rule(at: float, axis: Literal["x", "y"] = "y", *, dash: Sequence[int] = ()) -> alt.Chart:
    """A thin line across the plot; `dash` is the lengths of strokes and gaps in pixels."""
    style: dict[str, Any] = {"strokeDash": list(dash)} if dash else {}
    line: alt.Chart = alt.Chart(alt.Data(values=[{}])).mark_rule(strokeWidth=1, **style).encode(**{axis: alt.datum(at)})
    return line


def diagonal(x: Any, y: Any, fields: Sequence[str], low: float, high: float) -> alt.Chart:
    """Dashed line on which both axes are equal.

    Args:
        x: channel across, of altair.
        y: channel up.
        fields: fields of both channels.
        low: least value of either.
        high: largest value.
    """
    ends = pd.DataFrame({field: [low, high] for field in fields})
    line = alt.Chart(ends).mark_line(strokeWidth=1.2, strokeDash=[5, 4], color=LIGHT.own)
    drawn: alt.Chart = line.encode(x=x, y=y)
    return drawn


def reading(field: str, title: str, form: str = "+.3~g") -> alt.Tooltip:
    """Tooltip with a number and its sign."""
    return alt.Tooltip(f"{field}:Q", title=title, format=form)


def estimate(field: str, title: str, form: str = "+.3~g") -> list[alt.Tooltip]:
    """Tooltips with a number and the ends of its interval, `field_lo` and `field_hi`."""
    return [reading(field, title, form), reading(f"{field}_lo", "from", form), reading(f"{field}_hi", "to", form)]


def picker(name: str, label: str, options: Sequence[Any], start: Any = None) -> alt.Parameter:
    """A parameter chosen from a list, from `start` or the first option."""
    options = list(options)
    bound = alt.binding_select(options=options, name=f"{label} ")
    return alt.param(name=name, value=start if start in options else options[0], bind=bound)


def knockout_picker(names: Sequence[str], shown: str | None = None) -> alt.Parameter:
    """Choice of a knock-out, `knocked` in expressions, from `shown` or the first."""
    return picker("knocked", "Knocked out", names, shown)


def finish(
    chart: View,
    *,
    title: str | alt.ExprRef,
    description: str,
    height: int = HEIGHT,
    spare: int = 0,
) -> View:
    """Give a chart its title, its description and the page's width.

    Args:
        chart: the layers.
        title: title above the chart.
        description: text for those who cannot see it.
        height: height of the plot without axes, in pixels.
        spare: room left under the title in pixels, as high as the legend of the chart beside it.
    """
    done: View = chart.properties(
        title=alt.TitleParams(text=title, offset=TITLE_OFFSET + spare, limit=alt.ExprRef("width")),
        description=description,
        width="container",
        height=height,
    )
    return done
