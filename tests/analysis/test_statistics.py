"""The statistics against slow loops, scipy and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.sandbox.regression.gmm import IV2SLS
from statsmodels.stats.multitest import multipletests

from hydrascope.analysis import _statistics as s

GROUPS = np.repeat(["a", "b", "c", "d", "e", "f", "g", "h", "i"], [3, 1, 4, 2, 5, 3, 2, 6, 4])


def cloud(n: int = len(GROUPS), cells: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(1, 1, (n, cells))
    return x, -0.5 * x + rng.normal(0, 0.4, (n, cells))


def prompts_in_draw(plan: s.Resampling, draw: int) -> np.ndarray:
    """The prompts of one draw, one by one, as a plain loop would list them."""
    listed = []
    for unit, times in enumerate(plan.counts[draw].astype(int)):
        listed += list(np.flatnonzero(plan.codes == unit)) * times
    return np.array(listed)


@pytest.mark.parametrize("groups", [GROUPS, np.arange(20), np.array(["only"] * 12)])
def test_a_draw_is_what_a_loop_over_drawn_prompts_gives(groups: np.ndarray) -> None:
    plan = s.resample(groups, resamples=30, seed=1)
    assert (plan.counts.sum(1) == plan.units).all()
    x, _ = cloud(len(groups))
    naive = np.array([x[prompts_in_draw(plan, draw)].mean(0) for draw in range(30)])
    np.testing.assert_allclose(plan.means(x), naive, rtol=1e-12)


def test_prompts_of_a_group_are_drawn_together_and_a_single_group_is_split() -> None:
    assert (s.resample(GROUPS).units, s.resample(GROUPS).by_group) == (9, True)
    single = s.resample(["only"] * 12)
    assert (single.units, single.by_group) == (12, False)


def test_group_labels_may_come_in_any_order() -> None:
    x, _ = cloud()
    order = np.random.default_rng(3).permutation(len(GROUPS))
    first = s.mean_interval(x, s.resample(GROUPS, 300))
    second = s.mean_interval(x[order], s.resample(GROUPS[order], 300))
    np.testing.assert_allclose(first, second, rtol=1e-12)


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


def test_interval_is_the_percentile_interval() -> None:
    draws = np.random.default_rng(0).normal(size=(501, 4))
    np.testing.assert_allclose(s.interval(draws), np.percentile(draws, [2.5, 97.5], axis=0))
    draws[::5, 1] = np.nan
    draws[1::5, 1] = np.inf
    kept = draws[np.isfinite(draws[:, 1]), 1]
    np.testing.assert_allclose(np.array(s.interval(draws))[:, 1], np.percentile(kept, [2.5, 97.5]))
    draws[:260, 2] = np.nan
    assert np.isnan(np.array(s.interval(draws))[:, 2]).all()


def test_cluster_intervals_are_wider_where_prompts_of_a_group_agree() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 10)
    values = (rng.normal(size=20)[groups] + 0.1 * rng.normal(size=200))[:, None]
    width = {
        name: float(np.diff(s.mean_interval(values, s.resample(labels))[1:], axis=0)[0, 0])
        for name, labels in (("clustered", groups), ("plain", np.arange(200)))
    }
    expected = 2 * 1.96 * values.reshape(20, 10).mean(1).std() / np.sqrt(20)
    assert width["clustered"] == pytest.approx(expected, rel=0.1)
    assert width["plain"] < 0.5 * width["clustered"]


def test_mean_intervals_do_not_depend_on_the_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, _ = cloud(cells=7)
    plan = s.resample(GROUPS, 200)
    whole, joint = s.mean_interval(x, plan), s.simultaneous_means(x, plan)
    monkeypatch.setattr(s, "_CHUNK", 3)
    np.testing.assert_allclose(s.mean_interval(x, plan), whole, rtol=1e-12)
    np.testing.assert_allclose(s.simultaneous_means(x, plan).lo, joint.lo, rtol=1e-9)


def test_lines_agree_with_scipy_and_their_draws_with_statsmodels() -> None:
    x, y = cloud()
    plan = s.resample(GROUPS, 20)
    line = s.fit_line(x, y, plan)
    for cell in range(3):
        oracle = stats.linregress(x[:, cell], y[:, cell])
        assert line.slope[cell] == pytest.approx(oracle.slope)
        assert line.intercept[cell] == pytest.approx(oracle.intercept)
        assert line.r2[cell] == pytest.approx(oracle.rvalue**2)
    for draw in range(20):
        weights = plan.counts[draw][plan.codes]
        fitted = sm.WLS(y[:, 1], sm.add_constant(x[:, 1]), weights=weights).fit()
        assert line.slope_resampled[draw, 1] == pytest.approx(fitted.params[1])
        assert line.r2_resampled[draw, 1] == pytest.approx(fitted.rsquared)


def test_line_without_spread_is_unknown_and_two_prompts_are_no_line() -> None:
    x, y = cloud()
    flat = s.fit_line(np.ones_like(x), y, s.resample(GROUPS, 20))
    assert np.isnan(flat.slope).all()
    answerless = s.fit_line(x, np.zeros_like(y), s.resample(GROUPS, 20))
    assert (answerless.slope == 0).all()
    assert np.isnan(answerless.r2).all()
    assert np.isnan(s.fit_line(x[:2], y[:2], s.resample([1, 2], 20)).slope).all()
    assert np.isnan(s.split_half_slope((x[:2], x[:2]), (y[:2], y[:2]), s.resample([1, 2], 20))[0]).all()


def test_a_draw_of_copies_of_one_prompt_is_no_line() -> None:
    rng = np.random.default_rng(0)
    plan = s.resample(np.arange(3), 200)
    copies = (plan.counts == 3).any(1)
    found = s.fit_line(rng.normal(size=(3, 50)), rng.normal(size=(3, 50)), plan)
    assert np.isnan(found.slope_resampled[copies]).all() and np.isnan(found.r2_resampled[copies]).all()
    assert np.isfinite(found.slope_resampled[~copies]).all()


def test_weighted_means_are_those_of_numpy() -> None:
    x, y = cloud()
    plan = s.resample(GROUPS, 40)
    weight: s.Array = abs(y)
    mean, lo, hi = s.mean_interval(x, plan, weight)
    np.testing.assert_allclose(mean, np.average(x, axis=0, weights=weight))
    drawn = [prompts_in_draw(plan, draw) for draw in range(40)]
    naive = [np.average(x[p], axis=0, weights=weight[p]) for p in drawn]
    np.testing.assert_allclose((lo, hi), np.percentile(naive, [2.5, 97.5], axis=0))
    assert np.isnan(s.weighted_mean(x, np.zeros_like(x))).all()


def test_seven_groups_are_few_and_eight_are_not() -> None:
    assert s.resample(np.arange(7), 1).rough and not s.resample(np.arange(8), 1).rough


def test_a_quotient_has_no_minus_zero_and_nothing_over_zero() -> None:
    found = s.divide(np.array([-0.0, 1.0]), np.array([2.0, 0.0]))
    assert found[0] == 0 and not np.signbit(found[0]) and np.isnan(found[1])


def test_split_halves_are_two_instrumental_regressions_averaged() -> None:
    rng = np.random.default_rng(5)
    truth = rng.normal(size=200)
    xa, xb = (truth + rng.normal(0, 0.8, 200) for _ in range(2))
    ya, yb = (-0.6 * truth + rng.normal(0, 0.2, 200) for _ in range(2))
    slope, draws = s.split_half_slope(
        (xa[:, None], xb[:, None]), (ya[:, None], yb[:, None]), s.resample(np.arange(200), 500)
    )
    # each order on its own: cov(instrument, y) / cov(instrument, x)
    orders = [
        IV2SLS(y, sm.add_constant(x), instrument=sm.add_constant(other)).fit().params[1]
        for y, x, other in ((yb, xb, xa), (ya, xa, xb))
    ]
    assert slope[0] == pytest.approx(np.mean(orders))
    assert draws.shape == (500, 1)
    mean_x, mean_y = (xa + xb) / 2, (ya + yb) / 2
    flattened = stats.linregress(mean_x, mean_y).slope
    assert abs(slope[0] + 0.6) < 0.08 < abs(flattened + 0.6)


def test_ratio_of_sums_and_median_of_ratios() -> None:
    x, y = cloud()
    plan = s.resample(GROUPS, 40)
    ratio, lo, hi = s.ratio_interval(y, x, plan)
    np.testing.assert_allclose(ratio, y.sum(0) / x.sum(0))
    naive = [y[p].sum(0) / x[p].sum(0) for p in (prompts_in_draw(plan, draw) for draw in range(40))]
    np.testing.assert_allclose((lo, hi), np.percentile(naive, [2.5, 97.5], axis=0))
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


def test_normal_p_agrees_with_scipy_and_is_silent_without_draws() -> None:
    draws = np.random.default_rng(0).normal(0, 2, (400, 3))
    draws[:, 1] = np.nan
    draws[:, 2] = 1
    p = s.normal_p(np.array([3.0, 3.0, 1.0]), draws)
    assert p[0] == pytest.approx(2 * stats.norm.sf(3 / draws[:, 0].std()))
    assert np.isnan(p[1:]).all()
    draws[:200, 0] = np.nan
    assert np.isnan(s.normal_p(np.array([3.0]), draws[:, :1])).all(), "half of the draws are no majority"


def test_simultaneous_intervals_are_what_a_loop_over_draws_gives() -> None:
    x, _ = cloud(cells=4)
    plan = s.resample(GROUPS, 60)

    def mean_and_error(values: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean = values.mean(0)
        sums = np.array([(values[codes == c] - mean).sum(0) for c in np.unique(codes)])
        n = plan.units
        return mean, np.sqrt(n / (n - 1) * (sums**2).sum(0)) / len(values)

    mean, error = mean_and_error(x, plan.codes)
    largest = []
    for draw in range(60):
        values, codes, label = [], [], 0
        for unit, times in enumerate(plan.counts[draw].astype(int)):
            for _ in range(times):  # a unit drawn twice counts as two units
                values.append(x[plan.codes == unit])
                codes.append(np.full(len(values[-1]), label))
                label += 1
        drawn, drawn_error = mean_and_error(np.concatenate(values), np.concatenate(codes))
        largest.append(np.max(np.abs(drawn - mean) / np.maximum(drawn_error, s.ERROR_FLOOR * error)))
    critical = np.quantile(largest, 0.95, method="higher")
    joint = s.simultaneous_means(x, plan)
    np.testing.assert_allclose(joint.lo, mean - critical * error)
    np.testing.assert_allclose(joint.hi, mean + critical * error)
    expected_p = [(1 + sum(t >= abs(m) / e for t in largest)) / 61 for m, e in zip(mean, error, strict=True)]
    np.testing.assert_allclose(joint.p, expected_p)
    assert (joint.significant == ((joint.lo > 0) | (joint.hi < 0))).all()


def test_family_of_true_nulls_is_rarely_called_significant() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(15), 4)
    hits = 0
    for seed in range(60):
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
        assert plan.rough == (units < 8)
