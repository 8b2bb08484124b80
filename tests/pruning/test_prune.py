"""Prunings: tables against plain sums, continuing, refusing, the command and its folder."""

from __future__ import annotations

import json
import shlex
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

import hydrascope as hs
from hydrascope.anatomy import examine
from hydrascope.errors import ComponentError, ExportRefused, OutputError, RunError, SettingsChanged
from hydrascope.ledger import read_record, write_record
from hydrascope.prompts import Document
from hydrascope.pruning import Findings, Judge, PruneRequest, prepare_prune, require_exportable
from tests.conftest import Cli
from tests.pruning.test_rankings import with_two_backups
from tests.support import texts as support
from tests.support import tiny
from tests.support.families import build

CHEAP = "loss,influence,last,random"
SIZE = {"calibrate": 60, "test": 90, "shares": (0.25, 0.5)}


def pruned(out: Path | None = None, **more: Any) -> hs.Prune:
    return hs.prune(support.tiny_model(), support.tiny_texts(), **{"ranking": CHEAP, **SIZE, "out": out, **more})


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    """Eight documents of random words, four texts of ten tokens each."""
    generator = torch.Generator().manual_seed(4)
    rows = [{"text": " ".join(f"w{i}" for i in torch.randint(4, 60, (36,), generator=generator))} for _ in range(8)]
    return tiny.write_lines(tmp_path / "words.jsonl", rows)


def test_every_row_is_what_plain_sums_say() -> None:
    found = pruned()
    test, calibration = found.findings.test, found.findings.calibration
    tokens = test.predicted.sum()
    assert 90 <= tokens < 100
    for row in found.costs().query("ranking != 'random'").to_dict("records"):
        cost, clean = test.store.known[row["removed"]], test.store.known[""]
        assert cost.kl is not None
        assert cost.agreed is not None
        np.testing.assert_allclose(row["rise"], (cost.loss - clean.loss).sum() / tokens)
        np.testing.assert_allclose(row["perplexity"], np.exp(cost.loss.sum() / tokens))
        np.testing.assert_allclose(row["kl"], cost.kl.sum() / tokens)
        np.testing.assert_allclose(row["agreed"], cost.agreed.sum() / tokens)
        seen = calibration.store.known[row["removed"]].loss - calibration.store.known[""].loss
        np.testing.assert_allclose(row["gap"], row["rise"] - seen.sum() / calibration.predicted.sum())
    assert list(found.costs()["size"].unique()) == [1, 2]


def test_random_is_the_mean_of_its_sets() -> None:
    """Of four blocks there are six sets of two, of which no twenty differ."""
    found = pruned()
    sets = found.findings.chosen["random"].sets
    assert [set(map(frozenset, sets[size])) for size in (1, 2)] == [
        {frozenset(some) for some in combinations(found.findings.parts, size)} for size in (1, 2)
    ]
    assert [len(sets[size]) for size in (1, 2)] == [4, 6]
    assert list(found.costs().query("ranking == 'random'")["removed"]) == ["all 4 sets", "all 6 sets"]
    assert set(found.agreement().query("size == 2")["sets"]) <= {6}
    known = found.findings.test.store.known
    mean = np.mean([known["+".join(parts)].loss.sum() for parts in sets[2]]) - known[""].loss.sum()
    row = found.costs().query("ranking == 'random' and size == 2").iloc[0]
    np.testing.assert_allclose(row["rise"], mean / found.findings.test.predicted.sum())


def test_a_few_random_sets_have_no_interval() -> None:
    texts = hs.PromptSet("texts", tuple(hs.Prompt(input_ids=one.input_ids) for one in support.tiny_texts().prompts))
    asked: dict[str, Any] = {"ranking": CHEAP, **SIZE, "test": 1000}
    found = hs.prune(support.tiny_model(), texts, draws=3, **asked)
    assert len(found.findings.chosen["random"].sets[2]) == 3
    assert found.findings.test.resampling.conclusive
    for table in (found.costs(), found.differences()):
        drawn = table.query("ranking == 'random'")
        ends = drawn[[name for name in table if str(name).endswith(("_lo", "_hi"))]]
        assert ends.isna().all(axis=None)
        assert table.query("ranking == 'last'")[ends.columns].notna().any(axis=None)
    assert any(
        one.startswith("At 1 and 2, the mean of random sets has no interval") for one in found.summary().sentences
    )
    compared = [one for one in found.summary().sentences if one.startswith(("At 1, ", "At 2, "))]
    assert len(compared) == 2
    assert not any("random" in one for one in compared)  # no interval says neither worse nor alike
    every = hs.prune(support.tiny_model(), texts, **asked)
    assert every.costs()["rise_lo"].notna().all()
    assert not any("no interval" in one for one in every.summary().sentences)


def test_random_sets_are_nobodys_choice(cli: Cli, model_folder: Path, text_file: Path, tmp_path: Path) -> None:
    found = pruned(ranking="random", draws=2)
    for ranking in ("random", None):
        with pytest.raises(RunError, match="'random' is 2 sets, none of which is its choice; name another ranking"):
            found.removed(2, ranking)
    with pytest.raises(RunError, match="'random' is 2 sets"):
        found.export(support.tiny_model(), tmp_path / "small", 2, "random")
    assert len(pruned(ranking="random", draws=1).removed(2, "random")) == 2
    asked: tuple[Any, ...] = ("prune", model_folder, "--prompts", text_file, "--length", 10)
    asked = (*asked, "--ranking", "random", "--draws", 2)
    for more in ([], ["--dry-run"]):
        said = cli(*asked, "--remove", 1, "--out", tmp_path / "p", "--export", tmp_path / "small", *more)
        assert "'random' is 2 sets" in said.refusal()
    assert not (tmp_path / "p").exists()


def test_only_the_model_that_was_pruned_is_made_smaller(tmp_path: Path) -> None:
    """Another one would go out with a cost on its card that is not its own."""
    other = examine(tiny.network(n_layer=4, seed=1), None, name="other")
    for found in (pruned(ranking="last"), pruned(tmp_path / "p", ranking="last"), hs.Prune.open(tmp_path / "p")):
        with pytest.raises(RunError, match="this pruning is of 'tiny', not of 'other'; give the model that was pruned"):
            found.export(other, tmp_path / "small")
        with pytest.raises(RunError, match="not of other weights of that name"):
            found.export(examine(other.network, None, name="tiny"), tmp_path / "small")
        half = examine(tiny.network(n_layer=4).half(), None, name="tiny")
        with pytest.raises(RunError, match="of 'tiny' in float32, not of float16"):
            found.export(half, tmp_path / "small")
    assert [path.name for path in tmp_path.iterdir()] == ["p"]
    assert not (tmp_path / "p" / "exports.json").exists()


def test_a_card_names_every_ranking_that_chose_the_set(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps({"layer.0": 2, "layer.1": 3, "layer.2": 0, "layer.3": 1}))
    found = pruned(tmp_path / "p", ranking="last", scores=tmp_path / "mine.json")
    for size, named in {2: "last, scores", 1: "scores"}.items():
        found.export(support.tiny_model(), tmp_path / str(size), size, "scores")
        assert f"| chosen by | {named} |" in (tmp_path / str(size) / "README.md").read_text()
    assert list(found.exports()["ranking"]) == ["last, scores", "scores"]


def test_differences_are_paired_over_documents() -> None:
    """What makes a document hard for both rankings leaves no trace in the interval."""
    found = pruned(test=1000)
    table, test = found.costs(), found.findings.test
    row = found.differences().query("size == 2 and ranking == 'last' and other == 'loss'").iloc[0]
    rise = table[table["size"] == 2].set_index("ranking")["rise"]
    np.testing.assert_allclose(row["difference"], rise["last"] - rise["loss"])
    chosen = found.findings.chosen
    each = test.cost(chosen["last"].sets[2]).loss - test.cost(chosen["loss"].sets[2]).loss
    documents = sorted(set(test.documents))
    without = []
    for left in documents:
        kept = np.array([one != left for one in test.documents])
        without.append(each[kept].sum() / test.predicted[kept].sum())
    assert np.isnan(row["difference_lo"]) == (len(documents) < 6)
    if len(documents) >= 6:
        half = (row["difference_hi"] - row["difference_lo"]) / 2
        error = np.sqrt((len(without) - 1) / len(without) * ((np.array(without) - row["difference"]) ** 2).sum())
        assert half > error


def test_a_broken_off_pruning_goes_on_and_comes_to_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pruned(tmp_path / "whole")
    runs: list[Any] = []
    run = Judge._run

    def stops(self: Judge, removed: Any, compared: bool) -> Any:
        if len(runs) == 5:
            raise KeyboardInterrupt
        runs.append(removed)
        return run(self, removed, compared)

    monkeypatch.setattr(Judge, "_run", stops)
    with pytest.raises(KeyboardInterrupt):
        pruned(tmp_path / "broken")
    with pytest.raises(OutputError, match="has not finished"):
        hs.Prune.open(tmp_path / "broken")
    with (tmp_path / "broken" / "costs.jsonl").open("a") as file:
        file.write('["calibration", "lay')  # a killed write
    monkeypatch.setattr(Judge, "_run", run)
    again = pruned(tmp_path / "broken")
    for name in hs.Prune.TABLES:
        assert again.table(name).equals(whole.table(name))
    lines = (tmp_path / "broken" / "costs.jsonl").read_text().splitlines()
    assert len(lines) == len((tmp_path / "whole" / "costs.jsonl").read_text().splitlines())
    assert hs.Prune.open(tmp_path / "broken").costs().equals(whole.costs())


def test_other_settings_and_edited_numbers_are_refused(tmp_path: Path) -> None:
    pruned(tmp_path / "p")
    with pytest.raises(SettingsChanged, match="seed"):
        pruned(tmp_path / "p", seed=1)
    costs = tmp_path / "p" / "costs.jsonl"
    text = costs.read_text()
    costs.write_text(text.replace("1", "2", 1))
    with pytest.raises(OutputError, match="not what was written"):
        hs.Prune.open(tmp_path / "p")
    costs.write_text("\n".join(text.splitlines()[:3]) + "\n")
    with pytest.raises(OutputError, match="lacks"):
        hs.Prune.open(tmp_path / "p")
    assert pruned(tmp_path / "p", seed=1, overwrite=True).costs()["size"].max() == 2


def test_a_pruning_of_another_version_is_refused(tmp_path: Path) -> None:
    pruned(tmp_path / "p")
    file = tmp_path / "p" / "prune.json"
    write_record(file, {name: value for name, value in read_record(file).items() if name != "tasks"})
    with pytest.raises(OutputError, match=r"prune\.json' is damaged or of another version, since it lacks 'tasks'"):
        hs.Prune.open(tmp_path / "p")


def test_scores_of_your_own_stand_in_the_table(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text(json.dumps({"layer.0": 3, "layer.1": 1, "layer.2": 2, "layer.3": 0}))
    (tmp_path / "mine.csv").write_text("part,score\nlayer.0,3\nlayer.1,1\nlayer.2,2\nlayer.3,0\n")
    for name in ("mine.json", "mine.csv"):
        found = pruned(ranking="last", scores=tmp_path / name)
        assert found.removed(2, "scores") == ("layer.1", "layer.3")
        assert list(found.costs()["ranking"].unique()) == ["last", "scores"]
    pruned(tmp_path / "p", ranking="last", scores=tmp_path / "mine.csv")
    (tmp_path / "mine.json").write_text(json.dumps({f"layer.{layer}": layer for layer in range(4)}))
    with pytest.raises(SettingsChanged, match=r"scores \(layer.0 3, layer.1 1"):
        pruned(tmp_path / "p", ranking="last", scores=tmp_path / "mine.json")
    given = pruned(
        ranking="scores", scores={"layer.0": 3, "layer.1": 1, "layer.2": 2, "layer.3": 0}, out=tmp_path / "m"
    )
    assert list(given.costs()["ranking"].unique()) == ["scores"]
    assert given.removed(2) == ("layer.1", "layer.3")
    assert "its model and scores can only be given in Python" in (tmp_path / "m" / "run.json").read_text()


SCORES = {f"layer.{layer}": layer for layer in range(4)}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", json.dumps({"layer.0": 3}), r"^3 parts have no score, first layer\.1; give every part one"),
        (
            "a.json",
            json.dumps(SCORES | {"layer.8": 1}),
            r"^layer\.8 has a score and is no part that can go in this model",
        ),
        ("a.json", json.dumps(SCORES | {"layer.1": np.nan}), r"^the score of layer\.1 in '.*' is nan; give a number"),
        ("a.json", json.dumps(SCORES | {"layer.1": np.inf}), r"^the score of layer\.1 in '.*' is inf; give a number"),
        ("a.json", json.dumps(SCORES | {"layer.1": None}), r"^the score of layer\.1 in '.*' is None; give a number"),
        ("a.json", '{"layer.0": 1, "layer.0": 2}', r"has two scores of layer\.0; give every part one"),
        ("a.csv", "part,score\nlayer.0,1\nlayer.0,1\n", r"has two scores of layer\.0; give every part one"),
        ("a.csv", "part,score\nlayer.0,\n", r"^the score of layer\.0 in '.*' is nan; give a number"),
        ("a.csv", "a,b\nlayer.0,1\n", "holds no scores of parts; give a JSON object"),
        ("a.json", "[1, 2]", "holds no scores of parts; give a JSON object"),
        ("a.json", "layer.0 1", "holds no scores of parts; give a JSON object"),
        ("a.json", "", "'.*' is empty; give a JSON object"),
        ("a.csv", "", "'.*' is empty; give a JSON object"),
        ("folder", None, "'.*' is a folder; give a JSON object"),
        ("missing.csv", None, "there is no file '.*'; give a JSON object"),
    ],
)
def test_scores_that_are_none_are_refused(name: str, text: str | None, said: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(RunError, match=said):
        pruned(ranking="last", scores=tmp_path / name)


def test_as_much_goes_as_keeps_the_loss() -> None:
    """Five parts of the planted model are free, the sixth costs some 2 % of its loss, the seventh much."""
    free = with_two_backups("greedy", keep_loss=1.001)
    assert free.findings.sizes == (1, 2, 3, 4, 5, 6, 7)
    assert len(free.removed()) == 5
    assert free.summary().headline.startswith("Without 5 of 8 sublayers")
    assert len(with_two_backups("greedy", keep_loss=1.1).removed()) == 6
    none = with_two_backups("last", keep_loss=1.001, shares=(0.9,))
    assert none.summary().headline.startswith("No ranking stays within 1.001 times the loss")
    with pytest.raises(RunError, match="nothing can go"):
        none.removed()


def test_regret_is_what_the_best_of_all_sets_would_have_spared() -> None:
    found = pruned(ranking="loss,last,pairs", exhaustive=2)
    known = found.findings.test.store.known
    tokens = found.findings.test.predicted.sum()
    for row in found.regret().to_dict("records"):
        every = {name: cost.loss.sum() for name, cost in known.items() if name and name.count("+") + 1 == row["size"]}
        assert len(every) == row["sets"] == (4 if row["size"] == 1 else 6)
        mine = every["+".join(found.removed(row["size"], row["ranking"]))]
        np.testing.assert_allclose(row["regret"], (mine - min(every.values())) / tokens, atol=1e-12)
        assert row["better_sets"] == sum(loss < mine for loss in every.values())
        assert every[row["best"]] == min(every.values())
    assert found.regret()["regret"].max() > 0


def test_python_takes_what_is_natural(model_folder: Path, text_file: Path) -> None:
    rows = [" ".join(json.loads(line)["text"].split()[:12]) for line in text_file.read_text().splitlines()]
    asked: dict[str, Any] = {"calibrate": 30, "test": 40}
    model, cut = hs.load(model_folder), hs.load_prompts(rows, tokenizer=hs.load(model_folder).tokenizer)
    plain = hs.prune(model, cut, "blocks", ("last",), shares=(0.4,), options=hs.Options(protocol="text"), **asked)
    short = hs.prune(model_folder, rows, ranking="last", shares=0.4, options={"bos": "auto"}, **asked)
    pd.testing.assert_frame_equal(short.costs(), plain.costs())
    with pytest.raises(RunError, match="3 is no set of options"):
        hs.prune(model, cut, options=3)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="progress cannot be True; give a function"):
        hs.prune(model, cut, progress=True)  # type: ignore[arg-type]
    page = plain.report(text_file.with_name("page.html")).read_text()  # one that was not kept knows what was run
    assert f"{plain.costs()['perplexity'].iloc[0]:.2f}" in page
    folderless: Any = 3
    for asked_of_three in (hs.Prune.open, plain.report):
        with pytest.raises(OutputError, match="3 names no folder"):
            asked_of_three(folderless)
    with pytest.raises(OutputError, match="None names no folder"):
        plain.export(model_folder, None, 1)  # type: ignore[arg-type]


def test_text_is_cut_in_whatever_form_it_is_given(
    cli: Cli, model_folder: Path, text_file: Path, tmp_path: Path
) -> None:
    """The model takes fewer than the usual 128 tokens, and nobody asked for these."""
    model = hs.load(model_folder)
    assert model.context < 128
    rows = [json.loads(line) for line in text_file.read_text().splitlines()] * 2
    rows = [{"text": f"{row['text']} {row['text']} w{4 + i}"} for i, row in enumerate(rows)]
    asked: dict[str, Any] = {"ranking": "last", "remove": 1, "calibrate": 60, "test": 60}
    documents = tuple(Document(f"row {i}", row["text"]) for i, row in enumerate(rows))
    whole = hs.cut(documents, model.tokenizer, hs.Cut(model.context), name="inline", context=model.context)
    plain = hs.prune(model, whole, **asked).costs()
    for given in (rows, pd.DataFrame(rows), documents):
        pd.testing.assert_frame_equal(hs.prune(model, given, **asked).costs(), plain)
    file, out = tmp_path / "words.jsonl", tmp_path / "p"
    file.write_text("\n".join(map(json.dumps, rows)))
    words = ("prune", model_folder, "--prompts", file, "--ranking", "last", "--remove", 1, "--calibrate", 60)
    said = cli(*words, "--test", 60, "--out", out)
    assert said.code == 0, said
    pd.testing.assert_frame_equal(hs.Prune.open(out).costs(), plain)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"remove": 4}, "at most 3 can go"),
        ({"ranking": "luck"}, "no ranking 'luck'; choose from random.*, all$"),
        ({"ranking": "luck", "scores": {f"layer.{i}": i for i in range(4)}}, "choose from random.*, all, scores$"),
        ({"ranking": "scores"}, "none were given"),
        ({"ranking": "influence", "units": "heads"}, "cannot rank heads"),
        ({"shares": (1.5,)}, "cannot be 1.5"),
        ({"exhaustive": 9, "units": "neurons"}, "sets to judge"),
        ({"remove": 1, "keep_loss": 1.1}, "leave --keep-loss"),
        ({"keep_loss": float("inf")}, "keep loss cannot be inf"),
        ({"remove": 64 * 16, "units": "neurons"}, r"of [\d,]+ neurons at most [\d,]+ can go; remove fewer"),
        ({"remove": 1, "exhaustive": 20}, "of 4 blocks at most 3 can go; take a smaller size"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    asked = {name: value for name, value in SIZE.items() if name not in given and "remove" not in given}
    with pytest.raises(RunError, match=said):
        hs.prune(support.tiny_model(), support.tiny_texts(), **{"ranking": "last", **asked, **given})


def test_all_and_one_that_runs_every_part_is_all_and_that_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydrascope.pruning._execution.MOST_RUN", 3)
    few, more = (set(pruned(ranking=name, draws=1).costs()["ranking"]) for name in ("all", "all,loss"))
    assert more - few == {"loss"}
    assert "random" in few


def test_sizes_are_numbers_wherever_they_were_read(tmp_path: Path) -> None:
    """The file has them as text, of which '10' comes before '2'."""
    made = pruned(units="neurons", ranking="magnitude,last", shares=(0.02, 0.1, 0.2), out=tmp_path / "p")
    opened = hs.Prune.open(tmp_path / "p")
    assert opened.findings.sizes == made.findings.sizes == tuple(sorted(made.findings.sizes))
    assert min(made.findings.sizes) < 10 <= max(made.findings.sizes)
    assert len(opened.removed()) == max(made.findings.sizes)
    assert opened.summary() == made.summary()


@pytest.mark.parametrize("units", ["heads", "neurons", "sublayers"])
def test_smaller_units_go_too(units: Any, tmp_path: Path) -> None:
    found = pruned(units=units, ranking="magnitude,taylor,last", out=tmp_path / "p")
    exported = found.export(support.tiny_model(), tmp_path / "small")
    assert exported.bytes[0] == exported.bytes[1]
    assert exported.speed is None
    assert found.exports()["speed_up"].isna().all()
    assert (tmp_path / "p" / "exports.json").read_text().count("speed_up") == 0
    assert exported.removed == tuple(sorted(exported.removed, key=lambda one: found.findings.parts.index(one)))


def test_key_value_groups_go_where_heads_share_them() -> None:
    model = examine(build("llama"), None, name="llama")
    found = hs.prune(model, support.tiny_texts(), "kvgroups", "loss,magnitude,taylor", remove=2, calibrate=60, test=90)
    assert found.findings.parts == tuple(map(str, model.anatomy.inventory.expand("kv")))
    costs = found.findings.calibration.store.known
    for name in ("loss", "taylor"):
        score = found.findings.chosen[name].scores
        assert set(found.removed(2, name)) == set(sorted(score, key=score.__getitem__)[:2])
    alone = {part: costs[part].loss.sum() for part in found.findings.parts}
    assert set(found.removed(2, "loss")) == set(sorted(alone, key=alone.__getitem__)[:2])
    with pytest.raises(ComponentError, match="0 kvgroups"):
        hs.prune(support.tiny_model(), support.tiny_texts(), "kvgroups", remove=1)


def test_the_command_writes_a_folder_and_a_model(cli: Cli, model_folder: Path, text_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "p"
    asked: tuple[Any, ...] = ("prune", model_folder, "--prompts", text_file, "--length", 10)
    asked = (*asked, "--ranking", "loss,last", "--remove", 1, "--calibrate", 100, "--test", 100, "--out", out)
    plan = cli(*asked, "--dry-run")
    assert plan.code == 0
    assert "1 of 3 parts go, by last, loss" in plan.out
    assert not (tmp_path / "p").exists()
    said = cli(*asked, "--export", tmp_path / "small", "--json")
    assert said.code == 0, said
    found = json.loads(said.out)
    assert found["exported"]["path"] == str(tmp_path / "small")
    _, *words = shlex.split(json.loads((out / "run.json").read_text())["command"])
    assert cli(*words, "--dry-run").out.splitlines()[0] == plan.out.splitlines()[0]
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    assert small.config.n_layer == 2
    row = hs.Prune.open(tmp_path / "p").costs().query("ranking == @found['numbers']['best']").iloc[0]
    assert f"| perplexity | {row['whole_perplexity']:.3f} whole" in (tmp_path / "small" / "README.md").read_text()
    text = (tmp_path / "small" / "README.md").read_text()
    test = hs.Prune.open(tmp_path / "p").findings.test
    assert f"{int(test.predicted.sum())} tokens in {len(set(test.documents))} documents of words" in text
    assert "| made by | `hydrascope prune tiny --prompts words.jsonl --length 10" in text
    assert str(tmp_path) not in text
    assert cli("show", tmp_path / "p").out.splitlines()[0] == found["headline"]
    assert cli("table", tmp_path / "p", "costs").out.startswith("ranking,size,share")
    assert found["headline"] in cli("runs", tmp_path).out
    page = (tmp_path / "p" / "report.html").read_text()
    assert f"{row['perplexity']:.2f}" in page
    assert "What each ranking costs" in page
    saved = hs.Prune.open(tmp_path / "p").exports().iloc[0]
    assert saved["bytes"] == sum(weight.nbytes for weight in small.parameters())
    assert 0 < saved["speed_up_q1"] <= saved["speed_up"] <= saved["speed_up_q3"]
    assert saved["speed_up"] == found["exported"]["speed"]["ratio"]
    assert f"{saved['tokens_per_second']:,.0f}" in page
    (tmp_path / "p" / "report.html").unlink()
    assert cli("report", tmp_path / "p").code == 0
    assert (tmp_path / "p" / "report.html").read_text() == page
    assert "not empty" in cli(*asked, "--export", tmp_path / "small").refusal()
    assert "no ranking in" in hs_refusal(tmp_path / "p")


def hs_refusal(folder: Path) -> str:
    with pytest.raises(OutputError) as error:
        hs.Rank.open(folder)
    return str(error.value)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"--export": "full"}, "is not empty"),
        ({"--export": "full/mine/small"}, "cannot be written"),
        ({"--export": ""}, "names no folder"),
        ({"--export": "p"}, "the pruning's own folder"),
        ({"--replace": "mean"}, "a block that is gone has no bias"),
    ],
)
@pytest.mark.parametrize("when", [[], ["--dry-run"]])
def test_an_export_that_cannot_be_is_refused_before_the_run(
    more: dict[str, str],
    said: str,
    when: list[str],
    cli: Cli,
    model_folder: Path,
    text_file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("")
    asked = {"--prompts": text_file, "--length": 10, "--remove": 1, "--out": "p", "--export": "new/small", **more}
    found = cli("prune", model_folder, *(word for pair in asked.items() for word in pair), *when)
    assert said in found.refusal()
    assert not (tmp_path / "p").exists()
    assert not (tmp_path / "new").exists()


def test_what_no_bias_can_hold_is_known_before_the_run() -> None:
    def refusal(units: Any, replace: Any, name: str = "llama", **more: Any) -> str:
        model = examine(build(name), None, name=name)
        given = {"calibrate": 60, "test": 90, "protocol": "text", "remove": 1, **more}
        request = PruneRequest(units=units, replace=replace, ranking=("last",), **given)
        try:
            require_exportable(prepare_prune(request, model, support.tiny_texts()))
        except ExportRefused as error:
            return str(error)
        return ""

    assert "o_proj' has no bias" in refusal("heads", "mean")
    assert "o_proj' has no bias" in refusal("heads", "mean", remove=None, keep_loss=1.1)
    assert refusal("heads", "removal") == refusal("blocks", "zero") == refusal("heads", "mean", "gpt2") == ""
    assert "no single output projection" in refusal("sublayers", "removal", "mixtral", remove=5)
    assert refusal("sublayers", "removal", "mixtral", remove=1) == ""  # attention can go


def test_what_was_found_is_shown_where_nothing_can_go(
    cli: Cli, model_folder: Path, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Findings, "size_kept", lambda self: None)
    asked: tuple[Any, ...] = ("prune", model_folder, "--prompts", text_file, "--length", 10, "--ranking", "loss")
    asked = (*asked, "--shares", 0.5, "--keep-loss", 1.1, "--calibrate", 100, "--test", 100)
    found = cli(*asked, "--out", tmp_path / "p", "--export", tmp_path / "small", "--json")
    assert found.code == 2
    assert "nothing can go within" in found.err
    assert json.loads(found.out)["exported"] is None
    assert json.loads(found.out)["headline"].startswith("No ranking stays within")
    assert not (tmp_path / "small").exists()


def test_sentences_state_the_tables() -> None:
    found = pruned(ranking="loss,last", test=1000)
    said = found.summary()
    row = found.costs().query("size == 2 and ranking == @said.numbers['best']").iloc[0]
    assert said.headline.startswith(
        f"Without 2 of 4 blocks (50 %), chosen by {row['ranking']}, whose set stays nearest"
    )
    moved = f"{'rises' if row['rise'] > 0 else 'falls'} by {abs(row['rise']):.3f} nats"
    assert moved in said.headline
    assert f"{row['perplexity']:.2f}" in said.headline


def test_a_model_is_pruned_where_no_tokenizer_is() -> None:
    assert examine(tiny.network(), None, name="bare").tokenizer is None
    assert pruned(ranking="last").costs().shape[0] == 2
