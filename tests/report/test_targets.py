"""What the verdict and the report say of a logit difference, and of the whole distribution."""

from __future__ import annotations

import re

import pytest
import xarray as xr

from hydrascope.analysis import Findings, summarise
from hydrascope.report import render
from hydrascope.report._caveats import caveats
from hydrascope.report._facts import run_facts
from hydrascope.report._listing import knockouts
from hydrascope.report._run import Run
from tests.support.synthetic import synthetic_ledger


def ledger(policy: str, **more: object) -> xr.Dataset:
    ds = synthetic_ledger(seed=1)
    ds.attrs |= {"target_policy": policy, **more}
    return ds


@pytest.mark.parametrize("policy", ["label", "difference"])
def test_every_sentence_names_what_was_measured(policy: str) -> None:
    told = " ".join([summarise(Findings(ledger(policy))).headline, *summarise(Findings(ledger(policy))).sentences])
    assert ("logit difference" in told) == (policy == "difference")
    assert ("target" in told) == (policy == "label")


def test_the_same_numbers_are_told_of_both() -> None:
    assert summarise(Findings(ledger("label"))).numbers == summarise(Findings(ledger("difference"))).numbers


@pytest.mark.parametrize("policy", ["label", "difference"])
def test_the_page_speaks_of_one_thing(policy: str) -> None:
    page = render(ledger(policy, prompts_dropped_alike=2, prompts_unfit=3, prompts_total=72))
    of_one = re.findall(r"logits of the answer|answer[’']s logit|target[’']s logit", page)
    assert bool(of_one) == (policy == "label")
    assert ("logit difference" in page) == (policy == "difference")
    assert "2 dropped because answer and foil begin with the same token" in page
    assert "3 dropped because the tokenizer does not write them as the task needs" in page
    assert "dropped for other reasons" not in page


def test_why_prompts_were_dropped_follows_the_question() -> None:
    for policy, says in (("label", "first choice was another token"), ("difference", "its foil was above the answer")):
        assert says in dict(run_facts(ledger(policy)))["Prompts"]
        found = " ".join(caveats(Run(Findings(ledger(policy)), "attn.4")))
        assert ("above its foil" in found) == (policy == "difference")


def test_by_divergence_the_largest_change_of_the_distribution_comes_first() -> None:
    ds = ledger("kl")
    order = ds["kl"].mean("prompt").to_series().sort_values(ascending=False)
    findings = Findings(ds)
    shown = knockouts(Run(findings, "attn.4"))
    assert [row[0].text for row in shown.rows] == list(order.index)
    assert shown.columns[:2] == ("knocked out", "KL (nats)")
    assert [row[1].value for row in shown.rows] == pytest.approx(order.to_list(), rel=1e-5)
    assert "change the distribution most, by KL divergence" in shown.caption
    found = summarise(findings)
    assert found.numbers["largest_kl_knockout"] == order.index[0]
    assert f"{order.index[0]} matters most: " in " ".join(found.leading)
    assert "KL divergence has no linear read-out" in " ".join(found.details)
    assert "KL" not in " ".join(summarise(Findings(ledger("top"))).sentences)
    plain = knockouts(Run(Findings(ledger("top")), "attn.4"))
    assert "KL (nats)" not in plain.columns
    assert any("rank first in the clean run" in note for note in caveats(Run(findings, "attn.4")))
