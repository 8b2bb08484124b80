"""Runs beside each other: agreement of rankings, and the response over the dose, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

from hydrascope.analysis import Findings, doses, linearity, names, rank_agreement, rank_agreement_sentence
from hydrascope.analysis._ablation_comparison import MEASURES, by_ablation
from hydrascope.analysis._dose import by_dose
from hydrascope.analysis._statistics import spearman
from hydrascope.report import render
from tests.support.synthetic import synthetic_ledger


def made(seed: int = 0, **attributes: object) -> xr.Dataset:
    ds = synthetic_ledger(n_prompts=12, n_layers=3, seed=seed)
    return ds.assign_attrs(attributes)


def scaled(ds: xr.Dataset, dose: float, factor: float) -> xr.Dataset:
    """The same account, every part of it times a factor."""
    names = ("change", "own_change", "norm_effect", "total_effect")
    return ds.assign({name: ds[name] * factor for name in names}).assign_attrs(dose=dose)


def test_rank_correlations_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (2, 20, 9)).astype(float)  # with ties
    expected = [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(spearman(a, b), expected, atol=1e-12)
    assert np.isnan(spearman(a[:, :2], b[:, :2])).all(), "of two cells nothing can be said"
    assert np.isnan(spearman(np.ones((1, 5)), b[:1, :5])).all()


def test_agreement_is_that_of_a_plain_loop() -> None:
    ledgers = {"resample": made(0, ablation="resample"), "zero": made(1, ablation="zero")}
    table = rank_agreement(ledgers, resamples=50).set_index("measure")
    assert list(table.index) == list(MEASURES)
    means: dict[str, list[list[float]]] = {measure: [] for measure in MEASURES}
    for ds in ledgers.values():
        for measure in MEASURES:
            row = []
            for k in range(ds.sizes["ablated"]):
                if measure == "compensation":
                    others = ~ds["is_own"].values[k]
                    row.append(float(ds["change"].values[:, k, others].sum(1).mean()))
                elif measure == "self_repair":
                    row.append(float((ds["total_effect"] - ds["own_change"]).values[:, k].mean()))
                else:
                    row.append(float(ds[measure].values[:, k].mean()))
            means[measure].append(row)
    for measure, (one, other) in means.items():
        assert table.loc[measure, "spearman"] == pytest.approx(spearmanr(one, other).statistic, abs=1e-9)
        assert table.loc[measure, "ratio"] == pytest.approx(np.abs(other).sum() / np.abs(one).sum(), rel=1e-5)
        assert table["spearman_lo"].loc[measure] <= table["spearman_hi"].loc[measure]
        assert table.loc[measure, "n"] == len(one)


def test_only_what_both_have_is_compared() -> None:
    one = made(0)
    other = made(1).isel(prompt=slice(3, 9), ablated=slice(1, None))
    direct = rank_agreement({"a": one.isel(prompt=slice(3, 9), ablated=slice(1, None)), "b": other}, resamples=20)
    assert rank_agreement({"a": one, "b": other}, resamples=20).equals(direct)
    assert rank_agreement({"a": one}).empty


def test_the_sentence_names_the_pair_and_its_interval() -> None:
    ledgers = {"resample": made(0), "zero": made(0)}
    assert "resample and zero 1.00 [1.00, 1.00]" in rank_agreement_sentence(rank_agreement(ledgers, resamples=30))
    assert rank_agreement_sentence(rank_agreement({})) == ""


def test_relatives_are_told_apart() -> None:
    ds = made(0, ablation="resample", dose=1.0)
    also = {
        "zero": made(1, ablation="zero", dose=1.0),
        "dose-0.5": scaled(ds, 0.5, 0.5),
        "held": made(0, ablation="resample", dose=1.0),
    }
    assert list(by_ablation(ds, also)) == ["resample", "zero"]
    by_size = by_dose(ds, also)
    assert list(by_size) == [0.5, 1.0] and by_size[1.0] is ds
    assert by_dose(ds, {"zero": also["zero"]}) == {}


def test_curves_are_means_over_prompts() -> None:
    ds = made(0, ablation="zero")
    table = doses({0.5: scaled(ds, 0.5, 0.2), 1.0: scaled(ds, 1.0, 1.0)}, resamples=50)
    rows = table.set_index(["ablated", "dose", "part"])["value"].sort_index()
    for k, name in enumerate(names(ds, "ablated")):
        assert (rows[name, 0.0] == 0).all()
        for dose, factor in ((0.5, 0.2), (1.0, 1.0)):
            assert rows[name, dose, "total"] == pytest.approx(factor * float(ds["total_effect"][:, k].mean()), rel=1e-5)
            summed = sum(rows[name, dose, part] for part in ("own", "attn", "mlp", "norm"))
            assert summed == pytest.approx(rows[name, dose, "total"], abs=1e-4)


@pytest.mark.parametrize(("given", "power"), [((0.5, 1.0), 1), ((0.25, 0.5, 0.75, 1.0), 2), ((0.3, 0.9), 1)])
def test_linearity_of_a_power_of_the_dose(given: tuple[float, ...], power: int) -> None:
    ds = made(0, ablation="zero")
    table = linearity({dose: scaled(ds, dose, dose**power) for dose in given}, resamples=50)
    share = 0.5**power
    bends = {1: 0.0, 2: 2 * (0.25 * (0.0625 + 0.25 + 0.5625 + 0.5) - 0.5)}
    np.testing.assert_allclose(table["half_share"], share, atol=1e-5)
    np.testing.assert_allclose(table["half_share_lo"], share, atol=1e-5)
    np.testing.assert_allclose(table["bend"], bends[power], atol=1e-5)
    assert linearity({1.0: ds}).empty and doses({}).empty


def test_relatives_have_sections_in_the_report() -> None:
    ds = synthetic_ledger(n_layers=4).assign_attrs(ablation="resample", dose=1.0)
    other = synthetic_ledger(n_layers=4, seed=1).assign_attrs(ablation="zero", dose=1.0)
    page = render(Findings(ds, resamples=50, also={"zero": other, "dose-0.5": scaled(ds, 0.5, 0.25)}))
    assert "Agreement between ablations" in page and "Ranked by compensation" in page
    assert "Dose and response" in page and "at half the dose (25 to 25" in page.replace("\u202f", " ")
    assert "Agreement between ablations" not in render(Findings(ds, resamples=50))


def test_what_the_least_harmful_constant_costs_stands_beside_the_others() -> None:
    ds = synthetic_ledger(n_layers=4).assign_attrs(ablation="resample", dose=1.0)
    other = ds.assign(kl=ds["kl"] / 4).assign_attrs(ablation="optimal", ablation_learned=True)
    page = render(Findings(ds, resamples=50, also={"optimal": other})).replace("\u202f", " ")
    assert f"in the median of {ds.sizes['ablated']} knock-outs 25 % of what resample costs" in page
    zero = other.assign_attrs(ablation="zero", ablation_learned=False)
    assert "least harmful" not in render(Findings(ds, resamples=50, also={"zero": zero}))
