"""Donors for resample ablation."""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from hydrascope.errors import TooFewDonors
from hydrascope.prompts import choose_donors, count_shared_answers, require_donors


@st.composite
def solvable(draw: st.DrawFn) -> tuple[list[int], int, int]:
    """Targets, number of donors and seed for which every prompt has donors enough."""
    targets = draw(st.lists(st.integers(0, draw(st.integers(1, 8))), min_size=2, max_size=24))
    fewest = len(targets) - max(Counter(targets).values())
    if fewest == 0:
        targets[0], fewest = 99, 1
    return targets, draw(st.integers(1, fewest)), draw(st.integers(0, 2**32 - 1))


def allowed(targets: list[int], before: np.ndarray) -> np.ndarray:
    """Which donor (column) each prompt (row) may have, in the plainest way."""
    n = len(targets)
    return np.array(
        [[targets[i] != targets[d] and d not in before[:, i] for d in range(n)] for i in range(n)], dtype=bool
    )


@settings(max_examples=300, deadline=None)
@given(solvable())
def test_donors_are_allowed_distinct_and_balanced_whenever_that_is_possible(
    case: tuple[list[int], int, int],
) -> None:
    targets, n, seed = case
    donors = choose_donors(targets, n, seed)
    assert donors.shape == (n, len(targets))
    assert donors.dtype == np.int64
    for r in range(n):
        may = allowed(targets, donors[:r])
        assert may[np.arange(len(targets)), donors[r]].all()
        matched = maximum_bipartite_matching(csr_array(may.astype(int)), perm_type="column")
        assert (len(set(donors[r])) == len(targets)) == bool((matched >= 0).all())


@settings(max_examples=50, deadline=None)
@given(solvable())
def test_a_seed_decides_and_more_donors_continue_fewer(case: tuple[list[int], int, int]) -> None:
    targets, n, seed = case
    donors = choose_donors(targets, n, seed)
    assert np.array_equal(donors, choose_donors(np.array(targets), n, seed))
    assert np.array_equal(donors[: n - 1 or 1], choose_donors(targets, n - 1 or 1, seed))


def test_seeds_differ() -> None:
    assert not np.array_equal(choose_donors(range(50), 1, 0), choose_donors(range(50), 1, 1))


def test_donors_share_neither_target_nor_foil_where_that_is_possible() -> None:
    rng = np.random.default_rng(0)
    pairs = [rng.choice(12, 2, replace=False).tolist() for _ in range(60)]
    targets, foils = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    donors = choose_donors(targets, 5, 0, foils=foils)
    for row in donors:
        assert all(not {*pairs[i]} & {*pairs[d]} for i, d in enumerate(row))
        assert len(set(row)) == 60, "still a derangement"
    assert all(len(set(column)) == 5 for column in donors.T)
    # of three answers one is always shared, and then only targets count
    two = choose_donors([0, 1, 2] * 4, 3, 0, foils=[1, 2, 0] * 4)
    assert np.array_equal(two, choose_donors([0, 1, 2] * 4, 3, 0))
    assert np.array_equal(choose_donors(targets, 5, 0, foils=[None] * 60), choose_donors(targets, 5, 0))


def test_a_prompt_without_foil_shuns_what_others_name() -> None:
    donors = choose_donors([0, 1, 2, 3, 4, 5], 3, 0, foils=[1, 0, None, None, 5, 4])
    for row in donors:
        assert row[0] != 1 and row[1] != 0 and row[4] != 5 and row[5] != 4


def test_a_tight_set_is_still_balanced() -> None:
    halves = choose_donors([0] * 12 + [1] * 12, 12, 0)
    latin = choose_donors(range(16), 15, 0)
    assert all(len(set(row)) == 24 for row in halves)
    assert all(len(set(row)) == 16 for row in latin)


@pytest.mark.parametrize("targets", [range(6), [0, 0, 1, 1, 2, 2, 3, 3], [0, 0, 0, 1, 2]])
def test_no_allowed_donor_is_favoured(targets: list[int]) -> None:
    """Over seeds, every allowed donor is drawn; where donors are equivalent, equally often."""
    targets = list(targets)
    draws = np.array([choose_donors(targets, 1, seed)[0] for seed in range(2000)])
    for i, target in enumerate(targets):
        counts = np.bincount(draws[:, i], minlength=len(targets))
        classes: dict[int, list[int]] = {}
        for d, other in enumerate(targets):
            if other == target:
                assert counts[d] == 0
            else:
                classes.setdefault(targets.count(other), []).append(counts[d])
        for same in classes.values():
            assert min(same) > 0
            assert max(same) - min(same) < 6 * np.sqrt(max(same))


def test_independent_choice_is_uniform_when_one_target_is_too_common() -> None:
    targets = [0, 0, 0, 0, 1, 2]
    draws = np.array([choose_donors(targets, 1, seed)[0] for seed in range(2000)])
    shares = np.bincount(draws[:, 4], minlength=6) / 2000
    assert shares[4:].tolist() == [0, shares[5]]
    assert shares == pytest.approx([0.2, 0.2, 0.2, 0.2, 0, 0.2], abs=0.05)


@pytest.mark.parametrize(
    ("targets", "n", "message"),
    [
        (
            [5, 5, 5, 6],
            2,
            "prompt 0 (counted from 0) has too few donors: 1 with another target than its token 5, 2 "
            "asked for; take at most 1 (--donors 1), or add prompts with other targets",
        ),
        (
            [7, 7],
            1,
            "prompt 0 (counted from 0) has too few donors: 0 with another target than its token 7, 1 "
            "asked for; add prompts with other targets",
        ),
        ([1, 2], 0, "0 donors per prompt were asked for; ask for at least 1"),
    ],
)
def test_too_few_donors(targets: list[int], n: int, message: str) -> None:
    with pytest.raises(TooFewDonors) as caught:
        choose_donors(targets, n, 0)
    assert str(caught.value) == message


@pytest.mark.parametrize(("targets", "foils"), [([1, 2] * 4, [2, 1] * 4), ([1, 2, 3, 4] * 2, [5, 1, 6, None] * 2)])
def test_donors_that_name_a_token_of_the_pair_are_counted(targets: list[int], foils: list[int | None]) -> None:
    donors = choose_donors(targets, 3, 0, foils=foils)
    names = [{target, foil} - {None} for target, foil in zip(targets, foils, strict=True)]
    counted = sum(bool(names[i] & names[donor]) for row in donors.tolist() for i, donor in enumerate(row))
    assert count_shared_answers(targets, foils, donors) == counted
    assert counted == (24 if targets[:2] * 4 == targets else 0), (
        "with two answers every other prompt has this one's foil"
    )


def test_a_prompt_of_the_same_tokens_is_no_donor() -> None:
    """Its activations are the prompt's own, whatever its target is."""
    targets, inputs = [1, 2, 3, 4, 5, 6], ["a", "a", "b", "b", "c", "d"]
    donors = choose_donors(targets, 4, 0, inputs=inputs)
    assert all(inputs[i] != inputs[donor] for row in donors.tolist() for i, donor in enumerate(row))
    assert np.array_equal(choose_donors(targets, 3, 0, inputs=range(6)), choose_donors(targets, 3, 0))
    with pytest.raises(TooFewDonors) as caught:
        choose_donors(targets, 5, 0, inputs=inputs)
    assert str(caught.value) == (
        "prompt 0 (counted from 0) has too few donors: 4 with another target than its token 1 and other tokens, 5 "
        "asked for; take at most 4 (--donors 4), or add prompts with other targets"
    )


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12), st.integers(1, 4))
def test_donors_are_counted_as_by_hand(prompts: list[tuple[int, int]], n: int) -> None:
    targets, inputs = zip(*prompts, strict=True)
    fewest = min(sum(t != a and i != b for a, b in prompts) for t, i in prompts)
    with nullcontext() if fewest >= n else pytest.raises(TooFewDonors, match=f"too few donors: {fewest} with another"):
        require_donors(targets, n, inputs=inputs)


def test_no_prompts_have_no_donors() -> None:
    assert choose_donors([], 3, 0).shape == (3, 0)


@pytest.mark.parametrize("common", [100, 1000, 1100])
def test_fifteen_donors_for_two_thousand_prompts(common: int) -> None:
    """Up to half of them with one target, where every round is a derangement, and beyond, where none can be."""
    targets = np.array([0] * common + list(range(1, 2001 - common)))
    donors = choose_donors(targets, 15, 0)
    assert (targets[donors] != targets).all()
    assert (np.diff(np.sort(donors, axis=0), axis=0) > 0).all(), "nobody lends twice to the same"
    if common <= 1000:
        assert (np.sort(donors, axis=1) == np.arange(2000)).all(), "everybody lends once a round"
