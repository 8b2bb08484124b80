"""Charts of a model on several tasks: what effects vary with, how far tasks agree, what each part costs where."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from hydrascope.figures._chart import View, compact, estimate, finish, reading
from hydrascope.figures._resilience import tiles
from hydrascope.figures._theme import LIGHT

SPLIT, SURE = 12, 6
"""Most parts in the chart of shares, and in that of their intervals; those that cost most on average."""
PAIRS, CELLS = 30, 40
"""Most rankings that are compared, and most parts whose effects are drawn."""
LEVEL_LABELS = {
    "task": "between tasks",
    "group": "between groups",
    "prompt": "between prompts",
    "donor": "by donors",
}
"""Level of the variance to its name in a legend."""
_COLOURS = {"task": LIGHT.attn, "group": LIGHT.mlp, "prompt": LIGHT.norm, "donor": LIGHT.mixer}


def variance_shares(table: pd.DataFrame) -> View:
    """How much of the variance of each part's effect lies at which level, the costliest parts above.

    Args:
        table: `variance` of `significance.Contexts`.
    """
    rows, names = _costliest(table, SPLIT)
    bars = (
        alt.Chart(compact(_by_level(rows)))
        .mark_bar()
        .encode(
            y=_down(names, "part"),
            x=alt.X(
                "share:Q",
                title="share of the variance",
                stack="zero",
                scale=alt.Scale(domain=[0, 1], nice=False),
                axis=alt.Axis(format="%", tickCount=5, grid=False),
            ),
            color=_level_colour(rows),
            order=alt.Order("place:Q"),
            tooltip=_share_tips(),
        )
    )
    title = "What the effect of a part varies with"
    return finish(
        bars,
        title=title,
        description=f"{title}: stacked shares of the variance of {len(names)} parts by level.",
        height=20 * len(names),
    )


def share_intervals(table: pd.DataFrame) -> View:
    """The same shares one by one with their intervals, of fewer parts.

    Args:
        table: `variance` of `significance.Contexts`.
    """
    rows, names = _costliest(table, SURE)
    long = _by_level(rows)
    levels = list(dict.fromkeys(long["level"]))
    base = alt.Chart(compact(long)).encode(
        y=_down(names, "part"), yOffset=alt.YOffset("level:N", sort=levels), color=_level_colour(rows)
    )
    x = alt.X(
        "share:Q",
        title="share of the variance",
        scale=alt.Scale(domain=[0, 1], nice=False),
        axis=alt.Axis(format="%", tickCount=5),
    )
    spans = base.mark_rule(strokeWidth=1.8).encode(
        x=alt.X("share_lo:Q", title="share of the variance"), x2="share_hi:Q"
    )
    points = base.mark_point(size=46, filled=True, opacity=1).encode(x=x, tooltip=_share_tips())
    title = "How sure these shares are"
    return finish(
        alt.layer(spans, points),
        title=title,
        description=f"{title}: the share of each level for {len(names)} parts, with intervals.",
        height=max(120, (12 * len(levels) + 12) * len(names)),
    )


def task_agreement(table: pd.DataFrame) -> View:
    """Kendall's W of the tasks' rankings, all together and two by two, beside what unrelated rankings reach.

    Args:
        table: `agreement` of `significance.Contexts`.
    """
    rows = table.head(PAIRS)
    together = rows["task"] == rows["other"]
    tasks = len({*rows["task"], *rows["other"]} - set(rows.loc[together, "task"]))
    said = rows["task"] + " and " + rows["other"]
    rows = rows.assign(
        which=said.mask(together, f"all {tasks} tasks"), chance=(1 / tasks * together).mask(~together, 0.5), start=0.0
    )
    names = list(rows["which"])
    base = alt.Chart(compact(rows.drop(columns=["task", "other"]))).encode(
        y=alt.Y("which:N", sort=names, scale=alt.Scale(domain=names), axis=None)
    )
    x = alt.X(
        "agreement:Q", title="Kendall’s W", scale=alt.Scale(domain=[0, 1], nice=False), axis=alt.Axis(tickCount=5)
    )
    tips = [
        alt.Tooltip("which:N", title="rankings of"),
        *estimate("agreement", "W, freed of noise", ".2f"),
        reading("w", "W as measured", ".2f"),
        reading("chance", "unrelated rankings", ".2f"),
    ]
    labels = base.mark_text(align="left", dy=-13, limit=alt.ExprRef("width")).encode(x="start:Q", text="which:N")
    spans = base.mark_rule(strokeWidth=1.8, color=LIGHT.attn).encode(x="agreement_lo:Q", x2="agreement_hi:Q")
    chance = base.mark_tick(thickness=2, size=16, color=LIGHT.own).encode(x="chance:Q")
    measured = base.mark_point(size=52, filled=False, color=LIGHT.own).encode(x="w:Q", tooltip=tips)
    freed = base.mark_point(size=60, filled=True, color=LIGHT.attn, opacity=1).encode(x=x, tooltip=tips)
    title = "How far tasks order the parts alike"
    return finish(
        alt.layer(labels, chance, spans, measured, freed),
        title=title,
        description=f"{title}: Kendall's W of {len(names)} sets of rankings, with intervals.",
        height=42 * len(names),
    )


def effects_by_task(table: pd.DataFrame, parts: Sequence[str]) -> View:
    """Heat map of what the loss of each part does in each task; dots where it matters for certain.

    Args:
        table: `effects` of `significance.Contexts`.
        parts: addresses in the order of the forward pass; those with the largest effects are drawn.
    """
    most = table["effect"].abs().groupby(table["part"]).max().nlargest(CELLS).index
    rows = table[table["part"].isin(most)]
    title = "What the loss of a part does in each task"
    return tiles(
        rows.assign(significant=rows["role"] == "matters"),
        across=("task", "task", list(dict.fromkeys(rows["task"]))),
        down=("part", "lost", [part for part in parts if part in set(most)]),
        field="effect",
        title=title,
        unit="total effect (logits)",
        tips=[alt.Tooltip("role:N", title="there it")],
        kept=["role"],
        description=f"{title}: heat map of the mean total effect of {len(most)} parts.",
    )


def _costliest(table: pd.DataFrame, most: int) -> tuple[pd.DataFrame, list[str]]:
    rows = table.loc[table["effect"].abs().nlargest(most).index]
    return rows, [str(part) for part in rows["part"]]


def _known(table: pd.DataFrame) -> list[str]:
    return [level for level in LEVEL_LABELS if table[level].notna().any()]


def _by_level(table: pd.DataFrame) -> pd.DataFrame:
    """A row per part and level."""
    return pd.concat(
        [
            table[["part", "effect", "sd"]].assign(
                level=LEVEL_LABELS[level],
                place=place,
                **{f"share{end}": table[f"{level}{end}"] for end in ("", "_lo", "_hi")},
            )
            for place, level in enumerate(_known(table))
        ],
        ignore_index=True,
    )


def _down(names: Sequence[str], field: str) -> alt.Y:
    return alt.Y(f"{field}:N", sort=names, title=None, scale=alt.Scale(domain=names), axis=alt.Axis(grid=False))


def _level_colour(table: pd.DataFrame) -> alt.Color:
    words = [LEVEL_LABELS[level] for level in _known(table)]
    legend = alt.Legend(orient="top", direction="horizontal", columns=2, offset=4, symbolOpacity=1)
    return alt.Color(
        "level:N",
        sort=words,
        scale=alt.Scale(domain=words, range=[_COLOURS[level] for level in _known(table)]),
        legend=legend,
    )


def _share_tips() -> list[alt.Tooltip]:
    return [
        alt.Tooltip("part:N", title="lost"),
        alt.Tooltip("level:N", title="varies"),
        *estimate("share", "share", ".0%"),
        reading("effect", "mean effect (logits)"),
        reading("sd", "standard deviation", ".3~g"),
    ]
