"""The report is one file that says what the ledger says, whatever the ledger holds."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import hydrascope as hs
from hydrascope.ablations import Ablation
from hydrascope.analysis import Findings, _closing, repair, summarise
from hydrascope.errors import OutputError
from hydrascope.report import _facts, _scripts, render, write_report
from hydrascope.report._caveats import caveats
from hydrascope.report._choice import choices
from hydrascope.report._html import in_script
from hydrascope.report._listing import Cell, Listing
from hydrascope.report._literature import REFERENCES
from hydrascope.report._numbers import fixed, interval, number, percent, signed, summands, tied
from hydrascope.report._run import Run
from hydrascope.report._section import pack
from hydrascope.results import Ledger
from tests.support.synthetic import divided, synthetic_ledger


class Parsed(HTMLParser):
    """Elements, text and scripts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.raw: tuple[str, dict[str, str | None]] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.raw = (tag, dict(attrs)) if tag in ("script", "style") else None

    def handle_endtag(self, tag: str) -> None:
        self.raw = None

    def handle_data(self, data: str) -> None:
        if self.raw is None:
            self.words.append(data)
        elif self.raw[0] == "script":
            self.scripts.append((self.raw[1], data))

    @property
    def text(self) -> str:
        """What a reader reads, spaces made single."""
        return " ".join(" ".join(self.words).split())

    def charts(self) -> dict[str, Any]:
        """The JSON of every chart."""
        return {
            str(attrs["id"]): json.loads(text)
            for attrs, text in self.scripts
            if str(attrs.get("id", "")).endswith("-spec")
        }


ALWAYS = {
    *("balance", "effects", "agreement", "prompts", "compensation", "kinds", "responders", "erasure"),
}
"""Sections of every run that is read at the last token."""
ON_REQUEST = {"heads", "neurons"}
"""Sections of runs that knock out heads, or keep heads or neurons apart."""


@cache
def base() -> tuple[xr.Dataset, str, Parsed]:
    ds = synthetic_ledger()
    html = render(ds)
    return ds, html, Parsed(html)


def test_it_is_small_and_loads_nothing() -> None:
    _, html, page = base()
    assert len(html.encode()) < 3_000_000
    for tag, attrs in page.tags:
        for name in ("src", "srcset", "data", "poster", "action", "background"):
            assert name not in attrs, (tag, attrs)
        if tag == "link":
            assert attrs["href"] == "data:,"
        elif "href" in attrs:
            assert tag == "a"
    style = re.search(r"<style>(.*?)</style>", html, re.S)
    assert style
    assert "url(" not in style[1]
    assert "@import" not in style[1]
    assert "@font-face" not in style[1]
    for chart in page.charts().values():
        assert '"url"' not in json.dumps(chart["spec"])


def test_it_says_the_verdict_and_every_section() -> None:
    ds, _, page = base()
    found = summarise(Findings(ds))
    plain = page.text.replace("\u202f", " ").replace("\xa0", " ")
    for sentence in (found.headline, *found.sentences):
        assert " ".join(sentence.replace("\u202f", " ").replace("\xa0", " ").split()) in plain
    assert plain.count("How to read it") == len(ALWAYS) + 1  # the claims are a table alone
    assert {name.rsplit("-", 2)[0] for name in page.charts()} == ALWAYS
    for name in ALWAYS:
        for reference in REFERENCES[name]:
            assert " ".join(reference.text.split()) in plain
            assert reference.source.name in plain
    for said in (ds.attrs["command"], "torch 2.13.0", "60 of 67 kept", "7 dropped", "Seed", "xr.open_zarr"):
        assert said in page.text


def test_the_picture_stands_before_the_findings_and_the_details_behind_them() -> None:
    ds, html, _ = base()
    found = summarise(Findings(ds))
    order = ['class="deck"', 'id="balance-1"', 'class="equation"', "What was found", "In detail", "On this page"]
    places = [html.index(mark) for mark in order]
    assert places == sorted(places)
    shown = {
        name: re.findall(r"<li>(.*?)</li>", html.split(f'<ul class="{name}">')[1].split("</ul>")[0])
        for name in ("verdict", "quiet")
    }
    assert len(shown["verdict"]) == len(found.leading) <= 3
    assert len(shown["quiet"]) == len(found.details) >= 5


def test_a_model_given_by_its_place_is_named_by_its_folder_and_the_command_kept() -> None:
    ds = synthetic_ledger(n_prompts=8, n_layers=2)
    ds.attrs |= {"model": "/home/someone/models/small", "command": "hydrascope run /home/someone/models/small"}
    text = Parsed(render(ds)).text
    assert text.count("/home/someone") == 1
    assert "hydrascope run /home/someone/models/small" in text
    assert "Model small, 2 layers" in text


@pytest.mark.parametrize("name", ["repair", "who_repairs", "late_mlps", "released", "closing"])
def test_a_table_is_computed_once_for_verdict_report_and_notebook(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    home, attribute = (_closing, name) if name == "closing" else (vars(Findings)[name], "function")
    made, calls = getattr(home, attribute), []
    monkeypatch.setattr(home, attribute, lambda *given, **more: calls.append(1) or made(*given, **more))
    ledger = Ledger(synthetic_ledger(n_prompts=8, n_layers=2))
    ledger.summary(), ledger.repair(), ledger.who_repairs(), ledger.released(), ledger.closing()
    render(ledger.findings)
    ledger.summary()
    assert len(calls) == 1


def test_what_a_caller_does_to_a_table_changes_no_other() -> None:
    ledger = Ledger(synthetic_ledger(n_prompts=8, n_layers=2))
    before = ledger.summary()
    for table in (ledger.repair(), ledger.who_repairs(), ledger.who_repairs("attn.0"), ledger.released()):
        del table["ablated"]
    assert "ablated" in ledger.repair()
    assert Ledger(ledger.dataset).summary() == ledger.summary() == before


def test_only_tables_with_many_columns_are_wider_than_the_text() -> None:
    whole = synthetic_ledger(n_prompts=20)
    page = Parsed(render(divided(whole, ["mlp.6", "mlp.7"], width=6)))
    tables = [str(attrs["class"]) for tag, attrs in page.tags if "scroller" in str(attrs.get("class", ""))]
    assert tables == ["scroller", "scroller", "scroller wide", "scroller wide", "scroller high"]
    few = Listing("caption", ("a", "b"), ((Cell("x", 0.0), Cell("1", 1.0)),))
    assert not few.wide
    said = Listing("caption", ("a", "b"), ((Cell("x", 0.0), Cell("1", 1.0)), (Cell("y", 0.0), Cell("word " * 9, 1.0))))
    assert (set(few.wordy), set(said.wordy)) == (set(), {"b"})


def test_headings_are_in_order_and_every_chart_has_a_description() -> None:
    _, _, page = base()
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    panels = [attrs for _, attrs in page.tags if "panel" in str(attrs.get("class", "")).split()]
    assert len(panels) == len(page.charts()) > 10
    assert all(attrs["aria-label"] for attrs in panels)
    ids = [attrs["id"] for _, attrs in page.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))


def test_the_table_holds_the_numbers_of_the_analysis() -> None:
    ds, html, _ = base()
    page, table = Parsed(html.split('id="numbers"')[1].split('id="all-prompts"')[0]), repair(ds)
    table = table.sort_values("own_change", kind="stable")
    values = [float(str(attrs["data-value"])) for tag, attrs in page.tags if tag == "td"]
    rows = np.array(values).reshape(len(table), -1)
    columns = ["direct_effect", "own_change", "compensation_attn", "compensation_mlp", "norm_effect"]
    columns += ["self_repair", "total_effect"]
    assert rows[:, : len(columns)] == pytest.approx(table[columns].to_numpy())
    shown = rows[:, len(columns)]
    assert np.isnan(shown).tolist() == (~table["meaningful"]).tolist()
    assert shown[table["meaningful"]] == pytest.approx(table.loc[table["meaningful"], "restored"].to_numpy())
    for label in set(table["hidden_by"]) - {""}:
        assert page.text.count(f" {label} ") >= (table["hidden_by"] == label).sum()


def test_the_claims_of_the_paper_stand_on_the_page_with_both_numbers() -> None:
    ds, html, _ = base()
    found = Findings(ds).mcgrath
    text = Parsed(html.split('<section id="mcgrath"')[1].split("</section>")[0]).text
    for row in found.to_dict("records"):
        for said in (row["claim"], row["verdict"], row["where"], row["paper"], row["says"]):
            assert said in text
        if np.isfinite(row["value"]):
            assert f"{row['value']:.2f}".replace("-", "−") in text


def test_a_number_has_one_value_one_interval_and_one_sign_on_the_page() -> None:
    """Headline and sentences, table and chart, read from the page alone."""
    ds, html, page = base()
    focus = summarise(Findings(ds)).focus
    plain = html.replace("\u202f", " ").replace("\xa0", " ")
    numbers = plain.split('id="numbers"')[1].split('id="all-prompts"')[0]
    head = re.findall(r'<th scope="col"[^>]*><button type="button">(.*?)</button>', numbers)
    row = re.search(rf'<th scope="row"[^>]*>{re.escape(focus)}</th>(.*?)</tr>', numbers, re.S)
    assert row
    cells = re.findall(r"<td data-value=[^>]*>(.*?)(?:<small>(.*?)</small>)?</td>", row[1])
    shown = dict(zip(head[-len(cells) :], cells, strict=True))
    told = plain.split('class="deck">')[1].split("<main>")[0] + plain.split('id="verdict"')[1].split("The words")[0]
    for name, direction in (("own change", -1), ("attention", 1), ("restored with norm", 1), ("slope", 1), ("R²", 1)):
        value, ends = shown[name]
        low, high = (end.replace("%", "").strip() for end in ends.split(" to "))
        if direction < 0:
            value, low, high = (text.removeprefix("−") for text in (value, high, low))
        unit = " %" if "%" in value else ""
        assert f"{value} [{low}{unit}, {high}{unit}]" in told, (name, value, ends)
    assert f"(slope {shown['slope'][0]}, R² {shown['R²'][0]})" in told
    drawn = [data["columns"] for chart in page.charts().values() for data in chart["datasets"].values()]
    [lines] = [columns for columns in drawn if {"slope", "r2", "ablated"} == set(columns)]
    names = [lines["ablated"]["levels"][code] for code in lines["ablated"]["codes"]]
    slope = float(lines["slope"][names.index(focus)])
    assert f"{slope:.2f}".replace("-", "−") == shown["slope"][0]
    assert slope < 0, "repair has a negative slope"


def test_the_balance_shown_first_is_the_one_the_verdict_describes() -> None:
    ds, html, _ = base()
    assert summarise(Findings(ds)).focus == "attn.4"
    assert f"for {summarise(Findings(ds)).focus}; the sum misses the measured total" in html
    own, attention, mlps, norm, total = re.findall(r"<dd>(.*?)</dd>", html.split('class="equation"')[1])[:5]
    values = [
        float(text.replace("−", "-").replace(" ", "").lstrip("+=")) for text in (own, attention, mlps, norm, total)
    ]
    assert sum(values[:4]) == pytest.approx(values[4], abs=2.1e-3)


def test_adapter_gguf_file_and_unused_tensors_are_told_where_there_are_any() -> None:
    ds, _, _ = base()
    assert not {"Adapter", "GGUF file", "Unused tensors"} & set(dict(_facts.run_facts(ds)))
    told = dict(_facts.run_facts(ds.assign_attrs(adapter="org/lora", gguf="small.Q4_0.gguf", unused_tensors=1)))
    assert told["Adapter"] == "org/lora"
    assert told["GGUF file"] == "small.Q4_0.gguf"
    assert told["Unused tensors"] == "1 of the checkpoint has no place in the model"
    two = dict(_facts.run_facts(ds.assign_attrs(unused_tensors=2)))
    assert two["Unused tensors"] == "2 of the checkpoint have no place in the model"


def test_every_dropped_prompt_is_listed_with_its_reason() -> None:
    ds = synthetic_ledger(n_prompts=8, n_layers=2)
    rows = [
        {"index": 90, "text": "One and", "target": " two", "why": "the model puts another token first", "said": " six"},
        {"index": 91, "text": "A", "target": " B", "why": "the answer begins at no border", "said": None},
    ]
    text = Parsed(render(ds.assign_attrs(left_out=json.dumps(rows)))).text
    assert "90 “One and” wanted “ two”: the model puts another token first: “ six”" in text
    assert "91 “A” wanted “ B”: the answer begins at no border" in text


WRONG = re.compile(
    r"\ba (?:attention|[aeio]\w|MLP|own)|\ban (?:[bcdfgjkpqtvwyz]\w|layer|head|neuron)"
    r"|\b1 (?:prompts|groups|heads|layers|neurons|texts|documents|knock-outs|others|donors|tokens|points)\b"
    r"|\bare 1 \w|\beach has 1 donors|(?<![.\d])(?!1\b)\d+ (?:prompt|group|head|neuron|knock-out)\b(?!’|-)"
)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"n_prompts": 1, "n_groups": 1, "donors": 1},
        {"n_prompts": 4, "n_groups": 2, "null": False},
        {"ablated": [f"head.{layer}.{unit}" for layer in range(8) for unit in range(2)]},
        {"ablated": [f"neuron.{layer}.1" for layer in range(8)]},
        {"ablated": ["mlp.7"], "n_prompts": 12},
        {"ablated": ["layer.2", "attn.3+attn.5"], "n_prompts": 20},
        {"strength": -1.0, "n_prompts": 20},
    ],
    ids=["layers", "one prompt", "few prompts", "heads", "neurons", "one MLP", "mixed", "against the answer"],
)
def test_sentences_are_grammatical(options: dict[str, Any]) -> None:
    found = [match[0] for match in WRONG.finditer(Parsed(render(synthetic_ledger(**options))).text)]
    assert found == []
    ds = synthetic_ledger(**options)
    for sentence in (json.loads(choices(Run(Findings(ds), summarise(Findings(ds)).focus)).payload)).values():
        assert not WRONG.search(" ".join((sentence[0], sentence[2])))


def test_sibling_of_a_bundled_model_is_named_with_the_command_that_runs_it() -> None:
    ds, html, _ = base()
    assert "sibling" not in html
    page = Parsed(render(ds.assign_attrs(sibling="iolaus", sibling_command="hydrascope run iolaus")))
    assert "has a sibling that differs in one ingredient of training: iolaus." in page.text
    assert "hydrascope run iolaus" in page.text


NASTY = "</script><script>alert('x')</script><img src=x onerror=alert(1)> & <!-- \"q\" \u2028 {{ 7 * 7 }}"


def test_text_from_the_ledger_stays_text() -> None:
    ds, _, plain = base()
    ds = ds.copy()
    for name in ("text", "target", "clean_top"):
        nasty = np.array([f"{NASTY} {i}" for i in range(ds.sizes["prompt"])], dtype=object)
        ds = ds.assign_coords({name: ("prompt", nasty)})
    for name in ("model", "model_name", "command", "prompts_name", "revision", "dtype", "created"):
        ds.attrs[name] = NASTY
    page = Parsed(render(ds))
    assert [tag for tag, _ in page.tags if tag in ("script", "img")] == [
        tag for tag, _ in plain.tags if tag in ("script", "img")
    ]
    assert not [attrs for _, attrs in page.tags if "onerror" in attrs]
    assert " ".join(NASTY.split()) in page.text
    assert len(page.charts()) == len(plain.charts())
    seen = json.dumps(page.charts()["prompts-1-spec"], ensure_ascii=False)
    assert "<script>alert(" in seen


@given(st.text())
def test_json_inside_a_script_element_cannot_end_it(text: str) -> None:
    written = str(in_script(json.dumps({"text": text})))
    assert "<" not in written
    assert json.loads(written) == {"text": text}


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({"ablated": [f"head.{layer}.{unit}" for layer in range(8) for unit in range(2)]}, ["effects", "agreement"]),
        ({"ablated": [f"kv.{layer}.{unit}" for layer in range(8) for unit in range(2)]}, ["agreement"]),
        ({"n_prompts": 1}, ["agreement", "compensation"]),
        ({"n_layers": 1, "n_prompts": 8}, []),
        ({"null": False, "donors": 1}, []),
        ({"ablated": ["mlp.7"]}, ["responders"]),
        ({"ablated": ["layer.2", "attn.3+attn.5", "attn.1+mlp.1"], "n_prompts": 20}, ["effects", "agreement"]),
        ({"parallel_blocks": True, "n_prompts": 20, "n_groups": 3}, []),
    ],
    ids=["heads", "groups", "one prompt", "one layer", "no null", "last MLP", "layers and joint", "parallel"],
)
def test_thin_ledgers_still_make_a_report(options: dict[str, Any], absent: list[str]) -> None:
    page = Parsed(render(synthetic_ledger(**options)))
    reasons = [words for words in page.words if words.strip().startswith("Left out:")]
    assert len(reasons) >= len(absent)
    drawn = {name.rsplit("-", 2)[0] for name in page.charts()}
    assert drawn.isdisjoint(absent)
    assert len(reasons) + len(drawn - ON_REQUEST) == len(ALWAYS)
    assert ("heads" in drawn) == any("head" in name for name in options.get("ablated", []))
    assert not re.search(r"\b(nan|None|inf)\b", page.text)


def test_heads_and_neurons_have_sections_of_their_own_and_the_rest_speaks_of_layers() -> None:
    whole = synthetic_ledger(n_prompts=20)
    apart = divided(whole, [f"attn.{layer}" for layer in range(8)] + ["mlp.6", "mlp.7"], width=6)
    page, plain = Parsed(render(apart)), Parsed(render(whole))
    drawn = {name.rsplit("-", 2)[0] for name in page.charts()}
    assert drawn - {name.rsplit("-", 2)[0] for name in plain.charts()} == ON_REQUEST
    for name in ON_REQUEST:
        for reference in REFERENCES[name]:
            assert " ".join(reference.text.split()) in page.text
    found = Ledger(apart)
    assert found.summary().headline == summarise(Findings(whole)).headline in page.text
    row = found.neuron_sparsity().query("scope == 'all'").set_index("ablated").loc[summarise(Findings(whole)).focus]
    assert f"is carried by {row['half']:g} of {row['neurons']} neurons on the median prompt" in page.text
    table = found.neurons(summarise(Findings(whole)).focus, most=15)
    section = Parsed(render(apart).split('<section id="neurons"')[1])
    rows = [attrs["data-value"] for tag, attrs in section.tags if tag == "td"]
    assert float(str(rows[2])) == pytest.approx(float(table["change"].iloc[0]))
    assert str(table["neuron"].iloc[0]) in page.text
    assert not re.search(r"\b(nan|None|inf)\b", page.text)
    assert len(render(apart).encode()) < 3_000_000


@pytest.mark.parametrize("ablation", [hs.Mean(), hs.Zero(), hs.Noise(), hs.Counterfactual()], ids=lambda one: one.name)
def test_other_ablations_and_targets_are_named(ablation: Ablation) -> None:
    ds = synthetic_ledger(n_prompts=10, n_layers=4, donors=1, null=False)
    ds.attrs |= {
        "ablation": ablation.name,
        "ablation_caveat": ablation.caveat("prompt"),
        "replaced_by": ablation.replaced_by("prompt"),
        "target_policy": "top",
        "dtype": "bfloat16",
        "null_draws": 2,
        "closing_tolerance": 0.3,
    }
    named = {"mean": "the mean over prompts", "zero": "zeros"}.get(ablation.name, ablation.replaced_by("prompt"))
    assert dict(_facts.headline_facts(ds))["Replaced by"] == named
    assert dict(_facts.run_facts(ds))["Control"] == "random-direction control (norm-matched), 2 each"
    findings = Findings(ds)
    cells = int((~findings.who_repairs["is_own"]).sum())
    said = " ".join(caveats(Run(findings, "attn.2")))
    for caveat in (
        "happened to rank first",
        "The model computes in bfloat16",
        f"tests {cells} cells",
        "Without the random-direction",
    ):
        assert caveat in said
    assert ("no prompt produces" in said or "no single prompt produces" in said) == (
        ablation.name in ("zero", "mean", "noise")
    )


@pytest.mark.parametrize(
    ("positions", "where", "caveat"),
    [
        ("last", "at the last position", "Only the last position is replaced"),
        ("-1", "at the last position", "Only the last position is replaced"),
        ("all", "at all positions", "replaced at all positions, so the last one also sees earlier ones differently"),
        ("0,3", "at positions 0,3", "replaced at positions 0,3 alone"),
        ("2", "at position 2", "replaced at position 2 alone"),
    ],
)
def test_positions_are_those_that_were_replaced_wherever_they_are_told(positions: str, where: str, caveat: str) -> None:
    ds = synthetic_ledger(n_prompts=8, n_layers=2).assign_attrs(positions=positions)
    text = Parsed(render(ds)).text
    assert f"4 other prompts’ values, {where}" in text
    assert caveat in text
    assert "at the positions" not in text
    assert ("Only the last position is replaced" in text) == (positions in ("last", "-1"))


def test_the_dose_is_told_with_what_was_put_in_place() -> None:
    ds = synthetic_ledger(n_prompts=8, n_layers=2).assign_attrs(dose=0.5)
    assert dict(_facts.headline_facts(ds))["Replaced by"] == "4 other prompts’ values, dose 0.500"


def test_a_ledger_that_does_not_close_is_not_called_closed() -> None:
    ds = synthetic_ledger(n_prompts=10, n_layers=4)
    ds["total_effect"][3, 2] += 0.5
    text = Parsed(render(ds)).text
    assert "Do not rely on this report" in text
    assert f"at prompt {int(ds['prompt'][3])} without {ds['ablated'].values[2]}" in text
    assert "Yes. For every prompt" not in text


def test_a_failed_write_leaves_the_old_report_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ds, html, _ = base()
    monkeypatch.setattr("hydrascope.report._page.render", lambda _: html)
    path = tmp_path / "report.html"
    assert write_report(ds, path) == path
    assert path.read_text(encoding="utf-8") == html

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_report(ds, path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text(encoding="utf-8") == html
    with pytest.raises(OutputError, match="cannot be written"):
        write_report(ds, tmp_path / "absent" / "report.html")


def test_a_ledger_from_disk_makes_the_same_report(tmp_path: Path) -> None:
    ds, html, _ = base()
    ds.to_zarr(tmp_path / "ledger.zarr", consolidated=False)
    assert render(xr.open_zarr(tmp_path / "ledger.zarr", consolidated=False)) == html


def test_report_and_figures_do_not_import_torch() -> None:
    code = "import sys, hydrascope.report; print({'torch', 'transformers'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.2345, "1.23"), (-0.00512, "−0.00512"), (12345.6, "12,346"), (1.2e-9, "1.2e−9"), (0, "0"), (float("nan"), "–")],
)
def test_numbers_have_few_digits_and_a_true_minus(value: float, text: str) -> None:
    assert number(value) == text


def test_other_ways_to_write_numbers() -> None:
    assert fixed(-0.004) == "0.00"
    assert fixed(-1.005, 1) == "−1.0"
    assert interval(-0.25, 1) == "−0.25 to 1.00"
    assert interval(float("nan"), 1) == "–"
    assert (signed(0.125), signed(-0.004), signed(-1.5)) == ("+0.12", "0.00", "−1.50")
    assert percent(0.873) == "87\u202f%"
    assert summands([-1.4, 0.99, -0.2], 1) == ["−1.4", "+ 1.0", "− 0.2"]
    assert tied("it is 69 % [67 %, 71 %] of it") == "it is 69\u202f% [67\u202f%,\xa071\u202f%] of it"


@settings(max_examples=40)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"name": st.sampled_from(["a", "b", "<c>"]), "x": st.one_of(st.none(), st.floats(allow_nan=False))}
        ),
        min_size=1,
    )
)
def test_packed_records_are_the_records(records: list[dict[str, Any]]) -> None:
    packed = pack(records)
    columns = {
        name: [column["levels"][code] for code in column["codes"]] if isinstance(column, dict) else column
        for name, column in packed["columns"].items()
    }
    assert [{name: columns[name][i] for name in columns} for i in range(packed["rows"])] == records


def test_scripts_are_kept_whole_and_done_without_where_they_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, calls = _scripts.bundle(), []
    made = "scripts </script <!--"
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda code: calls.append(code) or made)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    fresh = _scripts.bundle.__wrapped__
    first = fresh()
    assert first == "scripts <\\/script <\\!--" + _scripts.ENDING
    assert fresh() == first
    assert len(calls) == 1
    [kept] = (tmp_path / "hydrascope").iterdir()
    for damage in (first[:-3], ""):
        kept.write_text(damage)
        assert fresh() == first
        assert kept.read_text() == first
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert fresh() == first
    assert len(calls) == 4
    assert expected.endswith(_scripts.ENDING) and "</script" not in expected
