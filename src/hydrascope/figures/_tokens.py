"""Self-repair on ordinary text (figures of Rushing & Nanda 2024, arXiv 2402.15390)."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from hydrascope.figures._chart import (
    CHOSEN,
    KNOCKED_OUT,
    View,
    compact,
    estimate,
    finish,
    knockout_picker,
    reading,
    rule,
)
from hydrascope.figures._over_layers import kind_colour, kind_shape, with_labels
from hydrascope.figures._theme import LIGHT, PART_LABELS

SELECTED = {"top": "On their top tokens", "all": "On all tokens"}
"""Selection of tokens to its name above a chart."""
GIVERS = {part: PART_LABELS[part] for part in ("attn", "mlp", "mixer", "norm")} | {"bias": "biases"}
"""First word of a mechanism's name to who gives back."""
_ROLES = {"attn": LIGHT.attn, "mlp": LIGHT.mlp, "mixer": LIGHT.mixer, "norm": LIGHT.norm, "bias": LIGHT.own}
_WAYS = {"suppression": "wrote against the target", "promotion": "wrote for it"}
_NORM = "scale alone"
TOP, REST = "its top tokens", "other tokens"


def repair_by_depth(table: pd.DataFrame, lines: pd.DataFrame, selection: str, *, n_layers: int) -> View:
    """A point for every removed part, and a line through the means of the layers.

    Args:
        table: from `analysis.self_repair`.
        lines: from `analysis.self_repair_by_depth`.
        selection: `top` or `all`.
        n_layers: number of blocks of the model.
    """
    rows = with_labels(table[table["removed"] & (table["selection"] == selection)])
    rows = rows.assign(depth=rows["ablated_layer"] / max(1, n_layers - 1))
    names = ["ablated", "kind", "depth", "self_repair", "self_repair_lo", "self_repair_hi", "own_change"]
    x, y = _depth(), alt.Y("self_repair:Q", title="self-repair (logits)")
    points = (
        alt.Chart(compact(rows[names]))
        .mark_point(size=34, opacity=0.6)
        .encode(
            x=x,
            y=y,
            color=kind_colour(rows),
            shape=kind_shape(rows) if rows["kind"].nunique() > 1 else alt.value("circle"),
            tooltip=[
                KNOCKED_OUT,
                *estimate("self_repair", "self-repair"),
                reading("own_change", "own change"),
            ],
        )
    )
    means = compact(lines.loc[lines["selection"] == selection, ["depth", "layer", "parts", "self_repair"]])
    line = (
        alt.Chart(means)
        .mark_line(color=LIGHT.total, point=alt.OverlayMarkDef(color=LIGHT.total, size=26))
        .encode(
            x=x,
            y=y,
            tooltip=[
                alt.Tooltip("layer:Q", title="layer"),
                alt.Tooltip("parts:Q", title="parts"),
                reading("self_repair", "mean self-repair"),
            ],
        )
    )
    return finish(
        rule(0) + points + line,
        title=SELECTED[selection],
        description=f"Self-repair of every part over relative depth, {SELECTED[selection].lower()}.",
        height=220,
    )


def mechanisms_by_depth(
    lines: pd.DataFrame, selection: str, *, n_layers: int, givers: bool = True, ways: bool = True
) -> View:
    """Stacked bars of every layer's mechanisms, and their sum as a diamond.

    Args:
        lines: from `analysis.mechanisms_by_depth`.
        selection: `top` or `all`.
        n_layers: number of blocks of the model.
        givers: whether to explain the colours.
        ways: whether to explain full and pale.
    """
    rows = lines[lines["selection"] == selection]
    named = rows["mechanism"].str.extract(r"^(?P<giver>attn|mlp|mixer|norm|bias)(?:_(?P<way>\w+))?$")
    known = named["giver"].notna()
    there = [giver for giver in GIVERS if giver in set(named["giver"])]
    bars = rows[known].assign(
        giver=named.loc[known, "giver"].map(GIVERS), way=named.loc[known, "way"].map(_WAYS).fillna(_NORM)
    )
    bars = bars.assign(rank=[there.index(giver) for giver in named.loc[known, "giver"]])
    scale = alt.Scale(domain=[GIVERS[giver] for giver in there], range=[_ROLES[giver] for giver in there])
    size = max(6, min(44, 300 // n_layers))
    x = _depth(pad=0.5 / max(1, n_layers - 1))
    told = [alt.Tooltip("layer:Q", title="layer"), alt.Tooltip("parts:Q", title="parts")]
    stack = (
        alt.Chart(compact(bars[["layer", "depth", "parts", "giver", "way", "rank", "mean"]]))
        .mark_bar(size=size)
        .encode(
            x=x,
            y=alt.Y("mean:Q", title="self-repair (logits)", stack="zero"),
            color=alt.Color("giver:N", scale=scale, legend=alt.Legend(symbolOpacity=1) if givers else None),
            opacity=alt.Opacity(
                "way:O",
                sort=[*_WAYS.values(), _NORM],
                scale=alt.Scale(type="ordinal", domain=[*_WAYS.values(), _NORM], range=[1, 0.45, 1]),
                legend=alt.Legend(values=list(_WAYS.values()), symbolFillColor=LIGHT.own) if ways else None,
            ),
            order=alt.Order("rank:Q"),
            tooltip=[
                *told,
                alt.Tooltip("giver:N", title="by"),
                alt.Tooltip("way:N", title="of"),
                reading("mean", "logits"),
            ],
        )
    )
    whole = rows.loc[rows["mechanism"] == "self_repair", ["layer", "depth", "parts", "mean"]]
    sums = (
        alt.Chart(compact(whole))
        .mark_point(shape="diamond", size=80, color=LIGHT.total, stroke=LIGHT.paper, strokeWidth=1)
        .encode(x=x, y=alt.Y("mean:Q"), tooltip=[*told, reading("mean", "sum")])
    )
    return finish(
        alt.layer(stack, rule(0), sums),
        title=SELECTED[selection],
        description=f"Self-repair of every layer's parts by mechanism, {SELECTED[selection].lower()}.",
        height=280,
    )


def effect_against_change(points: pd.DataFrame, names: Sequence[str], shown: str) -> View:
    """Change of the logit against direct effect, a point per token.

    Args:
        points: columns `ablated`, `which` (`TOP` or `REST`), `direct_effect`, `total_effect`, `text`, `target`.
        names: addresses of the knock-outs that can be chosen.
        shown: address of the knock-out shown first.
    """
    x = alt.X("direct_effect:Q", title="direct effect (logits)", axis=alt.Axis(grid=True, domain=False, tickCount=8))
    y = alt.Y("total_effect:Q", title="change of the target’s logit")
    scale = alt.Scale(domain=[TOP, REST], range=[LIGHT.mlp, LIGHT.own])
    base = alt.Chart(compact(points)).transform_filter(CHOSEN)
    cloud = base.mark_point().encode(
        x=x,
        y=y,
        color=alt.Color("which:N", scale=scale, legend=alt.Legend(symbolOpacity=1)),
        shape=alt.Shape("which:N", scale=alt.Scale(domain=[TOP, REST], range=["diamond", "circle"])),
        size=alt.condition(f"datum.which == '{TOP}'", alt.value(42), alt.value(12)),
        opacity=alt.condition(f"datum.which == '{TOP}'", alt.value(0.9), alt.value(0.35)),
        tooltip=[
            alt.Tooltip("text:N", title="after"),
            alt.Tooltip("target:N", title="token"),
            reading("direct_effect", "direct effect"),
            reading("total_effect", "change"),
        ],
    )
    ends = pd.DataFrame(
        [
            {"ablated": name, "direct_effect": end, "total_effect": -end}
            for name, rows in points.groupby("ablated")
            for end in (float(rows["direct_effect"].min()), float(rows["direct_effect"].max()))
        ]
    )
    line = (
        alt.Chart(compact(ends))
        .transform_filter(CHOSEN)
        .mark_line(strokeWidth=1.4, strokeDash=[5, 4], color=LIGHT.total)
        .encode(x=x, y=y)
    )
    chart = alt.layer(rule(0), cloud, line).add_params(knockout_picker(names, shown))
    return finish(
        chart,
        title=alt.ExprRef("'Every token without ' + knocked"),
        description="Scatter of direct effect against change of the logit, token by token; dashed, no repair.",
        height=380,
    )


def norm_ratio(bins: pd.DataFrame, names: Sequence[str], shown: str) -> View:
    """Clean over ablated scale of the final norm, as a histogram.

    Args:
        bins: columns `ablated`, `selection`, `low`, `high`, `share` (of the tokens of that selection).
        names: addresses of the knock-outs that can be chosen.
        shown: address of the knock-out shown first.
    """
    x = alt.X("low:Q", title="clean over ablated scale of the final norm", scale=alt.Scale(zero=False, nice=False))
    y = alt.Y("share:Q", title="share of tokens", axis=alt.Axis(format="%"))
    words = {"top": TOP, "all": "all tokens"}
    scale = alt.Scale(domain=list(words.values()), range=[LIGHT.norm, LIGHT.total])
    bins = bins.assign(which=bins["selection"].map(words))
    base = alt.Chart(compact(bins)).transform_filter(CHOSEN)
    colour = alt.Color("which:N", scale=scale, legend=alt.Legend(symbolOpacity=1, symbolType="square"))
    told = [
        alt.Tooltip("low:Q", title="from", format=".3f"),
        alt.Tooltip("high:Q", title="to", format=".3f"),
        alt.Tooltip("share:Q", title="share", format=".1%"),
    ]
    bars = (
        base.transform_filter(f"datum.which == '{TOP}'")
        .mark_bar(opacity=0.6, stroke=LIGHT.paper, strokeWidth=0.5)
        .encode(x=x, x2="high:Q", y=y, y2=alt.datum(0), color=colour, tooltip=told)
    )
    every = (
        base.transform_filter(f"datum.which != '{TOP}'")
        .mark_line(interpolate="step-after", strokeWidth=1.5)
        .encode(x=x, y=y, color=colour)
    )
    chart = alt.layer(bars, every, rule(1, "x", dash=[4, 3])).add_params(knockout_picker(names, shown))
    return finish(
        chart,
        title=alt.ExprRef("'Final norm without ' + knocked"),
        description="Histogram of the clean over the ablated scale of the final norm; the line is at one.",
        height=280,
    )


def _depth(pad: float = 0.04) -> alt.X:
    return alt.X(
        "depth:Q",
        title="relative depth (0 first layer, 1 last)",
        scale=alt.Scale(domain=[-pad, 1 + pad], nice=False, zero=False),
        axis=alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".2~f"),
    )
