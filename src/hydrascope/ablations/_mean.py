"""Means in place of a part's output: over the whole set, or position by position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope.ablations._base import Ablation, Basis


@dataclass(frozen=True)
class Mean(Ablation):
    """z~ = E[Z] over the last tokens of the prompt set (McGrath et al. 2023, eq. 36), or over all tokens of texts."""

    name: ClassVar[str] = "mean"
    basis: ClassVar[Basis] = "tokens"

    def replace(
        self, pool: Float[Tensor, "pool *edited width"], chosen: Int[np.ndarray, "draws prompts"], n_clean: int
    ) -> Float[Tensor, "draws prompts *edited width"]:
        """The mean of the clean runs, one value for all prompts."""
        return pool[:n_clean].mean(0).expand(*chosen.shape, *pool.shape[1:])

    def replaced_by(self, noun: str) -> str:
        """A mean."""
        return f"the mean over {noun}s"

    def caveat(self, noun: str) -> str:
        """No single prompt produces a mean."""
        return f"A mean over {noun}s is a value that no single {noun} produces; it may lie off the model's usual paths."


@dataclass(frozen=True)
class PositionMean(Mean):
    """z~_t = E[Z_t], the mean at each position by itself, over texts of one length.

    At the last token alone it is the mean. Per position as in Wang et al. 2022 (arXiv 2211.00593).
    """

    name: ClassVar[str] = "position-mean"
    basis: ClassVar[Basis] = "positions"

    def replaced_by(self, noun: str) -> str:
        """A mean by position."""
        return f"the mean at each position over {noun}s"
