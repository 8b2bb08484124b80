"""Charts of a pruning: what every ranking costs, and which parts it removes."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.optimize import isotonic_regression

from hydrascope.figures._chart import View, compact, estimate, finish, reading
from hydrascope.figures._theme import LIGHT

HEIGHT, LINE = 380, 14
"""Height of the chart, and of a line of text in it, in pixels."""
NAMES = 0.25
"""Room for names behind the last size, as a part of the room for the sizes."""

WEAKEST = 0.25
"""Opacity of what goes last."""

RISE = "rise of the loss (nats a token)"

_AWARE, _BLIND = "yes", "no"

MANY_TIMES = 8
"""How many times the dearest set costs what the cheapest does where costs are drawn by their logarithm."""


def pruning_curve(table: pd.DataFrame) -> View:
    """Rise of the loss over the share of the parts that go, a line for each ranking; of one share, a point for each.

    Args:
        table: costs of every ranking at every size.
    """
    rows = compact(table.assign(knows=table["repairs"].map({True: _AWARE, False: _BLIND})))
    color = alt.Color(
        "knows:N",
        title="knows that other parts go",
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
    least, most = float(rows["rise"].min()), float(rows["rise"].max())
    logarithmic = least > 0 and most > MANY_TIMES * least
    shares = sorted(rows["share"].unique())
    scale = alt.Scale(type="log" if logarithmic else "linear", zero=not logarithmic, nice=False)
    y = alt.Y("rise:Q", title=RISE, scale=scale, axis=alt.Axis(tickCount=6, format="~g"))
    base = alt.Chart(rows).encode(
        x=alt.X(
            "share:Q",
            title="share of the parts that go",
            axis=alt.Axis(format=".0%", values=shares, grid=False),
            scale=alt.Scale(domain=[shares[0], shares[-1] + (shares[-1] - shares[0]) * NAMES], nice=False),
        ),
        y=y,
        detail="ranking:N",
        color=color,
    )
    last = rows[rows["size"] == rows["size"].max()].sort_values("rise")
    heights = np.log(last["rise"]) if logarithmic else last["rise"]
    lowest, highest = (np.log(least), np.log(most)) if logarithmic else (min(least, 0.0), max(most, 0.0))
    at = _apart(heights.to_numpy(float), float(lowest), float(highest))
    names = alt.Chart(last.assign(at=np.exp(at) if logarithmic else at))
    text = names.mark_text(align="left", dx=8).encode(x="share:Q", y="at:Q", text="ranking:N", color=color)
    return alt.layer(base.mark_line(strokeWidth=1.6), base.mark_point(size=38).encode(tooltip=tips), text)


def _apart(values: Float[np.ndarray, " names"], lowest: float, highest: float) -> Float[np.ndarray, " names"]:
    """Ascending heights of names beside their points, moved as little as keeps a line between them."""
    steps = np.arange(len(values)) * (highest - lowest) * LINE / HEIGHT
    return np.maximum(isotonic_regression(values - steps).x, lowest) + steps


def removal_order(table: pd.DataFrame, parts: Sequence[str], rankings: Sequence[str]) -> View:
    """Which parts each ranking removes, and from which size on.

    Args:
        table: the size at which each part is gone, by ranking.
        parts: addresses in the order of the forward pass.
        rankings: names in the order of the rows.
    """
    rows = compact(table[table["gone_at"].notna() & table["part"].isin(parts)])
    sizes = sorted(rows["gone_at"].unique())
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
            color=alt.value(LIGHT.negative),
            opacity=alt.Opacity("gone_at:O", title="gone from", scale=alt.Scale(domain=sizes, range=[1, WEAKEST])),
            tooltip=[
                alt.Tooltip("ranking:N", title="ranking"),
                alt.Tooltip("part:N", title="part"),
                reading("gone_at", "gone from", "d"),
                reading("score", "score"),
            ],
        )
    )
    return finish(drawn, title=title, description=f"{title}: removed parts by ranking.", height=22 * len(rankings) + 20)
