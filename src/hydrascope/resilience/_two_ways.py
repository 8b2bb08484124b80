"""Means over prompts and masks, where both were drawn.

A value averaged over groups of prompts and over masks varies with both. With x[g, m] the value of group g under mask m,

    error**2 = var_g(mean_m x) / G + var_m(mean_g x) / M

each of which also holds what group and mask do together, so that the interval is a little too wide rather than too
narrow. Its degrees of freedom are Satterthwaite's. Where only n of the masks tell something, each of these has
a leverage of 1 / n, and the variance over masks is divided by what that leaves, 1 - 1 / n. What no mask changes has the
variance over groups alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from hydrascope.analysis import Array, Estimate, Resampling

LEVEL = 0.95
RESAMPLES = 200
"""Bootstrap resamples of groups and masks together, for what is no mean."""

Sampled = Float[np.ndarray, "groups _"]
"""One number for each group of prompts and mask."""


def by_group(values: Float[np.ndarray, "prompts ..."], resampling: Resampling) -> Float[np.ndarray, "groups ..."]:
    """Values of groups whose plain mean is the weighted mean over prompts.

    Args:
        values: one for each prompt and cell.
        resampling: groups of prompts, and how much each prompt weighs.
    """
    flat = values.reshape(len(values), -1)
    sums, sizes = resampling.sums(flat), resampling.sizes
    groups, whole = len(sizes), sizes.sum()
    mean = sums.sum(0) / whole
    each = groups * sums / whole + mean * (1 - groups * sizes / whole)
    found: Float[np.ndarray, "groups ..."] = each.reshape(groups, *values.shape[1:])
    return found


@dataclass(frozen=True)
class TwoWays:
    """Means over groups and masks, with their standard errors.

    Attributes:
        value: shape (cells,).
        error: standard errors, shape (cells,); NaN with too few groups.
        freedom: degrees of freedom, shape (cells,).
    """

    value: Array
    error: Array
    freedom: Array

    @property
    def interval(self) -> Estimate:
        """The means with the ends of their 95 % intervals."""
        half: Array = stats.t.ppf((1 + LEVEL) / 2, np.maximum(1, self.freedom)) * self.error
        return self.value, self.value - half, self.value + half

    @property
    def p(self) -> Array:
        """Two-sided p-values of "this is zero"; 1 where it never differs from zero."""
        size = np.full(self.value.shape, np.nan)
        np.divide(np.abs(self.value), self.error, out=size, where=self.error > 0)
        size[self.error == 0] = np.where(self.value[self.error == 0] == 0, 0, np.inf)
        found: Array = np.asarray(2 * stats.t.sf(size, np.maximum(1, self.freedom)))
        return found


def two_ways(cells: Sequence[Sampled], resampling: Resampling, informative: Sequence[int] | None = None) -> TwoWays:
    """Means of some cells.

    Args:
        cells: for each cell, values by group and mask; a single mask where masks do not matter.
        resampling: groups of prompts.
        informative: for each cell, the number of masks that tell something about it, all if None; with fewer than
            two out of several there is no error.
    """
    value = np.array([cell.mean() for cell in cells])
    parts = np.array([[_variance(cell.mean(1)), _variance(cell.mean(0))] for cell in cells]).reshape(-1, 2)
    if not resampling.conclusive:
        return TwoWays(value, np.full(len(cells), np.nan), np.ones(len(cells)))
    masks = np.array([cell.shape[1] for cell in cells])
    telling = masks if informative is None else np.array(informative)
    below = np.maximum(1, np.stack([[len(cell) for cell in cells], telling], 1).reshape(-1, 2) - 1)
    several = (telling > 1) & (masks > 1)
    # `_variance` has the leverage of 1 / M in it
    parts[several, 1] *= (1 - 1 / masks[several]) / (1 - 1 / telling[several])
    both, squares = parts.sum(1), (parts**2 / below).sum(1)
    freedom = np.ones(len(cells))
    np.divide(both**2, squares, out=freedom, where=squares > 0)
    error = np.where((telling < 2) & (masks > 1), np.nan, np.sqrt(both))
    return TwoWays(value, np.where(error <= 1e-9 * np.abs(value), 0 * error, error), freedom)


def _variance(values: Array) -> float:
    """Variance of the mean of independent values."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0


def resampled(cells: Sequence[Sampled], resampling: Resampling, seed: int = 0) -> Float[np.ndarray, "resamples cells"]:
    """Means of some cells in resamples of groups and masks.

    Args:
        cells: for each cell, values by group and mask; all with the same groups.
        resampling: groups of prompts; with too few of them every resample is NaN.
        seed: of the resamples.
    """
    if not resampling.conclusive:
        return np.full((RESAMPLES, len(cells)), np.nan)
    rng = np.random.default_rng(seed)
    groups, masks = cells[0].shape[0], max(cell.shape[1] for cell in cells)
    drawn = [rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n for n in (groups, masks)]
    found = [drawn[0] @ cell[:, 0] if cell.shape[1] == 1 else ((drawn[0] @ cell) * drawn[1]).sum(1) for cell in cells]
    return np.stack(found, 1)
