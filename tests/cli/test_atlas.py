"""`hydrascope atlas` and `hs.atlas` on a folder of runs, as a user calls them."""

from __future__ import annotations

import functools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import hydrascope as hs
from hydrascope.errors import OutputError
from hydrascope.ledger import read_record, write_record
from tests.cli.test_cli import SMALL, strict_json
from tests.conftest import Cli


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("atlas")


@pytest.fixture
def folder(cli: Cli, model_folder: Path, prompt_file: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two runs, one deeper than the other, beside everything else that can lie in a folder; made once."""
    monkeypatch.setattr("hydrascope.report._page.render", lambda dataset: "<html></html>")
    runs = place / "runs"
    if not runs.exists():
        first, sums = runs / "one", runs / "sums"
        for out, more in ((first, ()), (sums, ("--detail", "kinds"))):
            asked = ("--prompts", prompt_file, *SMALL, "--no-freeze", *more, "--out", out)
            said = cli("run", model_folder, *asked)
            assert said.code == 0, said.err
        shutil.copytree(first, runs / "deeper" / "two words")
        shutil.copytree(first, runs / "broken off")
        record = read_record(first / "run.json")
        write_record(runs / "broken off" / "run.json", {**record, "complete": False})
        shutil.rmtree(runs / "broken off" / "ledger.zarr")
        shutil.copytree(first, runs / "damaged")
        chunks = (runs / "damaged" / "ledger.zarr" / "total_effect").glob("c.*")
        array = next(path for path in chunks if path.is_file())
        array.write_bytes(array.read_bytes()[:-4])
        (runs / "ranking").mkdir()
        write_record(runs / "ranking" / "run.json", {**record, "verb": "rank"})
        (runs / "notes").mkdir()
        (runs / "notes" / "text.txt").write_text("nothing", encoding="utf-8")
    return runs


opened = functools.cache(hs.atlas)


LEFT_OUT = {
    "broken off": "has not finished; run the same command again",
    "damaged": "is damaged",
    "ranking": "was made by 'hydrascope rank', not by 'hydrascope run'",
    "sums": "keeps only sums by kind of writer",
}


def test_finished_runs_are_read_and_all_others_told_in_a_sentence_each(cli: Cli, folder: Path, tmp_path: Path) -> None:
    said = cli("atlas", folder, "--out", tmp_path / "page.html", "--tables", tmp_path / "tables")
    assert said.code == 0
    told = said.err.splitlines()
    assert len(told) == len(LEFT_OUT)
    assert all(any(reason in line for line in told) for reason in LEFT_OUT.values())
    found = opened(folder)
    assert set(found.left_out) == set(LEFT_OUT)
    assert said.out.splitlines()[0] == found.summary().headline
    assert said.out.splitlines()[-2:] == [str(tmp_path / "tables"), str(tmp_path / "page.html")]
    assert found.runs()["run"].tolist() == ["deeper/two words", "one"]
    repair = hs.Ledger.open(folder / "one").repair()
    mine = found.table().query("run == 'one'")
    for column in ("own_change", "total_effect", "total_effect_hi", "slope"):
        np.testing.assert_allclose(mine[column], repair[column])
    for name, table in found.tables().items():
        stored = pd.read_csv(tmp_path / "tables" / f"{name}.csv")
        assert list(stored) == list(table) and len(stored) == len(table)


def test_every_cell_of_the_page_leads_to_its_run_from_wherever_the_page_is(folder: Path, tmp_path: Path) -> None:
    found = opened(folder)
    for page in (found.report(), found.report(tmp_path / "page.html")):
        text = page.read_text(encoding="utf-8")
        links = set(re.findall(r'<a href="([^"#]+report\.html)(?:#ablated=[^"]+)?"', text))
        there = {(page.parent / link.replace("%20", " ")).resolve() for link in links}
        assert there == {(folder / "one" / "report.html"), (folder / "deeper" / "two words" / "report.html")}
        assert "Left out" in text and "keeps only sums" in text
    (folder / "atlas.html").unlink()


def test_json_has_everything_that_is_said(cli: Cli, folder: Path, tmp_path: Path) -> None:
    said = cli("atlas", folder, "--json", "--out", tmp_path / "page.html")
    assert (said.code, said.err) == (0, "")
    told = strict_json(said.out)
    found = opened(folder)
    assert told["sentences"] == list(found.summary().sentences)
    assert {name: len(rows) for name, rows in told["tables"].items()} == {n: len(t) for n, t in found.tables().items()}
    assert set(told["left_out"]) == set(LEFT_OUT) and told["report"] == str(tmp_path / "page.html")
    assert json.dumps(told["numbers"]) == json.dumps(dict(found.summary().numbers))


def test_folders_without_a_finished_run_are_refused(cli: Cli, folder: Path, tmp_path: Path) -> None:
    assert "there is no folder" in cli("atlas", tmp_path / "nowhere").refusal()
    assert "no finished run under" in cli("atlas", tmp_path).refusal()
    assert "has not finished" in cli("atlas", folder / "broken off").refusal()
    assert "cannot be written" in cli("atlas", folder / "one", "--out", tmp_path / "no" / "page.html").refusal()
    with pytest.raises(OutputError, match="an atlas has no table 'all'; choose from runs, parts, claims"):
        hs.atlas(folder / "one").table("all")


def test_every_figure_of_the_page_is_a_method(folder: Path, tmp_path: Path) -> None:
    found = opened(folder)
    assert {"claims", "depth"} <= set(dir(found.plot))
    written = found.plot.save_all(tmp_path / "figures", form="svg")
    assert (tmp_path / "figures" / "claims.svg").read_text(encoding="utf-8").startswith("<svg")
    assert all(path.stat().st_size for path in written)
