"""Who lends to whom, in the order of the prompts, whatever the order they were dealt out in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from hydrascope.prompts import choose_donors


def resample_table(
    prompts: Sequence[Sequence[int]],
    targets: Sequence[int],
    draws: int,
    seed: int,
    foils: Sequence[int | None] | None = None,
) -> np.ndarray:
    """Donor of each draw and prompt: dealt out in the order of what the prompts are."""
    pairs = foils or [None] * len(prompts)
    digests = [hashlib.sha256(repr(tuple(ids)).encode()).hexdigest() for ids in prompts]
    order = sorted(range(len(prompts)), key=lambda i: (digests[i], targets[i]))
    inputs = [digests[i] for i in order]
    dealt = choose_donors([targets[i] for i in order], draws, seed, foils=[pairs[i] for i in order], inputs=inputs)
    table = np.empty_like(dealt)
    table[:, order] = np.array(order)[dealt]
    return table
