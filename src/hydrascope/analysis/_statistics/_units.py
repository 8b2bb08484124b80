"""Which observations are independent, how much each prompt weighs, and sums over them.

Prompts that share a template are not independent: their group is the observation. Every group counts once, so a prompt
weighs 1 / (size of its group), and a mean is the mean of group means. On ordinary text the observation is a token: all
tokens weigh alike, and documents are what is independent.

Every estimate is a function of weighted sums over groups,

    sums of a group = sum over its prompts of weight x value

so nothing larger than groups by cells is ever resampled or left out. Of very many groups, several are taken together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Array = NDArray[np.float64]

RESAMPLES = 2000
CONCLUSIVE_FROM = 6
"""With fewer independent groups there are neither intervals nor signs."""
MORE_GROUPS = "leave out `group`, if prompts are independent, or bring more groups"
"""What to do about too few."""
MOST_BLOCKS = 1000
"""More groups than that are gathered, at random, into so many blocks of nearly equal size."""


@dataclass(frozen=True)
class Resampling:
    """The independent units of a ledger: groups, or prompts where no two share a group.

    Attributes:
        codes: block of units of each prompt, from 0; shape (prompts,). Up to `MOST_BLOCKS`, a block is a unit.
        weight: how much each prompt counts; shape (prompts,).
        units: number of independent units.
        by_group: whether the unit is a group of prompts rather than a prompt.
        resamples: number of bootstrap resamples, where something is resampled.
        seed: of the resamples; the same seed gives the same resamples.
    """

    codes: NDArray[np.intp]
    weight: Array
    units: int
    by_group: bool
    resamples: int
    seed: int

    @property
    def conclusive(self) -> bool:
        """Whether there are enough units for intervals, and to call any sign certain."""
        return self.units >= CONCLUSIVE_FROM

    @property
    def even(self) -> bool:
        """Whether all prompts weigh alike, so that estimates are plain means over prompts."""
        return bool(np.ptp(self.weight) == 0)

    @cached_property
    def sizes(self) -> Array:
        """Weight of each block, (blocks, 1)."""
        found: Array = np.bincount(self.codes, self.weight).astype(np.float64)[:, None]
        return found

    @cached_property
    def counts(self) -> Array:
        """How often each bootstrap resample contains each block, (resamples, blocks)."""
        blocks = len(self.sizes)
        drawn = np.random.default_rng(self.seed).multinomial(blocks, np.full(blocks, 1 / blocks), self.resamples)
        return drawn.astype(np.float64)

    def sums(self, values: NDArray[Any]) -> Array:
        """Weighted sums over the prompts of each block: (prompts, cells) to (blocks, cells)."""
        found: Array = self._adding @ np.asarray(values, np.float64)
        return found

    def mean(self, values: NDArray[Any], weight: Array | None = None) -> Array:
        """Weighted mean over prompts, of any number of dimensions: (prompts, ...) to (...).

        Args:
            values: one for each prompt and cell.
            weight: how much each prompt counts in each cell beside its own weight; all alike if None. A cell in which
                nothing counts is NaN.
        """
        if weight is not None:
            return divide(self.weight @ (weight * values), self.weight @ weight)
        found: Array = np.tensordot(self.weight / self.weight.sum(), np.asarray(values, np.float64), 1)
        return found

    def means(self, values: Array, weight: Array | None = None) -> Array:
        """Weighted mean over prompts in every resample: (prompts, cells) to (resamples, cells).

        Without enough units nothing is known about variation, and every resample is NaN.
        """
        if not self.conclusive:
            return np.full((self.resamples, values.shape[1]), np.nan)
        above = values if weight is None else weight * values
        below = self.sizes if weight is None else self.sums(weight)
        return divide(self.counts @ self.sums(above), self.counts @ below)

    @cached_property
    def _adding(self) -> csr_array:
        places = (self.codes, np.arange(len(self.codes)))
        return csr_array((self.weight, places), shape=(len(self.sizes), len(self.codes)))


def prompt_weights(groups: Sequence[Any] | NDArray[Any]) -> Array:
    """One over the size of its group, for each prompt.

    Args:
        groups: label of the group of each prompt.

    Returns:
        Weights that sum to the number of groups; shape (prompts,).
    """
    _, codes, sizes = np.unique(_plain(groups), return_inverse=True, return_counts=True)
    weights: Array = 1.0 / sizes[codes].astype(np.float64)
    return weights


def resample(
    groups: Sequence[Any] | NDArray[Any], resamples: int = RESAMPLES, seed: int = 0, *, weight: Array | None = None
) -> Resampling:
    """The independent units among some prompts.

    A single group says nothing about variation between groups, so then every prompt is a unit.

    Args:
        groups: label of the group of each prompt.
        resamples: number of bootstrap resamples.
        seed: of the resamples.
        weight: how much each prompt counts; one over the size of its group if None.
    """
    labels, codes = np.unique(_plain(groups), return_inverse=True)
    by_group = 1 < len(labels) < len(codes)
    units = len(labels) if by_group else len(codes)
    codes = codes if by_group else np.arange(units)
    if units > MOST_BLOCKS:
        codes = np.random.default_rng(seed).permutation(np.arange(units) % MOST_BLOCKS)[codes]
    weight = prompt_weights(groups) if weight is None else weight
    return Resampling(codes.astype(np.intp), weight, units, by_group, resamples, seed)


def divide(above: Array, below: Array) -> Array:
    """Quotient, NaN where the denominator is zero."""
    quotient = np.full(np.broadcast_shapes(np.shape(above), np.shape(below)), np.nan)
    np.divide(above, below, out=quotient, where=below != 0)
    return quotient + 0.0  # no minus zero in a table


def _plain(groups: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    return np.array([str(group) for group in groups])
