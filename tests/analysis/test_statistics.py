"""The statistics against slow loops, scipy and statsmodels."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.typing import NDArray
from scipy import stats
from statsmodels.sandbox.regression.gmm import IV2SLS
from statsmodels.stats.multitest import multipletests

from hydrascope.analysis import _statistics as s
from hydrascope.analysis._statistics import _families

GROUPS = np.repeat(["a", "b", "c", "d", "e", "f", "g", "h", "i"], [3, 1, 4, 2, 5, 3, 2, 6, 4])


def cloud(n: int = len(GROUPS), cells: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(1, 1, (n, cells))
    return x, -0.5 * x + rng.normal(0, 0.4, (n, cells))


def group_means(values: np.ndarray) -> np.ndarray:
    """The mean of every group, as a plain loop would take it."""
    return np.array([values[group == GROUPS].mean(0) for group in np.unique(GROUPS)])


def weights() -> np.ndarray:
    return np.array([1 / (group == GROUPS).sum() for group in GROUPS])


def jackknifed(of: Callable[[np.ndarray], Any]) -> tuple[Any, Any]:
    """A function of the prompts kept, and its standard error from leaving out one group after the other."""
    value = of(np.ones(len(GROUPS), bool))
    left = np.array([of(np.array(group != GROUPS)) for group in np.unique(GROUPS)])
    return value, np.sqrt(8 / 9 * ((left - value) ** 2).sum(0))


T8 = stats.t.ppf(0.975, 8)


def test_every_group_counts_once_and_its_means_are_the_observations() -> None:
    x, _ = cloud()
    mean, lo, hi = s.mean_interval(x, s.resample(GROUPS))
    observed = group_means(x)
    expected = stats.t.interval(0.95, 8, observed.mean(0), stats.sem(observed))
    np.testing.assert_allclose(mean, observed.mean(0))
    np.testing.assert_allclose((lo, hi), expected)
    np.testing.assert_allclose(s.mean_estimate(x, s.resample(GROUPS)).p, stats.ttest_1samp(observed, 0).pvalue)
    assert abs(mean - x.mean(0)).max() > 0.01, "groups differ in size"


def test_without_groups_each_prompt_is_its_own() -> None:
    x, _ = cloud()
    mean, lo, hi = s.mean_interval(x, s.resample(np.arange(len(x))))
    np.testing.assert_allclose(mean, x.mean(0))
    np.testing.assert_allclose((lo, hi), stats.t.interval(0.95, len(x) - 1, x.mean(0), stats.sem(x)))
    assert s.resample(np.arange(12)).even and not s.resample(GROUPS).even


def test_weights_give_every_group_the_same_total() -> None:
    np.testing.assert_allclose(s.prompt_weights(GROUPS), weights())
    x, _ = cloud()
    np.testing.assert_allclose(np.average(x, axis=0, weights=weights()), s.resample(GROUPS).mean(x))


def test_prompts_of_a_group_are_one_unit_and_a_single_group_is_split() -> None:
    assert (s.resample(GROUPS).units, s.resample(GROUPS).by_group) == (9, True)
    single = s.resample(["only"] * 12)
    assert (single.units, single.by_group) == (12, False)


def test_very_many_groups_are_gathered_and_estimates_stay_as_they_are() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(2500), rng.integers(1, 4, 2500))
    x = rng.normal(1, 1, (len(groups), 2)) + rng.normal(size=2500)[groups][:, None]
    many = s.resample(groups)
    assert (many.units, len(many.sizes)) == (2500, 1000)
    mean, lo, hi = s.mean_interval(x, many)
    observed = pd.DataFrame(x).groupby(groups).mean()
    np.testing.assert_allclose(mean, observed.mean())
    expected = stats.t.interval(0.95, 2499, observed.mean(), stats.sem(observed))
    np.testing.assert_allclose(hi - lo, expected[1] - expected[0], rtol=0.1)


def test_group_labels_may_come_in_any_order() -> None:
    x, _ = cloud()
    order = np.random.default_rng(3).permutation(len(GROUPS))
    first = s.simultaneous_means(x, s.resample(GROUPS, 300))
    second = s.simultaneous_means(x[order], s.resample(GROUPS[order], 300))
    np.testing.assert_allclose((first.lo, first.hi), (second.lo, second.hi), rtol=1e-12)


def test_same_seed_same_draws() -> None:
    first, again, other = (s.resample(GROUPS, 50, seed).counts for seed in (4, 4, 5))
    assert (first == again).all()
    assert (first != other).any()


def test_one_prompt_has_a_mean_and_no_interval() -> None:
    plan = s.resample(["a"], 50)
    mean, lo, hi = s.mean_interval(np.array([[2.0, 0.0]]), plan)
    assert mean.tolist() == [2.0, 0.0]
    assert np.isnan([lo, hi]).all()
    joint = s.simultaneous_means(np.array([[2.0, 0.0]]), plan)
    assert not joint.significant.any()


def test_an_interval_from_the_spread_of_resamples_holds_its_estimate_and_leaves_out_what_is_not_finite() -> None:
    draws = np.random.default_rng(0).normal(0.3, 0.1, size=501)
    half = stats.t.ppf(0.975, 7) * np.std(draws)
    assert s.spread_interval(0.1, draws, 8, (-1, 1)) == pytest.approx((0.1, 0.1 - half, 0.1 + half))
    assert s.spread_interval(0.95, draws, 8, (-1, 1))[2] == 1
    draws[::5], draws[1::5] = np.nan, np.inf
    half = stats.t.ppf(0.975, 7) * np.std(draws[np.isfinite(draws)])
    np.testing.assert_allclose(s.spread_interval(0.1, draws, 8, (-1, 1))[2], 0.1 + half)
    draws[:260] = np.nan
    assert np.isnan(s.spread_interval(0.1, draws, 8, (-1, 1))[1:]).all()
    assert np.isnan(s.spread_interval(0.1, np.ones(9), 5, (-1, 1))[1:]).all()


def test_an_interval_of_a_rank_correlation_from_few_groups_covers() -> None:
    rng, units, covered, by_percentiles = np.random.default_rng(1), 6, 0, 0
    for _ in range(150):
        means = rng.normal(size=(2, 24))
        means[1] = 0.6 * means[0] + 0.8 * means[1]
        drawn = means[:, None] + 0.3 * (0.7 * rng.normal(size=(units, 24)) + 0.7 * rng.normal(size=(2, units, 24)))
        weights = rng.multinomial(units, np.full(units, 1 / units), 200) / units
        a, b = (weights @ one for one in drawn)
        value = float(s.spearman(drawn[0].mean(0)[None], drawn[1].mean(0)[None])[0])
        _, lo, hi = s.spread_interval(value, s.spearman(a, b), units, (-1, 1))
        true = float(s.spearman(means[:1], means[1:])[0])
        covered += lo <= true <= hi
        low, high = np.quantile(s.spearman(a, b), [0.025, 0.975])
        by_percentiles += low <= true <= high
    assert by_percentiles / 150 < 0.88
    assert covered / 150 >= 0.91


def test_cluster_intervals_are_wider_where_prompts_of_a_group_agree() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)
    values = (rng.normal(size=20)[groups] + 0.1 * rng.normal(size=200))[:, None]
    width = {
        name: float(np.diff(s.mean_interval(values, s.resample(labels))[1:], axis=0)[0, 0])
        for name, labels in (("clustered", groups), ("plain", np.arange(200)))
    }
    expected = 2 * stats.t.ppf(0.975, 19) * stats.sem(values.reshape(20, 10).mean(1))
    assert width["clustered"] == pytest.approx(expected)
    assert width["plain"] < 0.5 * width["clustered"]


def test_families_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = cloud(cells=7)
    plan = s.resample(GROUPS, 200)
    joint = s.simultaneous_means(x, plan)
    monkeypatch.setattr(_families, "_CHUNK", 3)
    np.testing.assert_allclose(s.simultaneous_means(x, plan).lo, joint.lo, rtol=1e-9)


def fitted(x: np.ndarray, y: np.ndarray, kept: Any = slice(None)) -> Any:
    """Weighted least squares of the prompts kept, by statsmodels."""
    return sm.WLS(y[kept], sm.add_constant(x[kept]), weights=weights()[kept]).fit()


def slope_of(x: np.ndarray, y: np.ndarray, kept: np.ndarray) -> float:
    return float(fitted(x, y, kept).params[1])


def fisher_of(x: np.ndarray, y: np.ndarray, kept: np.ndarray) -> float:
    return float(np.arctanh(-np.sqrt(fitted(x, y, kept).rsquared)))


def test_lines_are_weighted_regressions_over_prompts_whose_groups_are_left_out_in_turn() -> None:
    x, y = cloud()
    line = s.fit_line(x, y, s.resample(GROUPS))
    for cell in range(3):
        whole = fitted(x[:, cell], y[:, cell])
        assert line.slope.value[cell] == pytest.approx(whole.params[1])
        assert line.intercept[cell] == pytest.approx(whole.params[0])
        assert line.r2[0][cell] == pytest.approx(whole.rsquared)
        slope, error = jackknifed(partial(slope_of, x[:, cell], y[:, cell]))
        np.testing.assert_allclose(
            [end[cell] for end in line.slope.interval], [slope, slope - T8 * error, slope + T8 * error]
        )
        assert line.slope.p[cell] == pytest.approx(2 * stats.t.sf(abs(slope / error), 8))
        z, error = jackknifed(partial(fisher_of, x[:, cell], y[:, cell]))
        ends = np.tanh([z + T8 * error, z - T8 * error]) ** 2
        np.testing.assert_allclose([line.r2[1][cell], line.r2[2][cell]], ends)


def test_a_correlation_of_unknown_sign_may_be_none() -> None:
    x, _ = cloud(200, 3)
    _, low, high = s.fit_line(x, np.random.default_rng(1).normal(size=x.shape), s.resample(np.arange(200))).r2
    assert (low == 0).all() and (high > 0).all()


def test_line_without_spread_is_unknown_and_two_prompts_are_no_line() -> None:
    x, y = cloud()
    flat = s.fit_line(np.ones_like(x), y, s.resample(GROUPS))
    assert np.isnan(flat.slope.value).all()
    answerless = s.fit_line(x, np.zeros_like(y), s.resample(GROUPS))
    assert (answerless.slope.value == 0).all()
    assert np.isnan(answerless.r2[0]).all()
    assert np.isnan(s.fit_line(x[:2], y[:2], s.resample([1, 2])).slope.value).all()
    assert np.isnan(s.split_half_slope((x[:2], x[:2]), (y[:2], y[:2]), s.resample([1, 2])).value).all()


def test_the_difference_of_two_slopes_knows_that_they_share_their_prompts() -> None:
    x, y = cloud()
    plan = s.resample(GROUPS)
    same = s.slope_difference((x, y), (x, y), plan)
    assert (same.value == 0).all() and (same.error == 0).all()
    steeper = s.slope_difference((x, y), (x, y + x), plan)
    np.testing.assert_allclose(steeper.value, -1)


def test_what_one_prompt_decides_has_no_interval() -> None:
    x = np.zeros((9, 1))
    x[4] = 1
    found = s.fit_line(x, x, s.resample(np.arange(9)))
    assert found.slope.value == 1 and np.isnan(found.slope.error).all()


def test_sums_of_groups_of_different_sizes_are_studentised() -> None:
    x, y = cloud()
    plan = s.resample(GROUPS, 40, weight=np.ones(len(GROUPS)))
    weight: s.Array = abs(y)
    mean, lo, hi = s.mean_interval(x, plan, weight)
    np.testing.assert_allclose(mean, np.average(x, axis=0, weights=weight))
    labels = np.unique(GROUPS)

    def error_of(drawn: list[str], cell: int) -> tuple[float, float]:
        kept = [label == GROUPS for label in drawn]
        value = sum((weight * x)[k, cell].sum() for k in kept) / sum(weight[k, cell].sum() for k in kept)
        excess = [(weight[k, cell] * (x[k, cell] - value)).sum() for k in kept]
        return value, np.sqrt(9 / 8 * np.sum(np.square(excess))) / sum(weight[k, cell].sum() for k in kept)

    for cell in range(3):
        value, error = error_of(list(labels), cell)
        largest = []
        for counts in plan.counts.astype(int):
            drawn, drawn_error = error_of(list(np.repeat(labels, counts)), cell)
            largest.append(abs(drawn - value) / max(drawn_error, s.ERROR_FLOOR * error))
        half = error * np.quantile(largest, 0.95, method="higher")
        np.testing.assert_allclose([lo[cell], hi[cell]], [value - half, value + half])
    assert np.isnan(plan.mean(x, np.zeros_like(x))).all()


def test_where_few_groups_hold_all_that_counts_there_is_no_interval() -> None:
    counted = np.zeros((12, 1))
    counted[3 : 2 + s.CONCLUSIVE_FROM] = 1
    value, lo, hi = s.mean_interval(np.ones((12, 1)), s.resample(np.arange(12), 200), counted)
    assert value == 1 and np.isnan([lo, hi]).all()
    counted[2] = 1
    value, lo, hi = s.mean_interval(np.ones((12, 1)), s.resample(np.arange(12), 200), counted)
    assert value == lo == hi == 1, "all that counts is alike"
    value, lo, hi = s.mean_interval(np.arange(12.0)[:, None], s.resample(np.arange(12), 200), counted)
    assert lo < value < hi


def test_a_quotient_has_no_minus_zero_and_nothing_over_zero() -> None:
    found = s.divide(np.array([-0.0, 1.0]), np.array([2.0, 0.0]))
    assert found[0] == 0 and not np.signbit(found[0]) and np.isnan(found[1])


def test_split_halves_are_two_instrumental_regressions_averaged() -> None:
    rng = np.random.default_rng(5)
    truth = rng.normal(size=200)
    xa, xb = (truth + rng.normal(0, 0.8, 200) for _ in range(2))
    ya, yb = (-0.6 * truth + rng.normal(0, 0.2, 200) for _ in range(2))
    slope = s.split_half_slope((xa[:, None], xb[:, None]), (ya[:, None], yb[:, None]), s.resample(np.arange(200))).value
    # each order on its own: cov(instrument, y) / cov(instrument, x)
    orders = [
        IV2SLS(y, sm.add_constant(x), instrument=sm.add_constant(other)).fit().params[1]
        for y, x, other in ((yb, xb, xa), (ya, xa, xb))
    ]
    assert slope[0] == pytest.approx(np.mean(orders))
    mean_x, mean_y = (xa + xb) / 2, (ya + yb) / 2
    flattened = stats.linregress(mean_x, mean_y).slope
    assert abs(slope[0] + 0.6) < 0.08 < abs(flattened + 0.6)


def test_ratio_of_sums_and_median_of_ratios() -> None:
    x, y = cloud()
    found = s.ratio_interval(y, x, s.resample(GROUPS))
    w = weights()[:, None]
    ratio, error = jackknifed(lambda kept: (w * y)[kept].sum(0) / (w * x)[kept].sum(0))
    np.testing.assert_allclose(found, (ratio, ratio - T8 * error, ratio + T8 * error))
    medians = s.median_ratio(y, x, np.array([0.5, 0.0, 99.0]))
    keep = abs(x[:, 0]) >= 0.5
    assert medians[0] == pytest.approx(np.median((y / x)[keep, 0]))
    assert medians[1] == pytest.approx(np.median((y / x)[:, 1]))
    assert np.isnan(medians[2])
    reached = s.median_ratio(np.array([[3.0], [8.0]]), np.array([[1.0], [2.0]]), np.array([2.0]))
    assert reached[0] == 4, "what just reaches the threshold counts"


@pytest.mark.parametrize("tests", [1, 2, 5, 12, 40])
def test_holm_agrees_with_statsmodels(tests: int) -> None:
    p = np.round(np.random.default_rng(tests).beta(0.3, 1, tests), 2)  # rounded, so that there are ties
    np.testing.assert_allclose(s.holm(p), multipletests(p, method="holm")[1])


def test_holm_leaves_out_what_was_not_tested() -> None:
    adjusted = s.holm([0.01, np.nan, 0.04])
    np.testing.assert_allclose(adjusted, [0.02, np.nan, 0.04])


def test_false_discovery_agrees_with_statsmodels_and_leaves_out_what_was_not_tested() -> None:
    p = np.random.default_rng(1).beta(0.3, 1, 30)
    expected = multipletests(p, method="fdr_bh")[1]
    np.testing.assert_allclose(s.false_discovery(np.insert(p, 7, np.nan)), np.insert(expected, 7, np.nan))
    assert np.isnan(s.false_discovery([np.nan])).all()


def test_p_is_one_for_what_is_zero_and_unknown_with_few_groups() -> None:
    still = np.zeros((12, 2))
    still[:, 1] = 0.3
    assert s.mean_estimate(still, s.resample(np.arange(12))).p.tolist() == [1, 0]
    assert np.isnan(s.mean_estimate(still[:5], s.resample(np.arange(5))).p).all()


def test_simultaneous_intervals_are_what_a_loop_over_draws_gives() -> None:
    x, _ = cloud(cells=4)
    plan, observed = s.resample(GROUPS, 60), group_means(x)
    mean, error = observed.mean(0), stats.sem(observed)
    largest = []
    for counts in plan.counts.astype(int):
        drawn = np.repeat(observed, counts, axis=0)
        largest.append(np.max(np.abs(drawn.mean(0) - mean) / np.maximum(stats.sem(drawn), s.ERROR_FLOOR * error)))
    critical = np.quantile(largest, 0.95, method="higher")
    joint = s.simultaneous_means(x, plan)
    np.testing.assert_allclose(joint.lo, mean - critical * error)
    np.testing.assert_allclose(joint.hi, mean + critical * error)
    expected_p = [(1 + sum(t >= abs(m) / e for t in largest)) / 61 for m, e in zip(mean, error, strict=True)]
    np.testing.assert_allclose(joint.p, expected_p)
    assert (joint.significant == ((joint.lo > 0) | (joint.hi < 0))).all()


def searched_p(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-value of each column of group means: of the t test, or of Hall's transformation of t, whichever is larger."""
    found = []
    for column in means.T:
        n, (t, p) = len(column), stats.ttest_1samp(column, 0)
        a = stats.skew(column, bias=False) / 6 / np.sqrt(n)
        found.append(max(p, 2 * stats.t.sf(abs(((1 + 2 * a * t) ** 3 - 1) / 6 / a + a), n - 1)))
    return np.array(found)


def test_a_search_bounds_the_false_discovery_rate_of_tests_of_group_means() -> None:
    x, _ = cloud(cells=4)
    p = searched_p(group_means(x))
    np.testing.assert_allclose(s.search(x, s.resample(GROUPS)), multipletests(p, method="fdr_bh")[1])
    assert np.isnan(s.search(x[:5], s.resample(np.arange(5)))).all()
    assert s.search(np.zeros((9, 2)), s.resample(np.arange(9))).tolist() == [1, 1]


def test_a_search_finds_little_where_all_is_skewed_one_way_and_nothing_is_true() -> None:
    """The t tests alone find something in more than half of these searches."""
    rng = np.random.default_rng(0)
    plan, wrong, by_t = s.resample(np.arange(30)), [], []
    for _ in range(60):
        x = rng.exponential(size=(30, 200)) - 1
        wrong.append((s.search(x, plan) < 0.05).any())
        by_t.append((s.false_discovery(stats.ttest_1samp(x, 0).pvalue) < 0.05).any())
    assert np.mean(wrong) < 0.2 < 0.5 < np.mean(by_t)


def test_family_of_true_nulls_is_rarely_called_significant() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(15), 4)
    hits = 0
    for seed in range(40):
        shared = rng.normal(size=(15, 40))[groups]
        values = shared + rng.normal(size=(60, 40))
        hits += bool(s.simultaneous_means(values, s.resample(groups, 300, seed)).significant.any())
    assert hits <= 7  # 5 % of 60 is 3; more than 7 has a chance of 2 %


def test_cells_that_never_change_are_no_findings_and_do_not_disturb_the_others() -> None:
    x, _ = cloud(cells=2)
    plan = s.resample(GROUPS, 200)
    with_zeros = s.simultaneous_means(np.concatenate([x, np.zeros((len(x), 5))], axis=1), plan)
    alone = s.simultaneous_means(x, plan)
    np.testing.assert_allclose(with_zeros.p[:2], alone.p)
    assert (with_zeros.p[2:] == 1).all()
    assert (with_zeros.lo[2:] == 0).all()
    constant = s.simultaneous_means(np.full((len(x), 1), 0.3), plan)
    assert constant.significant.all()


def test_a_cell_that_varies_in_one_group_does_not_widen_the_rest_without_bound() -> None:
    x, _ = cloud(cells=2)
    plan = s.resample(GROUPS, 400)
    odd = np.where(GROUPS == "c", 1.0, 0.0)[:, None]
    together = s.simultaneous_means(np.concatenate([x, odd], axis=1), plan)
    alone = s.simultaneous_means(x, plan)
    assert (together.hi - together.lo)[:2].max() < 2 * (alone.hi - alone.lo).max()
    assert not together.significant[2]


def test_too_few_groups_never_make_a_finding() -> None:
    values = np.ones((20, 1)) + 0.01 * np.random.default_rng(0).normal(size=(20, 1))
    for units, sure in ((5, False), (6, True), (20, True)):
        plan = s.resample(np.arange(20) % units, 300)
        assert plan.conclusive == sure
        assert s.simultaneous_means(values, plan).significant.all() == sure
        assert np.isfinite(s.mean_interval(values, plan)[1:]).all() == sure


def test_the_interval_of_a_ratio_is_drawn_out_where_groups_hide_large_values() -> None:
    """By hand: t of each end solves Hall's cubic, and no end lies inside the symmetric interval."""
    rng = np.random.default_rng(3)
    below = np.repeat(rng.integers(1, 4, (20, 1)).astype(float), 3, 1)
    skewed = rng.exponential(1, 20)
    above = below * np.stack([skewed, -skewed, np.full(20, 2.0)], 1)
    plan = s.resample(np.arange(20), weight=np.ones(20))
    plain, found = s.ratio_interval(above, below, plan), s.unskewed_ratio_interval(above, below, plan)
    np.testing.assert_allclose(found[0], plain[0])
    half, q = (plain[2] - plain[0])[0], stats.t.ppf(0.975, 19)
    excess = above[:, 0] - found[0][0] * below[:, 0]
    a = stats.skew(excess, bias=False) / (6 * np.sqrt(20))
    assert a > 0
    t = -(found[2][0] - found[0][0]) / half * q
    np.testing.assert_allclose(t + a + 2 * a * t**2 + 4 / 3 * a**2 * t**3, -q)
    np.testing.assert_allclose(found[1][0], plain[1][0])  # values below are not hidden
    np.testing.assert_allclose(found[1][1], -found[2][0])  # and the other way round
    assert found[1][2] == found[2][2] == 2  # what never varies
    few = s.resample(np.arange(5), weight=np.ones(5))
    assert np.isnan(s.unskewed_ratio_interval(above[:5], below[:5], few)[1]).all()


def _orders(seed: int, parts: int = 16, groups: int = 24) -> tuple[s.Ordered, s.Ordered, float, s.Resampling]:
    """Two noisy orders of parts of which many lie close, measured on the same groups, and their true tau."""
    rng, resampling = np.random.default_rng(seed), s.resample(np.arange(groups), 100)
    first = rng.exponential(1, parts)
    second = first * rng.uniform(0.6, 1.4, parts)
    shared = rng.normal(0, 0.5, (groups, parts))
    measured = [true + shared + rng.normal(0, 0.5, (groups, parts)) for true in (first, second)]
    orders = [s.Ordered(resampling.mean(one), resampling.means(one)) for one in measured]
    return orders[0], orders[1], float(stats.kendalltau(first, second).statistic), resampling


def test_the_interval_of_a_rank_correlation_holds_the_true_one() -> None:
    """`benchmarks/ranks.py` tries more designs; the spread of resamples alone holds two in three."""
    mine, plain = [], []
    for seed in range(40):
        first, second, truth, resampling = _orders(seed)
        tau, lo, hi = s.kendalls_tau(first, second, resampling.units)
        assert tau == pytest.approx(stats.kendalltau(first.values, second.values).statistic)
        drawn = [stats.kendalltau(a, b).statistic for a, b in zip(first.drawn, second.drawn, strict=True)]
        _, plain_lo, plain_hi = s.spread_interval(tau, np.array(drawn), resampling.units, (-1, 1))
        assert -1 <= lo <= tau <= hi <= 1
        mine.append(lo <= truth <= hi)
        plain.append(plain_lo <= truth <= plain_hi)
    assert np.mean(mine) >= 0.93
    assert np.mean(plain) < 0.8


@pytest.mark.parametrize("parts", [2, 5, 40, 140])
def test_equal_values_count_in_a_rank_correlation_as_in_scipys(parts: int) -> None:
    rng = np.random.default_rng(parts)
    for _ in range(30):
        first, second = rng.integers(0, 6, (2, parts)).astype(float)
        both = [s.Ordered(one, np.full((1, parts), np.nan)) for one in (first, second)]
        expected = stats.kendalltau(first, second).statistic
        assert s.kendalls_tau(both[0], both[1], 9)[0] == pytest.approx(expected, nan_ok=True)


def test_parts_without_a_value_are_left_out_of_a_rank_correlation_and_noise_must_be_known() -> None:
    first, second, _, resampling = _orders(1)
    first.values[3], first.drawn[:, 3] = np.nan, np.nan
    others = np.arange(len(first.values)) != 3
    found = s.kendalls_tau(first, second, resampling.units)
    assert found == s.kendalls_tau(first.of(others), second.of(others), resampling.units)
    unknown = s.Ordered(second.values, np.full_like(second.drawn, np.nan))
    for given in (s.kendalls_tau(first, unknown, resampling.units), s.kendalls_tau(first, second, 5)):
        assert given[0] == pytest.approx(found[0]) and np.isnan(given[1:]).all()
    flipped = s.Ordered(-second.values, -second.drawn)
    np.testing.assert_allclose(s.kendalls_tau(first, flipped, resampling.units, by_size=True),
                               s.kendalls_tau(first, second, resampling.units, by_size=True))  # fmt: skip
    alone = np.arange(len(first.values)) == 5
    assert np.isnan(s.kendalls_tau(first.of(alone), second.of(alone), resampling.units)).all()
