"""Runs beside each other: the response over the dose, and how far ablations agree."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from hydrascope.figures.build import (
    UNIT,
    View,
    compact,
    depth,
    finish,
    is_curve,
    line_with_interval,
    picker,
    places,
    reading,
    with_labels,
    zero_line,
)
from hydrascope.figures.theme import LIGHT, PART_LABELS, colour_scale


def dose_curves(table: pd.DataFrame, names: Sequence[str], *, shown: str, unit: str = UNIT, counted: str = "") -> View:
    """Parts of one knock-out's account over the dose, chosen from a list.

    Args:
        table: from `analysis.dose.curves`, the rows of one selection.
        names: knock-outs in the list.
        shown: the one shown first.
        unit: what the logits are of, on the axis.
        counted: what the means are over, where that has to be said.
    """
    rows = table[table["ablated"].isin(list(names))]
    labels = {part: PART_LABELS[part] for part in PART_LABELS if part in set(rows["part"])}
    rows = rows.assign(part=rows["part"].map(labels))
    doses = sorted({float(dose) for dose in rows["dose"]})
    axis = alt.Axis(values=doses, format=".2~f")
    x = alt.X("dose:Q", title="dose", scale=alt.Scale(domain=[0, doses[-1]], nice=False), axis=axis)
    colour = alt.Color("part:N", scale=colour_scale(labels), legend=alt.Legend(symbolOpacity=1, columns=3))
    base = alt.Chart(compact(rows)).transform_filter("datum.ablated == dosed").encode(x=x, color=colour)
    title = f"effect ({unit})"
    band = base.mark_area(opacity=0.16).encode(y=alt.Y("value_lo:Q", title=title), y2="value_hi:Q")
    line = base.mark_line().encode(y=alt.Y("value:Q", title=title))
    shapes = ["circle", "square", "diamond", "triangle-up", "cross", "triangle-down"]
    dots = base.mark_point(size=46).encode(
        y=alt.Y("value:Q", title=title),
        shape=alt.Shape("part:N", scale=alt.Scale(domain=list(labels.values()), range=shapes[: len(labels)])),
        tooltip=[
            alt.Tooltip("part:N", title="part"),
            alt.Tooltip("dose:Q", title="dose"),
            reading("value", "effect"),
            reading("value_lo", "from"),
            reading("value_hi", "to"),
        ],
    )
    chart = alt.layer(zero_line(), band, line, dots).add_params(picker("dosed", "Knocked out", list(names), shown))
    return finish(
        chart,
        title=alt.ExprRef(f"'Without ' + dosed + ', {counted or 'more and more'}'"),
        description="Own change, answers, norm effect and total effect of one knock-out over the dose, from 0 to full"
        f"{_on(counted)}.",
        height=300,
    )


def half_share(table: pd.DataFrame, *, layers: int, legend: bool = True, counted: str = "") -> View:
    """Share of the total effect that half the dose has, over depth.

    Args:
        table: from `analysis.dose.linearity`, rows of one selection whose total effect is worth a ratio.
        layers: number of blocks of the model.
        legend: whether to explain colours and shapes.
        counted: what the totals are means over, where that has to be said.
    """
    rows = with_labels(table)
    placed = places(rows.assign(own_change=rows["total_effect"]), layers)
    title = "share of the total effect"
    y = alt.Y("half_share:Q", title=title, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%"))
    straight = alt.Chart(alt.Data(values=[{}])).mark_rule(strokeDash=[4, 3]).encode(y=alt.datum(0.5))
    x = depth("ablated_layer", "layer knocked out", layers) if is_curve(placed.table) else placed.x()
    shown = [alt.Tooltip("ablated:N", title="knocked out"), reading("half_share", "share", ".0%")]
    line = line_with_interval(placed.table, "half_share", title=title, x=x, legend=legend, y=y, tooltip=shown)
    return finish(
        alt.layer(straight, line),
        title=f"What half the dose does{_on(counted)}",
        description=f"Total effect at half the dose over that at the full dose{_on(counted)}, for each knock-out; one "
        "half is linear.",
        height=300,
    )


def rank_agreement(table: pd.DataFrame, measure: str, title: str) -> View:
    """Rank correlations of every two ablations, as a small matrix.

    Args:
        table: from `analysis.agreement.agreement`.
        measure: which of its measures.
        title: stands above it.
    """
    rows = table[table["measure"] == measure]
    names = list(dict.fromkeys([*rows["first"], *rows["second"]]))
    rows = rows.assign(
        said=[_fixed(value) for value in rows["spearman"]],
        between=[f"{_fixed(a)} to {_fixed(b)}" for a, b in zip(rows["spearman_lo"], rows["spearman_hi"], strict=True)],
    )
    x = alt.X("second:N", sort=names, title=None, axis=alt.Axis(labelAngle=0, domain=False, orient="top"))
    y = alt.Y("first:N", sort=names, title=None, axis=alt.Axis(grid=False, domain=False))
    base = alt.Chart(compact(rows)).encode(x=x, y=y)
    colours = alt.Scale(domain=[0, 1], range=[LIGHT.middle, LIGHT.positive_soft], clamp=True, interpolate="lab")
    tiles = base.mark_rect(stroke=LIGHT.paper, strokeWidth=2).encode(
        color=alt.Color("spearman:Q", scale=colours, legend=None),
        tooltip=[
            alt.Tooltip("first:N", title="one"),
            alt.Tooltip("second:N", title="other"),
            reading("spearman", "rank correlation"),
            reading("spearman_lo", "from"),
            reading("spearman_hi", "to"),
            reading("ratio", "size, other to one", ".3~g"),
        ],
    )
    big = base.mark_text(dy=-7, fontSize=15, fontWeight=600, tooltip=None).encode(text="said:N")
    small = base.mark_text(dy=11, fontSize=11, tooltip=None).encode(text="between:N")
    return finish(
        alt.layer(tiles, big, small),
        title=title,
        description=f"{title}: " + "; ".join(f"{r.first} and {r.second} {r.said}" for r in rows.itertuples()),
        height=64 * max(1, len(set(rows["first"]))),
    )


def _on(counted: str) -> str:
    return f" on {counted}" if counted else ""


def _fixed(value: float) -> str:
    return "–" if value != value else f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
