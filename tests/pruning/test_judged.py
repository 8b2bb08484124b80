"""Means over tokens, documents and drawn sets, against plain loops."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hydrascope.pruning import Judged, Store, gap, share_drawn

RNG = np.random.default_rng(11)
DOCUMENTS, SETS = 12, 20
EFFECTS = RNG.normal(1, 0.3, DOCUMENTS)
COSTS = RNG.normal(4, 1, SETS)


def judged(documents: int = DOCUMENTS) -> Judged:
    """One text of ten tokens from each document."""
    return Judged(Store(None, "test"), tuple(f"d{i}" for i in range(documents)), np.full(documents, 10.0))


def names(parts: int, size: int) -> list[tuple[str, ...]]:
    return list(combinations([f"layer.{i}" for i in range(parts)], size))


def halves(found: Any) -> tuple[float, float]:
    value, lo, hi = found
    return value - lo, hi - value


def test_the_interval_of_drawn_sets_holds_what_both_draws_vary_by() -> None:
    values = 10 * (COSTS[:, None] + EFFECTS)
    over_documents, both = judged().mean(values), judged().mean(values, share=0.25)
    assert over_documents[0] == pytest.approx(COSTS.mean() + EFFECTS.mean()) == both[0]
    t = stats.t.ppf(0.975, SETS - 1) * np.sqrt(0.75) * COSTS.std(ddof=1) / np.sqrt(SETS)
    for wide, narrow in zip(halves(both), halves(over_documents), strict=True):
        # the interval over sets is drawn out on one side
        assert np.hypot(narrow, t) <= wide * (1 + 1e-9) < 1.2 * np.hypot(narrow, t)
    assert judged().mean(values, share=1) == over_documents
    assert np.isnan(judged().mean(values, share=np.nan)[1:]).all()


def test_sets_speak_for_others_where_they_are_many_and_every_part_is_in_one() -> None:
    some = names(8, 3)
    assert share_drawn(tuple(some), 8) == 1
    assert share_drawn(tuple(names(5, 1)), 5) == 1
    assert np.isnan(share_drawn(tuple(names(5, 1)[:4]), 5))
    spread = [one for one in some if "layer.7" in one]
    assert share_drawn(tuple(spread), 8) == len(spread) / len(some)
    without = [one for one in some if "layer.7" not in one]
    assert len(without) > 20
    assert np.isnan(share_drawn(tuple(without), 8))
    assert np.isnan(share_drawn(tuple(spread[:19]), 8))


def test_the_gap_is_the_difference_of_two_independent_means() -> None:
    """What sets have in common on both halves is no part of it."""
    unseen, seen = judged(), judged(8)
    values = 10 * (COSTS[:, None] + EFFECTS + 0.5), 10 * (COSTS[:, None] + EFFECTS[:8])
    found = gap(unseen, seen, values, share=0.25)
    assert found[0] == pytest.approx(0.5 + EFFECTS.mean() - EFFECTS[:8].mean())
    one, other = unseen.mean(values[0]), seen.mean(values[1])
    assert found[1] == pytest.approx(found[0] - np.hypot(one[0] - one[1], other[2] - other[0]))
    assert found[2] == pytest.approx(found[0] + np.hypot(one[2] - one[0], other[0] - other[1]))


@pytest.mark.parametrize("draws", [20, 40])
def test_intervals_hold_the_mean_over_all_sets_though_some_are_ten_times_as_dear(draws: int) -> None:
    """`benchmarks/prune_intervals.py` in small; an interval over documents alone does so in less than half."""
    rng = np.random.default_rng(0)
    held: list[bool] = []
    narrow: list[bool] = []
    some = names(12, 4)
    every = np.array([10.0 if "layer.0" in one else 1.0 for one in some])
    for _ in range(100):
        drawn = rng.choice(len(some), draws, replace=False)
        values = every[drawn, None] * rng.normal(10, 1, DOCUMENTS)
        share = share_drawn(tuple(some[i] for i in drawn), 12)
        for ends, into in ((judged().mean(values, share=share), held), (judged().mean(values), narrow)):
            into.append(ends[1] <= every.mean() <= ends[2])
        if np.isnan(share):
            held.pop()
    assert len(held) > 80
    assert np.mean(held) > 0.93
    assert np.mean(narrow) < 0.5
