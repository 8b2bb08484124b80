"""`hydrascope stress`: plan, run, report, JSON."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

import hydrascope as hs
from tests.conftest import Cli

SMALL = ("--rates", "0.3,0.7", "--masks", "10", "--worst", "2", "--ablation", "zero")


@pytest.fixture(scope="module")
def command(model_folder: Path, prompt_file: Path) -> tuple[str, ...]:
    return ("stress", str(model_folder), "--prompts", str(prompt_file), "--components", "attn,mlp", *SMALL)


def test_the_plan_counts_every_run(command: tuple[str, ...], cli: Cli, tmp_path: Path) -> None:
    said = cli(*command, "--out", tmp_path / "test", "--dry-run", "--json")
    plan = json.loads(said.out)
    assert plan["knockouts"] == 6
    assert plan["companions"]["sets"]["knockouts"] > 20
    assert plan["companions"]["worst"]["knockouts"] > 5
    assert plan["seconds"] > 0
    assert plan["needed_bytes"] > 0
    assert not (tmp_path / "test").exists()
    assert "and sets:" in cli(*command, "--dry-run").out


def test_models_and_prompts_are_opened_as_a_run_opens_them(command: tuple[str, ...], cli: Cli) -> None:
    assert cli(*command, "--limit", "2", "--dry-run").out.startswith("2 prompts x 6 knock-outs")
    for verb in ("stress", "rank"):
        told = cli(verb, "--help").out
        for option in ("--limit", "--answer", "--delimiter", "--adapter", "--gguf", "--allow-unused"):
            assert option in told


def test_it_says_what_was_found_and_writes_a_page(command: tuple[str, ...], cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "test"
    said = cli(*command, "--out", out)
    assert said.code == 0, said.err
    found = hs.Stress.open(out)
    summary = found.summary()
    assert said.out.splitlines()[0] == summary.headline
    assert said.out.splitlines()[-1] == str(out / "report.html")
    page = (out / "report.html").read_text()
    for heading in ("What the model survives", "Importance when others fail too", "Parts that fail together"):
        assert heading in page
    assert found.findings.plan.masks == 10
    assert "--masks 10" in page
    (listed,) = json.loads(cli("runs", tmp_path, "--json").out)
    assert (listed["state"], listed["headline"]) == ("complete", summary.headline)
    with pytest.raises(hs.OutputError, match=r"holds a stress test, .* hydrascope\.Stress\.open"):
        hs.Ledger.open(out)
    again = json.loads(cli(*command, "--out", out, "--json").out)
    assert again["headline"] == summary.headline
    assert [row["rate"] for row in again["tables"]["curve"]] == [0, 0.3, 0.7, 1]
    assert len(again["tables"]["pairs"]) == 15


def test_the_recorded_command_of_a_test_without_distributions_is_one(
    command: tuple[str, ...], model_folder: Path, prompt_file: Path, cli: Cli, tmp_path: Path
) -> None:
    out = tmp_path / "test"
    assert cli(*command, "--no-distribution", "--out", out).code == 0
    _, *words = shlex.split(json.loads((out / "run.json").read_text())["command"])
    assert "--no-distribution" in words
    plan = json.loads(cli(*words, "--dry-run", "--json").out)
    assert plan["knockouts"] == 6
    assert "kl" not in hs.Stress.open(out).findings.measured


def test_mistakes_are_one_sentence(command: tuple[str, ...], cli: Cli, tmp_path: Path) -> None:
    assert "failure rate cannot be 2" in cli(*command, "--rates", "2").refusal()
    assert "one ablation" in cli(*command, "--ablation", "zero,mean", "--out", tmp_path / "test").refusal()
    assert "parts can be lost together" in cli(*command, "--components", "attn.0", "--out", tmp_path / "test").refusal()
    assert not (tmp_path / "test").exists()
