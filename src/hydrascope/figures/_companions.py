"""Companion runs: frozen responders, doses, ablations."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from hydrascope.figures._chart import (
    CHOSEN,
    KNOCKED_OUT,
    UNIT,
    View,
    compact,
    estimate,
    finish,
    knockout_picker,
    reading,
    rule,
)
from hydrascope.figures._edges import scale_of
from hydrascope.figures._over_layers import depth, is_curve, line_with_interval, places
from hydrascope.figures._theme import LIGHT, PART_LABELS, colour_scale

ROW = 34
"""Height of a bar with its space."""

_FROZEN = alt.Tooltip("frozen:N", title="frozen")
_SHOWN = ("responder", "two", "all", "controls", "other")
_SINGLE = {"attn": ("responder", "strongest responder"), "own": ("controls", "other layers")}
"""Colour's role in the theme to a role in the table and its name."""


def repair_frozen(table: pd.DataFrame, ablated: str, measure: str, title: str, *, unit: str = UNIT) -> View:
    """Compensation for one knock-out, by what is frozen.

    Args:
        table: from `analysis.freeze`.
        ablated: address of the knock-out.
        measure: measure of compensation, `attention` or `with_norm`.
        title: title of the chart.
        unit: unit of the logits, on the axis.
    """
    rows = table[(table["ablated"] == ablated) & (table["measure"] == measure)]
    rows = pd.concat([rows[rows["role"] == role] for role in _SHOWN], ignore_index=True)
    ends = ("", "_lo", "_hi")
    bars = [
        {"frozen": "nothing frozen", "colour": "total", **{f"value{end}": rows[f"repair{end}"].iloc[0] for end in ends}}
    ]
    bars += [
        {
            "frozen": _in_words(str(row["frozen"]), str(row["role"])),
            "colour": "own" if row["role"] == "controls" else "attn",
            **{f"value{end}": row[f"repair_frozen{end}"] for end in ends},
            "removed": row["removed"],
        }
        for row in rows.to_dict("records")
    ]
    data = compact(pd.DataFrame(bars))
    base = alt.Chart(data).encode(
        y=alt.Y("frozen:N", sort=[bar["frozen"] for bar in bars], title=None, axis=alt.Axis(labelLimit=170)),
        x=alt.X("value:Q", title=f"compensation ({unit})"),
    )
    scale = alt.Scale(domain=["total", "attn", "own"], range=[LIGHT.total, LIGHT.attn, LIGHT.own])
    told = [_FROZEN, *estimate("value", "compensation"), reading("removed", "removed", ".0%")]
    drawn = [base.mark_bar(height=18).encode(color=alt.Color("colour:N", scale=scale, legend=None), tooltip=told)]
    if data["value_lo"].notna().any():
        for width, colour in ((5, LIGHT.paper), (2, LIGHT.muted)):
            drawn.append(base.mark_rule(strokeWidth=width, color=colour).encode(x="value_lo:Q", x2="value_hi:Q"))
    return finish(
        alt.layer(*drawn),
        title=title,
        description=f"{title}: compensation when {ablated} is knocked out, by what is frozen at its clean output.",
        height=ROW * len(bars),
    )


def removed_by_freezing(table: pd.DataFrame, measure: str) -> View:
    """Share of compensation that vanishes under freezing: strongest responder and others.

    Args:
        table: from `analysis.freeze`.
        measure: measure of compensation, `attention` or `with_norm`.
    """
    here = table[(table["measure"] == measure) & table["meaningful"]]
    names = list(dict.fromkeys(here["ablated"]))
    long = pd.concat(
        [here[here["role"] == role].assign(who=label) for role, label in _SINGLE.values()],
        ignore_index=True,
    )
    columns = ["ablated", "frozen", "who", "removed", "removed_lo", "removed_hi"]
    labels = {role: label for role, (_, label) in _SINGLE.items()}
    base = alt.Chart(compact(long[columns])).encode(
        y=alt.Y("ablated:N", sort=names, title="knocked out"),
        yOffset=alt.YOffset("who:N", sort=list(labels.values())),
        x=alt.X("removed:Q", title="share removed", axis=alt.Axis(format="%")),
        color=alt.Color("who:N", scale=colour_scale(labels), legend=alt.Legend()),
    )
    points = base.mark_point(size=60).encode(
        shape=alt.Shape("who:N", scale=alt.Scale(domain=list(labels.values()), range=["circle", "diamond"])),
        tooltip=[KNOCKED_OUT, _FROZEN, *estimate("removed", "removed", ".0%")],
    )
    drawn = [points]
    if long["removed_lo"].notna().any():
        drawn.insert(0, base.mark_rule(strokeWidth=2).encode(x="removed_lo:Q", x2="removed_hi:Q"))
    title = "Of the compensation by later attention" if measure == "attention" else "Of all compensation"
    return finish(
        alt.layer(*drawn),
        title=title,
        description=f"{title}: share that vanishes while a layer is frozen, for each knock-out.",
        height=max(3, len(names)) * (ROW + 10),
    )


def _in_words(frozen: str, role: str) -> str:
    """Name of the bar of what is frozen."""
    if role == "all":
        return "all later layers"
    return f"another: {frozen}" if role == "controls" else frozen.replace("/", " and ")


def dose_curves(table: pd.DataFrame, names: Sequence[str], *, shown: str, unit: str = UNIT, counted: str = "") -> View:
    """Parts of one knock-out's account over the dose, chosen from a list.

    Args:
        table: from `analysis.doses`, the rows of one selection.
        names: addresses of the knock-outs in the list.
        shown: address of the knock-out shown first.
        unit: unit of the logits, on the axis.
        counted: tokens that the means are over, in words; empty for all prompts.
    """
    rows = table[table["ablated"].isin(list(names))]
    labels = {part: PART_LABELS[part] for part in PART_LABELS if part in set(rows["part"])}
    rows = rows.assign(part=rows["part"].map(labels))
    doses = sorted({float(dose) for dose in rows["dose"]})
    axis = alt.Axis(values=doses, format=".2~f")
    x = alt.X("dose:Q", title="dose", scale=alt.Scale(domain=[0, doses[-1]], nice=False), axis=axis)
    colour = alt.Color("part:N", scale=colour_scale(labels), legend=alt.Legend(symbolOpacity=1, columns=3))
    base = alt.Chart(compact(rows)).transform_filter(CHOSEN).encode(x=x, color=colour)
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
            *estimate("value", "effect"),
        ],
    )
    chart = alt.layer(rule(0), band, line, dots).add_params(knockout_picker(names, shown))
    return finish(
        chart,
        title=alt.ExprRef(f"'Without ' + knocked + ', {counted or 'more and more'}'"),
        description="Own change, compensation, norm effect and total effect of one knock-out over the dose"
        f"{_on(counted)}.",
        height=300,
    )


def half_share(table: pd.DataFrame, *, layers: int, counted: str = "") -> View:
    """Share of the total effect at half the dose, over depth.

    Args:
        table: from `analysis.linearity`, rows of one selection whose total effect is worth a ratio.
        layers: number of blocks of the model.
        counted: tokens that the totals are means over, in words; empty for all prompts.
    """
    placed = places(table, layers, by="total_effect")
    y = alt.Y("half_share:Q", title="share of the total effect", scale=scale_of((0, 1)), axis=alt.Axis(format=".0%"))
    x = depth("ablated_layer", "layer knocked out", layers) if is_curve(placed.table) else placed.x()
    shown = [KNOCKED_OUT, reading("half_share", "share", ".0%")]
    line = line_with_interval(placed.table, "half_share", x=x, y=y, tooltip=shown, limits=(0, 1))
    return finish(
        alt.layer(rule(0.5, dash=[4, 3]), line),
        title=f"What half the dose does{_on(counted)}",
        description=f"Total effect at half the dose over that at the full dose{_on(counted)}, for each knock-out; one "
        "half is linear.",
        height=300,
    )


def rank_agreement(table: pd.DataFrame, measure: str, title: str) -> View:
    """Rank correlations of every two ablations, as a small matrix.

    Args:
        table: from `analysis.rank_agreement`.
        measure: value of its column `measure`.
        title: title of the chart.
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
            *estimate("spearman", "rank correlation"),
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
