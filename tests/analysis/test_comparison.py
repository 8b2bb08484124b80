"""Two runs side by side: what is planted in one and not in the other is found, with the right sign and size."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpy.typing import NDArray
from scipy import stats

import hydrascope as hs
from hydrascope.analysis import Comparison, repair, summarise_comparison
from hydrascope.errors import RunError
from hydrascope.results import Ledger
from tests.support.synthetic import Plant, synthetic_ledger
from tests.support.texts import tiny_ledger

WEAKER = (Plant("attn.4", "attn.6", 0.2), Plant("attn.4", "attn.7", 0.1), Plant("mlp.2", "mlp.3", -0.2))


@cache
def runs() -> tuple[xr.Dataset, xr.Dataset]:
    """The same prompts and losses; in the second attn.6 answers attn.4 by a third of what it does in the first."""
    return synthetic_ledger().assign_attrs(model_name="base"), synthetic_ledger(plants=WEAKER).assign_attrs(
        model_name="tuned", weight_digest="other"
    )


@cache
def compared() -> Comparison:
    return Comparison(*runs(), ("base", "tuned"))


def test_a_planted_difference_is_found_and_named_with_who_makes_it() -> None:
    table = compared().knockouts.set_index("ablated")
    row = table.loc["attn.4"]
    assert row["outcome"] == "less" and row["lost_first"] and row["lost_second"]
    assert set(table.index[table["outcome"].isin(["more", "less"])]) == {"attn.4"}
    assert row["slope"] == pytest.approx(0.4, abs=0.05)
    assert row["restored_with_norm_lo"] < -0.4 * 0.8 < row["restored_with_norm_hi"] + 0.1
    told = summarise_comparison(compared())
    assert "without attn.4" in told.headline
    assert "most through later attention" in told.headline
    assert "attn.6’s to attn.4" in " ".join(told.sentences)
    assert "digest of the weights" in " ".join(told.sentences)


def test_differences_are_those_of_the_runs_own_tables_and_of_group_means() -> None:
    first, second = runs()
    table = compared().knockouts.set_index("ablated")
    own = [repair(ds).set_index("ablated") for ds in (first, second)]
    for name in ("own_change", "compensation_attn", "norm_effect", "self_repair", "total_effect"):
        for which, tables in zip(("first", "second"), own, strict=True):
            np.testing.assert_allclose(table[f"{name}_{which}"], tables[name])
        np.testing.assert_allclose(table[name], own[1][name] - own[0][name], atol=1e-12)
    lost = table["lost_first"] & table["lost_second"]
    assert lost.any() and not lost.all()
    for name in ("restored", "restored_with_norm", "restored_attn", "restored_norm", "slope"):
        np.testing.assert_allclose(table.loc[lost, name], (own[1][name] - own[0][name])[lost], atol=1e-12)
        assert table.loc[~lost, [name, f"{name}_lo", f"{name}_hi"]].isna().all(axis=None)
    differences = (second.total_effect - first.total_effect).values.astype(np.float64)
    groups = pd.DataFrame(differences).groupby(first.group.values.astype(str)).mean().to_numpy()
    half = stats.sem(groups, axis=0) * stats.t.ppf(0.975, len(groups) - 1)
    np.testing.assert_allclose(table["total_effect_hi"] - table["total_effect"], half, rtol=1e-6)


def test_the_share_difference_has_the_jackknife_interval() -> None:
    first, second = runs()
    table = compared().knockouts.set_index("ablated")
    at = list(first.ablated.values).index("attn.4")
    labels = first.group.values.astype(str)

    def difference(kept: NDArray[np.bool_]) -> float:
        shares = []
        for ds in (second, first):
            own, total = (ds[name].values[kept, at].astype(np.float64) for name in ("own_change", "total_effect"))
            grouped = pd.DataFrame({"own": own, "back": total - own}).groupby(labels[kept]).mean().mean()
            shares.append(float(grouped["back"] / -grouped["own"]))
        return shares[0] - shares[1]

    names = np.unique(labels)
    whole, without = difference(labels != ""), np.array([difference(labels != name) for name in names])
    error = np.sqrt((len(names) - 1) / len(names) * ((without - whole) ** 2).sum())
    half = stats.t.ppf(0.975, len(names) - 1) * error
    row = table.loc["attn.4"]
    np.testing.assert_allclose(row["restored_with_norm"], whole, atol=1e-4)
    np.testing.assert_allclose(row["restored_with_norm_hi"] - row["restored_with_norm"], half, rtol=1e-2)


def test_a_run_beside_itself_differs_in_nothing() -> None:
    first, _ = runs()
    found = Comparison(first, first, ("one", "again"))
    assert (found.knockouts[["own_change", "total_effect", "self_repair"]] == 0).all(axis=None)
    assert not found.responders["significant"].any()
    assert set(found.knockouts["outcome"]) <= {"alike", ""}
    told = summarise_comparison(found)
    assert "repaired more or less" in told.headline
    assert "asked for alike" in " ".join(told.sentences)
    assert f"The total effects of {len(found.knockouts)} shared knock-outs are the same to" in " ".join(told.sentences)
    assert "with donors from all" not in " ".join(told.sentences)


def test_only_shared_prompts_and_knockouts_are_paired_in_whatever_order_they_stand() -> None:
    first, second = runs()
    shuffled = np.random.default_rng(0).permutation(second.sizes["prompt"])[:40]
    found = Comparison(first, second.isel(prompt=shuffled, ablated=[11, 4, 8]), ("base", "tuned"))
    kept = np.sort(shuffled)
    one, other = found.pairing.first, found.pairing.second
    assert one["text"].values.tolist() == other["text"].values.tolist() == first["text"].values[kept].tolist()
    assert (
        one["ablated"].values.tolist()
        == other["ablated"].values.tolist()
        == first["ablated"].values[[4, 8, 11]].tolist()
    )
    sub = Comparison(first.isel(prompt=kept), second.isel(prompt=kept), ("base", "tuned")).knockouts
    assert "with donors from all of that run's prompts" in " ".join(summarise_comparison(found).sentences)
    names = found.knockouts["ablated"].tolist()
    np.testing.assert_allclose(
        found.knockouts["total_effect"], sub.set_index("ablated").loc[names, "total_effect"].to_numpy()
    )


def test_prompts_written_twice_are_paired_once_each() -> None:
    first, second = runs()
    text = first["text"].values.copy()
    text[1] = text[0]
    target = first["target"].values.copy()
    target[1] = target[0]
    coords = {"text": ("prompt", text), "target": ("prompt", target)}
    one, other = first.assign_coords(coords), second.assign_coords(coords)
    found = Comparison(one, other, ("a", "b"))
    np.testing.assert_allclose(found.knockouts["total_effect"], compared().knockouts["total_effect"])


def test_models_of_other_depths_are_compared_over_relative_depth_and_told_so() -> None:
    first, _ = runs()
    deeper = synthetic_ledger(n_layers=12, seed=3).assign_attrs(model_name="deep")
    found = Comparison(first, deeper, ("base", "deep"))
    assert found.knockouts.empty and found.responders.empty
    told = summarise_comparison(found)
    assert "8 and 12 layers" in told.headline and "Nothing here is paired" in told.headline
    table = found.by_depth
    assert set(table["run"]) == {"base", "deep"}
    row = table[(table["run"] == "deep") & (table["kind"] == "attn") & np.isclose(table["depth"], 0.5)].iloc[0]
    layers = [layer for layer in range(12) if int(layer / 11 * 5) == 2]
    parts = deeper.sel(ablated=[f"attn.{layer}" for layer in layers])
    groups = deeper.group.values.astype(str)
    mean = pd.DataFrame(parts.own_change.values.astype(np.float64).mean(1)).groupby(groups).mean().mean()
    assert row["own_change"] == pytest.approx(float(mean.iloc[0]))
    assert row["knockouts"] == len(layers)


@pytest.mark.parametrize("option", ["bos", "delimiter", "answer", "seed", "ablation"])
def test_what_was_asked_otherwise_is_told(option: str) -> None:
    first, _ = runs()
    other = first.assign_attrs({option: "otherwise"})
    assert "against otherwise)" in " ".join(summarise_comparison(Comparison(first, other, ("a", "b"))).sentences)


def test_few_groups_tell_nothing() -> None:
    first, second = (ds.isel(prompt=slice(0, 4)) for ds in runs())
    told = summarise_comparison(Comparison(first, second, ("base", "tuned")))
    assert told.headline.startswith("What differs cannot be told from 4 shared prompts")


def test_whole_texts_are_paired_token_by_token() -> None:
    ledger = tiny_ledger("full").dataset
    other = ledger.copy(deep=True)
    other["total_effect"] = ledger["total_effect"] + 1.0
    other["norm_effect"] = ledger["norm_effect"] + 1.0
    found = Comparison(ledger, other, ("a", "b"))
    np.testing.assert_allclose(found.knockouts["total_effect"], 1.0, rtol=1e-5)
    assert f"over the {ledger.sizes['prompt']} that both kept" in " ".join(summarise_comparison(found).sentences)
    with pytest.raises(RunError, match="whole texts"):
        Comparison(ledger, runs()[0], ("texts", "prompts"))


def test_python_and_the_page_say_what_the_tables_say(tmp_path: Path) -> None:
    first, second = runs()
    found = hs.compare(Ledger(first), Ledger(second), Ledger(first))
    assert [pair.names for pair in found.pairs] == [("base (1)", "tuned (2)"), ("base (1)", "base (3)")]
    assert set(found.knockouts()["run"]) == {"tuned (2)", "base (3)"}
    assert len(found.responders()) == 2 * len(compared().responders)
    assert set(found.by_depth()["run"]) == {"base (1)", "tuned (2)", "base (3)"}
    html = found.report(tmp_path / "page.html").read_text(encoding="utf-8").replace("\u202f", " ").replace("\xa0", " ")
    for told in found.summaries:
        assert told.headline in html
    row = found.knockouts().query("run == 'tuned (2)' and ablated == 'attn.4'").iloc[0]
    shares = [f"{100 * row[f'restored_with_norm_{which}']:.0f} %" for which in ("first", "second")]
    assert " → ".join(shares) in html
    assert not re.search(
        r"\bnan\b", re.sub(r"<script.*?</script>", "", html, flags=re.S).lower().replace('data-value="nan"', "")
    )
    with pytest.raises(RunError, match="two runs"):
        hs.compare(Ledger(first))
