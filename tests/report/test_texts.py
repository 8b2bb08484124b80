"""Verdict and report of runs over ordinary text: they say what the ledger says, whatever it holds."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import hydrascope as hs
from hydrascope.analysis import TOP_SHARE, Findings, summarise
from hydrascope.report import render
from hydrascope.report._caveats import caveats
from hydrascope.report._choice import choices
from hydrascope.report._literature import REFERENCES, STRETCHES
from hydrascope.report._run import Run
from hydrascope.report._tokens import CHOICES, DRAWN, norm_bins, token_points
from hydrascope.results import Ledger
from tests.report.test_report import WRONG, Parsed
from tests.support.planted import planted
from tests.support.texts import TEXTS, TOKENS, planted_ledger, run, same_subject, tiny_ledger

DRAWS = 60
BOTH = "head.1.0,head.2.0"


@cache
def page(detail: str) -> str:
    return render(Findings(tiny_ledger(detail).dataset, DRAWS))


@pytest.mark.parametrize("detail", ["kinds", "full"])
def test_it_says_the_verdict_and_every_section(detail: str) -> None:
    ledger = tiny_ledger(detail)
    parsed = Parsed(page(detail))
    plain = " ".join(" ".join(parsed.words).split())
    for words in ("Self-repair by mechanism", "Token by token", "the scale of the final norm", "published models"):
        assert words in plain
    sections = ("self-repair", "mechanisms", "tokens", "norm", "comparison")
    assert plain.count("How to read it") == len(sections)
    assert f"{TEXTS} texts of {TOKENS} tokens from 8 documents" in plain
    assert "all positions" in plain
    assert ledger.has_report
    for name in sections:
        for reference in REFERENCES[name]:
            assert reference.source.url in page(detail)
    for name in STRETCHES:
        assert name in plain
    assert not re.search(r"\bnan\b", plain.lower())
    assert len(page(detail)) < 3_000_000


def test_what_no_text_would_put_in_place_is_said() -> None:
    ds = tiny_ledger("kinds").dataset
    for caveat in ("A learned constant is the least harmful one on these texts.", ""):
        findings = Findings(ds.assign_attrs(ablation_caveat=caveat), DRAWS)
        said = caveats(Run(findings, "head.2.1"))
        assert ("least harmful" in " ".join(said)) is bool(caveat)
        assert not caveat or caveat in said
        assert all(said)


def test_what_was_put_in_place_is_told_of_texts() -> None:
    ds = tiny_ledger("kinds").dataset
    parsed = Parsed(page("kinds"))
    assert ds.attrs["replaced_by"] == "another text’s values"
    assert "another text’s values, at all positions" in parsed.text
    assert ds.attrs["ablation_caveat"] in parsed.text
    assert "so later tokens also see earlier ones differently" in parsed.text


def test_both_selections_are_drawn_with_the_numbers_of_the_analysis() -> None:
    findings = Findings(tiny_ledger("kinds").dataset, DRAWS)
    found = {name: json.loads(text) for name, text in _charts(page("kinds")).items()}
    table = findings.self_repair
    for i, selection in enumerate(("top", "all"), start=1):
        drawn = [d["columns"] for d in found[f"self-repair-{i}"]["datasets"].values() if "ablated" in d["columns"]]
        rows = table[table["removed"] & (table["selection"] == selection)]
        assert drawn[0]["self_repair"] == pytest.approx(rows["self_repair"].tolist(), rel=1e-3)
    assert {"mechanisms-1", "mechanisms-2", "tokens-1", "norm-1"} <= set(found)


def test_tokens_and_bins_are_those_of_the_ledger() -> None:
    ds = tiny_ledger("kinds").dataset
    tables = Run(Findings(ds, DRAWS), "head.2.1")
    points = token_points(tables, tables.strongest(CHOICES))
    assert set(points["ablated"]) == set(tables.strongest(6)) >= {"head.2.1"}
    mine = points[points["ablated"] == "head.2.1"]
    k = list(ds["ablated"].values).index("head.2.1")
    assert len(mine) == ds.sizes["prompt"]
    assert sorted(mine["total_effect"]) == pytest.approx(sorted(ds["total_effect"].values[:, k].tolist()))
    top = mine.loc[mine["which"] == "its top tokens", "direct_effect"]
    assert top.min() >= mine.loc[mine["which"] != "its top tokens", "direct_effect"].max()
    bins = norm_bins(tables, tables.strongest(CHOICES))
    bars = bins[(bins["ablated"] == "head.2.1") & (bins["low"] < bins["high"])]
    for selection in ("top", "all"):
        rows = bars[bars["selection"] == selection]
        assert rows["share"].sum() == pytest.approx(1)
        if selection == "all":
            ratio = ds["scale_ratio"].values[:, k]
            above, partly = rows["low"] >= 1, (rows["low"] < 1) & (rows["high"] > 1)
            least = rows.loc[above, "share"].sum()
            assert least - 1e-9 <= (ratio > 1).mean() <= least + rows.loc[partly, "share"].sum() + 1e-9


def test_of_many_texts_a_selection_from_all_of_them_is_drawn() -> None:
    once = tiny_ledger("kinds").dataset
    copies = [once.assign_coords(prompt=once["prompt"] + once.sizes["prompt"] * i) for i in range(120)]
    findings = Findings(xr.concat(copies, "prompt", data_vars="minimal"), DRAWS)
    shown = Run(findings, "head.2.1")
    points = token_points(shown, shown.strongest(CHOICES))
    drawn = points.groupby(["ablated", "which"]).size()
    assert len(drawn) == 2 * CHOICES and set(drawn) == {DRAWN}
    assert once.sizes["prompt"] * len(copies) * TOP_SHARE > DRAWN, "else the test sees nothing"
    assert "tokens-1" in _charts(render(findings))


@pytest.mark.parametrize(
    ("name", "finding", "words"),
    [
        ("erasure", "repair", "gives back 40 % of what heads of the second half lose (MLPs 40 %"),
        ("neither", "none", "next to nothing"),
        ("norm", "none", "(the final norm "),
    ],
)
def test_the_verdict_says_what_was_planted(name: str, finding: str, words: str) -> None:
    # 2 % of the tokens of ten short documents lie in too few of them
    once = planted_ledger(name, "kinds", BOTH).dataset
    copies = [
        once.assign_coords(
            prompt=once["prompt"] + 1000 * i, group=("prompt", [f"{group} copy {i}" for group in once["group"].values])
        )
        for i in range(8)
    ]
    ds = xr.concat(copies, "prompt", data_vars="minimal")
    if name == "norm":  # what makes the stream long sits in the first half
        ds = ds.assign_coords(ablated_layer=("ablated", [2, 3]))
    found = Ledger(ds).summary()
    assert found.finding == finding
    assert words in found.headline
    assert all(np.isfinite(value) for value in found.numbers.values() if not isinstance(value, str))


def test_nothing_removed_is_no_repair_and_still_a_report() -> None:
    model = planted("neither")
    ledger = run(model, same_subject(model, 12), hs.Resample(donors=1), "kinds", BOTH)
    found = ledger.summary()
    assert found.finding == "nothing lost"
    assert any("head.1.0, head.2.0" in sentence for sentence in found.details)
    text = render(Findings(ledger.dataset, DRAWS))
    assert "NaN" not in text.split("<script>")[0]
    assert text.count("Left out:") >= 1
    hero, rest = text.split('id="verdict"', 1)
    assert "Left out: the replacement left the direct effect" in hero
    assert "For every token and knock-out the parts sum" in rest


def test_few_documents_are_said_to_be_few() -> None:
    ds = tiny_ledger("kinds").dataset
    few = ds.isel(prompt=np.isin(ds["group"].values, ["document 0", "document 1", "document 2"]))
    found = Ledger(few).summary()
    assert found.finding == "too few prompts"
    assert "3 documents" in found.headline
    assert "There are fewer than 6 documents, too few for intervals" in render(Findings(few, DRAWS))


def test_other_parts_than_heads_have_their_own_word(tmp_path: Path) -> None:
    ledger = tiny_ledger("kinds", "attn,mlp")
    path = ledger.report(tmp_path / "report.html")
    plain = " ".join(Parsed(path.read_text()).words)
    assert "parts of the second half" in plain
    assert "heads of the second half" not in plain


@cache
def shapes() -> dict[str, xr.Dataset]:
    """Ledgers of texts of eight shapes."""
    heads, some = tiny_ledger("kinds").dataset, tiny_ledger("full").dataset
    one = heads["group"].values == "document 0"
    model = planted("neither")
    return {
        "heads": heads,
        "heads, writer by writer": some,
        "one head": heads.isel(ablated=[4]),
        "layers": tiny_ledger("kinds", "attn,mlp").dataset,
        "one document": heads.isel(prompt=one),
        "one token": heads.isel(prompt=[0]).assign_attrs(skipped_positions=1),
        "several at once": tiny_ledger("kinds", "attn.1+attn.2,layer.2").dataset,
        "nothing removed": run(model, same_subject(model, 12), hs.Resample(donors=1), "kinds", BOTH).dataset,
    }


@pytest.mark.parametrize("shape", shapes())
def test_sentences_of_texts_are_grammatical(shape: str) -> None:
    findings = Findings(shapes()[shape], DRAWS)
    text = Parsed(render(findings)).text
    assert [match[0] for match in WRONG.finditer(text)] == []
    assert not re.search(r"  | ,| \.\s|\.\.|\b(\w+) \1\b(?<!that that)", _sentences(findings))
    for said, *_ in json.loads(choices(Run(findings, summarise(findings).focus)).payload).values():
        assert not WRONG.search(said) and said[0].isupper() and said.endswith(".")


def _sentences(findings: Findings) -> str:
    found = summarise(findings)
    return "\n".join((found.headline, *found.sentences))


def _charts(text: str) -> dict[str, str]:
    return dict(re.findall(r'<script type="application/json" id="([\w-]+)-spec">(.*?)</script>', text, re.DOTALL))
