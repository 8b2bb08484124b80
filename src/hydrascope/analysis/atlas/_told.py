"""What an atlas shows, in sentences whose numbers stand in its tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from hydrascope.analysis._mcgrath import DOES_NOT, FROM, HOLDS, MIDDLE
from hydrascope.analysis._statistics import Reading
from hydrascope.analysis.atlas._survey import Survey
from hydrascope.analysis.summary._told import extreme
from hydrascope.analysis.summary._words import count, percent, spread

FIRST = "attention answers attention"
"""The claim that gave the paper its name."""
NAMED = 6
"""Most runs that are named one by one."""


@dataclass(frozen=True)
class SurveySummary:
    """What an atlas shows.

    Attributes:
        headline: where attention answers attention.
        sentences: the other claims, and what comes back at middle layers.
        numbers: the numbers in the sentences, by name.
    """

    headline: str
    sentences: tuple[str, ...]
    numbers: Mapping[str, Any]


def summarise_survey(found: Survey) -> SurveySummary:
    """State what an atlas shows.

    Args:
        found: the tables.
    """
    claims, numbers = found.claims, _counts(found)
    headline, *others = _claims(claims, numbers) or [
        f"None of {count(len(found.runs), 'run')} knocks out attention at the last token, so no claim is asked."
    ]
    sentences = [*others, *_shares(found.runs, numbers)]
    return SurveySummary(headline, tuple(sentences), numbers)


def _counts(found: Survey) -> dict[str, Any]:
    runs = found.runs
    return {
        "runs": len(runs),
        "models": int(runs.loc[~runs["random_weights"], "model"].nunique()),
        "tasks": int(runs["task"].nunique()),
        "random_weights": int(runs["random_weights"].sum()),
        "left_out": len(found.left_out),
    }


def _claims(claims: pd.DataFrame, numbers: dict[str, Any]) -> list[str]:
    """Each claim in a sentence, the one about attention first; those that no run asks are left out."""
    if claims.empty:
        return []
    said = []
    names = list(dict.fromkeys(claims["claim"]))
    for claim in [FIRST, *(name for name in names if name != FIRST)]:
        asked = claims[(claims["claim"] == claim) & claims["value"].notna()]
        if asked.empty:
            continue
        trained, drawn = asked[~asked["random_weights"]], asked[asked["random_weights"]]
        pieces = []
        for rows, which, one, many in (
            (trained, "trained", "run of a trained model", "runs of trained models"),
            (drawn, "random", "run with random weights", "runs with random weights"),
        ):
            if rows.empty:
                continue
            numbers[f"{claim}, {which}, asked"] = len(rows)
            for verdict in (HOLDS, DOES_NOT):
                numbers[f"{claim}, {which}, {verdict}"] = int((rows["verdict"] == verdict).sum())
            pieces.append(_verdicts(rows, one, many))
        said.append(f"{claim[0].upper()}{claim[1:]}: {'; '.join(pieces)}.")
    return said


def _verdicts(rows: pd.DataFrame, one: str, many: str) -> str:
    """`holds in 3 of 7 runs of trained models (a, b, c), does not in 2, cannot be told in 2`."""
    holds, fails = (rows[rows["verdict"] == verdict] for verdict in (HOLDS, DOES_NOT))
    named = f" ({', '.join(holds['label'])})" if 0 < len(holds) <= NAMED else ""
    rest = len(rows) - len(holds) - len(fails)
    return (
        f"holds in {len(holds)} of {count(len(rows), one, many)}{named}, does not in {len(fails)}, "
        f"cannot be told in {rest}"
    )


def _shares(runs: pd.DataFrame, numbers: dict[str, Any]) -> list[str]:
    """The least and the most that comes back of what attention loses at middle depth, models and tasks together."""
    column = "pooled_restored_with_norm"
    known = runs[runs[f"{column}_lo"].notna() & (runs["read"] == "last")]
    said = []
    for drawn, whose in ((False, "trained models"), (True, "random weights")):
        rows = known[known["random_weights"] == drawn]
        if rows.empty:
            continue
        ends = [extreme(rows, column, sign) for sign in (-1, 1)]
        told = [f"{spread(_reading(row, column), form=percent)} ({row['label']})" for row in ends]
        numbers[f"least share, {whose}"], numbers[f"largest share, {whose}"] = (float(row[column]) for row in ends)
        where = f"attention layers at {percent(FROM)} to {percent(MIDDLE)} of the depth together"
        amount = f"from {told[0]} to {told[1]}" if len(rows) > 1 else told[0]
        said.append(
            f"What comes back of the loss of {where}, norm included, in {count(len(rows), 'run')} with {whose} that "
            f"clearly lose something: {amount}."
        )
    return said


def _reading(row: Any, column: str) -> Reading:
    low, high = (float(row[f"{column}{end}"]) for end in ("_lo", "_hi"))
    return Reading(float(row[column]), low, high, bool(np.isfinite(high - low)))
