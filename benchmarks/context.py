"""Do intervals of variance shares and of agreement between tasks hold what they promise? Planted shares and rankings.

    python benchmarks/context.py > table.md

Four minutes on one core. Effects are Gaussian, or exponential at every level: there an interval that trusts the
Gaussian degrees of freedom holds the planted share in 81 % of cases.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from intervals import RELATIONS

from hydrascope.analysis import resample
from hydrascope.significance.context import LEVELS, Rated, concordance, kendalls_w, variance_table

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.nested import planted

SIMULATIONS = 1000
"""Parts with effects of their own, each a simulation."""
RANKINGS = 200
PLANTED = (
    (0.25, 0.25, 0.25, 0.25),
    (0.5, 0.1, 0.3, 0.1),
    (0.05, 0.3, 0.6, 0.05),
    (0, 0.2, 0.4, 0.4),
    (0.59, 0, 0.4, 0.01),
)
"""Shares of task, group, prompt and donor."""
DESIGNS: dict[str, tuple[list[list[int]], int]] = {
    "2 tasks of 30 relations, 4 donors": ([RELATIONS] * 2, 4),
    "3 tasks of 8 x 6, 4 donors": ([[6] * 8] * 3, 4),
    "3 tasks of 12 x 4, 2 donors": ([[4] * 12] * 3, 2),
    "3 unlike tasks, 4 donors": ([[5] * 12, [1] * 30, [20, 10, 5, 3, 2, 1]], 4),
    "6 tasks of 8 x 6, 4 donors": ([[6] * 8] * 6, 4),
    "3 tasks of 40 prompts, 1 donor": ([[1] * 40] * 3, 1),
    "1 task of 12 x 5, 4 donors": ([[5] * 12], 4),
    "1 task of 30 prompts, 4 donors": ([[1] * 30], 4),
}
SHAPES = ("gaussian", "skewed")


def coverage(rng: np.random.Generator, design: str, shares: Sequence[float], shape: str) -> dict[str, float]:
    """Share of intervals, in percent, that hold the planted share, by level."""
    sizes, donors = DESIGNS[design]
    parts = [str(part) for part in range(SIMULATIONS)]
    table = variance_table(planted(rng, sizes, donors, shares, shape, SIMULATIONS), parts)
    truth = dict(zip(LEVELS, shares, strict=True))
    for level in LEVELS:  # what cannot be told apart counts for the prompt, or for nothing
        if table[level].isna().all():
            truth["prompt"] += truth.pop(level) if level != "task" else 0 * truth.pop(level)
    whole = sum(truth.values())
    return {
        level: 100 * float(((table[f"{level}_lo"] <= share / whole) & (share / whole <= table[f"{level}_hi"])).mean())
        for level, share in truth.items()
    }


def agreement(
    rng: np.random.Generator, tasks: int, parts: int, groups: int, noise: float
) -> tuple[float, float, float]:
    """Coverage of the interval of Kendall's W, the share that is given, both in percent, and the bias of W as measured.

    Half of a part's effect is common to all tasks and half the task's own, exponential both.
    """
    held, biases = [], []
    for _ in range(RANKINGS):
        mean = rng.exponential(0.5, parts) + rng.exponential(0.5, (tasks, parts))
        sampled = mean[:, None] + noise * rng.normal(size=(tasks, groups, parts))
        rated = {str(task): Rated(one, resample(np.arange(groups), 200)) for task, one in enumerate(sampled)}
        row, truth = concordance(rated).iloc[0], float(kendalls_w(mean[None])[0])
        biases.append(row["w"] - truth)
        if np.isfinite(row["agreement"]):
            held.append(row["agreement_lo"] <= truth <= row["agreement_hi"])
    return 100 * float(np.mean(held)) if held else np.nan, 100 * len(held) / RANKINGS, float(np.mean(biases))


def lines() -> Iterator[str]:
    """The tables, line by line."""
    rng = np.random.default_rng(0)
    yield f"| design | effects | {' | '.join(LEVELS)} |\n|---|---|{'---|' * len(LEVELS)}"
    for design in DESIGNS:
        for shape in SHAPES:
            found = [coverage(rng, design, shares, shape) for shares in PLANTED]
            cells = []
            for level in LEVELS:
                known = [one[level] for one in found if level in one]
                cells.append(f"{min(known):.1f} to {max(known):.1f}" if known else "")
            yield f"| {design} | {shape} | {' | '.join(cells)} |"
    yield "\n| tasks | parts | groups | noise | W as measured misses by | interval holds W | given |"
    yield "|---|---|---|---|---|---|---|"
    for tasks, parts in ((2, 12), (3, 12), (3, 40), (5, 30)):
        for groups in (6, 12, 30):
            for noise in (0.3, 1, 3):
                held, given, bias = agreement(rng, tasks, parts, groups, noise)
                yield f"| {tasks} | {parts} | {groups} | {noise} | {bias:+.3f} | {held:.1f} | {given:.0f} |"


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
