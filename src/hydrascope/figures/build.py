"""What several charts share: compact data, depth as an axis, lines with intervals, pickers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import altair as alt
import numpy as np
import pandas as pd

from hydrascope.figures.theme import KIND_LABELS, LIGHT

View: TypeAlias = alt.Chart | alt.LayerChart | alt.FacetChart
"""What every chart of this package is: a single view, which can be as wide as its surroundings."""

MARKS = 5000
"""Most marks that one chart draws; what is beyond is left out of the picture, never of a statistic."""

UNIT = "logits of the answer"
"""What effects are in, on an axis, unless a chart is told otherwise."""

DIGITS = 4
HEIGHT = 260
TITLE_OFFSET = 12
LEGEND = 20
"""Height of a legend with one line, for charts that stand beside one."""
_ROLES = {
    "attention": "attn",
    "MLP": "mlp",
    "mixer": "mixer",
    "layer": "total",
    "head": "attn",
    "kv": "attn",
    "neuron": "mlp",
    "expert": "mlp",
}
"""Kind to its role in the theme: units have the colour of the writer that they are a part of."""
_SHAPES = {"attention": "circle", "MLP": "square", "mixer": "diamond", "layer": "triangle-down"}


def compact(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its numbers cut to a few significant digits, which halves the size of a chart."""
    out = table.reset_index(drop=True).copy()
    for name in out.columns:
        if pd.api.types.is_float_dtype(out[name]):
            out[name] = [_short(value) for value in out[name].to_numpy(dtype=np.float64)]
    return out


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def every_nth(table: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most `most` rows, evenly spaced in the order given; the same rows every time."""
    if len(table) <= most:
        return table
    return table.iloc[np.linspace(0, len(table) - 1, most).round().astype(int)]


def with_labels(table: pd.DataFrame, source: str = "ablated_kind") -> pd.DataFrame:
    """Adds `kind`, the word for the kind of component as legends print it."""
    return table.assign(kind=table[source].map(KIND_LABELS).fillna(table[source]))


def kind_colour(table: pd.DataFrame, legend: bool = True) -> alt.Color:
    """Colour by `kind`, with only the kinds that are there."""
    kinds = _kinds(table)
    scale = alt.Scale(domain=kinds, range=[getattr(LIGHT, _ROLES.get(kind, "own")) for kind in kinds])
    return alt.Color("kind:N", scale=scale, legend=_kind_legend(table, legend))


def _kind_legend(table: pd.DataFrame, legend: bool) -> alt.Legend | None:
    return alt.Legend(symbolOpacity=1) if legend and table["kind"].nunique() > 1 else None


def _kinds(table: pd.DataFrame) -> list[str]:
    present = set(table["kind"])
    known = [kind for kind in _ROLES if kind in present]
    return [*known, *sorted(present - set(known))]


def is_curve(table: pd.DataFrame) -> bool:
    """Whether every kind has at most one row per layer, so that a line through them means something.

    Args:
        table: with the columns `ablated_kind` and `ablated_layer`.
    """
    return not table.duplicated(["ablated_kind", "ablated_layer"]).any()


def depth(field: str, title: str = "layer", layers: int = 1, first: int = 0) -> alt.X:
    """A layer index as a horizontal axis with whole numbers only.

    Args:
        field: column with the index, or with positions in its units.
        title: of the axis.
        layers: number of blocks of the model.
        first: block at which the axis starts.
    """
    step = max(1, -(-(layers - first) // 12))
    return alt.X(
        f"{field}:Q",
        title=title,
        scale=alt.Scale(domain=[first - 0.5, layers - 0.5], nice=False, zero=False),
        axis=alt.Axis(values=list(range(first, layers, step)), format="d"),
    )


@dataclass(frozen=True)
class Places:
    """Where each knock-out stands on a horizontal axis.

    Attributes:
        table: the rows drawn, with a column `at`.
        names: what the axis prints at 0, 1, ...; None prints layer indices.
        layers: number of blocks of the model.
    """

    table: pd.DataFrame
    names: tuple[str, ...] | None
    layers: int

    def x(self, field: str = "at") -> alt.X:
        """The axis, for a column in its units."""
        if self.names is None:
            return depth(field, "layer knocked out", self.layers)
        axis = alt.Axis(
            values=list(range(len(self.names))),
            labelExpr=f"{json.dumps(self.names)}[datum.value]",
            labelAngle=-55,
            labelOverlap=False,
        )
        scale = alt.Scale(domain=[-0.6, len(self.names) - 0.4], nice=False, zero=False)
        return alt.X(f"{field}:Q", title=None, scale=scale, axis=axis)


def places(table: pd.DataFrame, layers: int, most: int = 24) -> Places:
    """By layer where every layer has one knock-out, otherwise by address, the strongest only.

    Args:
        table: rows of `analysis.repair.repair`.
        layers: number of blocks of the model.
        most: knock-outs kept when they are placed by address.
    """
    if is_curve(table) and "joint" not in set(table["ablated_kind"]):
        return Places(table.assign(at=table["ablated_layer"]), None, layers)
    if len(table) > most:
        table = table.loc[table["own_change"].abs().nlargest(most).index].sort_index()
    return Places(table.assign(at=range(len(table))), tuple(table["ablated"].astype(str)), layers)


def zero_line() -> alt.Chart:
    """A thin line at 0."""
    line: alt.Chart = alt.Chart(alt.Data(values=[{}])).mark_rule(strokeWidth=1).encode(y=alt.datum(0))
    return line


def sums(table: pd.DataFrame) -> alt.Chart:
    """Diamonds at the sums of bars that are split into parts.

    Args:
        table: a row per knock-out and part: `ablated`, `at` (its place across) and `change`, the sum.
    """
    diamonds: alt.Chart = (
        alt.Chart(compact(table[["ablated", "at", "change"]]))
        .mark_point(size=36, shape="diamond", fill=LIGHT.total, stroke=LIGHT.paper, strokeWidth=1)
        .encode(
            x="at:Q",
            y="change:Q",
            tooltip=[alt.Tooltip("ablated:N", title="knocked out"), reading("change", "sum")],
        )
    )
    return diamonds


def line_with_interval(
    table: pd.DataFrame,
    value: str,
    *,
    title: str,
    x: alt.X,
    legend: bool,
    y: alt.Y | None = None,
    tooltip: Sequence[alt.Tooltip] = (),
) -> View:
    """A line over depth for each kind, with its interval (`value_lo`, `value_hi`) as a pale band.

    Args:
        table: columns `kind`, `ablated_kind`, `ablated_layer`, `value` and the ends of its interval.
        value: column drawn.
        title: of the vertical axis.
        x: the depth axis.
        legend: whether to explain colours and shapes.
        y: the vertical axis; None makes one from `title`.
        tooltip: what is shown for a point.
    """
    y = y or alt.Y(f"{value}:Q", title=title)
    base = alt.Chart(compact(table)).encode(x=x, color=kind_colour(table, legend))
    layers: list[alt.Chart] = []
    # several heads of one layer are no curve
    if is_curve(table):
        if table[f"{value}_lo"].notna().any():
            layers.append(
                base.mark_area(opacity=0.18, clip=True).encode(y=_renamed(y, f"{value}_lo:Q"), y2=f"{value}_hi:Q")
            )
        layers.append(base.mark_line(clip=True).encode(y=y))
    points = base.mark_point(size=38, clip=True).encode(y=y, shape=kind_shape(table, legend))
    layers.append(points.encode(tooltip=list(tooltip)) if tooltip else points)
    return alt.layer(*layers)


def kind_shape(table: pd.DataFrame, legend: bool = True) -> alt.Shape:
    """Attention as circles, everything else as other shapes, so that colour is never alone."""
    kinds = _kinds(table)
    scale = alt.Scale(domain=kinds, range=[_SHAPES.get(kind, "triangle-up") for kind in kinds])
    return alt.Shape("kind:N", scale=scale, legend=_kind_legend(table, legend))


def _renamed(channel: alt.Y, field: str) -> alt.Y:
    given: dict[str, Any] = channel.to_dict()  # type: ignore[assignment]
    return alt.Y(field, **{key: value for key, value in given.items() if key in ("scale", "axis", "title")})


def reading(field: str, title: str, form: str = "+.3~g") -> alt.Tooltip:
    """A number in a tooltip, with its sign."""
    return alt.Tooltip(f"{field}:Q", title=title, format=form)


def picker(name: str, label: str, options: Sequence[Any], start: Any = None) -> alt.Parameter:
    """A parameter chosen from a list.

    Args:
        name: of the parameter in expressions.
        label: what stands before the list.
        options: values, in the order listed.
        start: the value shown first, and on paper; None takes the first option.
    """
    options = list(options)
    bound = alt.binding_select(options=options, name=f"{label} ")
    return alt.param(name=name, value=start if start in options else options[0], bind=bound)


def finish(
    chart: View,
    *,
    title: str | alt.ExprRef,
    description: str,
    height: int = HEIGHT,
    spare: int = 0,
) -> View:
    """Gives a chart its title, its description for those who cannot see it, and the page's width.

    Args:
        chart: the layers.
        title: stands above it.
        description: read to those who do not see it.
        height: of the plot without axes.
        spare: room left under the title, as high as the legend of the chart beside it.
    """
    done: View = chart.properties(
        title=alt.TitleParams(text=title, offset=TITLE_OFFSET + spare, limit=alt.ExprRef("width")),
        description=description,
        width="container",
        height=height,
    )
    return done
