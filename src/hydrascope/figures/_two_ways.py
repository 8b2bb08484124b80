"""Changes split in two: attention's effects, routing of experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from hydrascope.figures._bars import SQUARES, Parts, bars, stacked, sums, with_intervals
from hydrascope.figures._chart import CHOSEN, KNOCKED_OUT, View, estimate, finish, knockout_picker, rule
from hydrascope.figures._over_layers import depth, places, without
from hydrascope.figures._theme import LIGHT
from hydrascope.figures._tokens import SELECTED


@dataclass(frozen=True)
class TwoWays:
    """Words and colours of the charts of one split.

    Attributes:
        parts: the two parts of the change.
        whose: writers that change, in the plural.
        how: both ways in words, for those who cannot see the chart.
        share: column of the tables with how far the cause moved.
        moved: title of the chart of `share`.
        axis: title of the axis of `share`.
        colour: colour of the bars of `share`.
    """

    parts: Parts
    whose: str
    how: str
    share: str
    moved: str
    axis: str
    colour: str


ATTENTION = TwoWays(
    parts={"attn": ("pattern_effect", "pattern effect"), "mixer": ("value_effect", "value effect")},
    whose="attention layers",
    how="pattern effect and value effect",
    share="moved_weight",
    moved="Attention weight that moved",
    axis="weight on other tokens",
    colour=LIGHT.attn,
)

ROUTING = TwoWays(
    parts={"mlp": ("same_experts", "same experts"), "mixer": ("rerouted", "re-routed")},
    whose="routed MLPs",
    how="what the same experts write and what re-routing adds",
    share="routing_change",
    moved="Experts that changed",
    axis="experts that are new",
    colour=LIGHT.mixer,
)


def two_ways_by_layer(
    table: pd.DataFrame, ways: TwoWays, ablated_kind: str, *, layers: int, legend: bool = True
) -> View:
    """Change of all later writers together, in two parts.

    Args:
        table: from `analysis.attention_split_totals` or `analysis.routing_totals`.
        ways: words and colours of the split.
        ablated_kind: kind of component knocked out.
        layers: number of blocks of the model.
        legend: whether to explain the colours.
    """
    title = without(ablated_kind)
    return finish(
        stacked(
            table[table["ablated_kind"] == ablated_kind],
            ways.parts,
            layers=layers,
            title=f"change of {ways.whose} (logits)",
            legend=alt.Legend() if legend else None,
        ),
        title=title,
        description=f"{title}: change of all later {ways.whose} split into {ways.how}; diamonds are sums.",
        spare=0 if legend else SQUARES,
    )


def moved_by_layer(table: pd.DataFrame, ways: TwoWays, ablated_kind: str, *, layers: int) -> View:
    """Share of attention weight or routing that moved, mean over the writers.

    Args:
        table: from `analysis.attention_split_totals` or `analysis.routing_totals`.
        ways: words and colours of the split.
        ablated_kind: kind of component knocked out.
        layers: number of blocks of the model.
    """
    place = places(table[table["ablated_kind"] == ablated_kind], layers, by="change")
    ends = [ways.share, f"{ways.share}_lo", f"{ways.share}_hi"]
    drawn = with_intervals(
        place.table[["ablated", "at", "writers", *ends]],
        ways.share,
        x=place.x("left"),
        y=alt.Y(f"{ways.share}:Q", title=ways.axis, axis=alt.Axis(format="%")),
        colour=ways.colour,
        tooltip=[
            KNOCKED_OUT,
            *estimate(ways.share, ways.axis, ".1%"),
            alt.Tooltip("writers:Q", title=f"{ways.whose} behind it"),
        ],
    )
    description = f"{ways.moved}, {without(ablated_kind).lower()}: share that is not as in the clean run."
    return finish(drawn, title=ways.moved, description=description, spare=SQUARES)


def attention_by_writer(table: pd.DataFrame, names: Sequence[str], shown: str, *, layers: int) -> View:
    """Pattern and value effect of every later attention layer.

    Args:
        table: from `analysis.attention_split`, of whole layers.
        names: addresses of the knock-outs that can be chosen.
        shown: address of the knock-out shown first.
        layers: number of blocks of the model.
    """
    rows = table[table["ablated"].isin(names)].assign(at=table["writer_layer"])
    rows = rows.assign(moved=[f"{share:.1%}" for share in rows["moved_weight"]])
    drawn = bars(
        rows,
        depth("left", "responding attention layer", layers),
        ATTENTION.parts,
        title="change (logits)",
        legend=alt.Legend(),
        told={"ablated": "knocked out", "writer": "responding", "moved": "of its weight moved"},
    )
    chart = alt.layer(drawn.transform_filter(CHOSEN), rule(0), sums(rows).transform_filter(CHOSEN))
    return finish(
        chart.add_params(knockout_picker(names, shown)),
        title=alt.ExprRef("'Later attention layers without ' + knocked"),
        description=f"Change of every later attention layer, split into {ATTENTION.how}; diamonds are sums.",
    )


def attention_by_depth(lines: pd.DataFrame, selection: str, *, layers: int, legend: bool = True) -> View:
    """Pattern and value effect behind each layer, on ordinary text.

    Args:
        lines: from `analysis.mechanisms_by_depth` of `analysis.attention_split_on_tokens`.
        selection: `top` or `all`.
        layers: number of blocks of the model.
        legend: whether to explain the colours.
    """
    chosen = lines[lines["selection"] == selection]
    rows = chosen.pivot(index=["layer", "parts"], columns="mechanism", values="mean").reset_index()
    named = [f"layer {layer}, {n} parts" for layer, n in zip(rows["layer"], rows["parts"], strict=True)]
    rows = rows.assign(at=rows["layer"], ablated=named, change=rows["attention"])
    drawn = bars(
        rows,
        depth("left", "layer knocked out", layers),
        ATTENTION.parts,
        title="compensation by attention (logits)",
        legend=alt.Legend() if legend else None,
    )
    return finish(
        alt.layer(drawn, rule(0), sums(rows)),
        title=SELECTED[selection],
        description=f"Compensation by attention, split into {ATTENTION.how}, {SELECTED[selection].lower()}; diamonds "
        "are sums.",
        spare=0 if legend else SQUARES,
    )
