"""The search for the smallest set that flips an answer, on set functions that are known."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from hydrascope.resilience import SetValues
from hydrascope.significance import LARGEST, Flip

PARTS = tuple("abcdefg")


def subsets(largest: int = len(PARTS)) -> list[np.ndarray]:
    places = range(len(PARTS))
    return [np.isin(places, some) for size in range(1, largest + 1) for some in combinations(places, size)]


def measured(needed: list[set[str]], cost: dict[str, float], sets: list[np.ndarray]) -> Flip:
    """An answer that flips when all parts of one of `needed` are out; each lost part costs it probability."""
    place = {np.packbits(one).tobytes(): column for column, one in enumerate(sets)}
    names = [{PARTS[i] for i in np.flatnonzero(one)} for one in sets]
    first = np.array([[0.0 if any(some <= lost for some in needed) else 1.0 for lost in names]] * 2)
    left = np.array([[-1.0 - sum(cost.get(part, 0.0) for part in lost) for lost in names]] * 2)
    first[1] = 1
    return Flip(0, SetValues(PARTS, np.ones(2), first, place), SetValues(PARTS, -np.ones(2), left, place))


def searched(needed: list[set[str]], cost: dict[str, float]) -> tuple[Flip, int]:
    """The finished search, and how many sets it asked for."""
    sets = subsets(1)
    while len(missing := (found := measured(needed, cost, sets)).missing):
        sets += list(missing)
    return found, len(sets)


def named(found: Flip) -> list[set[str]]:
    return [{PARTS[i] for i in np.flatnonzero(one)} for one in found.path]


@pytest.mark.parametrize(
    ("needed", "cost", "path"),
    [
        ([{"c"}], {"a": 1}, [{"c"}]),
        ([{"a", "c"}], {"a": 2, "c": 1}, [{"a"}, {"a", "c"}]),
        # b costs most and is no part of it: it is left out again in the end, and the search takes the shorter way
        ([{"a", "c"}], {"b": 3, "a": 2, "c": 1}, [{"b"}, {"a", "c"}]),
        # of two single parts that flip the one that leaves least
        ([{"f"}, {"g"}], {"g": 1}, [{"g"}]),
    ],
)
def test_the_search_ends_at_a_set_of_which_nothing_can_be_spared(needed, cost, path):
    found, sets = searched(needed, cost)
    assert named(found) == path
    assert found.flips(found.path[-1])
    for part in np.flatnonzero(found.path[-1]):
        fewer = found.path[-1].copy()
        fewer[part] = False
        assert not fewer.any() or not any(some <= {PARTS[i] for i in np.flatnonzero(fewer)} for some in needed)
    assert sets < len(subsets()) / 2


def test_an_answer_that_nothing_flips_is_told_so():
    found, _ = searched([], {"a": 1})
    assert len(found.path) == LARGEST and not found.flips(found.path[-1])


def test_a_pair_that_was_measured_for_another_reason_is_seen():
    """Two parts that back each other up cost nothing alone, so that a greedy search misses them."""
    cost = {"a": 1, "b": 0.9, "c": 0.8}
    blind, _ = searched([{"f", "g"}], cost)
    assert len(blind.path) > 2
    pair = np.isin(list(PARTS), ["f", "g"])
    sets = [*subsets(1), pair]
    while len(missing := (found := measured([{"f", "g"}], cost, sets)).missing):
        sets += list(missing)
    assert named(found) == [{"a"}, {"f", "g"}]
