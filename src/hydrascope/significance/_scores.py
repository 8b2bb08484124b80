"""Scores of importance over the same parts: ranks, agreement, and the parts that a cheap one misjudges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from hydrascope.analysis import (
    Ordered,
    Resampling,
    add_estimate,
    divide,
    kendalls_tau,
    mean_estimate,
    ratio_interval,
    spread_interval,
    with_ends,
)

EXACT = "total effect"
"""The score that all others are held to."""

RELIABLE = 0.7
"""Least share of the variance of estimates over parts that is no noise, for a line on them."""

ByPart = Float[np.ndarray, "prompts parts"]
PerPart = Float[np.ndarray, " parts"]


@dataclass(frozen=True)
class Score:
    """One score of every part, prompt by prompt.

    Attributes:
        name: as tables print it.
        values: one for each prompt and part; NaN where it is not known. The score is their mean.
        below: where given, the score is the ratio of both means.
        cheap: whether it estimates the total effect without measuring it.
        signed: whether an estimate is in logits with its sign, so that its size can be held to the total effect.
    """

    name: str
    values: ByPart
    below: ByPart | None = None
    cheap: bool = False
    signed: bool = True

    def drawn(self, resampling: Resampling) -> Float[np.ndarray, "draws parts"]:
        """The score in every resample of groups."""
        above = resampling.means(self.values)
        return above if self.below is None else divide(above, resampling.means(self.below))

    def order(self, resampling: Resampling) -> PerPart:
        """What parts are ordered by: the score's size."""
        found: PerPart = np.abs(self.estimate(resampling)[0])
        return found

    def estimate(self, resampling: Resampling) -> tuple[PerPart, PerPart, PerPart]:
        """The score with the ends of its interval."""
        if self.below is not None:
            return ratio_interval(self.values, self.below, resampling)
        return mean_estimate(self.values, resampling).interval


@dataclass(frozen=True)
class ScoreElsewhere(Score):
    """A score that a stress test of the same parts measured, on random sets of failed parts, its masks.

    Attributes:
        ends: lower and upper ends of the score's interval, (2, parts).
        by_group: the score of each group of prompts, over all masks; no rows where the test had other prompts.
        by_mask: what each mask adds to the score, over all groups; the masks of all scores of one test are the same.
    """

    ends: Float[np.ndarray, "2 parts"] = field(default_factory=lambda: np.zeros((2, 0)))
    by_group: Float[np.ndarray, "groups parts"] = field(default_factory=lambda: np.zeros((0, 0)))
    by_mask: Float[np.ndarray, "masks parts"] = field(default_factory=lambda: np.zeros((0, 0)))

    def drawn(self, resampling: Resampling) -> Float[np.ndarray, "draws parts"]:
        """The score in every resample of groups, and of masks besides."""
        if not len(self.by_group) or not resampling.conclusive:
            return np.full((resampling.resamples, self.values.shape[1]), np.nan)
        masks = len(self.by_mask)
        drawn = np.random.default_rng(resampling.seed).multinomial(
            masks, np.full(masks, 1 / masks), resampling.resamples
        )
        of_groups, of_masks = resampling.counts @ self.by_group / len(self.by_group), drawn @ self.by_mask / masks
        found: Float[np.ndarray, "draws parts"] = of_groups + of_masks
        return found

    def estimate(self, resampling: Resampling) -> tuple[PerPart, PerPart, PerPart]:
        """The score with the ends of its interval."""
        return self.values[0], self.ends[0], self.ends[1]


def score_table(scores: Sequence[Score], parts: Sequence[str], resampling: Resampling) -> pd.DataFrame:
    """Every part by every score.

    Args:
        scores: of the parts.
        parts: addresses of the parts.
        resampling: groups of prompts.

    Returns:
        One row per part: `part`; every score under its own name, with `_lo` and `_hi`; and `rank NAME`, 1 for the
        largest size, NaN where the score is not known.
    """
    table: dict[str, Any] = {"part": np.array(parts, object)}
    for score in scores:
        add_estimate(table, score.name, score.estimate(resampling))
        table[f"rank {score.name}"] = stats.rankdata(-score.order(resampling), nan_policy="omit")
    return pd.DataFrame(table)


def agreement(scores: Sequence[Score], resampling: Resampling, top: int) -> pd.DataFrame:
    """How far each two scores order the parts alike, by size.

    Args:
        scores: of the same parts.
        resampling: groups of prompts.
        top: how many of the first parts are compared.

    Returns:
        One row per two scores: `score`, `other`, `parts`, how many both are known of; `tau`, Kendall's, with `tau_lo`
        and `tau_hi`, which are NaN where the two were not measured on the same prompts; `overlap`, the share of the
        first `top` that both have among theirs.
    """
    orders = [score.order(resampling) for score in scores]
    ordered = [Ordered(score.estimate(resampling)[0], score.drawn(resampling)) for score in scores]
    rows = []
    for first, second in combinations(range(len(scores)), 2):
        a, b = orders[first], orders[second]
        known = np.isfinite(a) & np.isfinite(b)
        if known.sum() < 2:
            continue
        row: dict[str, Any] = {"score": scores[first].name, "other": scores[second].name, "parts": int(known.sum())}
        add_estimate(row, "tau", kendalls_tau(ordered[first], ordered[second], resampling.units, by_size=True))
        leading = [set(np.argsort(-one[known], kind="stable")[:top].tolist()) for one in (a, b)]
        row["overlap"] = len(leading[0] & leading[1]) / len(leading[0])
        rows.append(row)
    columns = ["score", "other", "parts", "tau", "tau_lo", "tau_hi", "overlap"]
    return pd.DataFrame(rows, columns=columns)


def misjudged(
    scores: Sequence[Score], parts: Sequence[str], own_change: ByPart, total_effect: ByPart, resampling: Resampling
) -> pd.DataFrame:
    """Where cheap scores miss the total effect, and how much of that is repair.

        estimate - total = (estimate - own change) - (total - own change)

    The last bracket is what the other parts gave back, or took further: the repair. The one before it is what the
    estimate makes of the part itself: curvature of what it writes, such as saturation, and effects through others.

    Args:
        scores: of the parts; those that estimate the total effect are held to it.
        parts: addresses of the parts.
        own_change: of every part.
        total_effect: of every part.
        resampling: groups of prompts.

    Returns:
        One row per cheap score and part, the worst first within each score: `score`, `part`, `estimate`, `total`,
        `missed` with its interval, `beyond_own`, the estimate minus the own change, and `repair` (logits).
    """
    own, total, rows = resampling.mean(own_change), resampling.mean(total_effect), []
    for score in (one for one in scores if one.cheap and one.signed):
        estimate = resampling.mean(score.values)
        table: dict[str, Any] = {"score": score.name, "part": np.array(parts, object)}
        table |= {"estimate": estimate, "total": total}
        add_estimate(table, "missed", mean_estimate(score.values - total_effect, resampling).interval)
        table |= {"beyond_own": estimate - own, "repair": total - own}
        one = pd.DataFrame(table).dropna(subset="missed")
        rows.append(one.loc[one["missed"].abs().sort_values(ascending=False, kind="stable").index])
    ends = ["missed", "missed_lo", "missed_hi"]
    columns = ["score", "part", "estimate", "total", *ends, "beyond_own", "repair"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def calibration(scores: Sequence[Score], total_effect: ByPart, resampling: Resampling) -> pd.DataFrame:
    """How far the sizes of cheap scores can be believed: the line of exact effects on estimates, over parts.

    Noise in the estimates would draw the slope towards zero. What groups show of it is taken out of the sums of squares
    and products.

    Args:
        scores: of the parts; those that estimate the total effect are held to it.
        total_effect: of every part.
        resampling: groups of prompts.

    Returns:
        One row per cheap score: `score`, `parts`; `slope`, 1 where effects are as large as estimated and below where
        they are smaller, with `slope_lo` and `slope_hi`; `intercept` (logits); `reliability`, the share of the variance
        of the estimates over parts that is no noise. Below .7 no slope is given.
    """
    rows = []
    for score in (one for one in scores if one.cheap and one.signed):
        known = np.isfinite(score.values).all(0)
        if known.sum() < 3:
            continue
        row: dict[str, Any] = {"score": score.name, "parts": int(known.sum())}
        rows.append(row | _line(score.values[:, known], total_effect[:, known], resampling))
    return pd.DataFrame(rows, columns=["score", "parts", *with_ends("slope"), "intercept", "reliability"])


def _line(estimate: ByPart, exact: ByPart, resampling: Resampling) -> dict[str, Any]:
    groups = len(resampling.sizes)
    x, y = resampling.mean(estimate), resampling.mean(exact)
    drawn_x, drawn_y = (_centred(resampling.means(values)) for values in (estimate, exact))
    # what a resample adds to the means is their noise, once more
    noise = np.sqrt(groups / (groups - 1)) * np.stack([drawn_x - _centred(x[None]), drawn_y - _centred(y[None])])
    of_x, of_both = (noise[0] ** 2).sum(1).mean(), (noise[0] * noise[1]).sum(1).mean()
    squares, products = (float((_centred(x[None]) * _centred(one[None])).sum()) for one in (x, y))
    row: dict[str, Any] = {"reliability": 1 - of_x / squares if squares > 0 else np.nan, "intercept": np.nan}
    slope: tuple[float, float, float] = (np.nan, np.nan, np.nan)
    if row["reliability"] >= RELIABLE or not resampling.conclusive:
        taken = (of_both, of_x) if resampling.conclusive else (0.0, 0.0)
        value = (products - taken[0]) / (squares - taken[1])
        drawn = divide((drawn_x * drawn_y).sum(1) - 2 * taken[0], (drawn_x**2).sum(1) - 2 * taken[1])
        slope = spread_interval(value, drawn, resampling.units, (-np.inf, np.inf))
        row["intercept"] = float(y.mean() - value * x.mean())
    add_estimate(row, "slope", slope)
    return row


def _centred(values: Float[np.ndarray, "draws parts"]) -> Float[np.ndarray, "draws parts"]:
    found: Float[np.ndarray, "draws parts"] = values - values.mean(1, keepdims=True)
    return found
