"""Zeros in place of a part's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope.ablations._base import Ablation


@dataclass(frozen=True)
class Zero(Ablation):
    """z~ = 0 (McGrath et al. 2023, appendix A). Output biases go with the component."""

    name: ClassVar[str] = "zero"

    def replace(
        self, pool: Float[Tensor, "pool *edited width"], chosen: Int[np.ndarray, "draws prompts"], n_clean: int
    ) -> Float[Tensor, "draws prompts *edited width"]:
        """Zeros."""
        return pool.new_zeros(*chosen.shape, *pool.shape[1:])

    def replaced_by(self, noun: str) -> str:
        """Zeros."""
        return "zeros"

    def caveat(self, noun: str) -> str:
        """No prompt produces zeros."""
        return f"Zeros are a value that no {noun} produces; part of what is seen may be the model coping with nonsense."
