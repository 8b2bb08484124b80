"""Charts of a pruning: what every ranking costs, and which parts it removes."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from hydrascope.figures._chart import View, compact, estimate, finish, reading
from hydrascope.figures._theme import LIGHT

_AWARE, _BLIND = "that others go too", "one part at a time, or none"


def pruning_curve(table: pd.DataFrame) -> View:
    """Rise of the loss over the share of the parts that go, a line for each ranking.

    Args:
        table: costs of every ranking at every size.
    """
    rows = compact(table.assign(knows=table["repairs"].map({True: _AWARE, False: _BLIND})))
    base = alt.Chart(rows).encode(
        x=alt.X("share:Q", title="share of the parts that go", axis=alt.Axis(format="%")),
        y=alt.Y("rise:Q", title="rise of the loss (nats a token)", scale=alt.Scale(zero=True)),
        detail="ranking:N",
        color=alt.Color(
            "knows:N",
            title="the ranking knows",
            scale=alt.Scale(domain=[_AWARE, _BLIND], range=[LIGHT.mlp, LIGHT.own]),
            legend=alt.Legend(symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=3),
        ),
    )
    tips = [
        alt.Tooltip("ranking:N", title="ranking"),
        reading("size", "gone", "d"),
        *estimate("rise", "rise of the loss"),
        reading("calibration_rise", "on the text that it saw"),
        reading("perplexity", "perplexity", ".4~g"),
    ]
    lines = base.mark_line(strokeWidth=1.6)
    points = base.mark_point(size=38).encode(tooltip=tips)
    last = alt.Chart(rows[rows["size"] == rows["size"].max()]).mark_text(align="left", dx=6)
    names = last.encode(x="share:Q", y="rise:Q", text="ranking:N", color=base.encoding.color)
    title = "What it costs on text that no ranking saw"
    return finish(
        alt.layer(lines, points, names),
        title=title,
        description=f"{title}: rise of the loss over the share of parts that go, by ranking.",
        height=380,
    )


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
            y=alt.Y("ranking:N", sort=list(rankings), scale=alt.Scale(domain=list(rankings)), title=None),
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
