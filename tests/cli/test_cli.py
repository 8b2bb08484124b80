"""What the command line promises: what it writes where, what it prints, and what it does not do."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import hydrascope as hs
from hydrascope.ledger import open_dataset
from tests.conftest import INTRODUCTION, Cli
from tests.support import tiny

SMALL = ("--components", "attn,mlp", "--donors", "3", "--null-draws", "1")


def true_command(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, started through `python -m hydrascope`."""
    return subprocess.run(
        [sys.executable, "-m", "hydrascope", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def strict_json(text: str) -> Any:
    """Read JSON as the standard has it: without NaN and Infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def state(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is drawn in seconds; tests that are not about it take an empty page."""
    monkeypatch.setattr("hydrascope.report._page.render", lambda dataset: "<html></html>")


@pytest.fixture
def bundle(tmp_path: Path, prompt_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bundled model of this test's own."""
    folder = tiny.save(tmp_path / "zoo" / "pocket", tiny.network())
    (folder / "facts.jsonl").write_bytes(prompt_file.read_bytes())
    entry = {"name": "pocket", "description": "a pocket model", "prompts": "facts", "sibling": None}
    (tmp_path / "zoo" / "catalogue.json").write_text(json.dumps([entry]))
    monkeypatch.setattr("hydrascope.zoo._HERE", tmp_path / "zoo")
    monkeypatch.setattr("hydrascope.zoo._CATALOGUE", tmp_path / "zoo" / "catalogue.json")
    return "pocket"


def test_a_run_in_an_empty_folder_and_the_same_command_again(
    model_folder: Path, prompt_file: Path, tmp_path: Path
) -> None:
    command = ("run", model_folder, "--prompts", prompt_file, *SMALL)
    first = true_command(*command, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert re.fullmatch(INTRODUCTION, first.stderr)
    run = tmp_path / "runs" / "tiny-asked"
    assert {path.name for path in run.iterdir()} == {"run.json", "prompts.jsonl", "ledger.zarr", "report.html"}
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]
    assert first.stdout.splitlines()[-1] == "runs/tiny-asked/report.html"
    verdict = hs.Ledger.open(run).summary()
    printed = first.stdout.splitlines()
    assert printed[0] == verdict.headline  # on one line, however long
    assert [line for line in printed if line.startswith("- ")] == [f"- {one}" for one in verdict.leading[:3]]
    assert len(printed) <= 12 and f"hydrascope show {Path('runs') / 'tiny-asked'}" in first.stdout
    page = (run / "report.html").read_text()
    assert page.startswith("<!doctype html>") and page.endswith("</html>")
    said = f"hydrascope run {model_folder} --prompts {prompt_file} --donors 3 --components attn,mlp --null-draws 1"
    assert hs.Ledger.open(run).dataset.attrs["command"] == said

    before = state(run / "ledger.zarr")
    again = true_command(*command, cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout == first.stdout
    assert state(run / "ledger.zarr") == before


@pytest.mark.usefixtures("quick_report")
def test_a_changed_setting_goes_to_the_next_folder(
    model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("run", model_folder, "--prompts", prompt_file, "--components", "attn.1", "--donors", "2")
    (tmp_path / "runs" / "tiny-asked-2").mkdir(parents=True)
    (tmp_path / "runs" / "tiny-asked-2" / "notes.txt").write_text("mine")
    for seed, folder in (("0", "tiny-asked"), ("1", "tiny-asked-3"), ("0", "tiny-asked"), ("2", "tiny-asked-4")):
        said = cli(*command, "--seed", seed)
        assert said.out.splitlines()[-1] == f"runs/{folder}/report.html"
        assert open_dataset(Path("runs") / folder).attrs["seed"] == int(seed)


@pytest.mark.usefixtures("quick_report")
def test_json_is_all_that_is_printed(model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli) -> None:
    said = cli("run", model_folder, "--prompts", prompt_file, "--out", tmp_path / "out", *SMALL, "--json")
    assert (said.code, said.err) == (0, "")
    found = strict_json(said.out)
    told = {"headline", "sentences", "numbers", "rounding", "agreement", "freeze", "mcgrath"}
    assert set(found) == {*told, "attributes", "ledger", "report"}
    assert found["rounding"] is None, "float32 rounds nothing worth telling"
    assert found["agreement"] is None, "there is but one ablation"
    assert Path(found["ledger"]).is_dir() and Path(found["report"]).is_file()
    verdict = hs.Ledger.open(tmp_path / "out").summary()
    assert found["headline"] == verdict.headline
    assert found["attributes"]["donors"] == 3


@pytest.mark.usefixtures("quick_report")
def test_how_far_ablations_agree_is_in_the_json(
    model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli
) -> None:
    command = ("run", model_folder, "--prompts", prompt_file, "--out", tmp_path / "out", *SMALL)
    said = strict_json(cli(*command, "--ablation", "resample,zero", "--json").out)["agreement"]
    table = hs.Ledger.open(tmp_path / "out").rank_agreement()
    assert said["sentence"].startswith("Rank correlation of the 6 knock-outs' total effects")
    assert [pair["measure"] for pair in said["pairs"]] == table["measure"].tolist()
    assert [pair["spearman"] for pair in said["pairs"]] == pytest.approx(table["spearman"].tolist())
    again = strict_json(cli("show", tmp_path / "out", "--json").out)
    assert again["agreement"] == said


@pytest.mark.usefixtures("quick_report")
def test_a_finished_run_is_shown_again(model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli) -> None:
    command = ("run", model_folder, "--prompts", prompt_file, *SMALL)
    said = cli(*command, "--out", tmp_path / "out")
    shown, verdict = cli("show", tmp_path / "out").out.splitlines(), hs.Ledger.open(tmp_path / "out").summary()
    assert shown[1 : len(verdict.sentences) + 1] == [f"- {sentence}" for sentence in verdict.sentences]
    assert (shown[0], shown[-1]) == (said.out.splitlines()[0], said.out.splitlines()[-1])
    sums = cli(*command, "--out", tmp_path / "sums", "--detail", "kinds")
    assert f"What each knock-out costs: hydrascope show {tmp_path / 'sums'}" in sums.out
    listed = cli("show", tmp_path / "sums")
    table = hs.Ledger.open(tmp_path / "sums").repair()
    largest = table.iloc[int(table["total_effect"].abs().argmax())]
    rows = [line for line in listed.out.splitlines() if re.match(r"(attn|mlp)\.\d ", line)]
    assert len(rows) == 6
    assert rows[0].split()[:2] == [largest["ablated"], f"{largest['total_effect']:+.3f}"]
    found = strict_json(cli("show", tmp_path / "sums", "--json").out)["knock_outs"]
    assert found[0]["ablated"] == largest["ablated"]
    assert "no ledger in" in cli("show", tmp_path / "nowhere").refusal()


@pytest.mark.usefixtures("quick_report")
@pytest.mark.parametrize("extra", [("--components", "attn.2"), ("--components", "mlp.0", "--null-draws", "0")])
def test_json_without_an_answer_is_json_too(
    extra: tuple[str, ...], model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli
) -> None:
    """No later attention, or no attention knocked out: numbers that do not exist are not NaN."""
    command = ("run", model_folder, "--prompts", prompt_file, "--out", tmp_path / "out", "--donors", "2", *extra)
    said = cli(*command, "--json")
    assert said.code == 0, said.err
    strict_json(said.out)
    assert cli(*command).code == 0


def test_a_dry_run_prints_a_plan_and_writes_nothing(
    model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ("run", model_folder, "--prompts", prompt_file, *SMALL, "--dry-run")
    said = cli(*command)
    assert said.code == 0
    assert "40 prompts x 6 knock-outs, 24 interventions a prompt" in said.out
    plan = strict_json(cli(*command, "--json").out)
    assert (plan["prompts"], plan["knockouts"], plan["interventions"]) == (40, 6, 24)
    assert plan["intervention_tokens"] == 40 * 24
    assert list(tmp_path.iterdir()) == []


def test_too_few_groups_are_told_before_the_run(
    model_folder: Path, rows: list[tiny.Row], tmp_path: Path, cli: Cli, quick_report: None
) -> None:
    told = [{"prompt": row.text, "target": f"w{row.top}", "group": f"g{i % 5}"} for i, row in enumerate(rows)]
    grouped = tiny.write_lines(tmp_path / "grouped.jsonl", told)
    command = ("run", model_folder, "--prompts", grouped, *SMALL)
    assert "fewer than 6 independent groups" in cli(*command, "--dry-run").out
    said = cli(*command, "--out", tmp_path / "out")
    assert said.code == 0 and "leave out `group`" in said.err
    table = hs.Ledger.open(tmp_path / "out").repair()
    assert table["own_change"].notna().all()
    assert table["own_change_lo"].isna().all() and table["too_few_groups"].all()


def test_inspect(model_folder: Path, cli: Cli) -> None:
    said = cli("inspect", model_folder)
    assert said.code == 0
    assert "attn.0" in said.out and "3 sequential blocks" in said.out and "fails" not in said.out
    found = strict_json(cli("inspect", model_folder, "--json").out)
    assert found["anatomy"]["layers"] == 3
    assert [writer["component"] for writer in found["anatomy"]["writers"]] == [
        f"{kind}.{layer}" for layer in range(3) for kind in ("attn", "mlp")
    ]
    assert all(check["passed"] for check in found["proof"])
    assert "head.0-2 x 2" in found["capabilities"]["components"]
    assert found["capabilities"]["writers"] == ["layers", "heads", "neurons"]


@pytest.mark.usefixtures("quick_report")
def test_without_arguments_the_bundled_model_runs_on_its_prompts(
    bundle: str, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = cli("run", "--components", "attn.1", "--donors", "2")
    assert said.code == 0, said.err
    assert open_dataset(tmp_path / "runs" / "pocket-facts").attrs["prompts_name"] == "facts"
    assert cli("inspect").code == 0


@pytest.mark.usefixtures("quick_report")
def test_a_logit_difference_from_a_file(model_folder: Path, rows: list[tiny.Row], tmp_path: Path, cli: Cli) -> None:
    asked = [{"prompt": r.text, "target": f"w{r.top}", "foil": "w4" if r.top != 4 else "w5"} for r in rows]
    alike = {"prompt": rows[0].text, "target": "w9 w8", "foil": "w9 w7"}
    prompts = tiny.write_lines(tmp_path / "pairs.jsonl", [*asked, alike])
    command = ("run", model_folder, "--prompts", prompts, *SMALL, "--target", "difference", "--out", tmp_path / "out")
    said = cli(*command)
    assert said.code == 0, said.err
    shown = cli("show", tmp_path / "out").out
    assert "logit difference" in shown and "target" not in said.out + shown
    dataset = open_dataset(tmp_path / "out")
    assert dataset.attrs["target_policy"] == "difference"
    assert (dataset.attrs["prompts_kept"], dataset.attrs["prompts_dropped_alike"]) == (40, 1)
    assert set(dataset["foil"].values) <= {"w4", "w5"}
    assert dataset["total_effect"].attrs["long_name"].startswith("ablated minus clean logit difference of target")


@pytest.mark.parametrize("positions", ["last", "all"])
def test_donors_that_have_the_foil_as_answer_are_told(
    positions: str, model_folder: Path, rows: list[tiny.Row], tmp_path: Path, cli: Cli
) -> None:
    """With two answers, each the other's foil, every donor with another answer has this one's foil."""
    tops = [top for top, _ in Counter(row.top for row in rows).most_common(2)]
    answers = {tops[0]: f"w{tops[1]}", tops[1]: f"w{tops[0]}"}
    pairs = [
        {"prompt": row.text, "target": f"w{row.top}", "foil": answers[row.top]} for row in rows if row.top in answers
    ]
    # as many of each, and of one length, so that they can lend to each other
    words = pairs[0]["prompt"].split()
    pairs = [{**pair, "prompt": " ".join([*words[:1], *pair["prompt"].split()[-2:]])} for pair in pairs]
    prompts = tiny.write_lines(tmp_path / "two.jsonl", pairs)
    what = ("run", model_folder, "--prompts", prompts, "--components", "attn.0", "--donors", "1", "--keep-wrong")
    command = (*what, "--target", "difference", "--positions", positions, "--out", tmp_path / "out")
    said = cli(*command)
    assert said.code == 0, said.err
    attributes = hs.Ledger.open(tmp_path / "out").dataset.attrs
    kept = attributes["prompts_kept"]
    assert attributes["donors_sharing"] == kept >= 2
    assert f"For want of others, {kept} of {kept} donors have a prompt's answer or foil among their own" in (
        cli("show", tmp_path / "out").out
    )
    page = (tmp_path / "out" / "report.html").read_text()
    assert f"{kept} of {kept} donors have the prompt’s answer or foil among their own" in page


@pytest.mark.usefixtures("quick_report")
def test_the_whole_distribution_ranks_knock_outs(
    model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli
) -> None:
    command = ("run", model_folder, "--prompts", prompt_file, *SMALL, "--target", "kl", "--out", tmp_path / "out")
    found = strict_json(cli(*command, "--json").out)
    kl = open_dataset(tmp_path / "out")["kl"].mean("prompt")
    assert found["numbers"]["largest_kl_knockout"] == str(kl["ablated"].values[int(kl.values.argmax())])
    assert found["numbers"]["largest_kl"] == pytest.approx(float(kl.max()), rel=1e-5)


def test_models_and_tasks(bundle: str, cli: Cli) -> None:
    assert cli("models").out == "pocket: a pocket model\n"
    listed = cli("tasks").out.splitlines()
    assert "facts: 40 prompts" in listed
    assert any(line.startswith("world: ") for line in listed)


def test_the_report_of_a_finished_run_is_written_again(
    model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli, quick_report: None
) -> None:
    cli(
        "run",
        model_folder,
        "--prompts",
        prompt_file,
        "--out",
        tmp_path / "out",
        "--components",
        "attn",
        "--donors",
        "2",
    )
    (tmp_path / "out" / "report.html").unlink()
    assert cli("report", tmp_path / "out").out == f"{tmp_path / 'out' / 'report.html'}\n"
    assert (tmp_path / "out" / "report.html").is_file()
    assert cli("report", tmp_path / "out" / "ledger.zarr", "--out", tmp_path / "r.html").code == 0
    assert (tmp_path / "r.html").is_file()


HELP = """
import sys
from hydrascope import cli
for words in (["--help"], ["run", "--help"], []):
    sys.argv = ["hydrascope", *words]
    try:
        cli.main()
    except SystemExit as stopped:
        assert stopped.code == 0
heavy = {"torch", "transformers", "xarray", "zarr", "pandas", "altair"} & set(sys.modules)
assert not heavy, heavy
"""


def test_help_waits_for_nothing_heavy() -> None:
    said = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 0, said.stderr
    assert "Knock out any part of a language model" in said.stdout
    assert "--components" in said.stdout


def test_an_interrupt_says_how_to_go_on(
    model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("hydrascope.run._runner.measure", interrupted)
        said = cli("run", model_folder, "--prompts", prompt_file, "--out", tmp_path / "out", *SMALL)
    assert said.code == 130
    kept, mend = f"'{tmp_path / 'out'}' keeps 0 of 40 prompts", "the same command continues where it stopped"
    assert re.sub(INTRODUCTION, "", said.err) == f"hydrascope: interrupted; {kept}; {mend}\n"
    assert said.out == ""


def test_a_reader_that_has_gone_is_no_error() -> None:
    command = f"{sys.executable} -m hydrascope run --help | true"
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    assert said.stderr == ""


@pytest.mark.usefixtures("quick_report")
def test_edges_from_the_command_line(model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli) -> None:
    command = ("run", model_folder, "--prompts", prompt_file, "--donors", "2", "--out", tmp_path / "out")
    assert cli(*command, "--components", "head.0.1->head.2.*,attn->mlp.1").code == 0
    expected = ["head.0.1->head.2.0", "head.0.1->head.2.1", "attn.0->mlp.1", "attn.1->mlp.1"]
    assert open_dataset(tmp_path / "out")["ablated"].values.tolist() == expected
    assert "is no edge of this model" in cli(*command, "--components", "mlp.1->attn.1").refusal()
