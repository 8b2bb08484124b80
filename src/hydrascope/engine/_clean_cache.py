"""Clean runs kept in memory between the parts of a run.

They take a quarter of the memory budget; a run that does not fit is made again, at one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate

import numpy as np
import torch

from hydrascope.anatomy import Model
from hydrascope.engine._clean import CleanRun, Keep, record
from hydrascope.engine._memory import (
    CLEAN_SHARE,
    LEARNED_PROMPTS,
    LEARNED_ROWS,
    LEAST_INTERVENTIONS,
    READ_A_STEP,
    STORED_TOGETHER,
    Budget,
    Footprint,
    graded_text_footprint,
    prompts_at_once,
    same_length_batches,
    tokens_at_once,
)
from hydrascope.engine._positions import Positions
from hydrascope.engine._strategies import Strategy


class CleanCache:
    """Clean runs of all prompts at the last token, so that knock-outs seldom prefill again.

    What is kept depends on memory and on kills, and no number may. So a missing clean run is made again beside exactly
    the prompts that it was first made with, and comes out the same to the last bit.

    Args:
        prompts: token ids of all prompts of the run.
        budget: memory budget.
        keep: what the strategy needs of a clean run.
    """

    def __init__(self, model: Model, prompts: Sequence[Sequence[int]], budget: Budget, keep: Keep) -> None:
        self.model, self.prompts, self.budget, self.keep = model, prompts, budget, keep
        self._left = budget.bytes // CLEAN_SHARE
        self._kept: dict[int, CleanRun] = {}
        self._again: dict[int, CleanRun] = {}

    def put(self, rows: Sequence[int], clean: CleanRun) -> None:
        """Keep a clean run under its prompts' rows if it fits."""
        tensors = [clean.logits, *(tensor for pair in clean.prefix for tensor in pair)]
        size = sum(tensor.untyped_storage().nbytes() for tensor in tensors)
        if size <= self._left:
            self._left -= size
            self._kept |= dict(zip(rows, clean.one_by_one(), strict=True))

    def take(self, rows: Sequence[int]) -> CleanRun:
        """Hand over the clean run of some prompts and forget it."""
        return CleanRun.together([self._take(row) for row in rows])

    def _take(self, row: int) -> CleanRun:
        if row in self._kept:
            return self._kept.pop(row)
        if row not in self._again:
            beside = self._first_made_with[row]
            clean = record(self.model, torch.tensor([list(self.prompts[i]) for i in beside]), keep=self.keep)
            self._again = dict(zip(beside, clean.one_by_one(), strict=True))
        return self._again.pop(row)

    @cached_property
    def _first_made_with(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        fitting = partial(prompts_at_once, self.model, budget=self.budget)
        for first in range(0, len(self.prompts), STORED_TOGETHER):
            for batch in same_length_batches(self.prompts[first : first + STORED_TOGETHER], fitting):
                rows = [first + i for i in batch]
                found |= dict.fromkeys(rows, rows)
        return found


Batches = tuple[tuple[int, ...], ...]
"""Numbers of the prompts or texts that go through the model together."""


@dataclass(frozen=True)
class CleanBatches:
    """Clean runs that constants are learned from, batch by batch.

    Attributes:
        batches: prompts or texts of one length each.
        items: read positions of each batch.
        turns: batches that successive steps of gradient descent see.
        together: knock-outs that are learned together.
        make: runs the untouched model on a batch.
        kept: clean runs in memory, by batch.
    """

    batches: Batches
    items: tuple[int, ...]
    turns: Batches
    together: int
    make: Callable[[int], CleanRun]
    kept: dict[int, CleanRun]

    @property
    def all(self) -> tuple[int, ...]:
        """Every batch."""
        return tuple(range(len(self.batches)))

    def turn(self, number: int) -> tuple[int, ...]:
        """Batches that a step sees."""
        return self.turns[number % len(self.turns)]

    def of(self, batches: Sequence[int]) -> Iterator[CleanRun]:
        """Clean runs of some batches, kept or made."""
        return (self.kept.get(number) or self.make(number) for number in batches)

    def filled(self, room: int) -> CleanBatches:
        """Make clean runs and keep them while they fit into so many bytes."""
        for number in self.all:
            clean = self.make(number)
            room -= clean.nbytes
            if room < 0:
                break
            self.kept[number] = clean
        return self


def batches_of_prompts(
    model: Model, strategy: Strategy, prompts: Sequence[Sequence[int]], budget: Budget
) -> CleanBatches:
    """Batches of prompts for their last token; every step sees all of them.

    Args:
        model: the model.
        strategy: how interventions are run.
        prompts: token ids.
        budget: memory budget.
    """
    batches = same_length_batches(prompts, lambda tokens: prompts_at_once(model, tokens, budget))
    few = tuple(
        tuple(batch[i : i + LEARNED_PROMPTS]) for batch in batches for i in range(0, len(batch), LEARNED_PROMPTS)
    )
    anatomy, longest = model.anatomy, max(map(len, prompts))
    row = Footprint.of(model, longest, copies_prefix=True).row * anatomy.n_layers + 16 * anatomy.n_vocab
    rows = min(LEARNED_ROWS, budget.bytes // CLEAN_SHARE // row)

    def make(number: int) -> CleanRun:
        return record(model, torch.tensor([list(prompts[i]) for i in few[number]]), keep=strategy.keep)

    together = max(1, rows // max(map(len, few)) - 1)
    turns = (tuple(range(len(few))),)
    return CleanBatches(few, tuple(map(len, few)), turns, together, make, {}).filled(budget.bytes // CLEAN_SHARE)


def batches_of_texts(
    model: Model, texts: Sequence[Sequence[int]], positions: Positions, knockouts: int, seed: int, budget: Budget
) -> CleanBatches:
    """Batches of whole texts; each step sees the next few, in shuffled order.

    Args:
        model: the model.
        texts: token ids, of any lengths.
        positions: where texts are replaced and read.
        knockouts: largest number of knock-outs that begin in one block.
        seed: seed of the order.
        budget: memory budget.
    """
    longest = max(map(len, texts))
    read = len(positions.read_in(longest))
    row = graded_text_footprint(model, longest, read)
    rows = max(1, min(tokens_at_once(model.device) // longest, budget.bytes // CLEAN_SHARE // row))
    size = max(1, rows // min(knockouts, LEAST_INTERVENTIONS))
    size = min(size, max(1, READ_A_STEP // read))
    batches = tuple(map(tuple, same_length_batches(texts, lambda tokens: size)))
    items = tuple(len(batch) * len(positions.read_in(len(texts[batch[0]]))) for batch in batches)

    def make(number: int) -> CleanRun:
        ids = torch.tensor([list(texts[i]) for i in batches[number]])
        return record(model, ids, layout=positions.layout(*ids.shape), keep="streams")

    found = CleanBatches(batches, items, _turns(items, seed), max(1, rows // size), make, {})
    return found.filled(budget.bytes // CLEAN_SHARE)


def _turns(read: Sequence[int], seed: int) -> Batches:
    """Batches in a shuffled order, cut into nearly equal turns."""
    count = max(1, min(len(read), sum(read) // READ_A_STEP))
    order = np.random.default_rng(seed).permutation(len(read)).tolist()
    done = list(accumulate((read[i] for i in order), initial=0))
    turns: list[list[int]] = [[] for _ in range(count)]
    for batch, before in zip(order, done, strict=False):
        turns[before * count // done[-1]].append(batch)
    return tuple(tuple(turn) for turn in turns if turn)
