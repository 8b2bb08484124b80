"""`hydrascope confirm`: what a run with --confirm would hold, added to a run that was made without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import hydrascope as hs
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


def test_it_adds_what_a_run_with_confirmation_has(command: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    whole, later = tmp_path / "whole", tmp_path / "later"
    assert cli(*command, "--out", whole).code == 0
    assert cli(*command, "--out", later, "--no-confirm").code == 0
    assert hs.Ledger.open(later).also == {}
    before = {path: path.stat().st_mtime_ns for path in (later / "ledger.zarr").rglob("*")}
    said = cli("confirm", later)
    assert said.code == 0, said.err
    assert said.out.splitlines()[-1] == str(later / "report.html")
    assert "Holding attn.3 at its clean output removes" in said.out
    right, found = (hs.Ledger.open(path) for path in (whole, later))
    np.testing.assert_array_equal(found.also["held"].dataset["change"], right.also["held"].dataset["change"])
    assert found.also["held"].dataset.attrs["command"] == f"hydrascope confirm {later}"
    assert {path: path.stat().st_mtime_ns for path in (later / "ledger.zarr").rglob("*")} == before
    assert cli("confirm", later).out == said.out, "and again there is nothing left to do"


def test_for_machines_the_rows_are_in_the_json(command: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "run"
    assert json.loads(cli(*command, "--out", out, "--no-confirm", "--json").out)["confirmation"] is None
    found = json.loads(cli("confirm", out, "--json").out)["confirmation"]
    table = hs.Ledger.open(out).freeze()
    assert [row["frozen"] for row in found] == table["frozen"].tolist()
    np.testing.assert_allclose([row["removed"] for row in found], table["removed"])


def test_code_of_a_model_is_only_trusted_by_whoever_calls(
    command: tuple[str, ...], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run's folder may come from someone else, and its recorded command with it."""
    out = tmp_path / "run"
    assert cli(*command, "--out", out, "--no-confirm", "--trust-remote-code").code == 0
    trusted: list[bool] = []

    def opened(name: str, device: str, dtype: str, trust_remote_code: bool) -> hs.Model:
        trusted.append(trust_remote_code)
        return hs.load(name)

    monkeypatch.setattr("hydrascope.asked.open_model", opened)
    assert cli("confirm", out).code == 0
    assert cli("confirm", out, "--trust-remote-code").code == 0
    assert trusted == [False, True]


def test_where_nothing_is_repaired_it_says_so(command: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "run"
    assert cli(*command, "--components", "mlp", "--out", out).code == 0
    said = cli("confirm", out)
    assert said.code == 0
    assert said.out.splitlines()[-1].startswith("Nobody was held: later attention clearly makes up for none")
    assert not (out / "also").exists()


def test_what_cannot_be_confirmed_is_refused(command: tuple[str, ...], tmp_path: Path, cli: Cli) -> None:
    model, prompts = Path(command[1]), Path(command[3])
    out, moved = tmp_path / "run", tmp_path / "moved"
    shutil.copytree(model, moved)
    assert cli("run", moved, *command[2:], "--out", out, "--no-confirm").code == 0
    assert "nowhere" in cli("confirm", tmp_path / "nowhere").refusal()
    unfinished = tmp_path / "unfinished"
    shutil.copytree(out, unfinished)
    shutil.rmtree(unfinished / "ledger.zarr")
    assert "unfinished" in cli("confirm", unfinished).refusal()
    sums = tmp_path / "sums"
    assert cli(*command, "--out", sums, "--detail", "kinds").code == 0
    assert "run it again with --detail full" in cli("confirm", sums).refusal()
    rows = prompts.read_text().splitlines()
    shutil.copy(prompts, tmp_path / "kept.jsonl")
    prompts.write_text("\n".join(rows[1:]))
    assert "holds a run with another prompts" in cli("confirm", out).refusal()
    prompts.write_text("\n".join(rows) + "\n")
    shutil.rmtree(moved)
    assert "moved" in cli("confirm", out).refusal()
    task = hs.load_prompts(str(prompts))
    hs.knock_out(
        hs.load(str(model)), task, "attn", hs.Zero(), options=hs.Options(null_draws=0), out=tmp_path / "python"
    )
    assert "made in Python" in cli("confirm", tmp_path / "python").refusal()
