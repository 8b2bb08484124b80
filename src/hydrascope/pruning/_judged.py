"""Costs of sets as means over tokens, with intervals over documents, and over sets where these were drawn.

The interval over documents is the jackknife's of a ratio of two sums, drawn out where documents are skewed one way.
Sets that are drawn stand for all sets of their size, n of N without replacement: what their costs vary by adds an
interval of its own, shrunk by sqrt(1 - n / N). Of independent estimates, distances from the value to an end add up as
standard errors do: their squares are summed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import comb

import numpy as np
from jaxtyping import Float

from hydrascope.analysis import Array, Resampling, resample, unskewed_ratio_interval
from hydrascope.pruning._store import Cost, Store

Sets = tuple[tuple[str, ...], ...]
"""What a ranking removes at one size: a set, or all that were drawn."""

Spread = tuple[float, float, float]
"""A value with the lower and the upper end of its interval, which are NaN where there is none."""

FEWEST_DRAWN = 20
"""With fewer sets, out of more, nothing is said about those that were not drawn: skewed costs do not show in them."""


@dataclass(frozen=True)
class Judged:
    """One part of the text with what is known of sets on it.

    Attributes:
        store: costs.
        documents: document of each text.
        predicted: predicted tokens of each text.
    """

    store: Store
    documents: tuple[str, ...]
    predicted: Float[np.ndarray, " texts"]

    @cached_property
    def resampling(self) -> Resampling:
        """Documents, of which every text counts as it is."""
        return resample(self.documents, weight=np.ones(len(self.documents)))

    def rows(self, sets: Sets) -> Float[np.ndarray, "measures sets texts"]:
        """What is known of each of some sets: losses, and divergences and agreements where all have them."""
        found = [self.store.known["+".join(parts)].rows for parts in sets]
        measures = min(map(len, found))
        return np.stack([rows[:measures] for rows in found], 1)

    def cost(self, sets: Sets) -> Cost:
        """Cost of a set, or the mean over several."""
        return Cost(*self.rows(sets).mean(1))

    def rises(self, sets: Sets) -> Float[np.ndarray, "sets texts"]:
        """What the loss of each of some sets is above the whole model's, summed over each text."""
        found: Float[np.ndarray, "sets texts"] = self.rows(sets)[0] - self.clean.loss
        return found

    @property
    def clean(self) -> Cost:
        """Cost of the untouched model."""
        return self.cost(((),))

    def mean(self, values: Array, below: Array | None = None, share: float = 1) -> Spread:
        """Sums over the tokens of each text as a mean over tokens and sets, with its interval.

        Args:
            values: shape (texts,), or (sets, texts).
            below: what the mean is over, summed over each text; tokens if None.
            share: of all sets that these stand for, from `share_drawn`.
        """
        rows, below = np.atleast_2d(values), self.predicted if below is None else below
        found = unskewed_ratio_interval(rows.mean(0)[:, None], below[:, None], self.resampling)
        value, lo, hi = (float(one[0]) for one in found)
        return added((value, lo, hi), over_sets(rows.sum(1) / below.sum(), share))


def gap(unseen: Judged, seen: Judged, rises: tuple[Array, Array], share: float = 1) -> Spread:
    """How much more the same sets cost on one part of the text than on the other, which share no document.

    Args:
        unseen: text that no ranking saw.
        seen: text that rankings saw.
        rises: costs on the one and on the other, summed over each text, shape (sets, texts).
        share: of all sets that these stand for, from `share_drawn`.
    """
    here, there = (judged.mean(values) for judged, values in zip((unseen, seen), rises, strict=True))
    each = [values.sum(-1) / judged.predicted.sum() for judged, values in zip((unseen, seen), rises, strict=True)]
    return added(here, negated(there), over_sets(each[0] - each[1], share))


def share_drawn(sets: Sets, parts: int) -> float:
    """Share of all sets of a size that were drawn; NaN where these say too little about the others.

    That is so of few sets, and where a part is in none of them: sets with that part may cost anything.

    Args:
        sets: what was drawn, no set twice.
        parts: number of parts that could be in them.
    """
    every = comb(parts, len(sets[0]))
    short = len(sets) < FEWEST_DRAWN or len(set().union(*sets)) < parts
    return float("nan") if len(sets) < every and short else len(sets) / every


def over_sets(means: Array, share: float) -> Spread:
    """How far the mean over all sets may be from that over those that were drawn: 0 with the ends of its interval.

    Args:
        means: of each drawn set.
        share: of all sets that were drawn; NaN for no interval.
    """
    if share == 1:
        return 0.0, 0.0, 0.0
    column = means[:, None]
    found = unskewed_ratio_interval(column, np.ones_like(column), resample(range(len(column))))
    value, lo, hi = (float(one[0]) for one in found)
    left = np.sqrt(1 - share)
    return 0.0, left * (lo - value), left * (hi - value)


def added(*spreads: Spread) -> Spread:
    """The sum of independent estimates, with its interval."""
    value, lo, hi = np.array(spreads).T
    return (
        float(value.sum()),
        float(value.sum() - np.sqrt(((value - lo) ** 2).sum())),
        float(value.sum() + np.sqrt(((hi - value) ** 2).sum())),
    )


def negated(spread: Spread) -> Spread:
    """An estimate of the opposite."""
    value, lo, hi = spread
    return -value, -hi, -lo
