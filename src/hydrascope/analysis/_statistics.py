"""Bootstrap over prompts, regression lines, simultaneous intervals, overlap by chance.

Prompts that share a template are not independent, so groups are resampled whole: a resample is a vector of counts, one
per group, and any statistic made of sums over prompts is one matrix product for all resamples and cells together.

    weights (resamples x groups)  @  sums per group (groups x cells)  =  sums per resample (resamples x cells)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Estimate = tuple[Any, Any, Any]
"""A statistic and the ends of its interval: three arrays, or three numbers."""

RESAMPLES = 2000
LEVEL = 0.95
ROUGH_BELOW = 8
"""With fewer groups percentile intervals are too narrow to be read literally."""
CONCLUSIVE_FROM = 6
"""Signs of fewer independent groups agree by chance in more than one case of twenty."""
ERROR_FLOOR = 0.3
"""Least standard error of a resample, as a share of the observed one, in the max-|t| bootstrap."""
FEWEST_RANKED = 3
"""Fewest cells with a rank correlation."""
_CHUNK = 1024


@dataclass(frozen=True)
class Resampling:
    """Which groups each bootstrap resample contains.

    With fewer than two groups nothing is known about variation, and every resample is NaN.

    Attributes:
        codes: group of each prompt, from 0; shape (prompts,).
        counts: how often each resample contains each group; shape (resamples, groups).
        by_group: whether the unit is a group of prompts rather than a prompt.
    """

    codes: NDArray[np.intp]
    counts: Array
    by_group: bool

    @property
    def units(self) -> int:
        """Number of independent units: groups, or prompts where no two share a group."""
        return int(self.counts.shape[1])

    @property
    def rough(self) -> bool:
        """Whether there are too few units to read the intervals literally."""
        return self.units < ROUGH_BELOW

    @property
    def conclusive(self) -> bool:
        """Whether there are enough units to call any sign certain."""
        return self.units >= CONCLUSIVE_FROM

    def by_unit(self, values: Array) -> Array:
        """Sum over the prompts of each unit: (prompts, cells) to (units, cells)."""
        if not self.by_group:
            return values
        order = np.argsort(self.codes, kind="stable")
        starts = np.searchsorted(self.codes[order], np.arange(self.units))
        summed: Array = np.add.reduceat(values[order], starts, axis=0)
        return summed

    def means(self, values: Array, weight: Array | None = None) -> Array:
        """Mean over prompts in every resample: (prompts, cells) to (resamples, cells).

        `weight`, (prompts, cells), says how much each prompt counts in each cell; NaN where a resample has none of it.
        """
        if self.units < 2:
            return np.full((len(self.counts), values.shape[1]), np.nan)
        if weight is not None:
            return divide(self.counts @ self.by_unit(weight * values), self.counts @ self.by_unit(weight))
        drawn = self.counts @ self.by_unit(np.ones((len(values), 1)))
        means: Array = self.counts @ self.by_unit(values) / drawn
        return means


def resample(groups: Sequence[Any] | NDArray[Any], resamples: int = RESAMPLES, seed: int = 0) -> Resampling:
    """Resample groups of prompts; single prompts where all or none share a group.

    Statistics made with one resampling are comparable resample by resample.

    Args:
        groups: label of the group of each prompt.
        resamples: number of bootstrap resamples.
        seed: seed of the resamples.
    """
    labels, codes = np.unique([str(group) for group in groups], return_inverse=True)
    by_group = 1 < len(labels) < len(codes)
    if not by_group:
        codes = np.arange(len(codes))
    units = int(codes.max()) + 1
    picks = np.random.default_rng(seed).integers(units, size=(resamples, units))
    flat = (picks + units * np.arange(resamples)[:, None]).ravel()
    counts = np.bincount(flat, minlength=resamples * units).reshape(resamples, units)
    return Resampling(codes.astype(np.intp), counts.astype(np.float64), by_group)


def interval(resampled: Array, level: float = LEVEL) -> tuple[Array, Array]:
    """Percentile interval of each column: (resamples, cells) to two ends, (cells,) each.

    Values that are not finite (a line through a single point) are left out; a column with a majority of them has no
    interval (NaN).
    """
    ordered = np.sort(np.where(np.isfinite(resampled), resampled, np.nan), axis=0)
    finite = np.isfinite(ordered).sum(0)
    ends = []
    for share in ((1 - level) / 2, (1 + level) / 2):
        place = share * np.maximum(finite - 1, 0)
        below = np.floor(place).astype(np.intp)
        above = np.ceil(place).astype(np.intp)
        low = np.take_along_axis(ordered, below[None], 0)[0]
        high = np.take_along_axis(ordered, above[None], 0)[0]
        end = low + (high - low) * (place - below)
        ends.append(np.where(2 * finite > len(resampled), end, np.nan))
    return ends[0], ends[1]


def weighted_mean(values: Array, weight: Array | None = None) -> Array:
    """Mean over prompts, weighted if a weight is given; NaN where nothing counts."""
    found: Array = values.mean(0) if weight is None else divide((weight * values).sum(0), weight.sum(0))
    return found


def mean_interval(values: Array, resampling: Resampling, weight: Array | None = None) -> tuple[Array, Array, Array]:
    """Mean over prompts and its interval: (prompts, cells) to (cells,) each.

    `weight`, (prompts, cells), says how much each prompt counts in each cell; all alike if None.
    """
    lows, highs = [], []
    for start in range(0, values.shape[1], _CHUNK):
        some = slice(start, start + _CHUNK)
        low, high = interval(resampling.means(values[:, some], None if weight is None else weight[:, some]))
        lows.append(low)
        highs.append(high)
    nothing = np.empty(0)
    return weighted_mean(values, weight), np.concatenate([nothing, *lows]), np.concatenate([nothing, *highs])


def ratio_interval(above: Array, below: Array, resampling: Resampling) -> tuple[Array, Array, Array]:
    """Ratio of sums over prompts and its interval: (prompts, cells) to (cells,) each.

    The mean of ratios explodes wherever a denominator is small; the ratio of sums does not. NaN where denominators sum
    to 0.
    """
    ratio = divide(above.sum(0), below.sum(0))
    return ratio, *interval(divide(resampling.means(above), resampling.means(below)))


def median_ratio(above: Array, below: Array, threshold: Array) -> Array:
    """Median ratio over prompts whose |denominator| reaches the threshold, (cells,)."""
    medians = np.full(above.shape[1], np.nan)
    for cell in range(above.shape[1]):
        keep = (np.abs(below[:, cell]) >= threshold[cell]) & (below[:, cell] != 0)
        if keep.any():
            medians[cell] = np.median(above[keep, cell] / below[keep, cell])
    return medians


@dataclass(frozen=True)
class Line:
    """Least-squares lines, one per cell, and their values in every resample.

    Attributes:
        slope: shape (cells,).
        intercept: shape (cells,).
        r2: squared correlation; NaN where one side never varies.
        slope_resampled: slope in every resample, shape (resamples, cells).
        r2_resampled: squared correlation in every resample, shape (resamples, cells).
    """

    slope: Array
    intercept: Array
    r2: Array
    slope_resampled: Array
    r2_resampled: Array


def fit_line(x: Array, y: Array, resampling: Resampling) -> Line:
    """Least squares of y on x over prompts, (prompts, cells) each, and in every resample.

    Fewer than three prompts determine no line worth reporting: everything is NaN.
    """
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    if len(x) < 3:
        x = np.full_like(x, np.nan)
    xx, yy, xy = (x * x).mean(0), (y * y).mean(0), (x * y).mean(0)
    slope = divide(xy, xx)
    drawn_xy = _covariances(x, y, resampling)
    drawn_xx, drawn_yy = _variances(x, resampling), _variances(y, resampling)
    return Line(
        slope=slope,
        intercept=y_mean - slope * x_mean,
        r2=divide(xy * xy, xx * yy),
        slope_resampled=divide(drawn_xy, drawn_xx),
        r2_resampled=divide(drawn_xy**2, drawn_xx * drawn_yy),
    )


def split_half_slope(x: tuple[Array, Array], y: tuple[Array, Array], resampling: Resampling) -> tuple[Array, Array]:
    """Slope of y on x without the noise of donors, (cells,), and in every resample.

    Noise in x flattens the least-squares slope. Halves A and B, (prompts, cells), share the prompt but not the donors,
    so one half's x is an instrument for the other's, and the noise averages out:

        slope = [cov(x_A, y_B) + cov(x_B, y_A)] / [2 cov(x_A, x_B)]
    """
    x_a, x_b = (half - half.mean(0) for half in x)
    y_a, y_b = (half - half.mean(0) for half in y)
    if len(x_a) < 3:
        x_a = np.full_like(x_a, np.nan)
    slope = divide((x_a * y_b + x_b * y_a).mean(0), 2 * (x_a * x_b).mean(0))
    crossed = _covariances(x_a, y_b, resampling) + _covariances(x_b, y_a, resampling)
    return slope, divide(crossed, 2 * _covariances(x_a, x_b, resampling))


def spearman(a: Array, b: Array) -> Array:
    """Rank correlation of each row of `a` with that row of `b`: (rows, cells) to (rows,).

    Ties share their mean rank. NaN where a side has fewer than `FEWEST_RANKED` cells, does not vary or is not finite.
    """
    found = np.full(len(a), np.nan)
    if a.shape[1] < FEWEST_RANKED:
        return found
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        if np.isfinite(x).all() and np.isfinite(y).all():
            ranks = [pd.Series(side).rank().to_numpy() for side in (x, y)]
            if all(np.ptp(side) > 0 for side in ranks):
                found[i] = np.corrcoef(ranks[0], ranks[1])[0, 1]
    return found


def holm(p: ArrayLike) -> Array:
    """Holm's step-down adjustment of p-values; NaN entries are no tests and stay NaN."""
    p = np.asarray(p, float)
    adjusted = np.full_like(p, np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * factors))
    return adjusted


def normal_p(estimate: Array, resampled: Array) -> Array:
    """Normal two-sided p-value of "this is zero" from resamples, (cells,).

    Unlike the share of resamples beyond zero it has no floor of 1 / resamples, so it survives a correction over many
    tests. NaN without resamples or without variation.
    """
    clean = np.where(np.isfinite(resampled), resampled, np.nan)
    enough = 2 * np.isfinite(resampled).sum(0) > len(resampled)
    p = np.full(estimate.shape, np.nan)
    for cell in np.flatnonzero(enough & np.isfinite(estimate)):
        error = float(np.nanstd(clean[:, cell]))
        if error > 0:
            p[cell] = math.erfc(abs(float(estimate[cell])) / error / math.sqrt(2))
    return p


@dataclass(frozen=True)
class Simultaneous:
    """Intervals that hold for all cells together, and adjusted p-values; (cells,) each.

    Attributes:
        mean: mean over prompts.
        lo: lower end of the interval; NaN with fewer than two units.
        hi: upper end of the interval.
        p: adjusted p-value of "the mean is zero"; 1 for cells that never differ from zero.
        significant: p below 1 - level, and enough units to say so.
    """

    mean: Array
    lo: Array
    hi: Array
    p: Array
    significant: NDArray[np.bool_]


def simultaneous_means(values: Array, resampling: Resampling, level: float = LEVEL) -> Simultaneous:
    """Means over prompts with simultaneous intervals (max-|t| bootstrap).

    In every resample each cell's deviation from the observed mean is divided by the resample's own standard error (so
    that few groups give the wider intervals they deserve), and the largest absolute value over the cells is kept. Its
    `level` quantile replaces 1.96. A resample's standard error is kept from vanishing (`ERROR_FLOOR`), or else one cell
    that varies in a single group would widen every interval.

    Simulated on Gaussian cells, 1 to 4 % of the families of 8 or 272 null cells hold a false finding with 8 groups or
    more, and up to 11 % with 6; where all effects are strongly skewed alike, some 24 groups are needed.

    Args:
        values: shape (prompts, cells).
        resampling: the bootstrap.
        level: joint coverage.

    Returns:
        Means, intervals and adjusted p-values.
    """
    mean = values.mean(0)
    if resampling.units < 2 or values.shape[1] == 0:
        blank = np.full(mean.shape, np.nan)
        return Simultaneous(mean, blank, blank, np.ones_like(mean), np.zeros(mean.shape, bool))
    size = resampling.by_unit(np.ones((len(values), 1)))
    drawn = resampling.counts @ size
    error = np.empty_like(mean)
    largest = np.zeros(len(resampling.counts))
    for start in range(0, len(mean), _CHUNK):
        part = slice(start, start + _CHUNK)
        excess = resampling.by_unit(values[:, part] - mean[part])
        error[part] = np.sqrt((excess**2).sum(0)) / size.sum()
        shift = resampling.counts @ excess / drawn
        squares = (
            resampling.counts @ excess**2
            - 2 * shift * (resampling.counts @ (excess * size))
            + shift**2 * (resampling.counts @ size**2)
        )
        drawn_error = np.sqrt(np.maximum(squares, 0)) / drawn
        varies = _varies(mean[part], error[part])
        t = np.abs(shift[:, varies]) / np.maximum(drawn_error, ERROR_FLOOR * error[part])[:, varies]
        largest = np.maximum(largest, t.max(1, initial=0))
    varies = _varies(mean, error)
    t_seen = np.where(mean != 0, np.inf, 0.0)
    np.divide(np.abs(mean), error, out=t_seen, where=varies)
    reached = len(largest) - np.searchsorted(np.sort(largest), t_seen, side="left")
    p = np.where(t_seen == 0, 1.0, (1 + reached) / (1 + len(largest)))
    width = np.where(varies, float(np.quantile(largest, level, method="higher")) * error, 0.0)
    significant = (p < 1 - level) & resampling.conclusive
    return Simultaneous(mean, mean - width, mean + width, p, significant)


def divide(above: Array, below: Array) -> Array:
    """Quotient, NaN where the denominator is zero."""
    quotient = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=quotient, where=below != 0)
    return quotient + 0.0  # no minus zero in a table


def _varies(mean: Array, error: Array) -> NDArray[np.bool_]:
    """Cells whose spread is more than the rounding of float32."""
    return error > 1e-7 * np.abs(mean)


def _variances(x: Array, resampling: Resampling) -> Array:
    """Variance in every resample; exactly 0 in one of copies of one unit."""
    drawn = _covariances(x, x, resampling)
    return np.where(drawn > 1e-9 * (x * x).mean(0), drawn, 0.0)


def _covariances(x: Array, y: Array, resampling: Resampling) -> Array:
    """Covariance over prompts in every resample; takes centred x and y, to limit rounding."""
    means = resampling.means
    product: Array = means(x * y) - means(x) * means(y)
    return product


@dataclass(frozen=True)
class Reading:
    """A measured mean and what may be said about its sign.

    Attributes:
        mean: the mean, mostly in logits.
        lo: lower end of the 95 % interval; NaN if unknown.
        hi: upper end of the interval.
        conclusive: whether there are enough independent prompts to say anything about the sign.
    """

    mean: float
    lo: float
    hi: float
    conclusive: bool

    @property
    def sign(self) -> int:
        """1 or -1 when the interval excludes zero, otherwise 0; comparisons with NaN are false."""
        return (int(self.lo > 0) - int(self.hi < 0)) if self.conclusive else 0

    @property
    def still(self) -> bool:
        """Whether it is exactly zero on every prompt."""
        return self.mean == self.lo == self.hi == 0


def add_estimate(table: dict[str, Any], name: str, estimate: Estimate) -> None:
    """Add a statistic and its interval as the columns `name`, `name_lo` and `name_hi`."""
    table.update(zip(with_ends(name), estimate, strict=True))


def add_single(row: dict[str, Any], name: str, estimate: Estimate) -> None:
    """Add the only cell of a statistic and its interval to a row; see `add_estimate`."""
    add_estimate(row, name, (float(estimate[0][0]), float(estimate[1][0]), float(estimate[2][0])))


def with_ends(*names: str) -> list[str]:
    """Names of the columns that `add_estimate` makes, in its order."""
    return [f"{name}{end}" for name in names for end in ("", "_lo", "_hi")]


def jaccard_by_chance(sizes: ArrayLike, among: int) -> Array:
    """Expected Jaccard index of every two of some sets, were each chosen at random.

    The size of the intersection is hypergeometric, so the expectation is a finite sum:

        E[J] = sum_k C(a, k) C(n - a, b - k) / C(n, b) * k / (a + b - k)

    Args:
        sizes: sizes of the sets, shape (sets,).
        among: number of things that the sets are chosen from, n.

    Returns:
        Shape (sets, sets); 0 where either is empty.
    """
    distinct, codes = np.unique(np.asarray(sizes, dtype=np.intp), return_inverse=True)
    table = np.zeros((len(distinct), len(distinct)))
    for i, a in enumerate(distinct):
        for j, b in enumerate(distinct[: i + 1]):
            table[i, j] = table[j, i] = _expected(int(a), int(b), among)
    found: Array = table[codes[:, None], codes[None, :]]
    return found


@lru_cache(maxsize=1 << 16)
def _expected(a: int, b: int, among: int) -> float:
    k, factorial = np.arange(max(1, a + b - among), min(a, b) + 1), _log_factorials(among)

    def choose(n: Any, r: Any) -> Any:
        return factorial[n] - factorial[r] - factorial[n - r]

    chance = np.exp(choose(a, k) + choose(among - a, b - k) - choose(among, b))
    return float((chance * k / np.maximum(a + b - k, 1)).sum())


@lru_cache(maxsize=16)
def _log_factorials(last: int) -> Array:
    found: Array = np.concatenate([[0.0], np.log(np.arange(1, last + 1)).cumsum()])
    return found
