"""Base of ablations whose values are other runs' activations."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope.ablations._base import Ablation


class FromRuns(Ablation):
    """An ablation that puts in place what the chosen runs have there."""

    def replace(
        self, pool: Float[Tensor, "pool *edited width"], chosen: Int[np.ndarray, "draws prompts"], n_clean: int
    ) -> Float[Tensor, "draws prompts *edited width"]:
        """The chosen runs' activations."""
        return pool[torch.as_tensor(chosen, device=pool.device)]
