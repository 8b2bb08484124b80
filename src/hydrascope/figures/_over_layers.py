"""Depth as an axis: kinds of knock-outs, places, lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import altair as alt
import pandas as pd

from hydrascope.figures._chart import View, compact, strongest
from hydrascope.figures._edges import Limits, arrows, within
from hydrascope.figures._theme import KIND_LABELS, LIGHT

Axis = TypeVar("Axis", bound=alt.X | alt.Y)

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
"""Kind to its role in the theme; units have the colour of their writer."""
_SHAPES = {"attention": "circle", "MLP": "square", "mixer": "diamond", "layer": "triangle-down"}
_NOUNS = {"attn": "attention layer", "mlp": "MLP", "layer": "whole layer", "kv": "KV group"}
_SEVERAL = {"joint": "several parts at once", "frozen": "one part, others frozen"}


def without(kind: str) -> str:
    """A kind of knock-out as a title: `Without one attention layer`."""
    return f"Without {_SEVERAL.get(kind) or f'one {_NOUNS.get(kind, kind)}'}"


def many(kind: str) -> str:
    """A kind of knock-out in the plural: `attention layers`."""
    return _SEVERAL.get(kind) or f"{_NOUNS.get(kind, kind)}s"


def with_labels(table: pd.DataFrame, source: str = "ablated_kind") -> pd.DataFrame:
    """Add `kind`, the label of the kind of component in legends."""
    return table.assign(kind=table[source].map(KIND_LABELS).fillna(table[source]))


def kind_colour(table: pd.DataFrame, legend: bool = True) -> alt.Color:
    """Colour by `kind`, with only the kinds that are there."""
    kinds = _kinds(table)
    scale = alt.Scale(domain=kinds, range=[getattr(LIGHT, _ROLES.get(kind, "own")) for kind in kinds])
    return alt.Color("kind:N", scale=scale, legend=_kind_legend(table, legend))


def kind_shape(table: pd.DataFrame, legend: bool = True) -> alt.Shape:
    """Circles for attention, other shapes for the rest, so that colour is never alone."""
    kinds = _kinds(table)
    scale = alt.Scale(domain=kinds, range=[_SHAPES.get(kind, "triangle-up") for kind in kinds])
    return alt.Shape("kind:N", scale=scale, legend=_kind_legend(table, legend))


def _kind_legend(table: pd.DataFrame, legend: bool) -> alt.Legend | None:
    return alt.Legend(symbolOpacity=1) if legend and table["kind"].nunique() > 1 else None


def _kinds(table: pd.DataFrame) -> list[str]:
    present = set(table["kind"])
    known = [kind for kind in _ROLES if kind in present]
    return [*known, *sorted(present - set(known))]


def is_curve(table: pd.DataFrame) -> bool:
    """Whether every kind has at most one row per layer, so that a line means something."""
    return not table.duplicated(["ablated_kind", "ablated_layer"]).any()


def depth(field: str, title: str = "layer", layers: int = 1, first: int = 0) -> alt.X:
    """Layers as a horizontal axis with whole numbers only, from block `first` on."""
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
        table: the rows shown, with a column `at`.
        names: labels of the axis at 0, 1, ...; None for layer indices.
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
            labelAngle=-90,
            labelOverlap="greedy",
        )
        scale = alt.Scale(domain=[-0.6, len(self.names) - 0.4], nice=False, zero=False)
        return alt.X(f"{field}:Q", title=None, scale=scale, axis=axis)


def places(table: pd.DataFrame, layers: int, by: str = "own_change", most: int = 24) -> Places:
    """Place knock-outs by layer where every layer has one, otherwise by address.

    Args:
        table: a row per knock-out, with `ablated`, `ablated_layer` and `ablated_kind`.
        layers: number of blocks of the model.
        by: column whose absolute value says which are strongest.
        most: knock-outs kept, the strongest, when they are placed by address.
    """
    if is_curve(table) and "joint" not in set(table["ablated_kind"]):
        return Places(table.assign(at=table["ablated_layer"]), None, layers)
    table = strongest(table, most, by)
    return Places(table.assign(at=range(len(table))), tuple(table["ablated"].astype(str)), layers)


def line_with_interval(
    table: pd.DataFrame,
    value: str,
    *,
    x: alt.X,
    y: alt.Y,
    tooltip: Sequence[alt.Tooltip],
    legend: bool = True,
    limits: Limits | None = None,
) -> View:
    """A line over depth for each kind, its interval a pale band; both stop where a value is missing.

    A value between two missing ones has an upright rule in place of the band.

    Args:
        table: a row per knock-out: `ablated_kind`, `ablated_layer`, `value`, the ends of its interval, and what `x`
            and `tooltip` name.
        value: column of the line.
        x: the depth axis.
        y: the vertical axis.
        tooltip: tooltip of a point.
        legend: whether to explain colours and shapes.
        limits: ends of the vertical axis where values may lie beyond it.
    """
    table = with_labels(table)
    told = [str(tip.to_dict()["field"]) for tip in (x, *tooltip)]
    columns = dict.fromkeys(["ablated_kind", "ablated_layer", "kind", value, f"{value}_lo", f"{value}_hi", *told])
    table = table[list(columns)]
    colour, shape = kind_colour(table, legend), kind_shape(table, legend)
    base = alt.Chart(compact(table)).encode(x=x, color=colour)
    drawn: list[alt.Chart] = []
    # several heads of one layer are no curve
    if is_curve(table):
        if table[f"{value}_lo"].notna().any():
            ends = {"y": renamed(y, f"{value}_lo:Q"), "y2": f"{value}_hi:Q"}
            drawn.append(base.mark_area(opacity=0.18, clip=True).encode(**ends))
            if len(single := _single(table, value)):
                upright = alt.Chart(compact(single)).mark_rule(strokeWidth=2, opacity=0.35, clip=True)
                drawn.append(upright.encode(x=x, color=colour, **ends))
        drawn.append(base.mark_line(clip=True).encode(y=y))
    points = base if limits is None else alt.Chart(compact(within(table, value, limits))).encode(x=x, color=colour)
    drawn.append(points.mark_point(size=38, clip=True).encode(y=y, shape=shape, tooltip=list(tooltip)))
    if limits is not None:
        drawn += arrows(table, value, limits, x=x, color=colour, tooltip=list(tooltip))
    return alt.layer(*drawn)


def _single(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Rows without a value before and behind them, of which a band shows nothing."""
    known = table.sort_values("ablated_layer", kind="stable")[value].notna()
    kinds = known.groupby(table["ablated_kind"])
    beside = kinds.shift(1, fill_value=False) | kinds.shift(-1, fill_value=False)
    return table.loc[(known & ~beside).reindex(table.index)]


def renamed(channel: Axis, field: str) -> Axis:
    """An axis for another field in its units."""
    given: dict[str, Any] = channel.to_dict()  # type: ignore[assignment]
    kept = {key: value for key, value in given.items() if key in ("scale", "axis", "title")}
    return type(channel)(field, **kept)
