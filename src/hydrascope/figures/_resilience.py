"""Charts of a stress test: degradation, importance under failure, pairs, load transfer."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from hydrascope.figures._chart import LEGEND, View, compact, estimate, finish, reading, rule
from hydrascope.figures._theme import LIGHT, diverging_scale

CURVES = 6
"""Most parts whose importance is drawn."""
CELLS = 40
"""Most parts along a side of a matrix."""
_COLOURS = (LIGHT.attn, LIGHT.mlp, LIGHT.norm, LIGHT.mixer, LIGHT.negative_soft, LIGHT.own)
_MEASURED, _SINGLES, _PAIRS = "measured", "singles added up", "with pairs"


def _rate(title: str = "share of parts that fail at random") -> alt.X:
    return alt.X(
        "rate:Q", title=title, scale=alt.Scale(domain=[0, 1], nice=False), axis=alt.Axis(format="%", tickCount=6)
    )


def degradation_curve(table: pd.DataFrame, *, value: str, title: str) -> View:
    """What is left over the failure rate, beside what single losses and pairs would leave.

    Args:
        table: from `resilience.degradation`.
        value: title of the vertical axis.
        title: title of the chart.
    """
    clean = float(table["value"].iloc[0])
    left = {_SINGLES: clean - table["singles"], _PAIRS: clean - table["pairs"]}
    lowest = float(table[["value", "value_lo"]].min().min())
    shown = {name: values.where(values >= lowest - 0.05 * (clean - lowest)) for name, values in left.items()}
    long = pd.concat(
        [
            table[["rate", "value", "value_lo", "value_hi"]].assign(line=_MEASURED),
            *(pd.DataFrame({"rate": table["rate"], "value": values, "line": name}) for name, values in shown.items()),
        ]
    ).dropna(subset="value")
    present = [name for name in (_MEASURED, _SINGLES, _PAIRS) if name in set(long["line"])]
    styles = {_MEASURED: (LIGHT.attn, [1, 0]), _SINGLES: (LIGHT.own, [5, 4]), _PAIRS: (LIGHT.mlp, [2, 3])}
    colour = alt.Color(
        "line:N",
        scale=alt.Scale(domain=present, range=[styles[name][0] for name in present]),
        legend=alt.Legend(symbolType="stroke", symbolOpacity=1, symbolStrokeWidth=3),
    )
    dash = alt.StrokeDash(
        "line:N", scale=alt.Scale(domain=present, range=[styles[name][1] for name in present]), legend=None
    )
    y = alt.Y("value:Q", title=value, scale=alt.Scale(zero=False))
    measured = alt.Chart(compact(long[long["line"] == _MEASURED])).encode(x=_rate(), color=colour)
    drawn: list[alt.Chart] = []
    if table["value_lo"].notna().any():
        drawn.append(measured.mark_area(opacity=0.18).encode(y=alt.Y("value_lo:Q", title=value), y2="value_hi:Q"))
    lines = alt.Chart(compact(long[["rate", "value", "line"]])).mark_line()
    drawn.append(lines.encode(x=_rate(), y=y, color=colour, strokeDash=dash))
    tips = [reading("rate", "failure rate", ".0%"), *estimate("value", value, ".3~g")]
    drawn.append(measured.mark_point(size=38).encode(y=y, tooltip=tips))
    return finish(
        alt.layer(*drawn), title=title, description=f"{title}: {value} over the failure rate, with intervals."
    )


def accuracy_curve(table: pd.DataFrame, threshold: float) -> View:
    """Share of prompts that stay right over the failure rate, and the share asked for.

    Args:
        table: from `resilience.degradation`, of accuracy.
        threshold: least share that counts as surviving.
    """
    base = alt.Chart(compact(table[["rate", "value", "value_lo", "value_hi"]])).encode(x=_rate())
    y = alt.Y("value:Q", title="prompts that stay right", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%"))
    drawn: list[alt.Chart] = []
    if table["value_lo"].notna().any():
        band = base.transform_calculate(lo="max(0, datum.value_lo)", hi="min(1, datum.value_hi)")
        drawn.append(band.mark_area(opacity=0.18, color=LIGHT.norm).encode(y=alt.Y("lo:Q", title=None), y2="hi:Q"))
    drawn.append(base.mark_line(color=LIGHT.norm).encode(y=y))
    tips = [reading("rate", "failure rate", ".0%"), *estimate("value", "right", ".1%")]
    drawn.append(base.mark_point(size=38, color=LIGHT.norm).encode(y=y, tooltip=tips))
    title = "Right answers"
    return finish(
        alt.layer(*drawn, rule(threshold, dash=(4, 4))),
        title=title,
        description=f"{title}: share of prompts that stay right over the failure rate, with intervals.",
        spare=LEGEND,
    )


def importance_curves(table: pd.DataFrame, parts: Sequence[str], crossings: pd.DataFrame, *, unit: str) -> View:
    """Importance of some parts over the failure rate of the others; a diamond where one clearly overtakes another.

    Args:
        table: from `resilience.importance_table`.
        parts: the parts drawn, `CURVES` at most.
        crossings: from `resilience.crossings`; of other parts they are left out.
        unit: title of the vertical axis.
    """
    rows = compact(table[table["part"].isin(parts)])
    base = alt.Chart(rows).encode(
        x=_rate("share of the other parts that fail"),
        color=alt.Color(
            "part:N",
            scale=alt.Scale(domain=list(parts), range=list(_COLOURS[: len(parts)])),
            legend=alt.Legend(symbolOpacity=1, columns=3),
        ),
    )
    y = alt.Y("importance:Q", title=unit)
    drawn: list[alt.Chart] = []
    if table["importance_lo"].notna().any():
        band = base.mark_area(opacity=0.12)
        drawn.append(band.encode(y=alt.Y("importance_lo:Q", title=unit), y2="importance_hi:Q"))
    tips = [alt.Tooltip("part:N"), reading("rate", "others fail", ".0%"), *estimate("importance", "importance", ".3~g")]
    drawn += [base.mark_line().encode(y=y), base.mark_point(size=32).encode(y=y, tooltip=tips)]
    drawn += _overtaking(crossings[crossings[["part", "overtaken_by"]].isin(parts).all(axis=1)], table, y)
    title = "Importance when others fail too"
    return finish(
        alt.layer(*drawn, rule(0)),
        title=title,
        description=f"{title}: what each of {len(parts)} parts costs over the failure rate of all others.",
        height=320,
    )


def _overtaking(crossings: pd.DataFrame, table: pd.DataFrame, y: alt.Y) -> list[alt.Chart]:
    """Where a part overtakes others: a diamond on its curve, with their names in the data."""
    if crossings.empty:
        return []
    over = crossings.groupby(["overtaken_by", "rate"], sort=False)["part"].agg(", ".join).rename("over").reset_index()
    at = over.rename(columns={"overtaken_by": "part"}).merge(table[["part", "rate", "importance"]], on=["part", "rate"])
    tips = [
        alt.Tooltip("part:N", title="overtakes"),
        alt.Tooltip("over:N", title="the part"),
        reading("rate", "clear where others fail", ".0%"),
    ]
    marks = alt.Chart(compact(at)).mark_point(shape="diamond", size=110, fill=LIGHT.paper, stroke=LIGHT.ink, opacity=1)
    return [marks.encode(x=_rate("share of the other parts that fail"), y=y, tooltip=tips)]


def pair_matrix(table: pd.DataFrame, parts: Sequence[str]) -> View:
    """Heat map of interactions: purple, two parts cost more together than alone; green, less.

    Args:
        table: from `resilience.pair_table`.
        parts: the parts in the order of the forward pass.
    """
    within = set(table["part"]) | set(table["other"])
    names = [part for part in parts if part in within][-CELLS:]
    rows = table[table["part"].isin(names) & table["other"].isin(names)]
    both = pd.concat([rows, rows.rename(columns={"part": "other", "other": "part"})])
    title = "Interaction of pairs"
    return tiles(
        both.assign(said=both["kind"].replace("", "not clear")),
        across=("other", "and", names),
        down=("part", "without", names),
        field="interaction",
        title=title,
        unit="interaction (logits)",
        tips=[
            alt.Tooltip("said:N", title="kind"),
            reading("joint_loss", "loss together"),
            reading("answer", "later part’s answer"),
        ],
        kept=["said", "joint_loss", "answer"],
        description=f"{title}: heat map of how much more or less two parts cost together than alone.",
    )


def load_transfer(table: pd.DataFrame, parts: Sequence[str], takers: Sequence[str]) -> View:
    """Heat map of load transfer: green, a writer takes over some of a part's loss; purple, it loses too.

    Args:
        table: from `resilience.transfers`.
        parts: the parts that lose something.
        takers: the writers, in the order of the forward pass.
    """
    title = "Who takes over whose load"
    return tiles(
        table,
        across=("taker", "taken over by", list(takers)),
        down=("part", "lost by", list(parts)),
        field="transfer",
        title=title,
        unit="share of the loss",
        tips=[],
        kept=[],
        description=f"{title}: heat map of the share of each part's loss that each later writer takes over.",
    )


def tiles(
    table: pd.DataFrame,
    *,
    across: tuple[str, str, list[str]],
    down: tuple[str, str, list[str]],
    field: str,
    title: str,
    unit: str,
    tips: list[alt.Tooltip],
    kept: list[str],
    description: str,
) -> View:
    """Heat map of a table's field around zero, with dots where it is significant.

    Args:
        table: the field with the ends of its interval, `significant`, and both places.
        across: column of the places across, what it is called, and their order.
        down: column of the places downwards, what it is called, and their order.
        field: what the colours say.
        title: title of the chart.
        unit: title of the legend.
        tips: more lines of a cell's tooltip.
        kept: columns that `tips` need.
        description: text for those who cannot see it.
    """
    limit = float(table[field].abs().max()) if len(table) else 1.0
    columns = [across[0], down[0], field, f"{field}_lo", f"{field}_hi", *kept]
    x = alt.X(
        f"{across[0]}:N",
        title=across[1],
        scale=alt.Scale(domain=across[2]),
        axis=alt.Axis(labelAngle=-55, domain=False, labelOverlap=False),
    )
    y = alt.Y(
        f"{down[0]}:N",
        title=down[1],
        scale=alt.Scale(domain=down[2]),
        axis=alt.Axis(grid=False, domain=False, labelOverlap=False),
    )
    legend = alt.Legend(title=unit, gradientLength=180, gradientThickness=10, tickCount=5, format="~g", titlePadding=6)
    tiles = (
        alt.Chart(compact(table[columns]))
        .mark_rect(stroke=LIGHT.paper, strokeWidth=1)
        .encode(
            x=x,
            y=y,
            color=alt.Color(f"{field}:Q", scale=diverging_scale(limit), legend=legend),
            tooltip=[
                alt.Tooltip(f"{down[0]}:N", title=down[1]),
                alt.Tooltip(f"{across[0]}:N", title=across[1]),
                *estimate(field, unit),
                *tips,
            ],
        )
    )
    dots = (
        alt.Chart(table.loc[table["significant"].astype(bool), [across[0], down[0]]])
        .mark_point(size=14, fill=LIGHT.ink, stroke=None, tooltip=None)
        .encode(x=x, y=y)
    )
    step = 22 if len(down[2]) <= 20 else 14
    return finish(alt.layer(tiles, dots), title=title, description=description, height=max(120, step * len(down[2])))
