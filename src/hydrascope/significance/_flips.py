"""Why this answer: the smallest set of parts, as far as a search finds it, whose loss flips the answer of one prompt.

Greedy: the part is added that leaves the answer the least probability, until another token comes first for most donors.
Then parts are left out again one at a time while the answer stays flipped. Every set on the way is an exact joint
knock-out. In the end no single part can be spared, but a smaller set of other parts may exist: its size is a bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Bool

from hydrascope.resilience import SetValues, extended

LARGEST = 6
"""Largest set that is tried."""

Set = Bool[np.ndarray, " parts"]
Candidates = Bool[np.ndarray, "_ parts"]


@dataclass(frozen=True)
class Flip:
    """What the search has found for one prompt.

    Attributes:
        row: the prompt's row in the ledgers.
        first: share of donors for which the answer comes first, by set.
        log_prob: log-probability of the answer, by set.
    """

    row: int
    first: SetValues
    log_prob: SetValues
    path: list[Set] = field(default_factory=list, init=False)
    missing: Candidates = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "missing", self._searched())

    @classmethod
    def read(cls, ledgers: Sequence[xr.Dataset], parts: Sequence[str], row: int) -> Flip:
        """Search as far as the ledgers go.

        Args:
            ledgers: knock-outs of single parts and of sets, on the same prompts.
            parts: addresses of the parts.
            row: the prompt's row.
        """
        return cls(row, *(SetValues.read(ledgers, parts, value) for value in ("accuracy", "log_prob")))

    def flips(self, one: Set) -> bool:
        """Whether another token comes first for most donors."""
        return float(self.first.of(one)[self.row]) < 0.5

    def _searched(self) -> Candidates:
        """Follow the search into `path`, and say which sets it asks for next; none when it is done."""
        count = len(self.first.parts)
        before = np.zeros(count, bool)
        for size in range(1, 1 + min(LARGEST, count)):
            more = extended(before)
            if len(missing := self._unmeasured(more)):
                return missing
            # a set that was measured for another reason may show parts that back each other up
            before = self._lowest(np.concatenate([more, self.first.of_size(size)]))
            self.path.append(before)
            if self.flips(before):
                return self._spared(before)
        return np.zeros((0, count), bool)

    def _spared(self, members: Set) -> Candidates:
        """Leave out parts while the answer stays flipped."""
        while members.sum() > 1:
            fewer = members & ~np.eye(len(members), dtype=bool)[members]
            if len(missing := self._unmeasured(fewer)):
                return missing
            members = self._lowest(fewer)
            if not self.flips(members):
                break
            self.path.append(members)
        return np.zeros((0, len(members)), bool)

    def _lowest(self, candidates: Candidates) -> Set:
        """The candidate that leaves the answer least, one that flips it before all others; the first of several."""
        first, left = (values.of(candidates)[self.row] for values in (self.first, self.log_prob))
        found: Set = candidates[np.lexsort((left, first >= 0.5))[0]]
        return found

    def _unmeasured(self, candidates: Candidates) -> Candidates:
        return candidates[[not self.first.has(one) for one in candidates]]


def flip_table(found: Sequence[Flip], ds: xr.Dataset) -> pd.DataFrame:
    """Every step of the searches.

    Args:
        found: a search for each prompt.
        ds: ledger of the single parts, for prompts and answers.

    Returns:
        One row per step: `prompt`, `text`, `answer`; `size` and `parts` of the set; `log_prob`, of the answer (nats),
        `first`, the share of donors for which it still comes first, `flipped`; `others`, the share of all other prompts
        whose answers the same set flips. The last row of a prompt is what was found: where it is flipped, no part of
        it can be spared.
    """
    rows: list[dict[str, Any]] = []
    for one in found:
        others = np.arange(len(one.first.clean)) != one.row
        answer = {"prompt": int(ds["prompt"].values[one.row]), "text": str(ds["text"].values[one.row])}
        answer["answer"] = str(ds["target"].values[one.row])
        for members in one.path:
            first, left = one.first.of(members), one.log_prob.of(members)
            rows.append(
                answer
                | {"size": int(members.sum()), "parts": "+".join(np.array(one.first.parts, object)[members])}
                | {"log_prob": float(left[one.row]), "first": float(first[one.row]), "flipped": one.flips(members)}
                | {"others": float((first < 0.5)[others].mean()) if others.any() else np.nan}
            )
    columns = ["prompt", "text", "answer", "size", "parts", "log_prob", "first", "flipped", "others"]
    return pd.DataFrame(rows, columns=columns)
