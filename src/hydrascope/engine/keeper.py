"""Clean passes between the two halves of a run: kept in memory as far as they fit, otherwise made again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch

from hydrascope.anatomy import Model
from hydrascope.engine.budget import Budget
from hydrascope.engine.capture import Clean, capture
from hydrascope.engine.values import CHUNK, same_length_batches

SHARE = 4
"""One part in so many of the budget holds clean passes."""


class PrefixKeeper:
    """The clean passes of all prompts, so that the knock-outs seldom prefill again.

    What is kept depends on memory and on kills, and the numbers of a run must not. So a pass that is not there is made
    again with just those prompts beside it that it was first made with, and its last bit is the same.
    """

    def __init__(self, model: Model, prompts: Sequence[Sequence[int]], budget: Budget, needs_prefix: bool) -> None:
        self.model = model
        self.prompts = prompts
        self.budget = budget
        self.needs_prefix = needs_prefix
        self._left = budget.bytes // SHARE
        self._kept: dict[int, Clean] = {}
        self._again: dict[int, Clean] = {}

    def keep(self, rows: Sequence[int], clean: Clean) -> None:
        """Keep a clean pass under its prompts' rows if it fits."""
        tensors = [clean.logits, *(tensor for pair in clean.prefix for tensor in pair)]
        size = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
        if size <= self._left:
            self._left -= size
            self._kept |= _one_by_one(rows, clean)

    def take(self, row: int) -> Clean:
        """Hand a prompt's clean pass over; it is not kept any longer."""
        if row in self._kept:
            return self._kept.pop(row)
        if row not in self._again:
            beside = self._first_made_with[row]
            ids = torch.tensor([self.prompts[i] for i in beside])
            self._again = _one_by_one(beside, capture(self.model, ids, keep_prefix=self.needs_prefix))
        return self._again.pop(row)

    @cached_property
    def _first_made_with(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for first in range(0, len(self.prompts), CHUNK):
            for batch in same_length_batches(self.model, self.prompts[first : first + CHUNK], self.budget):
                rows = [first + i for i in batch]
                found |= dict.fromkeys(rows, rows)
        return found


def _one_by_one(rows: Sequence[int], clean: Clean) -> dict[int, Clean]:
    found = {}
    for i, row in enumerate(rows):
        one = slice(i, i + 1)
        prefix = tuple((keys[one], values[one]) for keys, values in clean.prefix)
        found[row] = Clean(clean.ids[one], clean.logits[one], {}, prefix)
    return found
