"""What constants are learned from: the clean passes of a run's prompts or texts, and how much goes on at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch

from hydrascope.anatomy import Model
from hydrascope.engine.budget import Budget, Footprint
from hydrascope.engine.capture import Clean, capture
from hydrascope.engine.scope import Positions
from hydrascope.engine.strategy import Strategy
from hydrascope.engine.text_batch import LEAST_VARIANTS, text_footprint, tokens_at_once
from hydrascope.engine.texts import Recorded, record_texts
from hydrascope.engine.values import same_length_batches

PROMPTS = 64
"""Prompts that go through the model together, at most."""

ROWS = 1024
"""Rows of single tokens whose steps are kept for the gradient, at most."""

KEPT_SHARE = 4
"""One part in so many of the budget holds clean passes, and one the steps that the gradient needs."""

READ_A_STEP = 1024
"""Read positions of texts that one step of gradient descent sees, about."""

Batches = tuple[tuple[int, ...], ...]
"""Which prompts or texts go through the model together."""


@dataclass(frozen=True)
class Passes:
    """The clean passes of a run, batch by batch; those that do not fit are made again whenever they are needed.

    Attributes:
        batches: prompts or texts of one length each.
        items: read positions of each batch.
        turns: batches that a step of gradient descent sees, in turn.
        together: knock-outs that are learned together.
        make: runs the untouched model on a batch.
        kept: passes in memory, by batch.
    """

    batches: Batches
    items: tuple[int, ...]
    turns: Batches
    together: int
    make: Callable[[int], Clean]
    kept: dict[int, Clean]

    @property
    def all(self) -> tuple[int, ...]:
        """Every batch."""
        return tuple(range(len(self.batches)))

    def turn(self, number: int) -> tuple[int, ...]:
        """The batches that a step sees."""
        return self.turns[number % len(self.turns)]

    def of(self, batches: Sequence[int]) -> Iterator[Clean]:
        """Their clean passes."""
        return (self.kept.get(number) or self.make(number) for number in batches)

    def keep(self, room: int) -> Passes:
        """Make passes and keep them while they fit into so many bytes."""
        for number in self.all:
            clean = self.make(number)
            room -= clean.nbytes
            if room < 0:
                break
            self.kept[number] = clean
        return self


def passes_of_prompts(model: Model, strategy: Strategy, prompts: Sequence[Sequence[int]], budget: Budget) -> Passes:
    """Those of prompts that are replaced and read at their last token; every step sees all of them.

    Args:
        model: the model.
        strategy: how rows come by the prefix.
        prompts: token ids.
        budget: memory budget.
    """
    wide = same_length_batches(model, prompts, budget)
    batches = tuple(tuple(batch[i : i + PROMPTS]) for batch in wide for i in range(0, len(batch), PROMPTS))
    anatomy, longest = model.anatomy, max(map(len, prompts))
    row = Footprint.of(model, longest, copies_prefix=True).row * anatomy.n_layers + 16 * anatomy.n_vocab
    rows = min(ROWS, budget.bytes // KEPT_SHARE // row)

    def make(number: int) -> Clean:
        ids = torch.tensor([list(prompts[i]) for i in batches[number]])
        return capture(model, ids, keep_prefix=strategy.needs_prefix)

    together = max(1, rows // max(map(len, batches)) - 1)
    turns = (tuple(range(len(batches))),)
    return Passes(batches, tuple(map(len, batches)), turns, together, make, {}).keep(budget.bytes // KEPT_SHARE)


def passes_of_texts(
    model: Model, texts: Sequence[Sequence[int]], scope: Positions, knockouts: int, seed: int, budget: Budget
) -> Passes:
    """Those of whole texts; a step sees some of them, in an order of their own, until all have had their turn.

    Args:
        model: the model.
        texts: token ids, of any lengths.
        scope: positions that are replaced and read.
        knockouts: most that begin in one block.
        seed: of the order.
        budget: memory budget.
    """
    longest = max(map(len, texts))
    row = graded_text_footprint(model, longest, len(scope.read_in(longest)))
    rows = max(1, min(tokens_at_once(model.device) // longest, budget.bytes // KEPT_SHARE // row))
    size = max(1, rows // min(knockouts, LEAST_VARIANTS))
    size = min(size, max(1, READ_A_STEP // len(scope.read_in(longest))))
    batches = batches_of_texts(texts, size)
    read = tuple(len(batch) * len(scope.read_in(len(texts[batch[0]]))) for batch in batches)

    def make(number: int) -> Recorded:
        ids = torch.tensor([list(texts[i]) for i in batches[number]])
        tokens = ids.shape[1]
        return record_texts(model, ids, scope.ablated_in(tokens), scope.read_in(tokens))

    passes = Passes(batches, read, _turns(read, seed), max(1, rows // size), make, {})
    return passes.keep(budget.bytes // KEPT_SHARE)


def batches_of_texts(texts: Sequence[Sequence[int]], size: int) -> Batches:
    """Texts of one length, so many together."""
    by_length: dict[int, list[int]] = {}
    for number, text in enumerate(texts):
        by_length.setdefault(len(text), []).append(number)
    return tuple(tuple(same[i : i + size]) for same in by_length.values() for i in range(0, len(same), size))


def graded_text_footprint(model: Model, tokens: int, read: int) -> int:
    """Estimated bytes that are kept of one row, a whole text under one knock-out, until its gradient is taken."""
    return model.anatomy.n_layers * text_footprint(model, tokens, read, 0)


def _turns(read: Sequence[int], seed: int) -> Batches:
    """Batches in a shuffled order, cut into nearly equal turns."""
    count = max(1, min(len(read), sum(read) // READ_A_STEP))
    order = np.random.default_rng(seed).permutation(len(read)).tolist()
    done = list(accumulate((read[i] for i in order), initial=0))
    turns: list[list[int]] = [[] for _ in range(count)]
    for batch, before in zip(order, done, strict=False):
        turns[before * count // done[-1]].append(batch)
    return tuple(tuple(turn) for turn in turns if turn)
