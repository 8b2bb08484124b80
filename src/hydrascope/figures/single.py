"""One prompt at a time (figure 1 of McGrath et al. 2023, arXiv 2307.15771)."""

from __future__ import annotations

from collections.abc import Mapping

import altair as alt
import pandas as pd

from hydrascope.figures.build import (
    UNIT,
    View,
    compact,
    depth,
    finish,
    kind_colour,
    kind_shape,
    picker,
    reading,
    with_labels,
    zero_line,
)

RUNS = {"clean": "clean", "ablated": "knocked out"}


def prompt_views(
    views: Mapping[tuple[str, str], pd.DataFrame],
    *,
    layers: int,
    shown: tuple[str, str] | None = None,
    unit: str = UNIT,
) -> View:
    """Direct effect of every writer on one prompt, clean and under one knock-out.

    Args:
        views: (prompt as it is written in the list, knock-out) to the table of `analysis.repair.prompt_view`.
        layers: number of blocks of the model.
        shown: the pair shown first.
        unit: what the logits are of, on the axis.
    """
    table = pd.concat([_one(view, text, name) for (text, name), view in views.items()], ignore_index=True)
    shown = shown or next(iter(views))
    texts, names = (
        list(dict.fromkeys(text for text, _ in views)),
        list(dict.fromkeys(name for _, name in views)),
    )
    lines = pd.concat(
        [table.assign(run=label, value=table[column]) for column, label in RUNS.items()], ignore_index=True
    )
    band = table.assign(low=table["ablated"] - table["sd"], high=table["ablated"] + table["sd"])

    x = depth("writer_layer", layers=layers)
    y = alt.Y("value:Q", title=f"direct effect ({unit})")
    chosen = "datum.text == prompt && datum.knockout == knocked"
    keys = ["text", "knockout", "writer_layer", "kind"]
    spread = (
        alt.Chart(compact(band[[*keys, "low", "high"]]))
        .transform_filter(chosen)
        .mark_area(opacity=0.2)
        .encode(x=x, y="low:Q", y2="high:Q", color=kind_colour(table))
    )
    base = alt.Chart(compact(lines[[*keys, "writer", "run", "value"]])).transform_filter(chosen)
    dash = alt.StrokeDash(
        "run:N",
        scale=alt.Scale(domain=list(RUNS.values()), range=[[4, 4], [1, 0]]),
        legend=alt.Legend(symbolType="stroke", symbolStrokeWidth=2, symbolSize=300),
    )
    curves = base.mark_line().encode(x=x, y=y, color=kind_colour(table), strokeDash=dash)
    dots = base.mark_point(size=34).encode(
        x=x,
        y=y,
        color=kind_colour(table),
        shape=kind_shape(table),
        opacity=alt.condition(f"datum.run == '{RUNS['clean']}'", alt.value(0.35), alt.value(1)),
        tooltip=[
            alt.Tooltip("writer:N", title="writer"),
            alt.Tooltip("run:N", title="run"),
            reading("value", "direct effect"),
        ],
    )
    places = table.loc[table["is_own"], ["knockout", "writer_layer"]].drop_duplicates()
    mark = (
        alt.Chart(places)
        .transform_filter("datum.knockout == knocked")
        .mark_rule(strokeDash=[2, 3])
        .encode(x=alt.X("writer_layer:Q"))
    )
    known = band[["low", "high"]].notna().all(axis=1)
    bands = [spread] if known.any() else []
    chart = alt.layer(zero_line(), mark, *bands, curves, dots).add_params(
        picker("prompt", "Prompt", texts, shown[0]), picker("knocked", "Knocked out", names, shown[1])
    )
    return finish(
        chart,
        title=alt.ExprRef("['Without ' + knocked, prompt]"),
        description="Direct effects of attention layers and MLPs on one prompt, clean and knocked out.",
        height=320,
    )


def _one(view: pd.DataFrame, text: str, knockout: str) -> pd.DataFrame:
    inside = view[~view["writer_kind"].isin(["embed", "bias"])]
    return with_labels(inside, "writer_kind").assign(text=text, knockout=knockout)
