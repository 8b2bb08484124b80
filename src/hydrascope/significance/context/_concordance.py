"""How far tasks order the parts alike: Kendall's W of their rankings, freed of the noise that pulls it down.

With m tasks that rank n parts and S the sum of squares of the parts' rank sums around their mean,

    W = 12 S / (m**2 (n**3 - n) - m x ties)

is 1 where all rankings agree and about 1/m where they have nothing in common. Effects measured with noise rank at
random where they are close, so W of measured rankings is too low. Simulation extrapolation (Cook & Stefanski 1994): W
is measured again with the variance of the groups' noise once and twice more, and its course is followed back to none,

    3 W(0) - 3 W(1) + W(2)

The interval reaches from what is measured to a little beyond that, and further by the spread of W(2) times t.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from hydrascope.analysis import Resampling, add_estimate, divide, spread_interval, with_ends

RELIABLE = 0.7
"""Least share of the variance between a task's parts that is no noise, for the tasks' rankings to be compared."""

MOST_LOST = 3
"""The noise of the measurement took at most so many times what as much again takes."""
ALL = "all"
"""Name of the row for all tasks."""

Sizes = Float[np.ndarray, "draws tasks parts"]


@dataclass(frozen=True)
class Rated:
    """Mean effects of the same parts in one task, with how sure they are.

    Attributes:
        values: effects, (prompts, parts).
        resampling: groups of the task's prompts.
    """

    values: Float[np.ndarray, "prompts parts"]
    resampling: Resampling

    @property
    def mean(self) -> Float[np.ndarray, " parts"]:
        """Mean effects."""
        return self.resampling.mean(self.values)

    @property
    def noise(self) -> Float[np.ndarray, "draws parts"]:
        """Errors of the means as groups show them; NaN with too few."""
        groups = len(self.resampling.sizes)
        spread = self.resampling.means(self.values) - self.mean
        found: Float[np.ndarray, "draws parts"] = spread * np.sqrt(groups / (groups - 1))
        return found

    @property
    def reliability(self) -> float:
        """Share of the variance of the sizes over parts that is not noise."""
        error, spread = (self.noise**2).mean(keepdims=True), np.abs(self.mean[None]).var(1, keepdims=True)
        return 1 - float(divide(error, spread)[0, 0])


def kendalls_w(sizes: Sizes) -> Float[np.ndarray, " draws"]:
    """Agreement of the tasks' rankings of the parts by their sizes, in every draw; ties share their rank."""
    tasks, parts = sizes.shape[-2:]
    ranks = stats.rankdata(sizes, axis=-1)
    squares = ((ranks.sum(-2) - tasks * (parts + 1) / 2) ** 2).sum(-1)
    # of distinct ranks the squares sum to (n**3 - n) / 12, of tied ones to less
    spread = ((ranks - (parts + 1) / 2) ** 2).sum((-2, -1))
    return divide(squares, tasks * spread)


def concordance(tasks: Mapping[str, Rated]) -> pd.DataFrame:
    """How far tasks order the same parts alike, by the size of their mean effects.

    Args:
        tasks: name to effects of the same two parts or more.

    Returns:
        One row per two tasks, and one, `all`, for all of them where there are more: `task`, `other`; `w` of the
        measured rankings, `agreement`, W freed of noise, with `agreement_lo` and `agreement_hi`; `reliability`, the
        least of the tasks'. Where that is below .7, or groups are fewer than six, W cannot be freed and `agreement` is
        NaN.
    """
    pairs = [(first, second) for first, second in combinations(tasks, 2)]
    rows = [{"task": first, "other": second} | _agreement([tasks[first], tasks[second]]) for first, second in pairs]
    if len(tasks) > 2:
        rows.insert(0, {"task": ALL, "other": ALL} | _agreement(list(tasks.values())))
    return pd.DataFrame(rows, columns=["task", "other", "w", *with_ends("agreement"), "reliability"])


def _agreement(tasks: Sequence[Rated]) -> dict[str, Any]:
    means = np.stack([task.mean for task in tasks])
    noise = np.stack([task.noise for task in tasks], 1)
    measured, reliability = float(kendalls_w(np.abs(means)[None])[0]), min(task.reliability for task in tasks)
    row: dict[str, Any] = {"w": measured, "reliability": reliability}
    estimate = (np.nan,) * 3
    if reliability >= RELIABLE:
        once, twice = (kendalls_w(np.abs(means + np.sqrt(times) * noise)) for times in (1, 2))
        freed = float(np.clip(3 * measured - 3 * once.mean() + twice.mean(), 0, 1))
        units = min(task.resampling.units for task in tasks)
        most = measured + MOST_LOST * max(0.0, measured - float(once.mean()))
        lo, hi = (spread_interval(end, twice, units, (0.0, 1.0))[place] for end, place in ((measured, 1), (most, 2)))
        estimate = freed, min(freed, lo), max(freed, hi)
    add_estimate(row, "agreement", estimate)
    return row
