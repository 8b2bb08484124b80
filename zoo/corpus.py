"""The endless corpus as batches: the batch of a step depends on the seed and the step alone.

Documents are packed into rows of fixed length, several to a row, each seeing itself only. Nothing is
stored and nothing has to be replayed: a run that continues at step 1,000 draws batch 1,000.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.documents import Mixture, document
from zoo.vocabulary import BEGIN, PADDING, SPECIAL, words

IGNORED = -100
BLOCKED = -1e9  # finite, so that a row of the mask never turns into NaN


@dataclass(frozen=True)
class Batch:
    """One packed batch.

    Attributes:
        tokens: Token ids, (rows, length).
        labels: The next token at every position, ``IGNORED`` where there is none, (rows, length).
        mask: Added to the attention scores, 0 or ``BLOCKED``, (rows, 1, length, length).
        positions: Position inside the document, (rows, length).
    """

    tokens: Tensor
    labels: Tensor
    mask: Tensor
    positions: Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return Batch(*(part.to(device) for part in (self.tokens, self.labels, self.mask, self.positions)))


class Corpus:
    """Draws packed batches of a seeded corpus."""

    def __init__(self, seed: int, mixture: Mixture, rows: int, length: int) -> None:
        self._seed, self._mixture, self._rows, self._length = seed, mixture, rows, length
        self._table = {word: number for number, word in enumerate((*SPECIAL, *words()))}

    def encode(self, text: str) -> list[int]:
        """Encode a document as the tokenizer does, begin-of-text first."""
        return [self._table[BEGIN], *(self._table[word] for word in text.split())]

    def batch(self, step: int, progress: float) -> Batch:
        """Draw the batch of a step.

        Args:
            step: Number of the step; with the seed it fixes the batch.
            progress: How far the curriculum has come, 0 to 1.
        """
        rng = random.Random(f"{self._seed}/{step}")
        rows: list[list[list[int]]] = [[] for _ in range(self._rows)]
        room = [self._length] * self._rows
        # A document that fits nowhere is dropped; after enough of those the batch counts as full.
        misses = 0
        while misses < self._rows:
            tokens = self.encode(document(rng, self._mixture, progress))
            row = next((index for index, free in enumerate(room) if free >= len(tokens)), None)
            if row is None:
                misses += 1
                continue
            rows[row].append(tokens)
            room[row] -= len(tokens)
        return self._pack(rows)

    def _pack(self, rows: list[list[list[int]]]) -> Batch:
        shape = (self._rows, self._length)
        tokens = torch.full(shape, self._table[PADDING])
        labels = torch.full(shape, IGNORED)
        owner = torch.full(shape, -1)
        positions = torch.zeros(shape, dtype=torch.long)
        for index, row in enumerate(rows):
            start = 0
            for number, ids in enumerate(row):
                end = start + len(ids)
                tokens[index, start:end] = torch.tensor(ids)
                labels[index, start : end - 1] = torch.tensor(ids[1:])
                owner[index, start:end] = number
                positions[index, start:end] = torch.arange(len(ids))
                start = end
        same = owner[:, :, None] == owner[:, None, :]
        visible = same & torch.ones(self._length, self._length, dtype=torch.bool).tril()
        mask = torch.zeros(visible.shape).masked_fill_(~visible, BLOCKED)[:, None]
        return Batch(tokens, labels, mask, positions)
