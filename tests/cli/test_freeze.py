"""`hydrascope freeze`: what a run with --freeze would freeze, added to a run that was made without, or in Python."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import hydrascope as hs
from hydrascope.ledger import read_record, write_record
from tests.conftest import Cli
from tests.support import tiny
from tests.support.planted import planted


@pytest.fixture(autouse=True)
def _quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydrascope.report._page.render", lambda dataset: f"<html>{list(dataset.also)}</html>")


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A model with a backup layer, on disk, and prompts for it."""
    folder, model = tmp_path_factory.mktemp("backup"), planted("backup")
    tiny.save(folder / "model", model.model, with_tokenizer=False)
    rows = [
        {"input_ids": list(ids), "target_id": target} for ids, target in zip(model.prompts, model.targets, strict=True)
    ]
    prompts = tiny.write_lines(folder / "prompts.jsonl", rows)
    return ("run", str(folder / "model"), "--prompts", str(prompts), "--ablation", "zero", "--null-draws", "0")


def test_it_adds_what_a_run_that_freezes_has(command: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    whole, later = tmp_path / "whole", tmp_path / "later"
    assert cli(*command, "--out", whole).code == 0
    assert cli(*command, "--out", later, "--no-freeze").code == 0
    assert hs.Ledger.open(later).also == {}
    before = {path: path.stat().st_mtime_ns for path in (later / "ledger.zarr").rglob("*")}
    said = cli("freeze", later)
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == str(later / "report.html")
    assert "Confirmed by freezing: with attn.3 held at its clean output" in cli("show", later).out
    right, found = (hs.Ledger.open(path) for path in (whole, later))
    np.testing.assert_array_equal(found.also["freeze"].dataset["change"], right.also["freeze"].dataset["change"])
    assert found.also["freeze"].dataset.attrs["command"] == right.dataset.attrs["command"]
    assert {path: path.stat().st_mtime_ns for path in (later / "ledger.zarr").rglob("*")} == before
    assert cli("freeze", later).out == said.out, "and again there is nothing left to do"


def test_for_machines_the_rows_are_in_the_json(command: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "run"
    assert json.loads(cli(*command, "--out", out, "--no-freeze", "--json").out)["freeze"] is None
    found = json.loads(cli("freeze", out, "--json").out)["freeze"]
    table = hs.Ledger.open(out).freeze()
    assert [row["frozen"] for row in found] == table["frozen"].tolist()
    np.testing.assert_allclose([row["removed"] for row in found], table["removed"])


def test_code_of_a_model_is_only_trusted_by_whoever_calls(
    command: tuple[str, ...], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's folder may come from someone else, and its recorded request with it."""
    out = tmp_path / "run"
    assert cli(*command, "--out", out, "--no-freeze", "--trust-remote-code").code == 0
    trusted: list[bool] = []

    def opened(name: str, *, trust_remote_code: bool, **how: Any) -> hs.Model:
        trusted.append(trust_remote_code)
        return hs.load(name, **how)

    monkeypatch.setattr("hydrascope.run._opening.load", opened)
    assert cli("freeze", out).code == 0
    assert cli("freeze", out, "--trust-remote-code").code == 0
    assert trusted == [False, True]


def test_where_nothing_is_repaired_it_says_so(command: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "run"
    assert cli(*command, "--components", "mlp", "--out", out).code == 0
    said = cli("freeze", out)
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith("Nothing was frozen: later attention clearly makes up for none")
    assert not (out / "companions").exists()


def test_what_cannot_be_frozen_is_refused(command: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    model = Path(command[1])
    out, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(model, moved)
    assert cli("run", moved, *command[2:], "--out", out, "--no-freeze").code == 0
    assert "nowhere" in cli("freeze", tmp_path / "nowhere").refusal()
    unfinished = tmp_path / "unfinished"
    shutil.copytree(out, unfinished)
    shutil.rmtree(unfinished / "ledger.zarr")
    assert "unfinished" in cli("freeze", unfinished).refusal()
    sums = tmp_path / "sums"
    assert cli(*command, "--out", sums, "--detail", "kinds").code == 0
    assert "run it again with all of it (--detail full)" in cli("freeze", sums).refusal()
    rows = (out / "prompts.jsonl").read_text().splitlines()
    (out / "prompts.jsonl").write_text("\n".join(rows[1:]))
    assert "are not those of the run" in cli("freeze", out).refusal()
    (out / "prompts.jsonl").unlink()
    assert "cannot be read" in cli("freeze", out).refusal()
    (out / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    as_written = (out / "run.json").read_text()
    record = read_record(out / "run.json")
    write_record(out / "run.json", {**record, "request": {**record["request"], "colour": "red"}})
    assert "there is no option 'colour'" in cli("freeze", out).refusal()
    write_record(out / "run.json", {name: value for name, value in record.items() if name != "request"})
    assert "does not say what was asked" in cli("freeze", out).refusal()
    (out / "run.json").write_text(json.dumps({**record, "request": {}}))
    assert "is not what was written" in cli("freeze", out).refusal()
    (out / "run.json").write_text(as_written)
    assert cli("freeze", out).code == 0, "all is back in its place"
    shutil.rmtree(moved)
    assert "moved" in cli("freeze", out).refusal()


def in_python(command: tuple[str, ...], out: Path, **more: Any) -> hs.Ledger:
    given = {"ablation": hs.Zero(), "options": hs.Options(null_draws=0), **more}
    return hs.knock_out(hs.load(command[1]), hs.load_prompts(command[3]), out=out, **given)


def test_a_run_of_python_is_frozen_by_the_command_line(command: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    """Its prompts need not be on disk: those in the run's folder are taken."""
    whole, later = tmp_path / "whole", tmp_path / "later"
    assert cli(*command, "--out", whole).code == 0
    prompts = hs.PromptSet("memory", hs.load_prompts(command[3]).prompts)
    options = hs.Options(null_draws=0)
    ledger = hs.knock_out(hs.load(command[1]), prompts, ablation=hs.Zero(), options=options, out=later)
    assert f"--prompts {later / 'prompts.jsonl'}" in ledger.dataset.attrs["command"]
    assert cli("freeze", later).code == 0
    right, found = (hs.Ledger.open(path) for path in (whole, later))
    np.testing.assert_array_equal(found.also["freeze"].dataset["change"], right.also["freeze"].dataset["change"])
    assert found.also["freeze"].dataset.attrs["prompts_name"] == "memory"


def test_a_run_of_the_command_line_is_frozen_in_python(command: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "run"
    assert cli(*command, "--out", out, "--no-freeze").code == 0
    ledger = hs.freeze(out)
    assert len(ledger.freeze())
    right = in_python(command, tmp_path / "python", freeze=True)
    np.testing.assert_array_equal(ledger.also["freeze"].dataset["change"], right.also["freeze"].dataset["change"])


def test_each_continues_what_the_other_began(command: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    """The command in the ledger is the run: with it nothing is done again, in a folder that Python made."""
    out = tmp_path / "python"
    ledger = in_python(command, out, dose=(0.5, 1), ablation=(hs.Zero(), hs.Mean()), freeze=True)
    said = shlex.split(ledger.dataset.attrs["command"])
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.zarr/*")}
    assert cli(*said[1:], "--out", out).code == 0
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.zarr/*")} == before
    in_python(command, out, dose=(0.5, 1), ablation=(hs.Zero(), hs.Mean()), freeze=True)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.zarr/*")} == before


@dataclass(frozen=True)
class Tenth(hs.Mean):
    """An ablation that no other process knows."""

    name: ClassVar[str] = "tenth"

    def replace(self, pool: Any, chosen: Any, n_clean: int) -> Any:
        """A tenth of the mean."""
        return 0.1 * super().replace(pool, chosen, n_clean)


def test_what_has_no_name_is_asked_for_in_python(command: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    model, prompts = hs.load(planted("backup").model), hs.load_prompts(command[3])
    hs.knock_out(model, prompts, ablation=hs.Zero(), out=tmp_path / "model")
    sentence = cli("freeze", tmp_path / "model").refusal()
    assert "model was handed over in Python" in sentence and "call hydrascope.freeze(RUN, model)" in sentence
    assert len(hs.freeze(tmp_path / "model", model).freeze())
    assert "its model can only be given in Python" in hs.Ledger.open(tmp_path / "model").dataset.attrs["command"]
    ours = tmp_path / "ablation"
    hs.knock_out(hs.load(command[1]), prompts, ablation=Tenth(), out=ours)
    script = "import sys; from hydrascope.cli import main; sys.argv[1:] = ['freeze', sys.argv[1]]; main()"
    said = subprocess.run([sys.executable, "-c", script, ours], capture_output=True, text=True, check=False)
    assert said.returncode == 2 and said.stderr.count("\n") == 1 and "'tenth'" in said.stderr
    assert hs.freeze(ours, ablation=Tenth()).path == ours


def test_an_ablation_with_parameters_is_frozen_with_them(command: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    ledger = in_python(command, tmp_path / "run", ablation=hs.Noise(donors=2, scale=1.0))
    assert "No command makes this run again" in ledger.dataset.attrs["command"]
    said = cli("freeze", tmp_path / "run")
    assert said.code == 0, said.err
    settings = json.loads((tmp_path / "run" / "run.json").read_text())["settings"]
    assert settings["ablation"]["scale"] == 1.0
