"""Which positions of a batch are replaced and which are read.

Activations of a push are `[variants * prompts, tokens, d]`, or the same with the first two dimensions in one. A layout
shows them by variant and item, where an item is one read position of one prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


@dataclass(frozen=True)
class Layout:
    """Shape of a push.

    Attributes:
        prompts: prompts in the batch.
        tokens: tokens that each row has in the push.
        edited: positions that are replaced.
        read: positions that are read.
    """

    prompts: int
    tokens: int
    edited: tuple[int, ...]
    read: tuple[int, ...]

    @classmethod
    def last(cls, prompts: int, tokens: int) -> Layout:
        """The last position, replaced and read."""
        return cls(prompts, tokens, (tokens - 1,), (tokens - 1,))

    @property
    def items(self) -> int:
        """Read positions of all prompts."""
        return self.prompts * len(self.read)

    def by_row(self, tensor: Shaped[Tensor, "*rows d"]) -> Shaped[Tensor, "variants prompts tokens d"]:
        """The whole tensor, seen by variant."""
        return tensor.view(-1, self.prompts, self.tokens, tensor.shape[-1])

    def items_of(self, tensor: Shaped[Tensor, "*rows d"]) -> Shaped[Tensor, "variants items d"]:
        """What is read of it: a view where one position is, a copy otherwise."""
        rows = self.by_row(tensor)
        if len(self.read) == 1:
            return rows[:, :, self.read[0]]
        return _select(rows, self.read).flatten(1, 2)

    def put(self, tensor: Tensor, variant: int, span: slice, value: Float[Tensor, "prompts edited width"]) -> None:
        """Replace a stretch of one variant's entries at the edited positions, in place."""
        where = _run(self.edited)
        self.by_row(tensor)[variant][:, list(self.edited) if where is None else where, span] = value.to(tensor)

    def take(self, tensor: Tensor, variant: int, span: slice) -> Float[Tensor, "prompts edited width"]:
        """A copy of what `put` would replace, in float32."""
        where = _run(self.edited)
        rows = self.by_row(tensor)[variant][:, list(self.edited) if where is None else where, span]
        return rows.to(torch.float32, copy=True)


def _select(rows: Shaped[Tensor, "variants prompts tokens d"], positions: Sequence[int]) -> Tensor:
    where = _run(positions)
    return rows[:, :, torch.tensor(positions, device=rows.device)] if where is None else rows[:, :, where]


def _run(positions: Sequence[int]) -> slice | None:
    """The positions as a slice where they follow on each other, which spares a copy of indices."""
    run = range(positions[0], positions[0] + len(positions))
    return slice(run.start, run.stop) if list(positions) == list(run) else None
