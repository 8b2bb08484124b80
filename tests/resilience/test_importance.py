"""Importance under failure from random masks, against enumeration of all sets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from hydrascope.analysis import resample
from hydrascope.resilience import Faults, Importance, degradation, quadrature, two_ways
from tests.support import games

RATES = (0.1, 0.3, 0.5, 0.7, 0.9)
REPETITIONS, PROMPTS, MASKS = 200, 30, 200


@dataclass(frozen=True)
class Simulated:
    """Errors of estimates, and whether intervals cover, in every repetition; the last column is the Shapley value."""

    error: np.ndarray
    covered: np.ndarray
    plain_error: np.ndarray
    curve_covered: np.ndarray


def difference_of_means(values: np.ndarray, failed: np.ndarray) -> np.ndarray:
    """Importance of every part without control variates. [n]"""
    out = failed.astype(float)
    return values @ (1 - out) / (1 - out).sum(0) - values @ out / out.sum(0)


@pytest.fixture(scope="module")
def simulated() -> Simulated:
    parts = 9
    game = games.saturating(parts, seed=parts)
    nodes = (0.0, *RATES, 1.0)
    truth = np.stack([*(games.importance(game, rate) for rate in nodes), games.shapley(game)], 1)
    curve = np.array([games.mean_value(game, rate) for rate in nodes])
    resampling = resample(np.arange(PROMPTS))
    found = []
    for repetition in range(REPETITIONS):
        values = games.set_values(games.on_prompts(game, PROMPTS, (parts, repetition)))
        faults = Faults.draw(values.parts, RATES, MASKS, seed=repetition)
        samples = Importance.measure(values, faults, resampling)
        places = [(part, node) for part in range(parts) for node in range(len(nodes))]
        cells = [samples.at(*place) for place in places]
        told = [samples.informative(*place) for place in places]
        at_nodes = two_ways(cells, resampling, told).interval
        whole = two_ways([samples.shapley(part) for part in range(parts)], resampling).interval
        value, lo, hi = (np.column_stack([a.reshape(parts, -1), b]) for a, b in zip(at_nodes, whole, strict=True))
        means = values.of(faults.failed).mean(0)
        plain = np.array(
            [
                [
                    mean[~failed[:, i]].mean() - mean[failed[:, i]].mean()
                    for mean, failed in zip(means, faults.failed, strict=True)
                ]
                for i in range(parts)
            ]
        )
        table = degradation(values, faults, resampling)
        found.append(
            (
                value - truth,
                (lo <= truth) & (truth <= hi),
                plain - truth[:, 1:-2],
                (table["value_lo"] <= curve) & (curve <= table["value_hi"]),
            )
        )
    return Simulated(*(np.array(one) for one in zip(*found, strict=True)))


def test_estimates_have_no_bias(simulated: Simulated) -> None:
    """Banzhaf is the column of 0.5. Deviations are measured in their own standard errors, of which few exceed 3."""
    error = simulated.error
    deviation = error.mean(0) / (error.std(0, ddof=1) / np.sqrt(len(error)))
    assert np.sqrt((deviation**2).mean()) < 1.3
    assert np.abs(deviation).max() < 4


def test_intervals_cover(simulated: Simulated) -> None:
    by_column = simulated.covered.mean((0, 1))
    assert (by_column >= 0.93).all(), by_column
    assert simulated.covered.mean() >= 0.93
    by_rate = simulated.curve_covered.mean(0)
    assert by_rate.mean() >= 0.93, by_rate
    assert (by_rate >= 0.9).all(), by_rate


def test_control_variates_pay(simulated: Simulated) -> None:
    """Variance of the difference of means over that with them, at every rate."""
    ratio = simulated.plain_error.var(0).mean(0) / simulated.error[:, :, 1:-2].var(0).mean(0)
    assert (ratio > 3).all(), ratio


def test_few_masks_teach_no_regression() -> None:
    """With 20 masks of 8 parts a fitted regression is up to 20 times worse than the difference of means."""
    parts, masks = 8, 20
    game = games.saturating(parts, seed=parts)
    truth = np.stack([games.importance(game, rate) for rate in RATES], 1)
    found = []
    for repetition in range(40):
        values = games.set_values(games.on_prompts(game, PROMPTS, (parts, repetition)))
        faults = Faults.draw(values.parts, RATES, masks, seed=repetition)
        samples = Importance.measure(values, faults, resample(np.arange(PROMPTS)))
        mine = [[samples.at(part, node + 1).mean() for node in range(len(RATES))] for part in range(parts)]
        means = values.of(faults.failed).mean(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            plain = [difference_of_means(*rate) for rate in zip(means, faults.failed, strict=True)]
        found.append((mine - truth, np.transpose(plain) - truth))
    errors, plain_errors = (np.array(one) for one in zip(*found, strict=True))
    errors[np.isnan(plain_errors)] = np.nan  # where every mask, or none, has the part out
    ratio = np.nanmean(plain_errors**2, (0, 1)) / np.nanmean(errors**2, (0, 1))
    assert min(ratio) > 0.8, ratio
    assert np.mean(ratio) > 1.5, ratio


def test_all_masks_at_once_are_exact() -> None:
    """Where the value is a sum over parts, the regression leaves nothing and every estimate is right."""
    alone = np.array([0.5, -1.0, 2.0, 0.25])
    game = 3 - games.every_set(4) @ alone
    values = games.set_values(np.tile(game, (8, 1)))
    samples = Importance.measure(values, Faults.draw(values.parts, (0.3, 0.6), 20, seed=0), resample(np.arange(8)))
    for part in range(4):
        for node in range(4):
            np.testing.assert_allclose(samples.at(part, node), alone[part], atol=1e-9)


def test_integrals_are_exact_for_polynomials_or_not_given() -> None:
    nodes = np.array([0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1])
    weights = quadrature(list(nodes))
    assert (weights >= 0).all()
    for degree in range(8):
        np.testing.assert_allclose(weights @ nodes**degree, 1 / (degree + 1), atol=1e-12)
    assert np.isnan(quadrature([0, 0.05, 0.1, 1])).all()


def test_masks_are_nested_and_stay_when_there_are_more() -> None:
    few, many = (Faults.draw(("a", "b", "c"), (0.5, 0.2), masks, seed=3) for masks in (10, 30))
    assert few.rates == (0.2, 0.5)
    np.testing.assert_array_equal(few.failed, many.failed[:, :10])
    assert (few.failed[1] >= few.failed[0]).all()
    assert abs(Faults.draw(("a", "b"), (0.3,), 4000, seed=0).failed.mean() - 0.3) < 0.02
