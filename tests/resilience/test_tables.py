"""Pairs, additivity, thresholds and the search, on set functions whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import rel_entr

from hydrascope.analysis import Findings, resample
from hydrascope.resilience import (
    Faults,
    additivity,
    degradation,
    hidden_pairs,
    loads,
    pair_table,
    search,
    shares,
    single_faults,
    survived,
)
from tests.support import games
from tests.support.synthetic import Plant, synthetic_ledger

PROMPTS = 12
ATTN = ("attn.4", "attn.6", "attn.7")


def account(*plants: Plant) -> Findings:
    """Single knock-outs in which writers answer as planted, and nothing else does."""
    return Findings(synthetic_ledger(PROMPTS, plants=plants, norm=0.0, donor_noise=0.0, noise=0.0, n_groups=PROMPTS))


def game(value: np.ndarray, noise: float = 0.02) -> np.ndarray:
    """A set function on prompts that differ a little. [P, 2^n]"""
    rng = np.random.default_rng(0)
    return value + rng.normal(0, noise, (PROMPTS, len(value)))


def out(parts: int) -> np.ndarray:
    return games.every_set(parts).astype(float)


RESAMPLING = resample(np.arange(PROMPTS))
PAIR = [(0, 1)]


def kind_of(value: np.ndarray, *plants: Plant) -> tuple[str, float]:
    values = games.set_values(game(value), ATTN[:2])
    row = pair_table(values, values, PAIR, account(*plants), RESAMPLING).iloc[0]
    return row["kind"], row["interaction"]


def test_an_exact_backup_is_active_repair() -> None:
    """The later part answers all of the earlier one's loss of 1.5 times its share 0.6."""
    first, second = out(2).T
    lost = account(Plant("attn.4", "attn.6", 0.6)).who_repairs.set_index(["ablated", "writer"])
    answer = float(lost.loc[("attn.4", "attn.6"), "change"])  # type: ignore[arg-type]
    assert answer > 0.5
    value = 5 - 1.5 * first + answer * first * (1 - second) - 0.3 * second
    values = games.set_values(game(value, noise=1e-3), ATTN[:2])
    row = pair_table(values, values, PAIR, account(Plant("attn.4", "attn.6", 0.6)), RESAMPLING).iloc[0]
    assert row["kind"] == "active repair"
    np.testing.assert_allclose(row["interaction"], -answer, atol=0.01)
    np.testing.assert_allclose(row["unexplained"], 0, atol=0.01)


def test_duplicates_are_passive_and_a_chain_is_one_path() -> None:
    first, second = out(2).T
    for value, kind, size in ((first * second, "passive redundancy", -2), (np.maximum(first, second), "one path", 2)):
        found, interaction = kind_of(4 - 2 * value)
        assert found == kind
        assert interaction == pytest.approx(size, abs=0.05)


def test_what_only_the_norm_hides_is_not_called_redundancy() -> None:
    first, second = out(2).T
    values = games.set_values(game(4 - 2 * first * second), ATTN[:2])
    still = games.set_values(game(4 - 0.1 * first * second), ATTN[:2])
    assert pair_table(values, still, PAIR, account(), RESAMPLING)["kind"].tolist() == ["final norm"]


def test_independent_parts_do_not_interact_and_add_up() -> None:
    alone = np.array([1.0, 0.5, 0.25, 2.0])
    values = games.set_values(np.tile(4 - out(4) @ alone, (PROMPTS, 1)) + np.arange(PROMPTS)[:, None])
    faults = Faults.draw(values.parts, (0.3, 0.6), 40, seed=1)
    table = additivity(values, faults, RESAMPLING)
    np.testing.assert_allclose(table[["singles", "pairs"]], 1, atol=1e-9)
    curve = degradation(values, faults, RESAMPLING)
    assert ((curve["beyond_lo"] <= 1e-9) & (curve["beyond_hi"] >= -1e-9)).all()
    np.testing.assert_allclose(curve["singles"], curve["rate"] * alone.sum(), atol=1e-9)


def test_additivity_is_one_minus_error_over_variance() -> None:
    values = games.set_values(game(games.saturating(5, seed=2)))
    faults = Faults.draw(values.parts, (0.4,), 60, seed=1)
    row = additivity(values, faults, RESAMPLING).iloc[-1]
    mean, sets = values.values.mean(0), [s for s in faults.failed[0] if s.sum() > 1]
    clean = values.clean.mean()
    loss = np.array([values.of(s[None]).mean() for s in sets]) - clean
    single = np.array([values.of(np.eye(5, dtype=bool)[[i]]).mean() for i in range(5)]) - clean
    predicted = np.array([single[s].sum() for s in sets])
    expected = 1 - ((loss - predicted) ** 2).sum() / ((loss - loss.mean()) ** 2).sum()
    np.testing.assert_allclose(row["singles"], expected)
    assert row["singles_lo"] < expected < row["singles_hi"]
    assert row["pairs"] > row["singles"]
    assert len(mean) == 31


def test_a_vote_of_three_survives_one_fault_and_not_two() -> None:
    failed = out(3).sum(1)
    values = games.set_values(np.tile((failed <= 1).astype(float), (PROMPTS, 1)))
    assert single_faults(values, RESAMPLING, loss=0.5, allowed=0.1)["secure"].all()
    pairs = hidden_pairs(values, [(0, 1), (0, 2), (1, 2)], RESAMPLING, loss=0.5, allowed=0.1)
    assert len(pairs) == 3
    assert pairs["hidden"].all()
    curve = degradation(values, Faults.draw(values.parts, (0.3, 0.5, 0.7), 4000, seed=0), RESAMPLING)
    expected = [games.mean_value((failed <= 1).astype(float), rate) for rate in curve["rate"]]
    np.testing.assert_allclose(curve["value"], expected, atol=0.02)
    rate, lo, hi = survived(curve, 0.5)
    assert lo < 0.5 < hi
    assert rate == pytest.approx(0.5, abs=0.02)


def test_a_curve_that_never_falls_or_starts_too_low() -> None:
    values = games.set_values(np.tile(np.linspace(1, 0.9, 4), (PROMPTS, 1)))
    curve = degradation(values, Faults.draw(values.parts, (0.5,), 20, seed=0), RESAMPLING)
    assert survived(curve, 0.5)[0] == 1
    assert np.isnan(survived(curve, 1.5)[0])


def test_the_search_finds_what_greedy_and_a_swap_can_find() -> None:
    """Part 0 costs most alone, but 1 and 2 together cost more."""
    a, b, c, _ = out(4).T
    value = 10 - 3 * a - 2 * b - 8 * b * c
    values = games.set_values(np.tile(value, (PROMPTS, 1)))
    found, missing = search(values, 3, np.ones(PROMPTS))
    assert not len(missing)
    assert [np.flatnonzero(one).tolist() for one in found] == [[0], [1, 2], [0, 1, 2]]


def test_with_few_groups_there_are_no_intervals() -> None:
    few = resample(np.arange(4))
    values = games.set_values(games.on_prompts(games.saturating(4, seed=0), 4, 0))
    faults = Faults.draw(values.parts, (0.3, 0.6), 20, seed=0)
    curve = degradation(values, faults, few)
    assert curve["value"].notna().all()
    assert curve[["value_lo", "value_hi"]].isna().all(axis=None)
    assert additivity(values, faults, few)[["singles_lo", "pairs_hi"]].isna().all(axis=None)


def test_shares_of_the_load_are_of_positive_effects() -> None:
    """attn.6 takes 0.6 of what attn.4 loses; what writes against the answer carries nothing, before or after."""
    found = account(Plant("attn.4", "attn.6", 0.6))
    table = shares(found, RESAMPLING)
    mine = table[table["part"] == "attn.4"].set_index("writer")
    ds = found.ds
    before = ds["direct_effect"].mean("prompt").to_series()
    after = before + ds["change"].sel(ablated="attn.4").mean("prompt").to_series()
    assert (before < 0).any()
    for name, effect in (("before", before), ("after", after)):
        np.testing.assert_allclose(mine[name], effect.clip(lower=0) / effect.clip(lower=0).sum(), rtol=1e-5)
        assert (mine.loc[effect < 0, name] == 0).all()
    whole = table.groupby("part")[["before", "after", "moved"]].sum()
    np.testing.assert_allclose(whole, np.tile([1, 1, 0], (len(whole), 1)), atol=1e-9)
    assert mine["moved"].idxmin() == "attn.4"
    assert mine["moved"].idxmax() == "attn.6"
    far = loads(found, RESAMPLING).set_index("part")["shift"]["attn.4"]
    middle = (mine["before"] + mine["after"]) / 2
    parted = [rel_entr(mine[name], middle).sum() / np.log(2) / 2 for name in ("before", "after")]
    np.testing.assert_allclose(far, np.sqrt(sum(parted)))
