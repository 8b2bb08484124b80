"""Rankings: planted backups are found, tables against plain loops, continuing, refusing, the command."""

from __future__ import annotations

import copy
import dataclasses
import functools
import html
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import hydrascope as hs
from hydrascope.anatomy import examine
from hydrascope.errors import ComponentError, OutputError, PromptError, RunError, SettingsChanged
from hydrascope.figures import chart_data
from hydrascope.report import render_rank
from hydrascope.report._numbers import tied
from hydrascope.resilience import Verdict
from hydrascope.significance import read_circuit, told
from tests.conftest import Cli
from tests.support import planted as plant

pytestmark = pytest.mark.usefixtures("proved_once")


def by(table: pd.DataFrame, column: str) -> dict[Any, dict[Any, Any]]:
    """Rows by the value of a column."""
    return {row[column]: row for row in table.to_dict("records")}


def opened(name: str) -> tuple[hs.Model, hs.PromptSet]:
    model = plant.planted(name)
    prompts = tuple(
        hs.Prompt(input_ids=tuple(ids), target_id=target)
        for ids, target in zip(model.prompts, model.targets, strict=True)
    )
    return examine(model.model, None, name=name), hs.PromptSet("planted", prompts)


@functools.cache
def ranked(name: str, components: str, primaries: str | None = None) -> hs.Rank:
    return hs.rank(*opened(name), components, hs.Zero(), primaries=primaries, top=2)


@pytest.mark.parametrize(
    ("name", "components", "primary", "backups"),
    [
        ("backup", "attn,mlp", "attn.1", ("attn.3",)),
        ("backup", "head", "head.1.0", ("head.3.0",)),
        ("hydra", "attn,mlp", "attn.1", ("attn.2",)),
    ],
)
def test_planted_backups_are_found(name: str, components: str, primary: str, backups: tuple[str, ...]) -> None:
    """The primary is found as what is repaired most, and who answers it wakes up and is needed."""
    found = ranked(name, components)
    assert found.primaries == (primary,)
    strength = plant.planted(name).strengths
    table = by(found.backups(), "part")
    response = plant.RESPONSES[name][primary]
    for part in backups:
        assert max(table, key=lambda one: float(table[one]["conditional"])) == part
        assert table[part]["conditional_lo"] > 0
        np.testing.assert_allclose(table[part]["energy"], 0, atol=1e-4)
    needed = by(found.freezing().query("chosen_by == 'alone'"), "frozen")
    assert max(needed, key=lambda one: float(needed[one]["gone"])) == backups[0]
    assert set(backups) <= {part for part, row in needed.items() if row["needed"]}
    np.testing.assert_allclose(
        needed[backups[0]]["repair"], (response.attn + response.mlp) * strength.mean(), rtol=1e-4
    )


def test_an_exact_backup_by_hand() -> None:
    """attn.3 writes u when attn.1 does not: E grows from 0 to u**2, and freezing it removes all repair."""
    strength = plant.planted("backup").strengths
    found = ranked("backup", "attn,mlp")
    row = by(found.backups(), "part")["attn.3"]
    for name in ("energy_given", "conditional", "coupling"):
        np.testing.assert_allclose(row[name], (strength**2).mean(), rtol=1e-4, err_msg=name)
    np.testing.assert_allclose(row["interaction"], -strength.mean(), rtol=1e-4)
    alone = by(found.freezing().query("chosen_by == 'alone'"), "frozen")
    np.testing.assert_allclose(alone["attn.3"]["removed"], 1, rtol=1e-4)
    assert [part for part, row in alone.items() if row["needed"]] == ["attn.3"]
    detection = by(found.detection(), "score")
    assert detection["conditional score"]["auc"] == 1
    assert detection["conditional score"]["average_precision"] == 1
    assert detection["total effect"]["auc"] < 1
    misjudged = by(found.misjudged().query("score == 'direct effect'"), "part")
    np.testing.assert_allclose(misjudged["attn.1"]["missed"], -strength.mean(), rtol=1e-4)
    np.testing.assert_allclose(misjudged["attn.1"]["repair"], strength.mean(), rtol=1e-4)
    for row in misjudged.values():
        np.testing.assert_allclose(row["missed"], row["beyond_own"] - row["repair"], atol=1e-5)


def test_neurons_that_take_away_less() -> None:
    """Each of the eraser's neurons takes away less on the prompts with its answer; those that hum do not change."""
    found = ranked("erasure", "attn.1,neuron.3.*", "attn.1")
    strength = plant.planted("erasure").strengths
    gone = {part: row["gone"] for part, row in by(found.freezing().query("chosen_by == 'alone'"), "frozen").items()}
    for unit in range(plant.N_ANSWERS):
        mine = strength[unit :: plant.N_ANSWERS].sum() / len(strength)
        np.testing.assert_allclose(gone.pop(f"neuron.3.{unit}"), 0.28 * mine, rtol=1e-3)
    assert gone
    np.testing.assert_allclose(list(gone.values()), 0, atol=1e-4)


def test_the_set_that_flips_an_answer_is_found_and_kept(tmp_path: Path) -> None:
    """What attn.1 no longer writes attn.3 writes: only without both another answer comes first."""
    model, prompts = opened("backup")
    ask: Any = functools.partial(
        hs.rank, model, prompts, "attn", hs.Resample(donors=2), primaries="attn.2", top=2, out=tmp_path / "rank"
    )
    first = int(np.argmax(plant.planted("backup").strengths))
    assert len(ask().flips()) == 0
    found = ask(why=first)
    assert found.flips().equals(hs.Rank.open(tmp_path / "rank").flips())
    assert ask().flips().equals(found.flips())  # what was asked once is kept
    last = found.flips().iloc[-1]
    assert (last["prompt"], last["parts"], last["flipped"]) == (first, "attn.1+attn.3", True)
    assert found.summary().numbers[f"flips {first}"] == "attn.1+attn.3"
    others = f"which also flips {100 * last['others']:.0f} % of the other prompts; none of them can be spared"
    assert f"flips when attn.1 and attn.3 are lost, {others}" in found.summary().sentences[0]
    with pytest.raises(PromptError, match=r"prompt 999 is not among those .* name one of 0, 1"):
        ask(why=999)
    assert hs.Rank.open(tmp_path / "rank").flips().equals(found.flips())


def test_a_head_that_one_task_needs_is_found() -> None:
    """Of half of the subjects nothing is to be known: the head that looks them up idles there."""
    planted = plant.planted("hydra")
    network, half = copy.deepcopy(planted.model), len(planted.prompts) // 2
    with torch.no_grad():
        network.get_input_embeddings().weight[list(plant.SUBJECTS)[half:], plant.VALUE] = 0
    model = examine(network, None, name="gated")
    prompts = [
        hs.Prompt(input_ids=tuple(ids), target_id=target)
        for ids, target in zip(planted.prompts, planted.targets, strict=True)
    ]
    runs = [
        hs.knock_out(model, hs.PromptSet(name, tuple(some)), "head", hs.Zero(), options=hs.Options(keep_wrong=True))
        for name, some in (("known", prompts[:half]), ("unknown", prompts[half:]))
    ]
    found = hs.context(*runs)
    roles = found.effects().pivot(index="part", columns="task", values="role")
    assert dict(roles.loc["head.1.0"]) == {"known": "matters", "unknown": "idle"}
    assert (roles.drop("head.1.0")["known"] != "matters").all()
    first = found.somewhere().iloc[0]
    assert (first["part"], first["task"], first["idle_in"]) == ("head.1.0", "known", "unknown")
    lost = 1 - plant.RESPONSES["hydra"]["attn.1"].attn - plant.RESPONSES["hydra"]["attn.1"].mlp
    np.testing.assert_allclose(first["effect"], -lost * planted.strengths[:half].mean(), rtol=1e-3)
    row = found.variance().set_index("part").loc["head.1.0"]
    assert row["task"] > row["prompt"] > 0


def test_sentences_state_the_tables() -> None:
    found = ranked("backup", "attn,mlp")
    said: Verdict = found.summary()
    assert said.headline == (
        "What comes back when attn.1 is lost clearly depends on one part; freezing attn.3 removes most, "
        "100 % [100 %, 100 %]."
    )
    row = by(found.backups(), "part")["attn.3"]
    assert said.numbers["backup"] == "attn.3"
    assert said.numbers["conditional"] == row["conditional"]
    assert f"then moves the answer by {np.sqrt(row['energy_given']):.2f} logits" in said.sentences[0]
    hydra = ranked("hydra", "attn,mlp")
    rows = hydra.agreement().query("score == 'total effect' and other == 'direct effect'")
    assert rows["tau"].iloc[0] == hydra.summary().numbers["tau direct effect"]


def test_sentences_hide_neither_backups_nor_ties() -> None:
    found = ranked("erasure", "attn,mlp")
    backups = pd.concat([found.backups().iloc[[0]]] * 7, ignore_index=True)
    backups = backups.assign(part=list("abcdefg"), conditional=np.arange(7.0, 0, -1), conditional_lo=0.1)
    labelled = pd.DataFrame({"score": ["coupling", "own change", "total effect"], "labels": "given", "positives": 2})
    labelled = labelled.assign(parts=7, auc=[1.0, 1.0, 0.8], auc_lo=[0.9, 1.0, 0.7], auc_hi=[1.0, 1.0, 0.9])
    findings = dataclasses.replace(found.findings)
    vars(findings).update(backups=backups, detection=labelled)
    said = told(findings).sentences
    assert any(one.startswith("Losing a, b, c, d and 3 more parts matters clearly more") for one in said)
    assert (
        "Of all scores, coupling and own change find the 2 of 7 parts that were labelled best, with an AUC of 1.00 "
        "each; the total effect alone has 0.80 [0.70, 0.90]." in said
    )


def test_a_ranking_is_continued_and_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydrascope.ranking import _execution

    model, prompts = opened("backup")
    ask: Any = functools.partial(hs.rank, model, prompts, "attn", hs.Zero(), top=2, out=tmp_path / "rank")

    def fail(*_: Any, **__: Any) -> None:
        raise RunError("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(_execution.Ranking, "joint", fail)
        with pytest.raises(RunError, match="stopped"):
            ask()
    with pytest.raises(OutputError, match="has not finished"):
        hs.Rank.open(tmp_path / "rank")
    with monkeypatch.context() as patch:
        patch.setattr(_execution, "attribute", fail)  # what is there is not made again
        found = ask()
    again = hs.Rank.open(tmp_path / "rank")
    for name, table in again.tables().items():
        assert table.equals(found.tables()[name]), name
    with pytest.raises(SettingsChanged, match="primaries"):
        ask(primaries="attn.0")
    with pytest.raises(OutputError, match="no ranking in"):
        hs.Rank.open(tmp_path)


def test_the_page_shows_what_the_tables_have(tmp_path: Path) -> None:
    found = ranked("backup", "attn,mlp")
    page = found.report(tmp_path / "rank.html").read_text(encoding="utf-8")
    assert tied(found.summary().headline) in html.unescape(page)
    drawn = re.findall(r'id="((?:backups|freezing|flips|scores|cheap)-\d)"', page)
    assert drawn == ["backups-1", "freezing-1", "scores-1", "cheap-1"]
    assert "no prompt was asked about" in page
    row = by(found.backups(), "part")["attn.3"]
    assert f"{row['energy_given']:.2f}" in page
    for heading in ("energy alone", "beside the primaries", "amplification", "interaction"):
        assert f'<button type="button">{heading}</button>' in page
    for score in found.agreement()["score"].unique():
        assert score in page
    assert all(f">{part}<" in page.replace("\n", "").replace(" ", "") for part in found.ranking()["part"])


def test_every_figure_of_the_page_is_a_method_that_draws_its_table() -> None:
    found = ranked("backup", "attn,mlp")
    names = found.plot._names()
    assert names == ["conditional_scores", "frozen_repair", "score_agreement", "cheap_against_exact"]
    titles = {name: getattr(found.plot, name)().to_dict()["title"]["text"] for name in names}
    page = render_rank(found.findings)
    for title in titles.values():
        assert title in page
    assert len(chart_data(found.plot.cheap_against_exact())[0]) == len(found.misjudged())
    frozen = found.freezing().query("chosen_by == 'alone'").set_index("frozen")["gone"]
    drawn = chart_data(found.plot.frozen_repair())[0].set_index("frozen")["gone"]
    np.testing.assert_allclose(drawn, frozen[drawn.index], rtol=1e-3, atol=1e-6)


def test_damaged_cheap_scores_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "rank"
    hs.rank(*opened("backup"), "attn", hs.Zero(), primaries="attn.1", top=2, out=folder)
    scores = folder / "companions" / "scores.zarr"
    assert len(hs.Rank.open(folder).misjudged())
    (chunk,) = [path for path in (scores / "estimate" / "c").rglob("*") if path.is_file()]
    whole = chunk.read_bytes()
    for damaged in (whole[:-1] + bytes([whole[-1] ^ 1]), None):  # a flipped bit, a file that is missing
        chunk.unlink() if damaged is None else chunk.write_bytes(damaged)
        with pytest.raises(OutputError, match="are not what was written; remove that folder"):
            hs.Rank.open(folder)


def test_scores_of_a_stress_test_join_the_table(tmp_path: Path) -> None:
    model, prompts = opened("backup")
    test = hs.stress(model, prompts, "attn", hs.Zero(), rates=(0.3, 0.7), masks=20, out=tmp_path / "stress")
    ask: Any = functools.partial(hs.rank, model, prompts, primaries="attn.1", cheap=False, top=2)
    found = ask("attn", hs.Zero(), stress=tmp_path / "stress", out=tmp_path / "rank")
    measured, table = test.ranking().set_index("part"), found.ranking().set_index("part")
    for column, name in (("under_failure", "importance under failure"), ("shapley", "Shapley value")):
        for end in ("", "_lo", "_hi"):
            np.testing.assert_allclose(table[f"{name}{end}"], measured[f"{column}{end}"][table.index], rtol=1e-12)
        assert list(table[f"rank {name}"]) == list(table[name].abs().rank(ascending=False))
    (row,) = found.agreement().query("score == 'own change' and other == 'Shapley value'").to_dict("records")
    expected = stats.kendalltau(table["own change"].abs(), table["Shapley value"].abs()).statistic
    np.testing.assert_allclose(row["tau"], expected)
    assert -1 < row["tau_lo"] < row["tau"] < row["tau_hi"] <= 1
    groups = found.findings.stress["by_group"].sel(score="shapley").mean("group").to_series()
    np.testing.assert_allclose(groups, table["Shapley value"][groups.index])
    assert found.agreement().dropna(subset="tau")["tau_lo"].notna().all()
    other = found.findings.stress.assign_coords(prompt=found.findings.stress["prompt"] + 1)
    apart = replace(found.findings, stress=other).agreement.query("other == 'Shapley value'")
    assert apart["tau"].notna().any() and apart["tau_lo"].isna().all()  # measured on other prompts
    told = "The stress test kept other prompts"
    assert told in render_rank(replace(found.findings, stress=other)) and told not in render_rank(found.findings)
    assert hs.Rank.open(tmp_path / "rank").ranking().equals(found.ranking())
    with pytest.raises(RunError, match=r"not of this ranking's parts and prompts .*components"):
        ask("attn.0-2", hs.Zero(), stress=tmp_path / "stress")
    with pytest.raises(RunError, match=r"not of this ranking's parts and prompts .*ablation"):
        ask("attn", hs.Mean(), stress=tmp_path / "stress")
    with pytest.raises(OutputError, match="no stress test in"):
        ask("attn", hs.Zero(), stress=tmp_path / "rank")


def test_labels_from_files(tmp_path: Path) -> None:
    model, prompts = opened("backup")
    listed, table, wrong = (tmp_path / name for name in ("list.json", "table.csv", "wrong.json"))
    listed.write_text('["a3"]')
    table.write_text("part,label\nattn.3,1\nattn.0,no\n")
    rank: Any = functools.partial(hs.rank, model, prompts, "attn", hs.Zero(), primaries="attn.1", cheap=False, top=2)
    given = [rank(labels=path).detection().query("labels == 'given'") for path in (listed, table)]
    conditional = [by(one, "score")["conditional score"] for one in given]
    assert [(row["positives"], row["auc"]) for row in conditional] == [(1, 1), (1, 1)]
    assert [int(row["parts"]) for row in conditional] == [3, 2]
    for content, said in (('["attn.9"]', "not among"), ("{", "has no labels"), ('{"a3": "perhaps"}', "has no labels")):
        wrong.write_text(content)
        with pytest.raises(RunError, match=said):
            rank(labels=wrong)
    with pytest.raises(OutputError, match="cannot be read"):
        rank(labels=tmp_path / "missing.json")


def test_a_ranking_becomes_a_circuit_and_labels(tmp_path: Path, cli: Cli) -> None:
    """The head that loses most is the circuit, and comes back as the label of another ranking."""
    model, prompts = opened("backup")
    heads = "head.0.0,head.1.0,head.3.0"
    found = hs.rank(model, prompts, heads, hs.Zero(), primaries="head.1.0", cheap=False, top=2, out=tmp_path / "rank")
    file = tmp_path / "circuit.json"
    assert cli("circuit", tmp_path / "rank", "--score", "own change", "--keep", 1, "--out", file).out.strip() == str(
        file
    )
    nodes = read_circuit(file.read_text(encoding="utf-8")).set_index("part")
    table = found.ranking().set_index("part")
    np.testing.assert_allclose(nodes["score"], -table["own change"][nodes.index], atol=1e-12)
    np.testing.assert_allclose(nodes["direct"], nodes["score"])
    kept = list(nodes.index[nodes["in_circuit"]])
    assert kept == [str(table["own change"].idxmin())]
    again = hs.rank(model, prompts, heads, hs.Zero(), primaries="head.0.0", cheap=False, top=2, labels=file)
    given = by(again.detection().query("labels == 'given'"), "score")
    assert given["own change"]["positives"] == 1 and given["own change"]["auc"] == 1
    assert "choose from total effect" in cli("circuit", tmp_path / "rank", "--score", "beauty").refusal()


@pytest.mark.parametrize("lost", ["frozen", "scores.zarr", "why-0-1"])
def test_a_ranking_that_lost_some_of_its_numbers_is_refused(lost: str, tmp_path: Path) -> None:
    model, prompts = opened("backup")
    out = tmp_path / "rank"
    ask = functools.partial(hs.rank, model, prompts, "attn", hs.Zero(), primaries="attn.1", top=2, why=0, out=out)
    ask()
    assert (out / "companions" / lost).exists()
    shutil.rmtree(out / "companions" / lost)
    with pytest.raises(OutputError, match=rf"lacks companions/{lost[:6]}.* give the command that made it again"):
        hs.Rank.open(out)
    ask()
    assert hs.Rank.open(out).summary().headline


def test_it_takes_the_forms_that_a_run_takes() -> None:
    model, prompts = opened("backup")
    rows = [{"input_ids": list(one.input_ids or ()), "target_id": one.target_id} for one in prompts]
    found = hs.rank(model.network, rows, ["attn", "mlp"], "zero", top=2, options={"target": "label"})
    pd.testing.assert_frame_equal(found.ranking(), ranked("backup", "attn,mlp").ranking())


def test_mistakes_are_told_before_the_run() -> None:
    model, prompts = opened("backup")
    with pytest.raises(ComponentError, match="not among the ranked parts"):
        hs.rank(model, prompts, "attn", hs.Zero(), primaries="mlp.1")
    with pytest.raises(ComponentError, match="all of the components are primaries"):
        hs.rank(model, prompts, "attn.1,attn.3", hs.Zero(), primaries="attn.1,attn.3")
    with pytest.raises(ComponentError, match="none of the components reads"):
        hs.rank(model, prompts, "head.1.*", hs.Zero())


def test_the_command(model_folder: Path, prompt_file: Path, cli: Cli, tmp_path: Path) -> None:
    command = (
        "rank",
        str(model_folder),
        "--prompts",
        str(prompt_file),
        "--components",
        "attn,mlp",
        "--primaries",
        "a0",
    )
    out = tmp_path / "rank"
    plan = json.loads(cli(*command, "--out", out, "--dry-run", "--json").out)
    assert plan["knockouts"] == 6
    assert {name: one["knockouts"] for name, one in plan["companions"].items()} == {"joint": 5, "frozen": 5}
    assert not out.exists()
    said = cli(*command, "--out", out)
    assert said.code == 0, said.err
    assert said.out.splitlines()[0] == hs.Rank.open(out).summary().headline
    page = out / "report.html"
    assert said.out.splitlines()[-1] == str(page)
    written = page.read_text(encoding="utf-8")
    page.unlink()
    assert cli("report", out).out.strip() == str(page)
    assert page.read_text(encoding="utf-8") == written
    assert cli("show", out).out == said.out
    again = json.loads(cli(*command, "--out", out, "--json").out)
    assert (again["primaries"], again["report"]) == (["attn.0"], str(page))
    assert {row["part"] for row in again["tables"]["ranking"]} == {
        f"{k}.{n}" for k in ("attn", "mlp") for n in range(3)
    }
    assert "rank attribution patching" in again["tables"]["ranking"][0]
    assert "1 ablation" in cli(*command, "--ablation", "zero,mean").refusal().replace("one", "1")
    assert cli("runs", tmp_path).out.splitlines()[1].strip() == hs.Rank.open(out).summary().headline
