"""Areas and precisions against plain loops, and sets that are frozen together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hydrascope.analysis import resample
from hydrascope.significance import Score, average_precision, calibration, chosen_sets, detection, precision_at, roc_auc


def by(table: pd.DataFrame, column: str) -> dict[Any, dict[Any, Any]]:
    """Rows by the value of a column."""
    return {row[column]: row for row in table.to_dict("records")}


def drawn(seed: int, parts: int = 9) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(parts) < 3
    return rng.integers(0, 5, (4, parts)).astype(float), rng.permutation(labels)


def test_areas_are_those_of_plain_loops() -> None:
    for seed in range(20):
        scores, labels = drawn(seed)
        for row, auc, precision in zip(scores, roc_auc(scores, labels), average_precision(scores, labels), strict=True):
            won = [(a > b) + (a == b) / 2 for a in row[labels] for b in row[~labels]]
            np.testing.assert_allclose(auc, np.mean(won))
            shares = [labels[row >= score].mean() for score in row[labels]]
            np.testing.assert_allclose(precision, np.mean(shares))
        leading = [labels[sorted(range(9), key=(-row).tolist().__getitem__)[:3]].mean() for row in scores]
        np.testing.assert_allclose(precision_at(scores, labels), leading)


def test_intervals_say_how_sure_an_area_is() -> None:
    """A score that is noise around the labels has a wide interval; one without noise has none."""
    rng, labels = np.random.default_rng(0), {str(part): part < 3 for part in range(8)}
    truth = np.array(list(labels.values()), float)
    noisy = truth + rng.normal(0, 4, (30, 8))
    sure = np.repeat(truth[None], 30, 0)
    resampling = resample(np.arange(30), 200)
    scores = [Score("noisy", noisy), Score("sure", sure), Score("unknown", np.full((30, 8), np.nan))]
    table = by(detection(scores, tuple(labels), labels, resampling), "score")
    assert list(table) == ["sure", "noisy"]
    assert table["sure"]["auc_lo"] == table["sure"]["auc_hi"] == 1
    assert table["noisy"]["auc_lo"] < table["noisy"]["auc"] - 0.05
    assert detection(scores, tuple(labels), dict.fromkeys(labels, True), resampling).empty


def test_sets_have_the_first_of_each_order_and_random_ones_of_their_kinds() -> None:
    parts = [f"{kind}.{layer}" for layer in range(6) for kind in ("attn", "mlp")]
    order = np.array([float(part in ("attn.2", "attn.4")) for part in parts])
    unknown = np.full(len(parts), np.nan)
    found = chosen_sets({"mine": order, "unknown": unknown}, parts, parts[2:], 2, 0)
    assert found.pop(("attn.2", "attn.4")) == "mine"
    assert set(found.values()) == {"random"}
    for names in found:
        assert len(set(names)) == 2
        assert all(name.startswith("attn.") and name != "attn.0" for name in names)
    assert chosen_sets({"mine": order}, parts, parts[:2], 2, 0) == {}


def test_calibration_is_a_line_over_the_parts() -> None:
    """Effects are half of what is estimated, and the interval holds it; a part that is not known is left out."""
    rng, truth = np.random.default_rng(0), np.linspace(-3, 3, 9)
    total = 0.5 * truth + 0.2 + 0.3 * rng.normal(size=(40, 9))
    estimate = truth + 0.3 * rng.normal(size=(40, 9))
    unknown = np.where(np.arange(9) == 4, np.nan, estimate)
    scores = [Score("a", estimate, cheap=True), Score("b", unknown, cheap=True), Score("c", estimate)]
    table = calibration(scores, total, resample(np.arange(40), 200))
    assert list(table["score"]) == ["a", "b"] and list(table["parts"]) == [9, 8]
    x, y = estimate - estimate.mean(1, keepdims=True), total - total.mean(1, keepdims=True)
    noise = [np.sum((one - one.mean(0)) * (x - x.mean(0))) / 40 / 39 for one in (y, x)]
    slope = (np.sum(x.mean(0) * y.mean(0)) - noise[0]) / (np.sum(x.mean(0) ** 2) - noise[1])
    row = table.iloc[0]
    np.testing.assert_allclose(row["slope"], slope, rtol=1e-2)  # the noise is that of the resamples
    np.testing.assert_allclose(row["intercept"], total.mean() - row["slope"] * estimate.mean())
    assert row["slope_lo"] < 0.5 < row["slope_hi"] and row["slope_hi"] - row["slope_lo"] < 0.2


def test_the_slope_is_freed_of_noise_and_its_interval_holds_it() -> None:
    """The plain line through these means is too flat by .03 and holds the truth in 90 % of cases."""
    rng, errors, held = np.random.default_rng(0), [], []
    for seed in range(200):
        truth = rng.normal(size=36)
        effect = 0.5 * truth + 0.3 * rng.normal(size=36)
        values = [one + rng.normal(size=(12, 36)) for one in (truth, effect)]
        row = calibration([Score("a", values[0], cheap=True)], values[1], resample(np.arange(12), 200, seed)).iloc[0]
        slope = stats.linregress(truth, effect).slope
        errors.append(row["slope"] - slope)
        held.append(row["slope_lo"] <= slope <= row["slope_hi"])
    assert abs(np.mean(errors)) < 0.015
    assert np.mean(held) >= 0.93


def test_a_score_that_is_mostly_noise_has_no_slope() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(12, 36))
    assert calibration([Score("a", values, cheap=True)], values, resample(np.arange(12), 200))["slope"].isna().all()
