"""Activations under noise on the embeddings in place of a part's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hydrascope.ablations._base import Donation, ExtraRun, require_count, require_positive
from hydrascope.ablations._runs import FromRuns
from hydrascope.prompts import EncodedPrompt


@dataclass(frozen=True)
class Noise(FromRuns):
    """z~ = Z(u + eps), Gaussian noise on the prompt's embeddings (McGrath et al. 2023, eq. 37).

    Noise on the part itself, as long as the displacement by a donor, is no ablation: it is the random-direction control
    that every run carries beside its ablation (`null_draws`), and what the ablation must exceed.

    Attributes:
        donors: noise draws per prompt.
        scale: standard deviation of the noise in units of the spread of the prompt's own embeddings; three, as in
            causal tracing (Meng et al. 2022, arXiv 2202.05262).
    """

    name: ClassVar[str] = "noise"
    donors: int = 5
    scale: float = 3.0

    def __post_init__(self) -> None:
        require_count(self, "donors")
        require_positive(self, "scale")

    @property
    def draws(self) -> int:
        """One value a noise draw."""
        return self.donors

    @property
    def extra_runs(self) -> int:
        """One noisy run a draw."""
        return self.donors

    def donate(
        self, prompts: Sequence[EncodedPrompt], targets: Sequence[int], seed: int, *, block: int | None = None
    ) -> Donation:
        """Make one noisy run per prompt and draw."""
        runs = tuple(
            ExtraRun(prompt.ids, self.scale, (seed, prompt.key, draw))
            for draw in range(self.donors)
            for prompt in prompts
        )
        table = len(prompts) + np.arange(len(runs)).reshape(self.donors, len(prompts))
        return Donation(table, runs)

    def replaced_by(self, noun: str) -> str:
        """Values under noise."""
        return f"its value under noise on the {noun}’s embeddings"

    def caveat(self, noun: str) -> str:
        """No prompt is that noisy."""
        return f"Added noise is a disturbance that no {noun} produces; part of what is seen may be its own effect."
