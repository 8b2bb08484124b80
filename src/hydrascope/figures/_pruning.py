"""Charts of a pruning: what every ranking costs, and which parts it removes."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from hydrascope.figures._chart import View, compact, estimate, finish, reading
from hydrascope.figures._theme import LIGHT

HEIGHT, LINE = 380, 13
"""Height of the chart, and of a line of text in it, in pixels."""

RISE = "rise of the loss (nats a token)"

_AWARE, _BLIND = "that others go too", "one part at a time, or none"


def pruning_curve(table: pd.DataFrame) -> View:
    """Rise of the loss over the share of the parts that go, a line for each ranking; of one share, a point for each.

    Args:
        table: costs of every ranking at every size.
    """
    rows = compact(table.assign(knows=table["repairs"].map({True: _AWARE, False: _BLIND})))
    color = alt.Color(
        "knows:N",
        title="the ranking knows",
        scale=alt.Scale(domain=[_AWARE, _BLIND], range=[LIGHT.mlp, LIGHT.own]),
        legend=alt.Legend(symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=3),
    )
    tips = [
        alt.Tooltip("ranking:N", title="ranking"),
        reading("size", "gone", "d"),
        *estimate("rise", "rise of the loss"),
        reading("calibration_rise", "on the text that it saw"),
        reading("perplexity", "perplexity", ".4~g"),
    ]
    title = "What it costs on text that no ranking saw"
    one = rows["size"].nunique() == 1
    return finish(
        _at_one_size(rows, color, tips) if one else _over_sizes(rows, color, tips),
        title=title,
        description=f"{title}: rise of the loss {'' if one else 'over the share of parts that go, '}by ranking.",
        height=22 * len(rows) + 20 if one else HEIGHT,
    )


def _at_one_size(rows: pd.DataFrame, color: alt.Color, tips: Sequence[alt.Tooltip]) -> alt.LayerChart | alt.FacetChart:
    base = alt.Chart(rows).encode(
        y=alt.Y("ranking:N", sort=list(rows.sort_values("rise")["ranking"]), title=None),
        x=alt.X("rise:Q", title=RISE, scale=alt.Scale(zero=True)),
        color=color,
    )
    intervals = base.mark_rule(strokeWidth=1.6).encode(x="rise_lo:Q", x2="rise_hi:Q")
    return alt.layer(intervals, base.mark_point(size=38).encode(tooltip=tips))


def _over_sizes(rows: pd.DataFrame, color: alt.Color, tips: Sequence[alt.Tooltip]) -> alt.LayerChart | alt.FacetChart:
    base = alt.Chart(rows).encode(
        x=alt.X("share:Q", title="share of the parts that go", axis=alt.Axis(format="%")),
        y=alt.Y("rise:Q", title=RISE, scale=alt.Scale(zero=True)),
        detail="ranking:N",
        color=color,
    )
    last = rows[rows["size"] == rows["size"].max()].sort_values("rise")
    names = alt.Chart(last.assign(at=_apart(last["rise"].tolist(), rows["rise"].tolist())))
    text = names.mark_text(align="left", dx=8).encode(x="share:Q", y="at:Q", text="ranking:N", color=color)
    return alt.layer(base.mark_line(strokeWidth=1.6), base.mark_point(size=38).encode(tooltip=tips), text)


def _apart(values: Sequence[float], all_values: Sequence[float]) -> list[float]:
    """Ascending heights of names beside their points, moved up where they would lie on each other."""
    line = (max(*all_values, 0) - min(*all_values, 0)) * LINE / HEIGHT
    found: list[float] = []
    for value in values:
        found.append(max(value, found[-1] + line) if found else value)
    return found


def removal_order(table: pd.DataFrame, parts: Sequence[str], rankings: Sequence[str]) -> View:
    """Which parts each ranking removes, and from which size on.

    Args:
        table: the size at which each part is gone, by ranking.
        parts: addresses in the order of the forward pass.
        rankings: names in the order of the rows.
    """
    rows = compact(table[table["gone_at"].notna() & table["part"].isin(parts)])
    title = "What goes, and how early"
    drawn = (
        alt.Chart(rows)
        .mark_rect()
        .encode(
            x=alt.X("part:N", sort=list(parts), scale=alt.Scale(domain=list(parts)), title="part"),
            y=alt.Y(
                "ranking:N",
                sort=list(rankings),
                scale=alt.Scale(domain=list(rankings)),
                title=None,
                axis=alt.Axis(grid=False),
            ),
            color=alt.Color(
                "gone_at:O",
                title="gone from",
                scale=alt.Scale(range=[LIGHT.negative, LIGHT.negative_soft, LIGHT.grid]),
            ),
            tooltip=[
                alt.Tooltip("ranking:N", title="ranking"),
                alt.Tooltip("part:N", title="part"),
                reading("gone_at", "gone from", "d"),
                reading("score", "score"),
            ],
        )
    )
    return finish(drawn, title=title, description=f"{title}: removed parts by ranking.", height=22 * len(rankings) + 20)
