"""Many questions at once: intervals that hold together, and how many findings may be false.

A family of questions of which not one may be answered wrongly (which layers lose something, which of these are
repaired) is tested by the studentised bootstrap over groups, max-|t|. Hundreds of cells (who answers whom) are searched
instead, with a bound on the share of false ones among those found: Benjamini & Hochberg's false discovery rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from hydrascope.analysis._statistics._intervals import LEVEL, SIGNIFICANT, Estimated, drawn_t, mean_estimate
from hydrascope.analysis._statistics._units import Array, Resampling

_CHUNK = 1024


@dataclass(frozen=True)
class Simultaneous:
    """Intervals that hold for all cells together, and p-values adjusted for their number.

    Attributes:
        mean: shape (cells,).
        lo: lower ends; NaN with too few groups.
        hi: upper ends.
        p: adjusted p-value of "the mean is zero"; 1 for cells that never differ from zero, NaN with too few groups.
    """

    mean: Array
    lo: Array
    hi: Array
    p: Array

    @property
    def significant(self) -> NDArray[np.bool_]:
        """Whether the mean differs from zero, with one chance in twenty that this is wrong of any cell."""
        return self.p < SIGNIFICANT


def simultaneous_means(values: Array, resampling: Resampling) -> Simultaneous:
    """Weighted means over prompts with intervals that hold for all cells at once: max-|t| bootstrap over groups.

    In every resample each cell's deviation from the observed mean is divided by the resample's own standard error (so
    that few groups give the wider intervals they deserve), and the largest absolute value over the cells is kept. Its
    95 % quantile replaces 1.96. A resample's standard error is kept from vanishing (`ERROR_FLOOR`), or else one cell
    that varies in a single group would widen every interval.

    Args:
        values: shape (prompts, cells).
        resampling: what is independent.
    """
    found = mean_estimate(values, resampling)
    mean, error = found.value, found.error
    if not resampling.conclusive or not len(mean):
        blank = np.full(mean.shape, np.nan)
        return Simultaneous(mean, blank, blank, blank)
    largest = np.zeros(resampling.resamples)
    varies = np.flatnonzero(error > 0)
    for start in range(0, len(varies), _CHUNK):
        some = varies[start : start + _CHUNK]
        excess = resampling.sums(values[:, some]) - mean[some] * resampling.sizes
        largest = np.maximum(largest, drawn_t(excess, resampling.sizes, error[some], resampling).max(1))
    seen = np.where(mean != 0, np.inf, 0.0)
    np.divide(np.abs(mean), error, out=seen, where=error > 0)
    reached = len(largest) - np.searchsorted(np.sort(largest), seen, side="left")
    p = np.where(seen == 0, 1.0, (1 + reached) / (1 + len(largest)))
    width = float(np.quantile(largest, LEVEL, method="higher")) * error
    return Simultaneous(mean, mean - width, mean + width, p)


def search(values: Array, resampling: Resampling) -> Array:
    """Which of many weighted means over prompts differ from zero: p-values adjusted by the false discovery rate.

    Args:
        values: shape (prompts, cells).
        resampling: what is independent.

    Returns:
        Shape (cells,); NaN with too few groups. Among the cells below 5 %, one in twenty is expected to be zero.
    """
    found = mean_estimate(values, resampling)
    if not resampling.conclusive:
        return false_discovery(found.p)
    return false_discovery(np.maximum(found.p, _unskewed_p(found, values, resampling)))


def _unskewed_p(found: Estimated, values: Array, resampling: Resampling) -> Array:
    """P-values of means by a t statistic that the skewness of the groups is taken out of.

    Where groups are skewed all one way, the mean and its error move together, and t strays far to the other side much
    more often than a t distribution does. With G groups of skewness c and a = c / (6 sqrt(G)),

        t' = t + a + 2 a t**2 + 4/3 a**2 t**3        (Hall 1992, monotone in t)

    Args:
        found: the means with their errors.
        values: shape (prompts, cells).
        resampling: what is independent.
    """
    p, varies = found.p.copy(), found.error > 0
    value, error = found.value[varies], found.error[varies]
    excess = resampling.sums(values[:, varies]) - value * resampling.sizes
    a = stats.skew(excess, axis=0, bias=False) / (6 * np.sqrt(len(excess)))
    t = value / error
    p[varies] = 2 * stats.t.sf(np.abs(t + a + 2 * a * t**2 + 4 / 3 * a**2 * t**3), found.freedom)
    return p


def holm(p: ArrayLike) -> Array:
    """Holm's step-down adjustment of p-values; NaN entries are no tests and stay NaN.

    Args:
        p: p-values, shape (tests,).

    Returns:
        Adjusted p-values, shape (tests,), at most 1.
    """
    p = np.asarray(p, float)
    adjusted = np.full_like(p, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted


def false_discovery(p: ArrayLike) -> Array:
    """Benjamini & Hochberg's adjustment of p-values; NaN entries are no tests and stay NaN.

    Among the cells whose adjusted p-value is below 5 %, at most one in twenty is expected to be zero in truth.

    Args:
        p: p-values, shape (tests,).

    Returns:
        Adjusted p-values, shape (tests,).
    """
    p = np.asarray(p, float)
    adjusted = np.full_like(p, np.nan)
    tested = ~np.isnan(p)
    if tested.any():
        adjusted[tested] = stats.false_discovery_control(p[tested])
    return adjusted
