"""Exact ways to run interventions, which differ in what they share with the clean run.

At the last token rows share the keys and values of their prompt (`SharedPrefix`, for models on the attention
interface), copy them (`ExpandedCache`), or are the whole prompt again (`WholeSequence`), from cheapest to dearest. A
row that is replaced at many positions differs from the clean run in all tokens from its first edited block on:
`FromBlock` begins there. Trials in `hydrascope.engine.proof` choose for each model, never a list of names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import torch
from torch import nn
from transformers.cache_utils import DynamicCache

from hydrascope.anatomy import first_tensor, hidden_argument, replace_first_tensor
from hydrascope.engine._attention import OwnOnly, shared_prefix
from hydrascope.engine._clean import CleanRun, Entrance, Keep, Streams
from hydrascope.engine._positions import Layout


@runtime_checkable
class Strategy(Protocol):
    """A way to run a batch with interventions as extra rows.

    Attributes:
        name: name that is stored with a run.
        staircase: interventions join at their first edited block; otherwise all rows run from the first block on.
        by_block: rows of one forward begin at one block, and the clean run goes by itself before them.
        keep: what the clean run must keep.
        first_block: first block that the forward passes through.
    """

    @property
    def name(self) -> str: ...

    @property
    def staircase(self) -> bool: ...

    @property
    def by_block(self) -> bool: ...

    @property
    def keep(self) -> Keep: ...

    @property
    def first_block(self) -> int: ...

    def at(self, block: int, *, watched: bool = False) -> Strategy:
        """The strategy for rows in which nothing differs before the writers of a block.

        Args:
            block: index of the block.
            watched: the block's attention is recorded, so that it cannot be left out.
        """

    @property
    def whole(self) -> Strategy:
        """The strategy through all blocks."""

    def layout(self, clean: CleanRun) -> Layout:
        """Positions of the forward that are replaced and read."""

    def run(self, network: Any, clean: CleanRun, rows: int) -> None:
        """Run a batch with so many rows a prompt (or with one, where the rows join later)."""


S = TypeVar("S")


class _AtLastToken:
    """Common part of strategies that go through every block."""

    by_block: ClassVar[bool] = False
    first_block: ClassVar[int] = 0

    def at(self: S, block: int, *, watched: bool = False) -> S:
        """Return itself: rows join by the staircase, or go through everything."""
        return self

    @property
    def whole(self: S) -> S:
        """Return itself."""
        return self

    def layout(self, clean: CleanRun) -> Layout:
        """The last token, alone."""
        return Layout.last(clean.ids.shape[0], 1)


@dataclass(frozen=True)
class SharedPrefix(_AtLastToken):
    """Rows attend to one copy of their prompt's keys and values; for models on the attention interface."""

    name: ClassVar[str] = "last-token, shared prefix"
    staircase: ClassVar[bool] = True
    keep: ClassVar[Keep] = "prefix"

    def run(self, network: Any, clean: CleanRun, rows: int) -> None:
        """Run one row a prompt; hooks add the others where they begin."""
        last = torch.tensor([[clean.ids.shape[1] - 1]], device=clean.ids.device)
        with shared_prefix(network, clean.prefix):
            network(input_ids=clean.ids[:, -1:], position_ids=last, past_key_values=OwnOnly(), use_cache=True)


@dataclass(frozen=True)
class ExpandedCache(_AtLastToken):
    """Every row has its own copy of the keys and values; for models with attention code of their own."""

    name: ClassVar[str] = "last-token, expanded cache"
    staircase: ClassVar[bool] = False
    keep: ClassVar[Keep] = "prefix"

    def run(self, network: Any, clean: CleanRun, rows: int) -> None:
        """Run all rows from the first block on."""
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(clean.prefix):
            cache.update(keys.repeat(rows, 1, 1, 1), values.repeat(rows, 1, 1, 1), layer)
        network(input_ids=clean.ids[:, -1:].repeat(rows, 1), past_key_values=cache, use_cache=True)


@dataclass(frozen=True)
class WholeSequence(_AtLastToken):
    """Every row is the whole prompt; for models whose memory of earlier tokens cannot be shared or copied."""

    name: ClassVar[str] = "whole sequence"
    staircase: ClassVar[bool] = False
    keep: ClassVar[Keep] = "nothing"

    def layout(self, clean: CleanRun) -> Layout:
        """The last one of all tokens."""
        return clean.layout

    def run(self, network: Any, clean: CleanRun, rows: int) -> None:
        """Run all rows from the first block on, with all tokens."""
        network(input_ids=clean.ids.repeat(rows, 1), use_cache=False)


@dataclass(frozen=True)
class FromBlock:
    """Every row is the whole text, from the first block that differs on.

    Attributes:
        skips: blocks below the first are left out; otherwise every forward passes through all of them.
        enters: the first block may be entered at the output projection of its attention.
        first_block: block at which the forward begins.
        inside: the forward begins inside that block, at the projection.
    """

    skips: bool = True
    enters: bool = True
    first_block: int = 0
    inside: bool = False

    staircase: ClassVar[bool] = False
    by_block: ClassVar[bool] = True
    keep: ClassVar[Keep] = "streams"

    @property
    def name(self) -> str:
        """Name that is stored with a run."""
        if not self.skips:
            return "whole texts, from the first block"
        return f"whole texts, from the first {'projection' if self.enters else 'block'} that differs"

    def at(self, block: int, *, watched: bool = False) -> FromBlock:
        """The strategy from a block on; inside it, unless its attention is recorded."""
        return replace(self, first_block=block, inside=self.enters and not watched) if self.skips else self

    @property
    def whole(self) -> FromBlock:
        """The strategy through all blocks."""
        return replace(self, first_block=0, inside=False)

    def layout(self, clean: CleanRun) -> Layout:
        """The layout of the clean run."""
        return clean.layout

    def run(self, network: Any, clean: CleanRun, rows: int) -> None:
        """Run all rows with all tokens; the blocks below the first pass the kept stream on."""
        assert clean.streams is not None
        entrance = clean.streams.entrances.get(self.first_block) if self.inside else None
        with resuming(network, clean.streams, self.first_block, rows), _entering(network, entrance, rows):
            network(input_ids=clean.ids.repeat(rows, 1), use_cache=False)


@contextmanager
def resuming(network: nn.Module, streams: Streams, first_block: int, rows: int) -> Iterator[None]:
    """Let blocks below the first pass on their input, the last of them the kept stream."""
    blocks = [network.get_submodule(path) for path in streams.blocks[:first_block]]

    def instead(output: Any, injects: bool) -> Any:
        def forward(*args: Any, **kwargs: Any) -> Any:
            hidden, stream = hidden_argument(args, kwargs), first_tensor(output)
            assert hidden is not None and stream is not None
            return replace_first_tensor(output, stream.to(hidden).repeat(rows, 1, 1) if injects else hidden)

        return forward

    given = {
        block: instead(output, block is blocks[-1]) for block, output in zip(blocks, streams.returned, strict=False)
    }
    with forwards_exchanged(given):
        yield


@contextmanager
def _entering(network: nn.Module, entrance: Entrance | None, rows: int) -> Iterator[None]:
    """Let attention be its output projection of the kept input."""
    if entrance is None:
        yield
        return
    projection = network.get_submodule(entrance.projection)

    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = hidden_argument(args, kwargs)
        assert hidden is not None
        inside = entrance.inside.to(hidden.device)
        inside = inside.repeat(rows, *(1,) * (inside.ndim - 1))
        return replace_first_tensor(entrance.returned, projection(inside))

    with forwards_exchanged({network.get_submodule(entrance.attention): forward}):
        yield


@contextmanager
def forwards_exchanged(given: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Exchange modules' forwards inside a `with` block."""
    modules: list[Any] = list(given)
    own = [module.__dict__.get("forward") for module in modules]
    try:
        for module in modules:
            module.forward = given[module]
        yield
    finally:
        for module, forward in zip(modules, own, strict=True):
            module.__dict__.pop("forward", None)
            if forward is not None:
                module.forward = forward
