"""Many runs in one table: every number is that of its own ledger, and claims hold where they were planted."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from hydrascope.analysis import Findings, Survey, entry, summarise_survey
from tests.support.synthetic import Plant, synthetic_ledger
from tests.support.texts import tiny_ledger

DRAWS = 300
QUIET = {"erasure": 0.0, "norm": 0.0, "noise": 0.02, "donor_noise": 0.0}
HYDRA = [Plant("attn.4", "attn.6", 0.7)]


def ledger(model: str, task: str, plants: list[Plant], seed: int = 0, drawn: str = "", **more: Any) -> xr.Dataset:
    """A run on a task, with answers that were planted."""
    named: dict[str, Any] = {"model": model, "model_name": model, "prompts_name": task, "random_weights": drawn}
    named |= {"protocol": "facts", "dose": 1.0}
    return synthetic_ledger(plants=plants, seed=seed, **(QUIET | more)).assign_attrs(named)


@cache
def ledgers() -> dict[str, xr.Dataset]:
    large = ledger("large", "facts", HYDRA, 1).assign_attrs(n_parameters=10**9, revision="step3000")
    return {
        "a": large,
        "b": ledger("small", "facts", HYDRA),
        "c": ledger("small", "pairs", [], 2),
        "d": ledger("small+random-0", "facts", [], 3, "seed 0"),
        "e": ledger("small", "facts", [Plant("attn.4", "mlp.6", 0.7)], 4, n_groups=30),
    }


def surveyed(found: dict[str, xr.Dataset]) -> Survey:
    entries = [entry(Findings(ds, DRAWS), name, f"{name}/report.html") for name, ds in found.items()]
    return Survey(tuple(entries), {"bad": "it is damaged"})


@cache
def survey() -> Survey:
    return surveyed(ledgers())


def of_run(table: pd.DataFrame, run: str) -> pd.DataFrame:
    return table[table["run"] == run].reset_index(drop=True)


def grouped(ds: xr.Dataset, values: np.ndarray) -> float:
    """The mean of the groups' means, group by group and without the package."""
    groups = list(ds["group"].values)
    return float(
        np.mean([np.mean([v for v, g in zip(values, groups, strict=True) if g == one]) for one in set(groups)])
    )


def test_every_part_of_every_run_has_the_numbers_of_its_ledger() -> None:
    table = survey().parts.set_index(["run", "ablated"])
    assert len(table) == sum(ds.sizes["ablated"] for ds in ledgers().values())
    for run, ds in ledgers().items():
        for k, name in enumerate(ds["ablated"].values):
            row = table.loc[run, name]
            later = ds["change"].values[:, k] * ds["is_downstream"].values[k]
            attention = later[:, ds["writer_kind"].values == "attn"].sum(1)
            expected = {
                "own_change": ds["own_change"].values[:, k],
                "compensation_attn": attention,
                "norm_effect": ds["norm_effect"].values[:, k],
                "total_effect": ds["total_effect"].values[:, k],
            }
            for column, values in expected.items():
                assert row[column] == pytest.approx(grouped(ds, values), abs=1e-6)
                assert row[f"{column}_lo"] <= row[column] <= row[f"{column}_hi"]
            assert row["depth"] == row["layer"] / 7
            assert (row["model"], row["task"]) == (ds.attrs["model_name"], ds.attrs["prompts_name"])


def test_parts_keep_what_their_own_run_says_of_them() -> None:
    for run, ds in ledgers().items():
        repair, mine = Findings(ds, DRAWS).repair, of_run(survey().parts, run)
        for column in ("lost", "outcome", "hydra", "hidden_by", "slope", "r2_hi", "own_change_p"):
            assert mine[column].equals(repair[column]) or np.allclose(mine[column], repair[column], equal_nan=True)
        assert mine["restored"].notna().tolist() == repair["meaningful"].tolist()


def test_middle_layers_together_are_a_ratio_of_sums_over_all_of_them() -> None:
    for run, ds in ledgers().items():
        row = survey().runs.set_index("run").loc[run]
        middle = [k for k, name in enumerate(ds["ablated"].values) if name in ("attn.4", "attn.5", "attn.6")]
        own = sum(grouped(ds, ds["own_change"].values[:, k]) for k in middle)
        answers = (ds["change"].values * ds["is_downstream"].values).sum(-1)
        given = sum(grouped(ds, answers[:, k]) for k in middle)
        normed = given + sum(grouped(ds, ds["norm_effect"].values[:, k]) for k in middle)
        assert row["pooled_parts"] == 3
        assert row["pooled_own_change"] == pytest.approx(own / 3, abs=1e-6)
        assert row["pooled_restored"] == pytest.approx(-given / own, abs=1e-5)
        assert row["pooled_restored_with_norm"] == pytest.approx(-normed / own, abs=1e-5)
        assert row["pooled_restored_lo"] < row["pooled_restored"] < row["pooled_restored_hi"]


def test_there_is_no_share_where_losses_and_gains_cancel() -> None:
    ds = ledger("small", "facts", HYDRA)
    for part, sign in (("attn.4", 1), ("attn.5", -1), ("attn.6", 0)):
        ds["own_change"].loc[{"ablated": part}] = -0.02 - sign * 1.0
    row = surveyed({"x": ds}).runs.iloc[0]
    assert row["pooled_own_change"] == pytest.approx(-0.02, abs=1e-6) and row["pooled_own_change_hi"] < 0
    assert np.isnan([row["pooled_restored"], row["pooled_restored_with_norm_lo"]]).all()


def test_claims_are_those_of_each_run_and_hold_where_they_were_planted() -> None:
    table = survey().claims
    for run, ds in ledgers().items():
        mine = of_run(table, run)
        own = Findings(ds, DRAWS).mcgrath
        assert mine[list(own)].equals(own)
    verdict = table.set_index(["claim", "run"])["verdict"]
    assert [verdict["attention answers attention", run] for run in "abcde"] == ["holds", "holds"] + ["does not"] * 3
    assert [verdict["repair at middle layers", run] for run in "abcde"] == ["holds"] * 2 + ["does not"] * 2 + ["holds"]


def test_runs_are_ordered_named_apart_and_know_their_step_and_control() -> None:
    runs = survey().runs
    assert runs["run"].tolist() == ["b", "e", "c", "a", "d"]
    assert runs["label"].tolist() == [
        *("small · facts (b)", "small · facts (e)", "small · pairs", "large · facts", "small+random-0 · facts")
    ]
    assert runs["random_weights"].tolist() == [False] * 4 + [True]
    assert runs["shape"].tolist() == ["small"] * 3 + ["large", "small"]
    assert runs["step"].fillna(-1).tolist() == [-1, -1, -1, 3000, -1]
    assert survey().parts["label"].drop_duplicates().tolist() == runs["label"].tolist()


def test_sentences_count_what_the_tables_hold_trained_and_random_apart() -> None:
    said = summarise_survey(survey())
    assert said.headline == (
        "Attention answers attention: holds in 2 of 4 runs of trained models (small · facts (b), large · facts), does "
        "not in 2, cannot be told in 0; holds in 0 of 1 run with random weights, does not in 1, cannot be told in 0."
    )
    for claim in set(survey().claims["claim"]):
        rows = survey().claims.query("claim == @claim and value == value and not random_weights")
        if len(rows):
            assert said.numbers[f"{claim}, trained, holds"] == (rows["verdict"] == "holds").sum()
            assert said.numbers[f"{claim}, trained, asked"] == len(rows)
    shares = survey().runs.query("not random_weights")["pooled_restored_with_norm"]
    assert said.numbers["least share, trained models"] == shares.min()
    assert said.numbers["largest share, trained models"] == shares.max()
    assert said.numbers["left_out"] == 1


def test_texts_stand_beside_prompts_with_their_top_tokens() -> None:
    texts = tiny_ledger("kinds").dataset
    findings = Findings(texts, DRAWS)
    made = Survey((entry(findings, "texts"), *survey().entries[:1]), {})
    parts = made.parts.query("run == 'texts'").set_index("ablated")
    top = findings.self_repair.query("selection == 'top'").set_index("ablated")
    assert len(parts) == len(top)
    for column, source in {
        "own_change": "own_change",
        "norm_effect": "repair_norm",
        "self_repair": "self_repair",
    }.items():
        assert parts[column].to_numpy() == pytest.approx(top.loc[parts.index, source].to_numpy())
    assert set(made.claims["run"]) == {"a"}
    row = made.runs.set_index("run").loc["texts"]
    [whole] = findings.pooled_mechanisms.query("selection == 'top' and mechanism == 'self_repair'").to_dict("records")
    assert row["pooled_self_repair"] == whole["mean"] and row["pooled_parts"] == whole["parts"]
    alone = Survey((entry(findings, "texts"),), {})
    assert summarise_survey(alone).headline.startswith("None of 1 run knocks out attention at the last token")
