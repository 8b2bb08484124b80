"""Where a run replaces and reads: named positions, and their layout in a batch.

Activations of a forward are `[rows, tokens, d]`, row = intervention * prompts + prompt, or have these first two
dimensions in one. A layout shows them by intervention and item, where an item is one read position of one prompt.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from hydrascope.errors import RunError

Read = Literal["last", "each"]

_POSITION = "-?[0-9]{1,18}"


@dataclass(frozen=True)
class Positions:
    """Where a run replaces and where it reads.

    Attributes:
        ablate: `last`, `all`, or positions such as `0,3,-1`, counted from 0 and, if negative, from the end.
        read: `last`, what follows the text; or `each`, the text's own next token at every position that has one.
        skip: with `each`, so many positions at the beginning are not read: the first tokens of a text have next to
            nothing to go by, and many models park their attention there.
        span: so many positions count as the last: those that predict an answer of several tokens.
    """

    ablate: str = "last"
    read: Read = "last"
    skip: int = 1
    span: int = 1

    def __post_init__(self) -> None:
        if self.read not in get_args(Read):
            raise RunError(f"effects cannot be read at '{self.read}'; choose last or each")
        if self.skip < 0:
            raise RunError(f"{self.skip} positions cannot be skipped; give 0 or more")
        if self.ablate not in ("last", "all") and not re.fullmatch(f"{_POSITION}(,{_POSITION})*", self.ablate):
            raise RunError(f"'{self.ablate}' is no set of positions; write last, all, or for example 0,3,-1")

    @property
    def is_last(self) -> bool:
        """Whether everything happens at the last token."""
        return self.read == "last" and self.span == 1 and self.ablate in ("last", "-1")

    def reads_elsewhere(self, tokens: int) -> bool:
        """Whether a text of so many tokens is read at a position where nothing is replaced."""
        return not set(self.read_in(tokens)) <= set(self.ablated_in(tokens))

    def layout(self, prompts: int, tokens: int) -> Layout:
        """Positions in a batch of prompts of one length.

        Raises:
            RunError: the prompts have no such position, or nothing is left to read.
        """
        return Layout(prompts, tokens, self.ablated_in(tokens), self.read_in(tokens))

    def ablated_in(self, tokens: int) -> tuple[int, ...]:
        """Positions that are replaced in a text of so many tokens.

        Raises:
            RunError: the text has no such position.
        """
        if self.ablate in ("last", "all"):
            return tuple(range(0 if self.ablate == "all" else tokens - self.span, tokens))
        positions = [int(number) for number in self.ablate.split(",")]
        if strange := [position for position in positions if not -tokens <= position < tokens]:
            raise RunError(
                f"there is no position {strange[0]} in a text of {tokens} tokens; choose others, or longer texts"
            )
        return tuple(sorted({position % tokens for position in positions}))

    def read_in(self, tokens: int) -> tuple[int, ...]:
        """Positions that are read in a text of so many tokens.

        Raises:
            RunError: nothing is left to read.
        """
        if self.read == "last":
            return tuple(range(tokens - self.span, tokens))
        if self.skip >= tokens - 1:
            raise RunError(
                f"a text of {tokens} tokens has no position left to read after {self.skip} are skipped; "
                "skip fewer, or give longer texts"
            )
        return tuple(range(self.skip, tokens - 1))


@dataclass(frozen=True)
class Layout:
    """Shape of a forward.

    Attributes:
        prompts: prompts in the batch.
        tokens: tokens of each row.
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
    def reads_last(self) -> bool:
        """Whether only the last position is read."""
        return self.read == (self.tokens - 1,)

    @property
    def items(self) -> int:
        """Number of read positions, of all prompts."""
        return self.prompts * len(self.read)

    def by_row(self, tensor: Shaped[Tensor, "*rows d"]) -> Shaped[Tensor, "interventions prompts tokens d"]:
        """The tensor by intervention, as a view."""
        return tensor.view(-1, self.prompts, self.tokens, tensor.shape[-1])

    def items_of(self, tensor: Shaped[Tensor, "*rows d"]) -> Shaped[Tensor, "interventions items d"]:
        """The tensor at the read positions: a view of one, a copy of several."""
        rows = self.by_row(tensor)
        if len(self.read) == 1:
            return rows[:, :, self.read[0]]
        return _select(rows, self.read).flatten(1, 2)

    @property
    def edited_items(self) -> Bool[np.ndarray, " items"]:
        """Which items are read where something is replaced."""
        return np.tile(np.isin(self.read, self.edited), self.prompts)

    def edited_of(self, tensor: Shaped[Tensor, "*rows d"]) -> Shaped[Tensor, "interventions prompts edited d"]:
        """The tensor at the replaced positions: a view of consecutive ones, a copy of others."""
        return _select(self.by_row(tensor), self.edited)

    def put(self, tensor: Tensor, intervention: int, span: slice, value: Float[Tensor, "prompts edited width"]) -> None:
        """Replace a stretch of one intervention's entries at the edited positions, in place."""
        where = _run(self.edited)
        self.by_row(tensor)[intervention][:, list(self.edited) if where is None else where, span] = value.to(tensor)

    def take(self, tensor: Tensor, intervention: int, span: slice) -> Float[Tensor, "prompts edited width"]:
        """A float32 copy of what `put` would replace."""
        where = _run(self.edited)
        rows = self.by_row(tensor)[intervention][:, list(self.edited) if where is None else where, span]
        return rows.to(torch.float32, copy=True)


def _select(rows: Shaped[Tensor, "interventions prompts tokens d"], positions: Sequence[int]) -> Tensor:
    where = _run(positions)
    return rows[:, :, torch.tensor(positions, device=rows.device)] if where is None else rows[:, :, where]


def _run(positions: Sequence[int]) -> slice | None:
    """Consecutive positions as a slice, which spares a copy by indices; None for others."""
    run = range(positions[0], positions[0] + len(positions))
    return slice(run.start, run.stop) if list(positions) == list(run) else None
