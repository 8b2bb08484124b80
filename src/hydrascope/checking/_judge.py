"""An expectation against the tables of a run: it holds, it fails, or the interval cannot tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from hydrascope.checking._expectations import CHANGE, OF_PARTS, Expectation
from hydrascope.errors import ComponentError, RunError, did_you_mean

Outcome = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True)
class Judged:
    """An expectation and what became of it.

    Attributes:
        expectation: what must hold.
        outcome: `holds` where the whole 95 % interval allows it, `fails` where none of it does, or `undecided`.
        said: the estimate with its interval, in words.
        beside: the difference to a base run, in words; empty without one.
    """

    expectation: Expectation
    outcome: Outcome
    said: str
    beside: str = ""


def judged_part(expected: Expectation, repair: pd.DataFrame) -> Judged:
    """Judge a quantity of a knocked out part.

    Args:
        expected: the expectation.
        repair: the table of `Ledger.repair`.
    """
    row = _row(repair, "ablated", str(expected.part), "was not knocked out")
    return _within(expected, *_estimate(row, OF_PARTS[expected.quantity], expected))


def judged_change(expected: Expectation, answers: pd.DataFrame) -> Judged:
    """Judge a writer's change without a part, or its place among the writers that answer.

    A place holds where fewer than `among` others can lie above, and fails where so many surely do, by intervals each of
    its own: the writers of a run are measured on the same prompts, so that this decides less than it could.

    Args:
        expected: the expectation, of a `responder`.
        answers: the table of `Ledger.who_repairs` for the part.
    """
    others = answers[~answers["is_own"].astype(bool)]
    row = _row(others, "writer", str(expected.responder), f"does not come after {expected.part}")
    value, low, high = _estimate(row, CHANGE, expected)
    if expected.among is None:
        return _within(expected, value, low, high)
    rest = others[others["writer"] != expected.responder]
    surely, possibly = int((rest["change_lo"] > high).sum()), int((rest["change_hi"] > low).sum())
    place = 1 + int((rest["change"] > value).sum())
    outcome: Outcome = "holds" if possibly < expected.among else "fails" if surely >= expected.among else "undecided"
    return Judged(
        expected, outcome, f"place {place} [{surely + 1}, {possibly + 1}], {_spread(value, low, high)} logits"
    )


def judged_secure(expected: Expectation, faults: pd.DataFrame, allowed: float) -> Judged:
    """Judge the share of parts that can be lost one at a time.

    Args:
        expected: the expectation.
        faults: the table of `Stress.single_faults`.
        allowed: the largest share of prompts that may lose much.
    """
    low, high = float((faults["hit_hi"] <= allowed).mean()), float((faults["hit_lo"] <= allowed).mean())
    return _within(expected, float(faults["secure"].mean()), low, high)


def _row(table: pd.DataFrame, column: str, name: str, missing: str) -> dict[str, Any]:
    rows = table[table[column] == name]
    if rows.empty:
        raise ComponentError(f"{name} {missing} in this run{did_you_mean(name, table[column])}")
    return dict(rows.iloc[0])


def _estimate(row: dict[str, Any], column: str, expected: Expectation) -> tuple[float, float, float]:
    if column not in row:
        raise RunError(
            f"this run did not measure the {expected.quantity}; run it with the distribution (--distribution)"
        )
    return with_ends(row, column)


def with_ends(row: Mapping[Any, Any], column: str) -> tuple[float, float, float]:
    """An estimate in a row of a table, and both ends of its interval."""
    value, low, high = (float(row[f"{column}{end}"]) for end in ("", "_lo", "_hi"))
    return value, low, high


def _within(expected: Expectation, value: float, low: float, high: float) -> Judged:
    least, most = expected.bounds
    outcome: Outcome = "undecided"
    if math.isfinite(low) and math.isfinite(high):
        outcome = "holds" if least <= low and high <= most else "fails" if high < least or low > most else "undecided"
    return Judged(expected, outcome, _spread(value, low, high))


def _spread(value: float, low: float, high: float) -> str:
    return f"{value:.3g} [{low:.3g}, {high:.3g}]" if math.isfinite(high - low) else f"{value:.3g}, without an interval"
