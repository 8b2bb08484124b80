"""Doses and several ablations of whole texts: told on top tokens and on all, of the same tokens in every run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.stats import spearmanr

import hydrascope as hs
from hydrascope.analysis import Findings, rank_agreement_sentence
from hydrascope.analysis._ablation_comparison import aligned
from hydrascope.report import render
from tests.conftest import Cli
from tests.report.test_report import Parsed
from tests.support import tiny
from tests.support.texts import options, tiny_model, tiny_texts

HEADS = "head.1.*,head.3.0"
DRAWS = 40


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> hs.Ledger:
    return hs.knock_out(
        tiny_model(),
        tiny_texts(),
        options=options(HEADS, "kinds"),
        ablation=(hs.Resample(donors=1), hs.Zero(), hs.Mean()),
        dose=(0.5, 1),
        out=tmp_path_factory.mktemp("family") / "run",
    )


@pytest.fixture(scope="module")
def findings(ledger: hs.Ledger) -> Findings:
    return Findings(ledger.dataset, DRAWS, also={name: one.dataset for name, one in ledger.also.items()})


def top_rows(ds: xr.Dataset, knockout: int) -> np.ndarray:
    """The 2 % of tokens with the largest direct effect, by a plain sort."""
    direct = ds["own_direct_effect"].values[:, knockout]
    return np.argsort(-direct, kind="stable")[: round(0.02 * len(direct))]


def means(ds: xr.Dataset, clean: xr.Dataset, values: np.ndarray, selection: str) -> list[float]:
    """Mean of each knock-out's values over its top tokens, or over all."""
    every = np.arange(len(values))
    return [
        float(values[top_rows(clean, k) if selection == "top" else every, k].mean()) for k in range(ds.sizes["ablated"])
    ]


def test_runs_that_belong_to_a_run_of_texts_are_made(ledger: hs.Ledger) -> None:
    assert list(ledger.also) == ["dose-0.5", "mean", "zero"]
    half = ledger.also["dose-0.5"].dataset
    assert (half.attrs["dose"], half.attrs["ablation"], half.attrs["read"]) == (0.5, "resample", "each")
    np.testing.assert_allclose(half["own_change"], 0.5 * ledger.dataset["own_change"], atol=1e-5)


@pytest.mark.parametrize("selection", ["top", "all"])
def test_curves_are_means_over_the_selected_tokens(ledger: hs.Ledger, findings: Findings, selection: str) -> None:
    table = findings.doses[findings.doses["selection"] == selection].set_index(["part", "dose"])
    for dose, ds in ((0.5, ledger.also["dose-0.5"].dataset), (1.0, ledger.dataset)):
        for part, name in (("total", "total_effect"), ("own", "own_change"), ("norm", "norm_effect")):
            right = means(ds, ledger.dataset, ds[name].values.astype(float), selection)
            np.testing.assert_allclose(table["value"].loc[(part, dose)], right, atol=1e-6, err_msg=part)
    straight = findings.linearity[findings.linearity["selection"] == selection]
    half, whole = (table["value"].loc[("total", dose)].to_numpy() for dose in (0.5, 1.0))
    np.testing.assert_allclose(straight["half_share"], half / whole, rtol=1e-5)


@pytest.mark.parametrize("selection", ["top", "all"])
def test_rankings_are_of_means_over_the_selected_tokens(ledger: hs.Ledger, findings: Findings, selection: str) -> None:
    table = findings.rank_agreement
    rows = table[(table["selection"] == selection) & (table["first"] == "resample") & (table["second"] == "zero")]
    rows = rows.set_index("measure")
    both = (ledger.dataset, ledger.also["zero"].dataset)
    totals = [means(ds, ledger.dataset, ds["total_effect"].values.astype(float), selection) for ds in both]
    repairs = [
        means(ds, ledger.dataset, (ds["total_effect"] - ds["own_change"]).values.astype(float), selection)
        for ds in both
    ]
    for measure, (one, other) in (("total_effect", totals), ("self_repair", repairs)):
        assert rows.loc[measure, "spearman"] == pytest.approx(spearmanr(one, other).statistic, abs=1e-9)
        ratio = np.abs(other).sum() / np.abs(one).sum()
        assert rows.loc[measure, "ratio"] == pytest.approx(ratio, rel=1e-5)


def test_rows_are_numbered_alike_whichever_texts_an_ablation_leaves_out(tmp_path: Path) -> None:
    """The one text of its length has no donor; zeros need none, and what is compared is the same token of both."""
    texts = tiny_texts()[:4]
    lone = hs.Prompt(input_ids=(*range(4, 16),), group="long")
    found = hs.knock_out(
        tiny_model(),
        hs.PromptSet("uneven", (lone, *texts.prompts)),
        options=options("head.1.*", "kinds"),
        ablation=(hs.Resample(donors=1), hs.Zero()),
        out=tmp_path / "run",
    )
    resample, zero = found.dataset, found.also["zero"].dataset
    assert (resample.attrs["prompts_dropped_alone"], zero.attrs["prompts_dropped_alone"]) == (1, 0)
    common = aligned({"resample": resample, "zero": zero})
    for name in ("document", "position", "target_token"):
        np.testing.assert_array_equal(common["resample"][name], common["zero"][name])
    assert common["zero"].sizes["prompt"] == resample.sizes["prompt"]


def test_the_report_has_both_sections_and_both_selections(findings: Findings) -> None:
    text = render(findings)
    plain = " ".join(" ".join(Parsed(text).words).split()).replace("\u202f", " ")
    assert "Dose and response" in plain and "Agreement between ablations" in plain
    for words in ("On top tokens half the dose", "On all tokens half the dose", "the same tokens throughout"):
        assert words in plain
    for title in ("Ranked by total effect, top tokens", "Ranked by self-repair, all tokens"):
        assert title in text
    alone = render(Findings(findings.ds, DRAWS))
    assert "Dose and response" not in alone and "Agreement between ablations" not in alone


def test_two_knock_outs_have_no_ranking_and_the_report_says_so(findings: Findings) -> None:
    also = {name: one.isel(ablated=slice(2)) for name, one in findings.also.items()}
    text = render(Findings(findings.ds.isel(ablated=slice(2)), DRAWS, also=also))
    assert "a rank correlation needs 3 knock-outs or more, and the runs have 2 in common" in text
    assert rank_agreement_sentence(Findings(findings.ds.isel(ablated=slice(2)), DRAWS, also=also).rank_agreement) == ""


def test_the_sentence_tells_top_tokens_and_all(findings: Findings) -> None:
    said = rank_agreement_sentence(findings.rank_agreement)
    assert said.count("resample and zero") == 2
    assert "on each one's top tokens" in said and "; on all tokens" in said


def test_from_the_command_line(
    model_folder: Path, rows: list[tiny.Row], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hydrascope.report._page.render", lambda dataset: "<html></html>")
    asked = [{"prompt": row.text, "group": f"d{i % 8}"} for i, row in enumerate(rows)]
    prompts = tiny.write_lines(tmp_path / "texts.jsonl", asked)
    command = (
        "run",
        model_folder,
        "--protocol",
        "text",
        "--prompts",
        prompts,
        "--texts",
        "12",
        "--out",
        tmp_path / "o",
    )
    said = cli(*command, "--ablation", "resample,zero", "--dose", "0.5,1")
    assert said.code == 0, said.err
    assert "Rank correlation of the 6 knock-outs' total effects" in cli("show", tmp_path / "o").out
    ledger = hs.Ledger.open(tmp_path / "o")
    assert list(ledger.also) == ["dose-0.5", "zero"]
    assert ledger.dataset.attrs["prompts_total"] == 12
