"""What attention does about a knock-out: look elsewhere, or find other things where it looks."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from hydrascope.figures.build import View, depth, finish, picker, sums, zero_line
from hydrascope.figures.shares import SQUARES, share_by_layer, without
from hydrascope.figures.stacked import bars, stacked
from hydrascope.figures.texts import SELECTED
from hydrascope.figures.theme import LIGHT

PARTS = {"attn": ("pattern_effect", "by moved weight"), "mixer": ("value_effect", "by changed values")}
"""Role in the theme to a part of the change and its name."""


def redistribution_by_answer(table: pd.DataFrame, names: Sequence[str], shown: str, *, layers: int) -> View:
    """What every attention layer behind a knock-out changes, in two parts, and their sum.

    Args:
        table: from `analysis.redistribution.redistribution`, of whole layers.
        names: the knock-outs that can be chosen.
        shown: the one shown first.
        layers: number of blocks of the model.
    """
    rows = table[table["ablated"].isin(names)].assign(at=table["writer_layer"])
    told = {"ablated": "knocked out", "writer": "answering", "moved": "of its weight moved"}
    rows = rows.assign(moved=[f"{share:.1%}" for share in rows["moved_weight"]])
    x = depth("left", "answering attention layer", layers)
    drawn = bars(rows, x, PARTS, title="change (logits)", legend=alt.Legend(), told=told)
    chart = alt.layer(
        drawn.transform_filter("datum.ablated == knocked"),
        zero_line(),
        sums(rows).transform_filter("datum.ablated == knocked"),
    )
    return finish(
        chart.add_params(picker("knocked", "Knocked out", names, shown)),
        title=alt.ExprRef("'Attention behind ' + knocked"),
        description="Change of every answering attention layer, split into moved weight and changed values; "
        "diamonds are sums.",
    )


def redistributed_by_layer(table: pd.DataFrame, ablated_kind: str, *, layers: int, legend: bool = True) -> View:
    """The same of all attention behind each knock-out together.

    Args:
        table: from `analysis.redistribution.redistribution_totals`.
        ablated_kind: kind of component knocked out.
        layers: number of blocks of the model.
        legend: whether to explain the colours.
    """
    title = f"All attention behind, {without(ablated_kind)}"
    drawn = stacked(
        table[table["ablated_kind"] == ablated_kind],
        PARTS,
        layers=layers,
        title="change of attention (logits)",
        legend=alt.Legend() if legend else None,
    )
    return finish(
        drawn,
        title=title,
        description=f"{title}: change split into moved weight and changed values; diamonds are sums.",
        spare=0 if legend else SQUARES,
    )


def moved_weight_by_layer(table: pd.DataFrame, ablated_kind: str, *, layers: int) -> View:
    """Share of attention's weight that lies elsewhere than in the clean run, mean over the heads behind.

    Args:
        table: from `analysis.redistribution.redistribution_totals`.
        ablated_kind: kind of component knocked out.
        layers: number of blocks of the model.
    """
    title = f"Weight that moved, {without(ablated_kind)}"
    return share_by_layer(
        table[table["ablated_kind"] == ablated_kind],
        "moved_weight",
        layers=layers,
        colour=LIGHT.attn,
        axis="weight on other tokens",
        many="attention layers behind it",
        title=title,
        description=f"{title}: share of the weight that lies on other tokens than in the clean run.",
    )


def redistribution_by_depth(lines: pd.DataFrame, selection: str, *, layers: int, legend: bool = True) -> View:
    """What attention gives back for the parts of each layer on ordinary text, in two parts, and the sum.

    Args:
        lines: from `analysis.mechanisms.by_depth` of `analysis.redistribution.redistribution_on_text`.
        selection: `top` or `all`.
        layers: number of blocks of the model.
        legend: whether to explain the colours.
    """
    chosen = lines[lines["selection"] == selection]
    rows = chosen.pivot(index=["layer", "parts"], columns="mechanism", values="mean").reset_index()
    rows = rows.assign(
        at=rows["layer"],
        ablated=[f"layer {layer}, {n} parts" for layer, n in zip(rows["layer"], rows["parts"], strict=True)],
        change=rows["attention"],
    )
    drawn = bars(
        rows,
        depth("left", "layer knocked out", layers),
        PARTS,
        title="given back by attention (logits)",
        legend=alt.Legend() if legend else None,
    )
    return finish(
        alt.layer(drawn, zero_line(), sums(rows)),
        title=SELECTED[selection],
        description=f"What attention gives back, split into moved weight and changed values, "
        f"{SELECTED[selection].lower()}; diamonds are sums.",
        spare=0 if legend else SQUARES,
    )
