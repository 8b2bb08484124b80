"""Lines through clouds of prompts, and rank correlation.

A line is drawn over prompts, each with its weight, never over group means: that would be another question. Groups are
left out whole, so its interval knows that they, and not their prompts, are independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hydrascope.analysis._statistics._intervals import Estimate, Estimated, jackknife
from hydrascope.analysis._statistics._units import Array, Resampling, divide

FEWEST_RANKED = 3
"""Fewest cells that can be ranked alike or not."""


@dataclass(frozen=True)
class Line:
    """Least-squares lines, one per cell.

    Attributes:
        slope: with its standard error.
        intercept: shape (cells,).
        r2: squared correlation with its interval; NaN where one side never varies.
    """

    slope: Estimated
    intercept: Array
    r2: Estimate


def fit_line(x: Array, y: Array, resampling: Resampling) -> Line:
    """Weighted least squares of y on x over prompts, for every cell.

    Fewer than three prompts determine no line worth reporting: everything is NaN.

    Args:
        x: shape (prompts, cells).
        y: shape (prompts, cells).
        resampling: what is independent.

    Returns:
        The lines; the interval of the squared correlation is made on Fisher's scale of the correlation.
    """
    sums = _moments(x, y, resampling)
    slope = jackknife(_slope, resampling, *sums)
    z = jackknife(_fisher, resampling, *sums)
    intercept = resampling.mean(y) - slope.value * resampling.mean(x)
    _, low, high = (np.tanh(end) for end in z.interval)
    ends = np.sort([low**2, high**2], axis=0)
    return Line(slope, intercept, (np.tanh(z.value) ** 2, np.where(low * high < 0, 0, ends[0]), ends[1]))


def slope_difference(first: tuple[Array, Array], second: tuple[Array, Array], resampling: Resampling) -> Estimated:
    """How much steeper the first of two lines over the same prompts is.

    Args:
        first: x and y, each of shape (prompts, cells).
        second: x and y of the other line.
        resampling: what is independent.
    """

    def difference(*sums: Array) -> Array:
        half = len(sums) // 2
        return _slope(*sums[:half]) - _slope(*sums[half:])

    return jackknife(difference, resampling, *_moments(*first, resampling), *_moments(*second, resampling))


def split_half_slope(x: tuple[Array, Array], y: tuple[Array, Array], resampling: Resampling) -> Estimated:
    """Slope of y on x when x is seen through donor noise, from two halves of the donors.

    Noise in x flattens the least-squares slope. Halves A and B share the prompt but not the donors, so one half's x is
    an instrument for the other's, and the noise averages out:

        slope = [cov(x_A, y_B) + cov(x_B, y_A)] / [2 cov(x_A, x_B)]

    Args:
        x: halves A and B, each of shape (prompts, cells).
        y: halves A and B, each of shape (prompts, cells).
        resampling: what is independent.
    """
    a, b, c = (_moments(*pair, resampling) for pair in ((x[0], y[1]), (x[1], y[0]), (x[0], x[1])))

    def slope(*sums: Array) -> Array:
        crossed = [_covariance(*sums[start : start + 4]) for start in (0, 4, 8)]
        return divide(crossed[0] + crossed[1], 2 * crossed[2])

    return jackknife(slope, resampling, *a[:4], *b[:4], *c[:4])


def spearman(a: Array, b: Array) -> Array:
    """Rank correlation of each row of `a` with the same row of `b`; ties share their mean rank.

    Args:
        a: shape (rows, cells).
        b: shape (rows, cells).

    Returns:
        Shape (rows,); NaN where a side has fewer than `FEWEST_RANKED` cells, does not vary or is not finite.
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


def _moments(x: Array, y: Array, resampling: Resampling) -> list[Array]:
    """Sums over groups of 1, x, y, xy, xx and yy, roughly centred for the sake of rounding; (blocks, cells) each."""
    x, y = x - resampling.mean(x), y - resampling.mean(y)
    if len(x) < 3:
        x = np.full_like(x, np.nan)
    return [resampling.sizes, *(resampling.sums(part) for part in (x, y, x * y, x * x, y * y))]


def _covariance(size: Array, x: Array, y: Array, product: Array) -> Array:
    return product - x * y / size


def _spreads(size: Array, x: Array, y: Array, xx: Array, yy: Array) -> tuple[Array, Array]:
    """Sums of squares around the means; copies of one value have none, whatever the rounding says."""
    found = [_covariance(size, side, side, squares) for side, squares in ((x, xx), (y, yy))]
    kept = [np.where(own > 1e-9 * squares, own, 0.0) for own, squares in zip(found, (xx, yy), strict=True)]
    return kept[0], kept[1]


def _slope(size: Array, x: Array, y: Array, xy: Array, xx: Array, yy: Array) -> Array:
    return divide(_covariance(size, x, y, xy), _spreads(size, x, y, xx, yy)[0])


def _fisher(size: Array, x: Array, y: Array, xy: Array, xx: Array, yy: Array) -> Array:
    spread = _spreads(size, x, y, xx, yy)
    correlation = divide(_covariance(size, x, y, xy), np.sqrt(spread[0] * spread[1]))
    found: Array = np.arctanh(np.clip(correlation, -1 + 1e-12, 1 - 1e-12))
    return found
