"""Which neurons respond, and how few carry the self-repair (arXiv 2402.15390)."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from hydrascope.figures._chart import (
    CHOSEN,
    KNOCKED_OUT,
    LEGEND,
    View,
    compact,
    finish,
    knockout_picker,
    reading,
    rule,
)
from hydrascope.figures._over_layers import depth, line_with_interval
from hydrascope.figures._theme import KIND_LABELS, LIGHT, colour_scale

CLASSES = {
    "positive": "anti-erasure",
    "positive_soft": "promotion",
    "negative_soft": "lost",
    "negative": "strengthened",
}
"""Role in the theme, as for the parts of a change, to the class of a neuron."""
_SHAPES = ("circle", "triangle-up", "triangle-down", "square")
HEIGHT = 300
NTH = {"nth_50": "50 %", "nth_10": "10 %", "nth_5": "5 %", "nth_2.5": "2.5 %", "nth_1": "1 %"}
"""Column of `analysis.neuron_curves` to its threshold, a share of the own change."""


def neuron_scatter(table: pd.DataFrame, names: Sequence[str], shown: str | None = None) -> View:
    """Clean direct effect and change of the strongest neurons.

    Args:
        table: from `analysis.neurons`.
        names: addresses of the knock-outs that can be chosen.
        shown: address of the knock-out shown first.
    """
    rows = table[table["ablated"].isin(names)]
    present = {role: label for role, label in CLASSES.items() if label in set(rows["class"])}
    shapes = dict(zip(CLASSES.values(), _SHAPES, strict=True))
    shape = alt.Scale(domain=list(present.values()), range=[shapes[label] for label in present.values()])
    legend = alt.Legend(columns=2)
    x = alt.X(
        "direct_effect:Q",
        title="direct effect in the clean run (logits)",
        axis=alt.Axis(grid=True, tickCount=5),
        scale=alt.Scale(padding=12),
    )
    y = alt.Y("change:Q", title="change (logits)", scale=alt.Scale(padding=12))
    points = (
        alt.Chart(compact(rows[["ablated", "neuron", "class", "direct_effect", "change", "share_in_half"]]))
        .transform_filter(CHOSEN)
        .mark_point(size=46, opacity=0.9, stroke=LIGHT.paper, strokeWidth=0.6)
        .encode(
            x=x,
            y=y,
            fill=alt.Fill("class:N", scale=colour_scale(present), legend=legend),
            shape=alt.Shape("class:N", scale=shape, legend=legend),
            tooltip=[
                alt.Tooltip("neuron:N", title="neuron"),
                alt.Tooltip("class:N", title="it is"),
                reading("direct_effect", "direct effect"),
                reading("change", "change"),
                alt.Tooltip("share_in_half:Q", title="prompts on which it is among the first half", format=".0%"),
            ],
        )
        .add_params(knockout_picker(names, shown))
    )
    return finish(
        alt.layer(rule(0), rule(0, "x"), points),
        title=alt.ExprRef("'Neurons without ' + knocked"),
        description="Scatter of neurons: clean direct effect across, change under the knock-out upwards.",
        height=HEIGHT,
    )


def carried_by_few(curves: pd.DataFrame, names: Sequence[str], shown: str | None = None) -> View:
    """Share of the repair that the strongest neurons of each prompt carry.

    Args:
        curves: from `analysis.neuron_curves`, of several knock-outs.
        names: addresses of the knock-outs that can be chosen.
        shown: address of the knock-out shown first.
    """
    rows = curves[curves["ablated"].isin(names)]
    columns = ["ablated", "n", "carried", "carried_q1", "carried_q3"]
    y = alt.Y(
        "carried:Q",
        title=None,
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=alt.Axis(format=".0%", tickCount=5),
    )
    base = alt.Chart(compact(rows[columns])).transform_filter(CHOSEN).encode(x=_number_axis(rows))
    band = base.mark_area(opacity=0.18, color=LIGHT.mlp).encode(y="carried_q1:Q", y2="carried_q3:Q")
    line = base.mark_line(color=LIGHT.mlp).encode(y=y)
    dots = base.mark_point(size=26, fill=LIGHT.mlp).encode(
        y=y,
        tooltip=[
            alt.Tooltip("n:Q", title="neurons", format="d"),
            reading("carried", "carry (median)", ".0%"),
            reading("carried_q1", "first quartile", ".0%"),
            reading("carried_q3", "third quartile", ".0%"),
        ],
    )
    return finish(
        alt.layer(rule(0.5, dash=[4, 3]), band, line, dots.add_params(knockout_picker(names, shown))),
        title=alt.ExprRef("'Repair carried without ' + knocked"),
        description="Share of the repair carried by the strongest neurons of a prompt, over how many they are.",
        height=HEIGHT,
        spare=2 * LEGEND + 8,
    )


def nth_neuron(curves: pd.DataFrame, names: Sequence[str], shown: str | None = None) -> View:
    """Prompts on which the n-th strongest neuron repairs much.

    Args:
        curves: from `analysis.neuron_curves`, of several knock-outs.
        names: addresses of the knock-outs that can be chosen.
        shown: address of the knock-out shown first.
    """
    rows = curves[curves["ablated"].isin(names)]
    reached = rows.loc[(rows[list(NTH)] > 0).any(axis=1), "n"]
    rows = rows[rows["n"] <= max(10, 1.5 * reached.max() if len(reached) else 0)]
    long = rows.melt(["ablated", "n"], list(NTH), "threshold", "prompts").dropna(subset=["prompts"])
    long["threshold"] = long["threshold"].map(NTH)
    levels = list(NTH.values())
    lines = (
        alt.Chart(compact(long))
        .transform_filter(CHOSEN)
        .mark_line(color=LIGHT.mlp, point=alt.OverlayMarkDef(size=18, color=LIGHT.mlp))
        .encode(
            x=_number_axis(rows, "n-th strongest neuron"),
            y=alt.Y(
                "prompts:Q",
                title=None,
                scale=alt.Scale(domain=[0, 1], nice=False),
                axis=alt.Axis(format=".0%", tickCount=5),
            ),
            opacity=alt.Opacity(
                "threshold:O",
                scale=alt.Scale(domain=levels, range=[1, 0.3]),
                legend=alt.Legend(title="repairs more than", symbolType="stroke", symbolStrokeWidth=3),
            ),
            tooltip=[
                alt.Tooltip("n:Q", title="neuron number", format="d"),
                alt.Tooltip("threshold:N", title="repairs more than"),
                alt.Tooltip("prompts:Q", title="on so many prompts", format=".0%"),
            ],
        )
        .add_params(knockout_picker(names, shown))
    )
    return finish(
        alt.layer(lines),
        title=alt.ExprRef("'One neuron’s share without ' + knocked"),
        description="Share of prompts on which the n-th strongest neuron repairs more than a share of the own change.",
    )


def half_by_layer(table: pd.DataFrame, *, layers: int) -> View:
    """How many neurons carry half of the repair of a prompt.

    Args:
        table: rows of `analysis.neuron_sparsity`, one per knock-out.
        layers: number of blocks of the model.
    """
    whole = table[table["ablated_kind"].isin(KIND_LABELS)]
    table = whole if len(whole) else table
    rows = table.assign(half_lo=table["half_q1"], half_hi=table["half_q3"]).dropna(subset=["half"])
    least, most = float(rows["half_lo"].min()), float(rows["half_hi"].max())
    scale = alt.Scale(type="log", domain=[max(0.8, 0.8 * least), 1.25 * most], nice=False)
    y = alt.Y("half:Q", title=None, scale=scale, axis=alt.Axis(format="d", tickCount=4))
    chart = line_with_interval(
        rows,
        "half",
        x=depth("ablated_layer", "layer knocked out", layers),
        y=y,
        tooltip=[
            KNOCKED_OUT,
            alt.Tooltip("half:Q", title="carry half (median)", format="~g"),
            alt.Tooltip("half_lo:Q", title="first quartile", format="~g"),
            alt.Tooltip("half_hi:Q", title="third quartile", format="~g"),
            alt.Tooltip("neurons:Q", title="of so many", format="d"),
        ],
    )
    title = "Neurons that carry half of the repair"
    return finish(alt.layer(chart), title=title, description=f"{title}, over the layers that were knocked out.")


def _number_axis(rows: pd.DataFrame, title: str = "neurons, strongest first") -> alt.X:
    return alt.X(
        "n:Q",
        title=title,
        scale=alt.Scale(type="log", domain=[1, int(rows["n"].max())], nice=False),
        axis=alt.Axis(format="~s", tickCount=4, grid=False),
    )
