"""Variance shares, agreement of tasks and parts that matter only somewhere, against plain loops and planted truths."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from hydrascope.analysis import resample
from hydrascope.errors import RunError
from hydrascope.significance.context import (
    LEVELS,
    Contexts,
    Nested,
    OfTask,
    Rated,
    concordance,
    effects_by_task,
    kendalls_w,
    told_context,
    variance_table,
)
from tests.support.nested import planted
from tests.support.synthetic import synthetic_ledger

SHARES = (0.3, 0.2, 0.3, 0.2)


def names(parts: int) -> list[str]:
    return [str(part) for part in range(parts)]


def test_shares_of_a_balanced_design_are_those_of_a_nested_analysis_of_variance():
    tasks, groups, prompts, donors = 3, 4, 5, 2
    nested = planted(np.random.default_rng(3), [[prompts] * groups] * tasks, donors, SHARES, "gaussian", 6)
    table = variance_table(nested, names(6))
    for part in range(6):
        y = nested.values[:, part].reshape(tasks, groups, prompts)
        by_group, by_task = y.mean(2), y.mean((1, 2))
        of_donor = nested.variance[:, part].mean()
        of_prompt = ((y - by_group[..., None]) ** 2).sum() / (tasks * groups * (prompts - 1))
        of_group = prompts * ((by_group - by_task[:, None]) ** 2).sum() / (tasks * (groups - 1))
        of_task = groups * prompts * ((by_task - y.mean()) ** 2).sum() / (tasks - 1)
        found = {
            "donor": of_donor,
            "prompt": of_prompt - of_donor / donors,
            "group": (of_group - of_prompt) / prompts,
            "task": (of_task - of_group) / (groups * prompts),
        }
        whole = sum(max(0, value) for value in found.values())
        for level in LEVELS:
            np.testing.assert_allclose(table[level][part], max(0, found[level]) / whole, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(table["sd"][part], np.sqrt(whole))


def test_shares_agree_with_restricted_maximum_likelihood_on_unequal_groups():
    sizes = [6, 3, 9, 5, 7, 4, 8, 6, 2, 10, 5, 6]
    nested = planted(np.random.default_rng(1), [sizes], 1, (0, 0.5, 0.5, 0), "gaussian", 1)
    frame = pd.DataFrame({"y": nested.values[:, 0], "group": nested.group})
    fit = smf.mixedlm("y ~ 1", frame, groups="group").fit(reml=True)
    between = float(fit.cov_re.iloc[0, 0])
    row = variance_table(nested, ["a"]).iloc[0]
    assert row["group"] == pytest.approx(between / (between + fit.scale), abs=0.08)
    assert row["group_lo"] < between / (between + fit.scale) < row["group_hi"]


@pytest.mark.parametrize("shape", ["gaussian", "skewed"])
def test_intervals_hold_planted_shares(shape):
    """`benchmarks/context.py` tries more designs; Gaussian degrees of freedom hold 82 % of the skewed ones."""
    design = [[6] * 8] * 6
    nested = planted(np.random.default_rng(0), design, 4, (0.5, 0.1, 0.3, 0.1), shape, 200)
    table = variance_table(nested, names(200))
    for level, share in zip(LEVELS, (0.5, 0.1, 0.3, 0.1), strict=True):
        held = (table[f"{level}_lo"] <= share) & (share <= table[f"{level}_hi"])
        assert held.mean() >= 0.93, level


def test_what_cannot_be_told_apart_is_not_told():
    rng = np.random.default_rng(0)
    alone = variance_table(planted(rng, [[1] * 30] * 3, 1, (0.3, 0, 0.7, 0), "gaussian", 4), names(4))
    assert alone[["group", "donor"]].isna().all(axis=None)
    np.testing.assert_allclose(alone["task"] + alone["prompt"], 1)
    one = variance_table(planted(rng, [[5] * 8], 3, (0, 0.4, 0.4, 0.2), "gaussian", 4), names(4))
    assert one["task"].isna().all()
    np.testing.assert_allclose(one[["group", "prompt", "donor"]].sum(axis=1), 1)
    few = variance_table(planted(rng, [[5] * 4], 3, (0, 0.4, 0.4, 0.2), "gaussian", 4), names(4))
    assert few["group"].notna().all() and few["group_lo"].isna().all()


def test_a_task_with_one_group_counts_its_prompts_as_groups():
    values = np.arange(8.0)[:, None]
    nested = Nested.of_tasks(
        [OfTask([0] * 4, values[:4], 0 * values[:4], 1), OfTask(list("aabb"), values[4:], 0 * values[4:], 1)]
    )
    assert len(set(nested.group[:4])) == 4
    assert len(set(nested.group[4:])) == 2
    assert not set(nested.group[:4]) & set(nested.group[4:])


def test_kendalls_w_is_that_of_a_plain_loop():
    rng = np.random.default_rng(0)
    for tasks, parts in itertools.product((2, 3, 5), (3, 8)):
        sizes = rng.integers(0, 6, (tasks, parts)).astype(float)
        ranks = [[sum(other < one for other in row) + (sum(other == one for other in row) + 1) / 2 for one in row]
                 for row in sizes]  # fmt: skip
        sums = [sum(column) for column in zip(*ranks, strict=True)]
        squares = sum((one - sum(sums) / parts) ** 2 for one in sums)
        ties = sum(n**3 - n for row in sizes for n in np.unique(row, return_counts=True)[1])
        expected = 12 * squares / (tasks**2 * (parts**3 - parts) - tasks * ties)
        np.testing.assert_allclose(kendalls_w(sizes[None]), [expected])
    assert kendalls_w(np.tile(np.arange(5.0), (1, 3, 1))) == 1


def rated(rng: np.random.Generator, means: np.ndarray, noise: float, groups: int = 12) -> dict[str, Rated]:
    sampled = means[:, None] + noise * rng.normal(size=(len(means), groups, means.shape[1]))
    return {f"task {i}": Rated(one, resample(np.arange(groups), 200)) for i, one in enumerate(sampled)}


def test_agreement_is_freed_of_noise_and_its_interval_holds_the_truth():
    rng, rows = np.random.default_rng(0), []
    for _ in range(100):
        means = rng.exponential(0.5, 20) + rng.exponential(0.5, (3, 20))
        found = concordance(rated(rng, means, 0.8, groups=24)).iloc[0].to_dict()
        rows.append({**found, "truth": float(kendalls_w(means[None])[0])})
    table = pd.DataFrame(rows)
    assert ((table["agreement_lo"] <= table["truth"]) & (table["truth"] <= table["agreement_hi"])).mean() >= 0.93
    mean = table[["w", "agreement", "truth"]].mean()
    assert abs(mean["agreement"] - mean["truth"]) < 0.5 * (mean["truth"] - mean["w"])


def test_rankings_that_are_mostly_noise_are_not_compared():
    means = np.random.default_rng(0).exponential(1, (3, 12))
    table = concordance(rated(np.random.default_rng(1), means, 6))
    assert list(table["task"]) == ["all", "task 0", "task 0", "task 1"]
    assert table["agreement"].isna().all() and table["w"].notna().all()
    assert concordance(rated(np.random.default_rng(1), means, 0.1, groups=5))["agreement"].isna().all()


def test_a_part_is_idle_only_where_its_interval_says_so():
    means = np.array([[-2.0, -2.0, -1.0, 0.0], [0.0, 0.0, -1.0, 0.0]])
    sure = effects_by_task(rated(np.random.default_rng(0), means, 0.2), names(4)).pivot(index="part", columns="task")
    assert list(sure["role"]["task 0"]) == ["matters", "matters", "matters", "unclear"]
    assert list(sure["role"]["task 1"]) == ["idle", "idle", "matters", "unclear"]
    noisy = effects_by_task(rated(np.random.default_rng(0), means, 2.0), names(4))
    assert (noisy["role"] != "idle").all()


def test_tables_of_ledgers_find_a_planted_part_that_one_task_needs():
    """attn.3 writes nothing on the second task: what is lost there without it is planted to be nothing."""
    one, two = synthetic_ledger(seed=1), synthetic_ledger(seed=2)
    gated = two["ablated"].values.tolist().index("attn.3")
    two["total_effect"][:, gated] = 0.01 * two["total_effect"][:, gated]
    one["total_effect"][:, gated] = -2 + 0.1 * one["total_effect"][:, gated]
    found = Contexts({"names": one, "numbers": two})
    first = found.somewhere.iloc[0]
    assert (first["part"], first["task"], first["idle_in"]) == ("attn.3", "names", "numbers")
    rows = found.somewhere[found.somewhere["part"] == "attn.3"]
    worst = np.argsort(-np.abs(one["total_effect"].values[:, gated]))[:5]
    assert list(rows["prompt"]) == list(one["prompt"].values[worst])
    assert rows["text"].iloc[0] == str(one["text"].values[worst[0]])
    row = found.variance.set_index("part").loc["attn.3"]
    assert row["task"] > 0.9 and row["donor"] < 0.05
    assert "attn.3 costs" in " ".join(told_context(found).sentences)


def test_runs_that_cannot_be_put_together_are_refused():
    one, other = synthetic_ledger(seed=1), synthetic_ledger(seed=2)
    other.attrs["weight_digest"] = "another"
    with pytest.raises(
        RunError, match=r"'a' and 'b' differ in their weights .* name runs that differ in their prompts"
    ):
        Contexts({"a": one, "b": other})
    with pytest.raises(RunError, match="share 0 knocked-out parts"):
        Contexts({"a": synthetic_ledger(ablated=["attn.1"]), "b": synthetic_ledger(ablated=["attn.2"])})
    with pytest.raises(RunError, match="'a' has one prompt, which tells of no variance"):
        Contexts({"a": synthetic_ledger(n_prompts=1)})
