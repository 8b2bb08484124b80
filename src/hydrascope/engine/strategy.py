"""How the rows of a sweep come by the keys and values of their prompt's prefix. Both ways are exact.

Which one a model takes is decided by `hydrascope.engine.proof`, by trying, never by a list of names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from transformers.cache_utils import DynamicCache

from hydrascope.engine.attention import OwnOnly, shared_prefix
from hydrascope.engine.capture import Clean
from hydrascope.engine.layout import Layout


@runtime_checkable
class Strategy(Protocol):
    """A way to push the last token through a model.

    Attributes:
        name: as it is stored with a run.
        staircase: variants join at their first edited block; otherwise all rows run from the first block on.
        needs_prefix: the clean pass must keep keys and values.
        first_block: the first block that the push passes through.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def staircase(self) -> bool: ...  # noqa: D102

    @property
    def needs_prefix(self) -> bool: ...  # noqa: D102

    @property
    def first_block(self) -> int: ...  # noqa: D102

    def layout(self, clean: Clean) -> Layout:
        """Which positions of the push are replaced and read."""

    def push(self, network: Any, clean: Clean, variants: int) -> None:
        """Run the last token of `clean` with `variants` rows a prompt (or with one, where the rows join later)."""


@dataclass(frozen=True)
class SharedPrefix:
    """Rows attend to the one copy of their prompt's keys and values; for models on the attention interface."""

    name: str = "last-token, shared prefix"
    staircase: bool = True
    needs_prefix: bool = True
    first_block: int = 0

    def layout(self, clean: Clean) -> Layout:
        """The last token, alone."""
        return Layout.last(clean.ids.shape[0], 1)

    def push(self, network: Any, clean: Clean, variants: int) -> None:
        """One row a prompt goes in; the hooks add the others where they begin."""
        last = torch.tensor([[clean.ids.shape[1] - 1]], device=clean.ids.device)
        with shared_prefix(network, clean.prefix):
            network(input_ids=clean.ids[:, -1:], position_ids=last, past_key_values=OwnOnly(), use_cache=True)


@dataclass(frozen=True)
class ExpandedCache:
    """Every row has its own copy of the keys and values; for models with attention code of their own."""

    name: str = "last-token, expanded cache"
    staircase: bool = False
    needs_prefix: bool = True
    first_block: int = 0

    def layout(self, clean: Clean) -> Layout:
        """The last token, alone."""
        return Layout.last(clean.ids.shape[0], 1)

    def push(self, network: Any, clean: Clean, variants: int) -> None:
        """All rows go in at the first block."""
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(clean.prefix):
            cache.update(keys.repeat(variants, 1, 1, 1), values.repeat(variants, 1, 1, 1), layer)
        network(input_ids=clean.ids[:, -1:].repeat(variants, 1), past_key_values=cache, use_cache=True)


@dataclass(frozen=True)
class WholeSequence:
    """Every row is the whole prompt again; for models whose memory of earlier tokens cannot be shared or copied."""

    name: str = "whole sequence"
    staircase: bool = False
    needs_prefix: bool = False
    first_block: int = 0

    def layout(self, clean: Clean) -> Layout:
        """The last one of all tokens."""
        return Layout.last(*clean.ids.shape)

    def push(self, network: Any, clean: Clean, variants: int) -> None:
        """All rows go in at the first block, with all tokens."""
        network(input_ids=clean.ids.repeat(variants, 1), use_cache=False)
