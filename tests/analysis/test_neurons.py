"""Which neurons carry a repair: against plain loops over the ledger, and against models with planted answers."""

from __future__ import annotations

import functools
import math
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import hydrascope as hs
from hydrascope.analysis import _neurons as neurons
from hydrascope.analysis._erasure import PARTS
from hydrascope.analysis._statistics import jaccard_by_chance
from hydrascope.anatomy import examine
from hydrascope.errors import ComponentError, DetailDropped
from tests.support.planted import ANSWERS, N_LAYERS, planted
from tests.support.synthetic import divided, synthetic_ledger

torch.set_num_threads(1)

DRAWS = 200


def with_neurons(seed: int = 0, prompts: int = 12, sign: float = 1.0, groups: int = 6) -> xr.Dataset:
    """A ledger of eight layers whose last two MLPs are kept neuron by neuron."""
    ds = synthetic_ledger(n_prompts=prompts, seed=seed, n_groups=groups, strength=1.5 * sign, null=False)
    return divided(ds, ("mlp.6", "mlp.7"), seed=seed)


def slow(ds: xr.Dataset, ablated: str, layers: tuple[int, ...]) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Names, clean direct effects and repairing changes of the answering neurons, and own changes; one by one."""
    k = [str(name) for name in ds["ablated"].values].index(ablated)
    own = np.array([float(ds["own_change"].values[p, k]) for p in range(ds.sizes["prompt"])])
    columns = [
        w
        for w, name in enumerate(ds["writer"].values)
        if name.startswith("neuron.") and int(name.split(".")[1]) in layers and ds["is_downstream"].values[k, w]
    ]
    direct = ds["direct_effect"].values[:, columns].astype(float)
    change = ds["change"].values[:, k, columns].astype(float)
    return [str(ds["writer"].values[w]) for w in columns], direct, change, own


def fewest(values: list[float], share: float) -> set[int]:
    """The largest positive values, taken one after the other until they reach the share."""
    positive = {i: v for i, v in enumerate(values) if v > 0}
    wanted = share * sum(positive.values())
    chosen: set[int] = set()
    for i in sorted(positive, key=lambda i: -positive[i]):
        if sum(positive[j] for j in chosen) < wanted * (1 - 1e-12):
            chosen.add(i)
    return chosen


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_sparsity_is_what_a_plain_loop_counts(sign: float) -> None:
    ds = with_neurons(3, sign=sign)
    table = neurons.neuron_sparsity(ds, resamples=DRAWS).set_index(["ablated", "scope"])
    assert set(table.loc["attn.4"].index) == {"mlp.6", "mlp.7", "all"}
    assert set(table.loc["mlp.6"].index) == {"mlp.7"}, "a knock-out is not answered by itself"
    assert "mlp.7" not in table.index.get_level_values("ablated")
    for ablated, scope, layers in (("attn.4", "all", (6, 7)), ("attn.4", "mlp.7", (7,)), ("mlp.6", "mlp.7", (7,))):
        row: Any = table.loc[(ablated, scope)]
        names, _, change, own = slow(ds, ablated, layers)
        repair = change if own.mean() <= 0 else -change
        assert row["neurons"] == len(names)
        for share, name in ((0.5, "half"), (0.9, "most")):
            counts = sorted(len(fewest(list(one), share)) for one in repair)
            assert row[name] == pytest.approx(np.median(counts))
            assert row[f"{name}_q1"] == pytest.approx(np.quantile(counts, 0.25))
            assert row[f"{name}_of_mean"] == len(fewest(list(repair.mean(0)), share))
        summed = [sum(max(v, 0) for v in one) for one in repair]
        assert row["repair"] == pytest.approx(np.mean(summed), rel=1e-6)
        top = max(1, round(0.01 * len(names)))
        shares = [
            sum(sorted((max(v, 0) for v in one), reverse=True)[:top]) / s for one, s in zip(repair, summed, strict=True)
        ]
        assert row["top_share"] == pytest.approx(np.mean(shares), rel=1e-6)
        asked = [p for p in range(len(own)) if abs(own[p]) >= 0.5 * np.abs(own).mean()]
        for threshold in neurons.THRESHOLDS:
            counts = [sum(v > threshold * abs(own[p]) for v in repair[p]) for p in asked]
            assert row[f"above_{100 * threshold:g}"] == pytest.approx(np.mean(counts), rel=1e-6)
            assert row[f"above_{100 * threshold:g}_lo"] <= np.mean(counts) + 1e-9
        sets = [fewest(list(one), 0.5) for one in repair]
        overlaps = [len(a & b) / len(a | b) for a, b in combinations(sets, 2)]
        assert row["overlap"] == pytest.approx(np.mean(overlaps))
        assert row["overlap_lo"] <= row["overlap"] <= row["overlap_hi"]


def test_the_neurons_of_a_knock_out_are_sorted_classed_and_sum_to_their_change() -> None:
    ds = with_neurons(5)
    table = neurons.neurons(ds, "attn.4", most=None, resamples=DRAWS)
    names, direct, change, own = slow(ds, "attn.4", (6, 7))
    assert sorted(table["neuron"]) == sorted(names)
    assert (table["change"].abs().diff().dropna() <= 1e-12).all()
    np.testing.assert_allclose(table[list(PARTS)].sum(axis=1), table["change"], atol=1e-9)
    repair = change if own.mean() <= 0 else -change
    sets = [fewest(list(one), 0.5) for one in repair]
    for row in table.to_dict("records"):
        j = names.index(row["neuron"])
        assert (row["layer"], row["unit"]) == tuple(map(int, row["neuron"].split(".")[1:]))
        assert row["direct_effect"] == pytest.approx(direct[:, j].mean(), abs=1e-6)
        assert row["change"] == pytest.approx(change[:, j].mean(), abs=1e-6)
        relaxed = np.mean([min(max(c, 0), max(-d, 0)) for d, c in zip(direct[:, j], change[:, j], strict=True)])
        assert row["relaxed"] == pytest.approx(relaxed, abs=1e-6)
        assert row["share_in_half"] == pytest.approx(np.mean([j in one for one in sets]))
        rises = row["change"] > 0
        by_name = {"anti-erasure": "relaxed", "promotion": "promoted"} if rises else {
            "lost": "lost", "strengthened": "strengthened"
        }  # fmt: skip
        sizes = {label: abs(row[part]) for label, part in by_name.items()}
        assert row["class"] == max(sizes, key=lambda label: sizes[label])
    few = neurons.neurons(ds, most=4, resamples=DRAWS)
    assert set(few.groupby("ablated").size()) == {4}
    pd.testing.assert_frame_equal(few[few["ablated"] == "attn.4"].reset_index(drop=True), table.head(4))


def test_curves_start_at_the_strongest_and_end_at_all() -> None:
    ds = with_neurons(2)
    table = neurons.neuron_curves(ds, "attn.4").set_index("n")
    names, _, change, own = slow(ds, "attn.4", (6, 7))
    assert table.index[[0, -1]].tolist() == [1, len(names)]
    assert table["carried"].iloc[-1] == pytest.approx(1)
    assert table["carried"].is_monotonic_increasing
    asked = [p for p in range(len(own)) if abs(own[p]) >= 0.5 * np.abs(own).mean()]
    for n in (1, 5):
        best = [sorted((max(v, 0) for v in change[p]), reverse=True) for p in range(len(own))]
        assert table.loc[n, "carried"] == pytest.approx(np.median([sum(b[:n]) / sum(b) for b in best]))
        exceeds = [best[p][n - 1] > 0.025 * abs(own[p]) for p in asked]
        assert table.loc[n, "nth_2.5"] == pytest.approx(np.mean(exceeds))
    thresholds = table[[f"nth_{x}" for x in ("50", "10", "5", "2.5", "1")]].to_numpy()
    assert (np.diff(thresholds, axis=1) >= 0).all() and (np.diff(thresholds, axis=0) <= 0).all()


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(-5, 9), min_size=4, max_size=4), min_size=1, max_size=5), st.sampled_from([0.5, 0.9])
)
def test_the_fewest_that_carry_a_share(rows: list[list[int]], share: float) -> None:
    values = np.array(rows, float)
    chosen = neurons.carrying(values, share)
    for one, picked in zip(values, chosen, strict=True):
        positive = np.maximum(one, 0)
        assert positive[picked].sum() >= share * positive.sum() - 1e-9
        assert not picked[one <= 0].any()
        for n in range(int(picked.sum())):
            assert all(sum(some) < share * positive.sum() for some in combinations(positive, n))


def test_overlap_by_chance_is_the_mean_over_all_sets() -> None:
    among = 7
    for a, b in ((1, 1), (2, 3), (5, 4), (7, 2)):
        fixed = set(range(a))
        all_sets = [set(some) for some in combinations(range(among), b)]
        expected = sum(len(fixed & one) / len(fixed | one) for one in all_sets) / math.comb(among, b)
        found = jaccard_by_chance([a, b, 0], among)
        assert found[0, 1] == found[1, 0] == pytest.approx(expected)
        assert found[2].tolist() == [0, 0, 0]


def test_groups_are_drawn_as_wholes() -> None:
    """Prompts that are copies of each other add nothing to what is known about the overlap."""
    apart, copied = with_neurons(1, prompts=10, groups=10), with_neurons(1, prompts=10, groups=10)
    copied = copied.isel(prompt=np.repeat(np.arange(10), 5))
    one, many = (neurons.neuron_sparsity(ds, resamples=1000).set_index(["ablated", "scope"]) for ds in (apart, copied))
    wide, still = (t["repair_hi"] - t["repair_lo"] for t in (one, many))
    np.testing.assert_allclose(wide, still, rtol=0.15)
    row, again = (t.loc["attn.4"].loc["all"] for t in (one, many))
    assert again["overlap_hi"] - again["overlap_lo"] > 0.5 * (row["overlap_hi"] - row["overlap_lo"])


@functools.cache
def ledger(name: str, kind: str) -> hs.Ledger:
    model = planted(name)
    pairs = zip(model.prompts, model.targets, strict=True)
    prompts = tuple(hs.Prompt(input_ids=tuple(ids), target_id=target) for ids, target in pairs)
    ablation: Any = {"zero": hs.Zero(), "resample": hs.Resample(donors=3)}[kind]
    options = hs.Options(components="attn.1,head.1.0,mlp.2", writers="heads,neurons")
    opened = examine(model.model, None, name=name)
    return hs.knock_out(opened, hs.PromptSet(name, prompts), ablation=ablation, options=options, seed=1)


@pytest.mark.parametrize("kind", ["zero", "resample"])
@pytest.mark.parametrize(("name", "released"), [("erasure", 0.28), ("hydra", 0.12)])
def test_each_prompt_has_one_neuron_that_lets_go(name: str, released: float, kind: str) -> None:
    """The eraser has a neuron for every answer; it takes 0.4 of what is written and lets its share go."""
    model, found = planted(name), ledger(name, kind)
    answer = np.array(model.targets) - ANSWERS.start
    for ablated in ("attn.1", "head.1.0"):
        table = found.neurons(ablated, most=None).set_index("neuron")
        assert (table.index[:5].map(lambda n: int(n.split(".")[1])) == N_LAYERS - 1).all()
        for one in range(5):
            row: Any = table.loc[f"neuron.3.{one}"]
            mine = (answer == one) * model.unit
            assert row["class"] == "anti-erasure"
            assert row["direct_effect"] == pytest.approx(-0.4 * mine.mean(), abs=1e-4)
            assert row["change"] == pytest.approx(row["relaxed"], rel=1e-12)
            assert row["change"] == pytest.approx(released * mine.mean(), abs=1e-4)
            assert row["share_in_half"] == pytest.approx((answer == one).mean())
        rest = table.drop([f"neuron.3.{one}" for one in range(5)])
        assert rest[["change", "direct_effect"]].abs().max().max() < 1e-4
        row = found.neuron_sparsity().set_index(["ablated", "scope"]).loc[(ablated, "mlp.3")]
        assert row[["half", "half_q1", "half_q3", "most"]].tolist() == [1, 1, 1, 1]
        assert (row["half_of_mean"], row["most_of_mean"]) == (3, 5)
        assert row["repair"] == pytest.approx(released * model.unit.mean(), abs=1e-3)
        assert row["top_share"] == pytest.approx(1, abs=1e-3)
        share = 100 * released / -model.responses["attn.1"].own
        for threshold in ("50", "10", "5"):
            assert row[f"above_{threshold}"] == (1 if share > float(threshold) else 0)
        alike = np.mean([a == b for a, b in combinations(answer, 2)])
        assert row["overlap"] == pytest.approx(alike)
        assert row["overlap_chance"] == pytest.approx(1 / row["neurons"])


def test_heads_and_neurons_answer_side_by_side() -> None:
    found = ledger("hydra", "zero")
    answers = found.who_repairs("attn.1")
    assert answers["writer"].iloc[0] == "head.1.0", "what was taken comes first"
    assert answers["writer"].iloc[1] == "head.2.0"
    assert {f"neuron.3.{one}" for one in range(5)} <= set(answers["writer"].iloc[2:7])
    whole = found.summary()
    assert whole.finding == "repair"
    assert whole.numbers["top_responder"] == "attn.2"


def test_where_neurons_are_not_apart_that_is_said() -> None:
    ds = synthetic_ledger(n_prompts=8)
    assert not neurons.has_neurons(ds)
    for ask in (neurons.neurons, neurons.neuron_sparsity, lambda ds: neurons.neuron_curves(ds, "attn.4")):
        with pytest.raises(DetailDropped, match=r"with neurons apart \(--writers neurons, or neuron\.11 for"):
            ask(ds)
    with pytest.raises(ComponentError, match=r"'attn\.40' was not knocked out in this run"):
        neurons.neurons(with_neurons(), "attn.40")


@pytest.mark.parametrize("prompts", [1, 2])
def test_few_prompts_give_numbers_without_intervals(prompts: int) -> None:
    table = neurons.neuron_sparsity(with_neurons(prompts=prompts), resamples=DRAWS)
    assert table["half"].notna().all()
    assert table["overlap"].notna().all() == (prompts == 2)
    assert table["overlap_lo"].isna().all()
