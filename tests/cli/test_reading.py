"""What the command line says of finished runs: the end of a run, its tables, the runs of a folder; and of itself."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

import hydrascope as hs
from hydrascope.analysis import SHORT, TABLES
from hydrascope.cli._ending import account, show_ending
from hydrascope.cli._table import markdown
from hydrascope.ledger import read_record, write_record
from tests.conftest import Cli
from tests.support.synthetic import synthetic_ledger
from tests.support.texts import tiny_ledger


@pytest.fixture(scope="module")
def folder(model_folder: Path, prompt_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small run, which needs no report."""
    place = tmp_path_factory.mktemp("runs")
    prompts = hs.load_prompts(str(prompt_file))
    hs.knock_out(hs.load(str(model_folder)), prompts, "attn,mlp", hs.Resample(donors=2), out=place / "one")
    return place


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_a_run_ends_in_twelve_lines_at_most(width: int, capsys: pytest.CaptureFixture[str]) -> None:
    for ledger in (hs.Ledger(synthetic_ledger(n_prompts=20)), tiny_ledger("kinds")):
        out = io.StringIO()
        console = Console(file=out, width=width, highlight=False, force_terminal=True, color_system=None)
        show_ending(ledger, Path("runs/a run/report.html"), console)
        lines = out.getvalue().splitlines() + capsys.readouterr().out.splitlines()
        assert len(lines) <= 12
        assert lines[-1] == "runs/a run/report.html"
        assert "hydrascope show 'runs/a run'" in " ".join(" ".join(lines).split())
        assert " ".join(lines).startswith(ledger.summary().headline[:40])


def test_the_account_of_the_ending_adds_up() -> None:
    for ledger in (hs.Ledger(synthetic_ledger(n_prompts=20)), tiny_ledger("kinds")):
        heads, values = account(ledger, ledger.summary())
        *parts, total = (float(value) for value in re.findall(r"[+-]\d+\.\d+", values.plain))
        assert sum(parts) == pytest.approx(total, abs=0.006 * len(parts))
        assert heads.plain.endswith("total effect") and values.plain.startswith(f"without {ledger.summary().focus}")


def test_the_runs_of_a_folder_are_listed_with_what_they_found(folder: Path, tmp_path: Path, cli: Cli) -> None:
    place = shutil.copytree(folder, tmp_path / "runs")
    for name in ("unfinished", "damaged", "unknown"):
        shutil.copytree(place / "one", place / name)
    record = read_record(place / "one" / "run.json")
    write_record(place / "unfinished" / "run.json", {**record, "complete": False})
    for name in ("damaged", "unknown"):
        (place / name / "run.json").write_text("{")
    shutil.rmtree(place / "unknown" / "ledger.zarr")
    (place / "notes").mkdir()
    found = {Path(one["run"]).name: one for one in json.loads(cli("runs", place, "--json").out)}
    assert {name: one["state"] for name, one in found.items()} == {
        "one": "complete",
        "unfinished": "broken off",
        "damaged": "complete",  # as show has it: its ledger is whole
        "unknown": "unreadable",
    }
    assert {**found["damaged"], "run": ""} == {**found["one"], "run": ""}
    headline = hs.Ledger.open(place / "one").summary().headline
    assert (found["one"]["headline"], found["one"]["model"]) == (headline, record["model"]["label"])
    listed = cli("runs", place).out.splitlines()
    assert f"{place / 'one'}  {record['model']['label']} · {record['prompts']['name']} · complete" in listed
    assert f"  {headline}" in listed
    assert cli("runs", place / "notes").out == f"No run in '{place / 'notes'}'.\n"
    assert "there is no folder" in cli("runs", place / "nowhere").refusal()


def test_a_table_is_printed_as_csv_and_as_markdown(folder: Path, tmp_path: Path, cli: Cli) -> None:
    run = folder / "one"
    repair = hs.Ledger.open(run).repair()
    for extra, columns in ((("--full",), list(repair)), ((), list(hs.Ledger.open(run).table("repair")))):
        printed = pd.read_csv(io.StringIO(cli("table", run, "repair", *extra).out))
        assert list(printed) == columns
        assert printed["own_change"].tolist() == pytest.approx(repair["own_change"].tolist())
    said = cli("table", run, "repair", "--format", "md", "--out", tmp_path / "repair.md")
    assert said.out == ""
    head, rule, *rows = (tmp_path / "repair.md").read_text().splitlines()
    assert head.startswith("| ablated | own_change |") and set(rule) == set("|- ")
    row = repair.iloc[0]
    shown = "{:.3g} [{:.3g}, {:.3g}]".format(*row[["own_change", "own_change_lo", "own_change_hi"]])
    assert rows[0].startswith(f"| {row['ablated']} | {shown} |") and len(rows) == len(repair)
    names = [line.split(":")[0] for line in cli("table", run).out.splitlines()]
    assert names == list(TABLES)
    assert "no table 'repairs'; choose from repair, " in cli("table", run, "repairs").refusal()


def test_markdown_keeps_its_cells_apart() -> None:
    table = pd.DataFrame({"name": ["a|b"], "x": [float("nan")], "x_lo": [1.0], "x_hi": [2.0], "n": [3]})
    assert markdown(table).splitlines()[-1] == "| a\\|b |  | 3 |"


def test_short_tables_have_columns_of_the_full_ones_and_no_share_that_means_nothing() -> None:
    assert set(SHORT) == set(TABLES)
    ledger = hs.Ledger(synthetic_ledger(n_prompts=20))
    full, short = ledger.repair(), ledger.table("repair")
    assert len(short.columns) < len(full.columns) / 3
    meaningful = full["meaningful"]
    assert 0 < meaningful.sum() < len(full)
    assert short.loc[~meaningful, "restored_with_norm"].isna().all()
    assert short.loc[meaningful, "restored_with_norm"].tolist() == full.loc[meaningful, "restored_with_norm"].tolist()
    for one in (ledger, tiny_ledger("kinds")):
        for name in ("self_repair", "mechanisms") if one is not ledger else ("who_repairs", "late_mlps", "mcgrath"):
            assert set(SHORT[name]) - set(one.table(name, full=True)) == set(), name


def test_a_shell_can_complete_the_options_of_a_verb() -> None:
    """In a process of its own, as a shell asks; without waiting for torch."""
    asked = {"_HYDRASCOPE_COMPLETE": "complete_bash", "COMP_WORDS": "hydrascope run --comp", "COMP_CWORD": "2"}
    code = "import sys; from hydrascope.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env={**os.environ, **asked}, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["--components", "False"], done.stderr
