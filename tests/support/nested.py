"""Effects on prompts in groups in tasks, seen through donors, with known shares of their variance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hydrascope.significance.context import Nested, OfTask


def planted(
    rng: np.random.Generator,
    sizes: Sequence[Sequence[int]],
    donors: int,
    shares: Sequence[float],
    shape: str,
    parts: int,
) -> Nested:
    """Effects whose variance has these shares.

    Args:
        rng: random numbers.
        sizes: prompts of each group of each task.
        donors: donors of each prompt.
        shares: of task, group, prompt and donor.
        shape: `gaussian` or `skewed`.
        parts: parts with effects of their own.
    """

    def draw(*of: int) -> np.ndarray:
        return rng.exponential(1, (*of, parts)) - 1 if shape == "skewed" else rng.normal(size=(*of, parts))

    task, group, prompt, donor = np.sqrt(shares)
    tasks = []
    for groups in sizes:
        codes = np.repeat(np.arange(len(groups)), groups)
        mean = task * draw() + (group * draw(len(groups)))[codes] + prompt * draw(len(codes))
        replaced = donor * draw(donors, len(codes))
        spread = replaced.var(0, ddof=1) if donors > 1 else 0 * mean
        tasks.append(OfTask(codes, mean + replaced.mean(0), spread, donors))
    return Nested.of_tasks(tasks)
