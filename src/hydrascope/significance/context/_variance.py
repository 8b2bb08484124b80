"""How much of a part's importance depends on the task, the group of prompts, the prompt and the donor.

Effects are those of a random-effects model, prompts in groups in tasks, donors drawn anew for every prompt:

    effect = mean + task + group + prompt + donor

The method of moments with unweighted means: at each level the spread of units around the mean of their siblings expects
the level's own variance plus known shares of those below it, whatever the sizes. Intervals of shares come from a
generalised pivotal quantity (Weerahandi 1993): each mean square is divided by a draw of chi-square over its degrees of
freedom. Mean squares of heavy-tailed effects spread more than those of Gaussian ones, so degrees of freedom shrink by

    (2 x mean square**2 / degrees of freedom) / (variance of the mean square, from its groups)

wherever that is below 1; by the least of all levels, since the few units of an outer one cannot show their own tails.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from hydrascope.analysis import CONCLUSIVE_FROM, add_estimate, divide

LEVELS = ("task", "group", "prompt", "donor")
"""From the outermost to the innermost."""
DRAWS = 2000
"""Draws of each mean square."""
ENDS = (0.025, 0.975)

ByPart = Float[np.ndarray, "prompts parts"]
Codes = Int[np.ndarray, " prompts"]


@dataclass(frozen=True)
class OfTask:
    """Effects of parts in one task.

    Attributes:
        group: label of each prompt's group.
        values: effects, means over donors.
        variance: sample variance over donors, 0 with one.
        donors: number of donors of each prompt.
    """

    group: Sequence[Any] | np.ndarray
    values: ByPart
    variance: ByPart
    donors: int

    @property
    def codes(self) -> Codes:
        """Code of each prompt's group, from 0; a single group says nothing, so there every prompt is its own."""
        codes = np.unique([str(label) for label in self.group], return_inverse=True)[1]
        return codes if codes.max() > 0 else np.arange(len(codes))


@dataclass(frozen=True)
class Nested:
    """Effects of parts on prompts that lie in groups that lie in tasks.

    Attributes:
        task: code of each prompt's task, from 0.
        group: code of each prompt's group, from 0; no group lies in two tasks.
        values: effects, means over donors.
        variance: sample variance over donors, 0 with one.
        donors: number of donors of each prompt.
    """

    task: Codes
    group: Codes
    values: ByPart
    variance: ByPart
    donors: Codes

    @classmethod
    def of_tasks(cls, tasks: Sequence[OfTask]) -> Nested:
        """Put the effects of the same parts in several tasks together."""
        codes = [task.codes for task in tasks]
        sizes = [len(one) for one in codes]
        before = np.cumsum([0, *(one.max() + 1 for one in codes)])
        return cls(
            np.repeat(np.arange(len(tasks)), sizes),
            np.concatenate([one + start for one, start in zip(codes, before, strict=False)]),
            np.concatenate([task.values for task in tasks]),
            np.concatenate([task.variance for task in tasks]),
            np.repeat([task.donors for task in tasks], sizes),
        )


@dataclass(frozen=True)
class MeanSquare:
    """The spread of the units of one level around the mean of their siblings.

    Attributes:
        level: one of `LEVELS`.
        value: mean squares, (parts,).
        freedom: degrees of freedom of Gaussian effects.
        tails: what is left of them where effects have heavier tails, from 0 to 1, (parts,).
        expects: what each level's variance adds to its expectation, (levels,).
    """

    level: str
    value: Float[np.ndarray, " parts"]
    freedom: float
    tails: Float[np.ndarray, " parts"]
    expects: Float[np.ndarray, " levels"]


def mean_squares(nested: Nested) -> list[MeanSquare]:
    """The mean squares of all levels that can be told apart, from the innermost to the outermost.

    Donors need two or more for some prompt, groups two prompts or more in some group, and tasks need each other.
    """
    found = []
    units = nested.group
    expects = np.zeros((len(units), len(LEVELS)))
    expects[:, LEVELS.index("donor")] = 1 / nested.donors
    expects[:, LEVELS.index("prompt")] = 1
    more = nested.donors - 1.0
    if more.any():
        weight = np.eye(len(LEVELS))[LEVELS.index("donor")]
        found.append(_mean_square("donor", more[:, None] * nested.variance, more, units, weight))
    means, tasks = nested.values, nested.task
    grouped = units.max() + 1 < len(units)
    if grouped:
        square, means, expects = _level("prompt", means, expects, units, units)
        found.append(square)
        tasks = tasks[np.unique(units, return_index=True)[1]]
        expects[:, LEVELS.index("group")] = 1
    inner = "group" if grouped else "prompt"
    square, means, expects = _level(inner, means, expects, tasks, np.arange(len(tasks)))
    found.append(square)
    if len(means) > 1:
        expects[:, LEVELS.index("task")] = 1
        found.append(_level("task", means, expects, np.zeros(len(means), int), np.arange(len(means)))[0])
    return found


def _level(
    level: str,
    means: Float[np.ndarray, "units parts"],
    expects: Float[np.ndarray, "units levels"],
    parents: Int[np.ndarray, " units"],
    clusters: Int[np.ndarray, " units"],
) -> tuple[MeanSquare, Float[np.ndarray, "parents parts"], Float[np.ndarray, "parents levels"]]:
    """A level's mean square, with the means of its parents and what the variance of these expects."""
    sizes = np.bincount(parents).astype(float)[:, None]
    above, summed = _sums(means, parents) / sizes, _sums(expects, parents)
    several = sizes[:, 0] - 1
    expected = (several / sizes[:, 0]) @ summed / several.sum()
    squares = (means - above[parents]) ** 2
    square = _mean_square(level, squares, (several / sizes[:, 0])[parents], clusters, expected)
    return square, above, summed / sizes**2


def _mean_square(
    level: str,
    squares: Float[np.ndarray, "units parts"],
    freedom: Float[np.ndarray, " units"],
    clusters: Int[np.ndarray, " units"],
    expects: Float[np.ndarray, " levels"],
) -> MeanSquare:
    """Squares over their degrees of freedom, and how these shrink by what clusters of units show."""
    total = float(freedom.sum())
    value: Float[np.ndarray, " parts"] = squares.sum(0) / total
    within, weight = _sums(squares, clusters), np.bincount(clusters, freedom)[:, None]
    count = int((weight > 0).sum())
    spread = ((within - value * weight) ** 2).sum(0) / total**2 * count / max(1, count - 1)
    shown = divide(2 * value**2, spread) / total
    return MeanSquare(level, value, total, np.fmin(shown, 1.0), expects)


def _sums(
    values: Float[np.ndarray, "units cells"], codes: Int[np.ndarray, " units"]
) -> Float[np.ndarray, "codes cells"]:
    found = np.zeros((codes.max() + 1, values.shape[1]))
    np.add.at(found, codes, values)
    return found


def shares(squares: Sequence[MeanSquare], values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The share of each level in the variance, and the variance.

    Args:
        squares: the levels, from the innermost to the outermost.
        values: their mean squares, or draws of them.

    Returns:
        Shares in the order of `squares`, (levels, ...), each between 0 and 1; the variance of a single effect.
    """
    components: list[Any] = []
    for square, value in zip(squares, values, strict=True):
        below = sum(
            square.expects[LEVELS.index(inner.level)] * component
            for inner, component in zip(squares, components, strict=False)
        )
        components.append((value - below) / square.expects[LEVELS.index(square.level)])
    parts = np.maximum(np.array(components), 0)
    total = parts.sum(0)
    return divide(parts, total), total


def variance_table(nested: Nested, parts: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """The variance of each part's effect over tasks, groups, prompts and donors.

    Args:
        nested: effects.
        parts: addresses of the parts.
        seed: of the draws behind the intervals.

    Returns:
        One row per part: `part`; `sd`, the standard deviation of a single effect (logits); and the share of `task`,
        `group`, `prompt` and `donor` in its square, each with `_lo` and `_hi`. A level that cannot be told apart is
        NaN: single donors and groups of one prompt count for the prompt, and a single task for nothing. No intervals
        with fewer than six independent units.
    """
    squares = mean_squares(nested)
    found, total = shares(squares, [one.value for one in squares])
    rng = np.random.default_rng(seed)
    freedoms = np.outer([one.freedom for one in squares], np.fmin.reduce([one.tails for one in squares]))
    drawn = [
        one.value * freedom / np.fmax(rng.chisquare(freedom, (DRAWS, len(parts))), np.finfo(float).tiny)
        for one, freedom in zip(squares, freedoms, strict=True)
    ]
    lo, hi = np.quantile(shares(squares, drawn)[0], ENDS, axis=1)
    if nested.group.max() + 1 < CONCLUSIVE_FROM:
        lo, hi = np.full_like(found, np.nan), np.full_like(found, np.nan)
    table: dict[str, Any] = {"part": np.array(parts, object), "sd": np.sqrt(total)}
    known = {one.level: place for place, one in enumerate(squares)}
    blank = np.full(len(parts), np.nan)
    for level in LEVELS:
        at = known.get(level)
        ends = (blank,) * 3 if at is None else (found[at], np.minimum(lo[at], found[at]), np.maximum(hi[at], found[at]))
        add_estimate(table, level, ends)
    return pd.DataFrame(table)
