"""How alike two measured orders of the same parts are: Kendall's tau, with an interval.

Where parts lie close, noise orders them at random, which draws tau towards zero. Adding as much noise again tells how
far (simulation extrapolation, Cook & Stefanski 1994), so that the interval reaches

    from    tau
    to      tau + 3 (tau - mean tau with as much noise again)

and beyond both by t times the spread of tau. Resamples show too little of that spread, since they order a close pair as
it happens to have been measured: of two equal parts, with k times the noise in place of as much again, the share

    1 - 2 / pi x arcsin(1 / (1 + k))

of the variance, two thirds for k = 1. The spread is taken with three times the noise, and divided by the root of that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from scipy import stats

from hydrascope.analysis._statistics._intervals import spread_interval
from hydrascope.analysis._statistics._units import Array

MOST_LOST = 3
"""The noise of the measurement took at most so many times what as much again takes."""
TIMES = 3
"""Times the variance of the noise with which the spread is taken."""
FEW = 128
"""Most parts of which all pairs of all resamples are compared at once; of more, one resample after the other."""
SHOWN = 1 - 2 / np.pi * np.arcsin(1 / (1 + TIMES))
"""Share of the variance that is then seen, of two equal parts."""


@dataclass(frozen=True)
class Ordered:
    """What parts are ordered by, as measured and in resamples of what is independent.

    Attributes:
        values: one for each part, NaN where it is not known.
        drawn: the values in every resample; NaN where nothing is known of their noise.
    """

    values: Float[np.ndarray, " parts"]
    drawn: Float[np.ndarray, "draws parts"]

    def of(self, parts: np.ndarray) -> Ordered:
        """Some of the parts."""
        return Ordered(self.values[parts], self.drawn[:, parts])

    def noisier(self, times: float) -> Ordered:
        """Resamples that lie so many times as far from what was measured."""
        return replace(self, drawn=self.values + times * (self.drawn - self.values))

    def by_size(self) -> Ordered:
        """The same parts ordered by absolute values."""
        return Ordered(np.abs(self.values), np.abs(self.drawn))


def kendalls_tau(first: Ordered, second: Ordered, units: int, *, by_size: bool = False) -> tuple[float, float, float]:
    """Agreement of two orders of the same parts, from -1 to 1.

    Args:
        first: one order.
        second: the other, resampled together with the first.
        units: number of independent units.
        by_size: whether parts are ordered by absolute values.

    Returns:
        Kendall's tau with the ends of its interval; NaN with fewer than two parts known of both, and no interval where
        resamples have no value or units are too few.
    """
    known = np.isfinite(first.values) & np.isfinite(second.values)
    if known.sum() < 2:
        return np.nan, np.nan, np.nan
    orders = [one.of(known) for one in (first, second)]
    value, again, noisier = (
        _taus(*(one.by_size() if by_size else one for one in some))
        for some in (
            [Ordered(one.values, one.values[None]) for one in orders],
            orders,
            [one.noisier(np.sqrt(TIMES * units / (units - 1))) for one in orders],
        )
    )
    tau = float(value[0])
    half = spread_interval(0.0, noisier, units, (-np.inf, np.inf))[2] / np.sqrt(SHOWN)
    if np.isnan(half):
        return tau, np.nan, np.nan
    lo, hi = sorted((tau, tau + MOST_LOST * (tau - float(np.nanmean(again)))))
    return tau, max(-1.0, lo - half), min(1.0, hi + half)


def _taus(first: Ordered, second: Ordered) -> Array:
    """Kendall's tau-b of every resample."""
    known = np.isfinite(first.drawn).all(1) & np.isfinite(second.drawn).all(1)
    found = np.full(len(known), np.nan)
    if len(first.values) <= FEW:
        found[known] = _together(first.drawn[known].T, second.drawn[known].T)
    else:
        each = zip(first.drawn[known], second.drawn[known], strict=True)
        found[known] = [stats.kendalltau(one, other).statistic for one, other in each]
    return found


def _together(one: Float[np.ndarray, "parts draws"], other: Float[np.ndarray, "parts draws"]) -> Array:
    """Tau-b of all resamples at once, pair by pair: of few parts, calls would take most of the time."""
    alike, apart, others_apart = np.zeros((3, one.shape[1]))
    for part in range(1, len(one)):
        mine, theirs = (np.sign(values[part] - values[:part]) for values in (one, other))
        alike += (mine * theirs).sum(0)
        apart += np.abs(mine).sum(0)
        others_apart += np.abs(theirs).sum(0)
    with np.errstate(invalid="ignore"):  # where all parts are equal
        return np.asarray(alike / np.sqrt(apart * others_apart))
