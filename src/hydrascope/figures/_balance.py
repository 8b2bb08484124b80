"""The decomposition of one total effect into its parts."""

from __future__ import annotations

import altair as alt
import pandas as pd

from hydrascope.figures._chart import CHOSEN, MARKS, UNIT, View, compact, finish, knockout_picker, rule, strongest
from hydrascope.figures._theme import LIGHT, PART_LABELS, colour_scale

COLUMNS = {
    "own": "own_change",
    "attn": "compensation_attn",
    "mlp": "compensation_mlp",
    "mixer": "compensation_mixer",
    "norm": "norm_effect",
    "total": "total_effect",
}
"""Part of a total effect to its column in `repair`."""
BALANCED = MARKS // 18
"""Most knock-outs in the chart of one decomposition, which has so many marks of each."""


def balance_steps(table: pd.DataFrame) -> pd.DataFrame:
    """Bars of the decomposition, one row per knock-out and part.

    Args:
        table: from `analysis.repair`.

    Returns:
        Columns `ablated`, `part`, `value`, `start`, `end` (logits); the total starts at 0, every other part where the
        one before it ended.
    """
    rows = []
    for row in table.to_dict("records"):
        at = 0.0
        for part, column in COLUMNS.items():
            if column not in row:
                continue
            value = float(row[column])
            start = 0.0 if part == "total" else at
            rows.append((row["ablated"], PART_LABELS[part], value, start, start + value))
            at += value
    return pd.DataFrame(rows, columns=["ablated", "part", "value", "start", "end"])


def balance(table: pd.DataFrame, shown: str | None = None, *, unit: str = UNIT) -> View:
    """Own change, attention, MLPs and norm end to end up to the total effect.

    Args:
        table: from `analysis.repair`.
        shown: address of the knock-out shown first.
        unit: unit of the logits, on the axis.
    """
    steps = balance_steps(table)
    names = [str(name) for name in strongest(table, BALANCED)["ablated"]]
    steps = steps[steps["ablated"].isin(names)]
    steps = steps.assign(next=steps.groupby("ablated")["part"].shift(-1))
    roles = {role: label for role, label in PART_LABELS.items() if label in set(steps["part"])}
    parts = list(roles.values())

    base = alt.Chart(compact(steps)).transform_filter(CHOSEN)
    y = alt.Y("part:N", sort=parts, title=None, axis=alt.Axis(domain=False, grid=False, labelFontSize=13))
    x = alt.X(
        "start:Q",
        title=unit,
        scale=alt.Scale(padding=52),
        axis=alt.Axis(grid=True, domain=False, tickCount=6),
    )
    bars = base.mark_bar(height=alt.RelativeBandSize(0.62)).encode(
        y=y,
        x=x,
        x2="end:Q",
        color=alt.Color("part:N", scale=colour_scale(roles), legend=None),
        tooltip=[
            alt.Tooltip("part:N", title="part"),
            alt.Tooltip("value:Q", title="logits", format="+.3~g"),
            alt.Tooltip("end:Q", title="running total", format="+.3~g"),
        ],
    )
    links = (
        base.transform_filter("datum.next != null")
        .mark_rule(strokeDash=[2, 2])
        .encode(x="end:Q", y=alt.Y("part:N", sort=parts), y2=alt.Y2("next:N"))
    )
    text = base.transform_calculate(right="max(datum.start, datum.end)").encode(
        y=alt.Y("part:N", sort=parts), x="right:Q", text=alt.Text("value:Q", format="+.2f")
    )
    # the line at 0 must not strike the numbers through
    halo = text.mark_text(align="left", dx=7, fontSize=13, stroke=LIGHT.paper, strokeWidth=5)
    values = text.mark_text(align="left", dx=7, fontSize=13)
    return finish(
        alt.layer(rule(0, "x"), links, bars, halo, values).add_params(knockout_picker(names, shown)),
        title=alt.ExprRef("'Without ' + knocked"),
        description="Bars laid end to end: own change, attention, MLPs and final norm sum to the total effect.",
        height=46 * len(parts),
    )
