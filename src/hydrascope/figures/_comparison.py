"""Two runs side by side: a knock-out a point, differences over layers, both over relative depth."""

from __future__ import annotations

from typing import Literal

import altair as alt
import pandas as pd

from hydrascope.figures._chart import KNOCKED_OUT, LEGEND, View, compact, diagonal, estimate, finish, reading, rule
from hydrascope.figures._edges import SHARES_SHOWN, arrows, scale_of, within
from hydrascope.figures._over_layers import depth, kind_colour, kind_shape, line_with_interval, with_labels
from hydrascope.figures._theme import KIND_LABELS, LIGHT

Compared = Literal["restored_with_norm", "own_change", "total_effect", "slope"]

_WORDS = {
    "restored_with_norm": "share that comes back",
    "own_change": "own change (logits)",
    "total_effect": "total effect (logits)",
    "slope": "slope of compensation",
}


def first_against_second(
    table: pd.DataFrame, measure: Compared, names: tuple[str, str], *, legend: bool = True
) -> View:
    """A quantity in both runs, a point per knock-out.

    Args:
        table: `knockouts` of `analysis.comparison.Comparison`.
        measure: what is drawn; rows without it are left out.
        names: what the first and the second run are called.
        legend: whether to explain the colours.
    """
    sides = [f"{measure}_first", f"{measure}_second"]
    table = with_labels(table.dropna(subset=sides))
    low, high = min(0.0, float(table[sides].min().min())), max(0.0, float(table[sides].max().max()))
    room = 0.04 * (high - low)
    scale = alt.Scale(domain=[low - room, high + room], nice=False)
    form = "%" if measure == "restored_with_norm" else "~g"
    x, y = (
        channel(f"{side}:Q", title=name, scale=scale, axis=alt.Axis(grid=True, domain=False, format=form, tickCount=6))
        for channel, side, name in zip((alt.X, alt.Y), sides, names, strict=True)
    )
    number = "+.0%" if measure == "restored_with_norm" else "+.3~g"
    points = (
        alt.Chart(compact(table[["ablated", "kind", *sides, measure, f"{measure}_lo", f"{measure}_hi"]]))
        .mark_point(size=48, opacity=0.8)
        .encode(
            x=x,
            y=y,
            color=kind_colour(table, legend),
            shape=kind_shape(table, legend),
            tooltip=[
                KNOCKED_OUT,
                *(reading(side, name, number) for side, name in zip(sides, names, strict=True)),
                *estimate(measure, "difference", number),
            ],
        )
    )
    title = _WORDS[measure]
    return finish(
        diagonal(x, y, sides, low, high) + points,
        title=title[0].upper() + title[1:],
        description=f"Scatter of the {title} in {names[1]} against {names[0]}; on the dashed line both are equal.",
        height=340,
        spare=0 if legend else LEGEND,
    )


def difference_by_layer(table: pd.DataFrame, measure: Compared, *, layers: int, legend: bool = True) -> View:
    """Difference between two runs over the layer knocked out.

    Args:
        table: `knockouts` of `analysis.comparison.Comparison`.
        measure: whose difference is drawn.
        layers: number of blocks of the models.
        legend: whether to explain the colours.
    """
    share = measure == "restored_with_norm"
    table = table.dropna(subset=[measure])
    title = f"Difference in the {_WORDS[measure]}"
    lines = line_with_interval(
        table,
        measure,
        x=depth("ablated_layer", "layer knocked out", layers),
        y=alt.Y(f"{measure}:Q", title=None, axis=alt.Axis(tickCount=5, format="%" if share else "~g")),
        tooltip=[KNOCKED_OUT, *estimate(measure, "difference", "+.0%" if share else "+.3~g")],
        legend=legend,
    )
    return finish(
        rule(0) + lines,
        title=title,
        description=f"{title}, second run minus first, over the layers.",
        spare=0 if legend else LEGEND,
    )


def runs_by_depth(table: pd.DataFrame, kind: str, *, legend: bool = True) -> View:
    """Share of the loss that comes back over relative depth, a line per run.

    Args:
        table: `by_depth` of `analysis.comparison.Comparison`.
        kind: kind of knock-out.
        legend: whether to explain the colours.
    """
    rows = table[(table["kind"] == kind) & (table["own_change_hi"] < 0)]
    names = list(dict.fromkeys(table["run"]))
    scale = alt.Scale(domain=names, range=[LIGHT.attn, LIGHT.mlp])
    x = alt.X("depth:Q", title="relative depth of what is knocked out", scale=alt.Scale(domain=[0, 1]))
    shown = scale_of(SHARES_SHOWN)
    y = alt.Y("restored_with_norm:Q", title=None, scale=shown, axis=alt.Axis(format="%", tickCount=5))
    ends = ["restored_with_norm", "restored_with_norm_lo", "restored_with_norm_hi"]
    colour = alt.Color("run:N", scale=scale, legend=alt.Legend() if legend else None)
    rows = rows[["run", "depth", "knockouts", *ends]]
    base = alt.Chart(compact(rows)).encode(x=x, color=colour)
    tips = [
        alt.Tooltip("run:N", title="run"),
        alt.Tooltip("knockouts:Q", title="knock-outs"),
        *estimate("restored_with_norm", "comes back", "+.0%"),
    ]
    bars = base.mark_rule(strokeWidth=1.5, opacity=0.6, clip=True).encode(
        y=alt.Y(f"{ends[1]}:Q", scale=shown, title=None), y2=f"{ends[2]}:Q"
    )
    points = alt.Chart(compact(within(rows, ends[0], SHARES_SHOWN))).mark_point(size=44)
    points = points.encode(x=x, y=y, color=colour, tooltip=tips)
    beyond = arrows(rows, ends[0], SHARES_SHOWN, x=x, color=colour, tooltip=tips)
    words = KIND_LABELS.get(kind, kind)
    return finish(
        alt.layer(rule(0), bars, base.mark_line(clip=True).encode(y=y), points, *beyond),
        title=f"What comes back: {words}",
        description=f"Share of the loss that comes back over relative depth, a line per run; knocked out: {words}.",
        spare=0 if legend else LEGEND,
    )
