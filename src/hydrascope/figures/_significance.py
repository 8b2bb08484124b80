"""Charts of a ranking: who wakes up, what freezing removes, cheap scores against exact ones, agreement of scores."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from hydrascope.figures._chart import LEGEND, MARKS, View, compact, diagonal, estimate, every_nth, finish, reading, rule
from hydrascope.figures._resilience import tiles
from hydrascope.figures._theme import LIGHT

CANDIDATES = 20
"""Most parts in a chart of candidates."""
_ALONE, _BESIDE = "alone", "beside the primaries"
_COLOURS = (LIGHT.attn, LIGHT.mlp, LIGHT.norm, LIGHT.mixer, LIGHT.negative_soft, LIGHT.own)


def conditional_scores(table: pd.DataFrame) -> View:
    """What the loss of each candidate moves, alone and once the primaries are out; the largest growth above.

    Args:
        table: from `significance.backups`.
    """
    rows = table.nlargest(CANDIDATES, "conditional")
    names = [str(name) for name in rows["part"]]
    ends = ("", "_lo", "_hi")
    long = pd.concat(
        [
            pd.DataFrame({f"moved{end}": np.sqrt(rows[f"{column}{end}"].clip(lower=0)) for end in ends}).assign(
                part=rows["part"], out=said
            )
            for column, said in (("energy", _ALONE), ("energy_given", _BESIDE))
        ]
    )
    legend = alt.Legend(title=None, orient="top", direction="horizontal", offset=4)
    colour = alt.Color(
        "out:N", scale=alt.Scale(domain=[_ALONE, _BESIDE], range=[LIGHT.total, LIGHT.attn]), legend=legend
    )
    base = alt.Chart(compact(long)).encode(
        y=alt.Y("part:N", sort=names, title=None, scale=alt.Scale(domain=names), axis=alt.Axis(grid=False)),
        yOffset=alt.YOffset("out:N", sort=[_ALONE, _BESIDE]),
        color=colour,
    )
    across = "change of the answer’s logit, root mean square"
    spans = base.mark_rule(strokeWidth=1.5).encode(x=alt.X("moved_lo:Q", title=across), x2="moved_hi:Q")
    points = base.mark_point(size=46, filled=True, opacity=1).encode(
        x=alt.X("moved:Q", title=across, scale=alt.Scale(zero=True)),
        tooltip=[
            alt.Tooltip("part:N", title="lost"),
            alt.Tooltip("out:N", title="lost"),
            *estimate("moved", "moves by"),
        ],
    )
    title = "Whose loss matters more once the primaries are out"
    return finish(
        alt.layer(spans, points),
        title=title,
        description=f"{title}: {len(names)} parts, each with the change of the logit alone and beside the primaries.",
        height=max(120, 24 * len(names)),
    )


def frozen_repair(table: pd.DataFrame) -> View:
    """What of the primaries' repair goes while one candidate cannot answer, in the order of the forward pass.

    Args:
        table: from `significance.freezing`, single candidates.
    """
    rows = table.loc[table["gone"].abs().nlargest(CANDIDATES).index].sort_index()
    names = [str(name) for name in rows["frozen"]]
    base = alt.Chart(compact(rows[["frozen", "gone", "gone_lo", "gone_hi", "needed"]])).encode(
        y=alt.Y("frozen:N", sort=names, title=None, scale=alt.Scale(domain=names), axis=alt.Axis(grid=False))
    )
    across = "repair that is gone (logits)"
    dots = base.mark_point(size=60, filled=True, opacity=1).encode(
        x=alt.X("gone:Q", title=across),
        color=alt.condition("datum.needed", alt.value(LIGHT.attn), alt.value(LIGHT.total)),
        tooltip=[
            alt.Tooltip("frozen:N", title="frozen"),
            *estimate("gone", "repair gone"),
            alt.Tooltip("needed:N", title="needed"),
        ],
    )
    spans = base.mark_rule(strokeWidth=1.5, color=LIGHT.total).encode(
        x=alt.X("gone_lo:Q", title=across), x2="gone_hi:Q"
    )
    title = "What freezing one part removes"
    return finish(
        alt.layer(spans, dots, rule(0, "x", dash=(4, 4))),
        title=title,
        description=f"{title}: the repair that vanishes while each of {len(names)} parts is frozen.",
        height=max(120, 24 * len(names)),
        spare=LEGEND,
    )


def cheap_against_exact(table: pd.DataFrame) -> View:
    """Effects that cheap scores estimate, over the exact ones; on the dashed line they are right.

    Args:
        table: from `significance.misjudged`.
    """
    scores = list(dict.fromkeys(map(str, table["score"])))
    rows = every_nth(table[["score", "part", "estimate", "total", "repair"]], MARKS)
    low, high = float(table["total"].min()), float(table["total"].max())
    x = alt.X("total:Q", title="exact total effect (logits)", scale=alt.Scale(domain=[low, high], nice=True))
    y = alt.Y("estimate:Q", title="estimate (logits)")
    colour = alt.Color(
        "score:N",
        scale=alt.Scale(domain=scores, range=list(_COLOURS[: len(scores)])),
        legend=alt.Legend(title=None, orient="top", direction="horizontal", columns=2, offset=4),
    )
    points = (
        alt.Chart(compact(rows))
        .mark_point(size=46, filled=True, opacity=0.75)
        .encode(
            x=x,
            y=y,
            color=colour,
            tooltip=[
                alt.Tooltip("part:N", title="lost"),
                alt.Tooltip("score:N", title="score"),
                reading("estimate", "estimate"),
                reading("total", "total effect"),
                reading("repair", "repair"),
            ],
        )
    )
    title = "Cheap scores against exact effects"
    return finish(
        alt.layer(diagonal(x, y, ("total", "estimate"), low, high), points),
        title=title,
        description=f"{title}: the estimates of {len(scores)} scores over the exact total effect of each part.",
        height=340,
    )


def score_agreement(table: pd.DataFrame, scores: Sequence[str]) -> View:
    """Heat map of Kendall's tau of each two scores.

    Args:
        table: from `significance.agreement`.
        scores: names of the scores in the order of the table.
    """
    both = pd.concat([table, table.rename(columns={"score": "other", "other": "score"})])
    title = "How far scores order the parts alike"
    return tiles(
        both.assign(significant=(both["tau_lo"] > 0) | (both["tau_hi"] < 0)),
        across=("other", "and", list(scores)),
        down=("score", "score", list(scores)),
        field="tau",
        title=title,
        unit="Kendall’s tau",
        tips=[reading("overlap", "shared first parts", ".0%")],
        kept=["overlap"],
        description=f"{title}: heat map of Kendall's tau of each two scores.",
    )
