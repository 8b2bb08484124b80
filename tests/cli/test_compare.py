"""`hydrascope compare` on finished runs, as a user calls it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_cli import SMALL, strict_json
from tests.conftest import Cli


@pytest.fixture
def runs(
    cli: Cli, model_folder: Path, prompt_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    """The same run with two seeds."""
    monkeypatch.setattr("hydrascope.report._page.render", lambda dataset: "<html></html>")
    folders = [tmp_path / "first", tmp_path / "second"]
    for seed, folder in enumerate(folders):
        said = cli("run", model_folder, "--prompts", prompt_file, *SMALL, "--seed", seed, "--out", folder)
        assert said.code == 0, said.err
    return folders


def test_two_runs_are_compared_in_sentences_json_and_a_page(cli: Cli, runs: list[Path]) -> None:
    said = cli("compare", *runs)
    assert said.code == 0 and said.err == ""
    first, *_, last = said.out.splitlines()
    assert first == "second beside first"
    assert "The runs differ in seed (0 against 1)." in said.out
    page = runs[1] / "comparison.html"
    assert last == str(page)
    assert "What every knock-out costs" in page.read_text(encoding="utf-8")
    told = strict_json(cli("compare", *runs, "--json", "--out", runs[0] / "other.html").out)
    [pair] = told["comparisons"]
    assert pair["headline"] in said.out
    assert told["report"] == str(runs[0] / "other.html")


def test_what_cannot_be_compared_is_refused_in_a_sentence(cli: Cli, runs: list[Path], tmp_path: Path) -> None:
    assert "two runs or more" in cli("compare", runs[0]).refusal()
    assert "no ledger in" in cli("compare", runs[0], tmp_path / "nowhere").refusal()
    assert "cannot be written" in cli("compare", *runs, "--out", tmp_path / "no" / "page.html").refusal()
