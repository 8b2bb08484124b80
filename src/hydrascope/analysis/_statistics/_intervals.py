"""Estimates with their intervals.

Leave out one group at a time, and see how much it matters.

With G groups and the estimate without group g called e_g,

    error**2 = (G - 1) / G * sum over g of (e_g - e)**2        interval = e +- error * t(G - 1 degrees of freedom)

For a mean of group means this is the t interval of the group means, exactly. Of a ratio of sums, a slope or anything
else that is a smooth function of sums over groups it is the jackknife. Where some groups hold much more of what counts
than others (the top tokens of documents), groups are resampled and every resample is studentised by its own error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from hydrascope.analysis._statistics._units import CONCLUSIVE_FROM, Array, Resampling, divide

Estimate = tuple[Any, Any, Any]
"""A statistic with the lower and upper end of its interval: three arrays, or three numbers."""

LEVEL = 0.95
ERROR_FLOOR = 0.3
"""Least standard error of a resample, as a share of the observed one, in the studentised bootstrap."""
SIGNIFICANT = 0.05
"""Adjusted p-values below are findings."""


@dataclass(frozen=True)
class Estimated:
    """Estimates with their standard errors.

    Attributes:
        value: shape (cells,).
        error: standard errors, shape (cells,); NaN where there are too few groups, or where one decides all.
        freedom: degrees of freedom.
    """

    value: Array
    error: Array
    freedom: int

    @property
    def interval(self) -> Estimate:
        """The estimates with the ends of their intervals."""
        half = stats.t.ppf((1 + LEVEL) / 2, self.freedom) * self.error if self.freedom else self.error
        return self.value, self.value - half, self.value + half

    @property
    def p(self) -> Array:
        """Two-sided p-values of "this is zero"; 1 where it never differs from zero, NaN without an error."""
        size = np.full(self.value.shape, np.nan)
        np.divide(np.abs(self.value), self.error, out=size, where=self.error > 0)
        size[self.error == 0] = np.where(self.value[self.error == 0] == 0, 0, np.inf)
        found: Array = 2 * stats.t.sf(size, max(1, self.freedom))
        return found


def jackknife(
    of: Callable[..., Array], resampling: Resampling, *sums: Array, totals: Sequence[Array] | None = None
) -> Estimated:
    """A function of sums over groups, with its standard error.

    Args:
        of: from the total of each of the sums, (..., cells), to the estimate, (..., cells).
        resampling: what is independent.
        sums: from `Resampling.sums`, shape (blocks, cells): what each total loses without a block.
        totals: shape (cells,) each; the sums over blocks if None.

    Returns:
        The estimates; no errors with fewer than `CONCLUSIVE_FROM` independent units.
    """
    totals = [part.sum(0) for part in sums] if totals is None else totals
    value, groups = of(*totals), len(resampling.sizes)
    if not resampling.conclusive:
        return Estimated(value, np.full(value.shape, np.nan), 0)
    without = of(*(total - part for total, part in zip(totals, sums, strict=True)))
    error = np.sqrt((groups - 1) / groups * ((without - value) ** 2).sum(0))
    # the rounding of float32 is no variation
    return Estimated(value, np.where(error > 1e-7 * np.abs(value), error, 0 * error), groups - 1)


def drawn_t(excess: Array, size: Array, error: Array, resampling: Resampling) -> Array:
    """|t| of the ratio of two sums in every resample, studentised by the resample's own error.

    Args:
        excess: what each block's numerator exceeds the observed ratio times its denominator by, (blocks, cells).
        size: denominators, (blocks, cells) or (blocks, 1).
        error: observed standard errors, (cells,), above 0.
        resampling: what is independent.

    Returns:
        Shape (resamples, cells); NaN where nothing that counts was drawn.
    """
    counts, blocks = resampling.counts, len(size)
    drawn = counts @ size
    shift = divide(counts @ excess, drawn)
    squares = counts @ excess**2 - 2 * shift * (counts @ (excess * size)) + shift**2 * (counts @ size**2)
    drawn_error = divide(np.sqrt(blocks / (blocks - 1) * np.maximum(squares, 0)), np.abs(drawn))
    found: Array = np.abs(shift) / np.maximum(drawn_error, ERROR_FLOOR * error)
    return found


def studentised(above: Array, below: Array, resampling: Resampling) -> Estimate:
    """Ratio of sums over groups that differ much in size, with the interval of the studentised bootstrap.

    Args:
        above: from `Resampling.sums`, (blocks, cells).
        below: from `Resampling.sums`, (blocks, cells).
        resampling: what is independent.

    Returns:
        Ratio, lower and upper end, each of shape (cells,); no interval where fewer than `CONCLUSIVE_FROM` blocks hold
        anything that counts.
    """
    value, blocks = divide(above.sum(0), below.sum(0)), len(below)
    half = np.full(value.shape, np.nan)
    if resampling.conclusive:
        excess = above - value * below
        error = divide(np.sqrt(blocks / (blocks - 1) * (excess**2).sum(0)), np.abs(below.sum(0)))
        several = np.count_nonzero(below, axis=0) >= CONCLUSIVE_FROM
        varies = several & (error > 1e-7 * np.abs(value))
        half = np.where(several & ~varies, 0 * error, np.nan)
        t = drawn_t(excess[:, varies], below[:, varies], error[varies], resampling)
        half[varies] = np.nanquantile(t, LEVEL, axis=0, method="higher") * error[varies]
    return value, value - half, value + half


def mean_estimate(values: Array, resampling: Resampling) -> Estimated:
    """Weighted mean over prompts of (prompts, cells), with its standard error."""
    return jackknife(divide, resampling, resampling.sums(values), resampling.sizes)


def mean_interval(values: Array, resampling: Resampling, weight: Array | None = None) -> Estimate:
    """Weighted mean over prompts with its interval, cell by cell.

    Args:
        values: shape (prompts, cells).
        resampling: what is independent.
        weight: how much each prompt counts in each cell beside its own weight, (prompts, cells); all alike if None.

    Returns:
        Mean, lower and upper end, each of shape (cells,).
    """
    if weight is None:
        return mean_estimate(values, resampling).interval
    return studentised(resampling.sums(weight * values), resampling.sums(weight), resampling)


def ratio_interval(above: Array, below: Array, resampling: Resampling) -> Estimate:
    """Ratio of weighted sums over prompts with its interval.

    The mean of ratios explodes wherever a denominator is small; the ratio of sums does not.

    Args:
        above: numerators, shape (prompts, cells).
        below: denominators, shape (prompts, cells).
        resampling: what is independent.

    Returns:
        Ratio, lower and upper end, each of shape (cells,); NaN where the denominators sum to 0.
    """
    return jackknife(divide, resampling, resampling.sums(above), resampling.sums(below)).interval


def unskewed_ratio_interval(above: Array, below: Array, resampling: Resampling) -> Estimate:
    """Ratio of weighted sums over prompts, with an interval that holds where groups are skewed all one way, too.

    The jackknife's interval, drawn out on the side on which the skewness of the groups hides large values: with G
    groups of skewness c and a = c / (6 sqrt(G)), t strays as far as the cubic of Hall (1992) says,

        t(q) = ((1 + 6 a (q - a))**(1/3) - 1) / (2 a)

    Args:
        above: numerators, shape (prompts, cells).
        below: denominators, shape (prompts, cells).
        resampling: what is independent.

    Returns:
        Ratio, lower and upper end, each of shape (cells,); the interval holds that of `ratio_interval`.
    """
    sums = resampling.sums(above), resampling.sums(below)
    found = jackknife(divide, resampling, *sums)
    value, lo, hi = found.interval
    varies = found.error > 0
    if not varies.any():
        return value, lo, hi
    excess = sums[0][:, varies] - value[varies] * sums[1][:, varies]
    a = stats.skew(excess, axis=0, bias=False) / (6 * np.sqrt(len(excess)))
    a = np.where(np.abs(a) < 1e-6, 1e-6, a)
    q = stats.t.ppf((1 + LEVEL) / 2, found.freedom)
    up, down = ((np.cbrt(1 + 6 * a * (end - a)) - 1) / (2 * a) * found.error[varies] for end in (q, -q))
    lo[varies] = np.minimum(lo[varies], value[varies] - up)
    hi[varies] = np.maximum(hi[varies], value[varies] - down)
    return value, lo, hi


def spread_interval(value: float, resampled: Array, units: int, limits: tuple[float, float]) -> Estimate:
    """Interval of what is no smooth function of sums, like a rank correlation, from the spread of its resamples.

        value +- standard deviation of the resamples * t(units - 1 degrees of freedom), within the limits

    With few groups the resamples' own percentiles hold the true value less often, and may leave out the estimate.

    Args:
        value: the statistic.
        resampled: the statistic in every resample, shape (resamples,).
        units: number of independent units.
        limits: least and largest possible value.

    Returns:
        The value with the ends of its interval; NaN where most resamples have no value.
    """
    known = resampled[np.isfinite(resampled)]
    if 2 * len(known) <= len(resampled) or units < CONCLUSIVE_FROM:
        return value, np.nan, np.nan
    half = float(stats.t.ppf((1 + LEVEL) / 2, units - 1)) * float(np.std(known))
    return value, max(limits[0], value - half), min(limits[1], value + half)


def median_ratio(above: Array, below: Array, threshold: Array) -> Array:
    """Median over prompts of the ratio, among prompts whose denominator is large enough.

    Args:
        above: numerators, shape (prompts, cells).
        below: denominators, shape (prompts, cells).
        threshold: least absolute denominator of each cell, shape (cells,).

    Returns:
        Shape (cells,); NaN where no prompt reaches the threshold.
    """
    medians = np.full(above.shape[1], np.nan)
    for cell in range(above.shape[1]):
        keep = (np.abs(below[:, cell]) >= threshold[cell]) & (below[:, cell] != 0)
        if keep.any():
            medians[cell] = np.median(above[keep, cell] / below[keep, cell])
    return medians
