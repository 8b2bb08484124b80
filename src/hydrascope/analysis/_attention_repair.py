"""The leading question: is the loss of an attention layer made up for by later attention?

Where no attention layer was knocked out by itself, it is asked of heads. It is asked of all at once, with intervals
that hold for all of them together, so that picking the strongest does not invent an effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._statistics import Reading, Resampling, simultaneous_means

Finding = Literal["repair", "breakage", "none", "nothing lost", "too few prompts", "not tested"]
Row = Any
"""One row of a table; pandas cannot type its fields."""


@dataclass(frozen=True)
class AttentionAnswers:
    """Own change and later attention's answer of every attention knock-out that has attention after it.

    Attributes:
        kind: `attn`, or `head` where no attention layer was knocked out by itself.
        table: `row` (position in the repair table), `ablated`, `meaningful`; `own` with `_lo` and `_hi`, simultaneous
            over all rows; `answer` with `_lo` and `_hi`, simultaneous over the rows that change something by themselves
            and NaN for others.
        conclusive: whether there are enough independent prompts to call signs certain.
    """

    kind: str
    table: pd.DataFrame
    conclusive: bool

    @property
    def noun(self) -> str:
        """What it was asked of."""
        return "attention layer" if self.kind == "attn" else self.kind

    def own(self, row: Row) -> Reading:
        """What the knock-out did directly."""
        return Reading(float(row.own), float(row.own_lo), float(row.own_hi), self.conclusive)

    def answer(self, row: Row) -> Reading:
        """What later attention did in response."""
        return Reading(float(row.answer), float(row.answer_lo), float(row.answer_hi), self.conclusive)

    def with_signs(self, own: int, answer: int | None = None) -> list[Row]:
        """Meaningful knock-outs whose own change and answer have these signs, strongest answer first."""
        rows: list[Row] = [
            row
            for row in self.table.itertuples()
            if row.meaningful and self.own(row).sign == own and (answer is None or self.answer(row).sign == answer)
        ]
        return sorted(rows, key=lambda row: -abs(row.answer))

    def row_of(self, ablated: str) -> Row | None:
        """The row of one knock-out, if the question was asked of it."""
        found: list[Row] = list(self.table[self.table["ablated"] == ablated].itertuples())
        return found[0] if found else None


def ask_attention(ds: xr.Dataset, table: pd.DataFrame, resampling: Resampling) -> AttentionAnswers:
    """Measure own changes and answers of all attention layers, or heads, together.

    Args:
        ds: the ledger.
        table: what `repair` returns for it.
        resampling: the bootstrap.

    Returns:
        The answers; no rows when none with attention after it was knocked out.
    """
    followed = access.answering(ds)[:, access.writer_kinds(ds) == "attn"].any(1)
    kinds = table["ablated_kind"].to_numpy()
    kind = "head" if "head" in kinds and "attn" not in kinds else "attn"
    rows = np.flatnonzero((kinds == kind) & followed)
    own = access.numbers(ds, "own_change")[:, rows]
    answers = access.response(ds, "attn")[:, rows]
    columns: dict[str, Any] = {"row": rows}
    columns |= {name: table[name].to_numpy()[rows] for name in ("ablated", "meaningful")}
    lost = np.arange(len(rows))
    for name, values in (("own", own), ("answer", answers)):
        joint = simultaneous_means(values[:, lost], resampling)
        ends = np.full((2, len(rows)), np.nan)
        ends[:, lost] = joint.lo, joint.hi
        columns |= {name: resampling.mean(values), f"{name}_lo": ends[0], f"{name}_hi": ends[1]}
        lost = np.flatnonzero(joint.significant)
    return AttentionAnswers(kind, pd.DataFrame(columns), resampling.conclusive)


def find(attention: AttentionAnswers) -> tuple[Finding, Row | None]:
    """The finding, and the knock-out that shows it most strongly.

    Repair needs a meaningful own change certainly below zero and an answer certainly above.
    """
    if attention.table.empty:
        return "not tested", None
    if not attention.conclusive:
        return "too few prompts", None
    if not attention.with_signs(-1):
        return "nothing lost", None
    if repaired := attention.with_signs(-1, 1):
        return "repair", repaired[0]
    if broken := attention.with_signs(-1, -1):
        return "breakage", broken[0]
    return "none", None
