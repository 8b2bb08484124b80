"""Expectations of a model's parts: judged by interval, in Python, on the command line and inside pytest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest

import hydrascope as hs
from hydrascope.checking import Expectation, check, read_expectations
from hydrascope.checking._judge import judged_change, judged_part, judged_secure
from tests.conftest import Cli


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run of the bundled model."""
    out = tmp_path_factory.mktemp("runs") / "lerna"
    prompts = hs.load_prompts("indirect").spread(48)
    options = hs.Options(components="attn.3-5", distribution=False, null_draws=0)
    hs.knock_out("lerna", prompts, ablation=hs.Resample(donors=1), options=options, out=out)
    return out


def written(folder: Path, run: Path, *expected: str, more: str = "") -> Path:
    path = folder / "expectations.toml"
    rows = "".join(f"\n[[expect]]\n{one}\n" for one in expected)
    path.write_text(f'[run]\nfolder = "{run}"\n{more}{rows}')
    return path


OWN = 'part = "attn.4"\nquantity = "own change"\n'


def table(value: float, low: float, high: float) -> pd.DataFrame:
    return pd.DataFrame({"ablated": ["attn.4"], "own_change": [value], "own_change_lo": [low], "own_change_hi": [high]})


@pytest.mark.parametrize(
    ("bounds", "outcome"),
    [
        ({"at_most": -1}, "holds"),
        ({"at_most": -1.8}, "holds"),
        ({"at_most": -2}, "undecided"),
        ({"at_least": -1}, "fails"),
        ({"between": (-2.5, -1.5)}, "holds"),
        ({"at_least": -2.1, "at_most": 0}, "undecided"),
        ({"between": (-9, -3)}, "fails"),
    ],
)
def test_the_whole_interval_decides(bounds: dict[str, Any], outcome: str) -> None:
    expected = Expectation(part="attn.4", quantity="own change", **bounds)
    found = judged_part(expected, table(-2.0, -2.2, -1.8))
    assert (found.outcome, found.said) == (outcome, "-2 [-2.2, -1.8]")


def test_what_has_no_interval_is_undecided() -> None:
    expected = Expectation(part="attn.4", quantity="own change", at_most=-1)
    assert judged_part(expected, table(-2.0, float("nan"), float("nan"))).outcome == "undecided"


@pytest.mark.parametrize(("among", "outcome"), [(1, "fails"), (2, "undecided"), (3, "holds")])
def test_a_place_is_judged_by_who_lies_surely_and_possibly_above(among: int, outcome: str) -> None:
    answers = pd.DataFrame(
        {
            "writer": ["attn.4", "mlp.4", "attn.5", "mlp.5", "attn.6"],
            "is_own": [True, False, False, False, False],
            "change": [-2.0, 0.50, 0.30, 0.31, 0.1],
            "change_lo": [-2.1, 0.45, 0.25, 0.26, 0.05],
            "change_hi": [-1.9, 0.55, 0.35, 0.36, 0.15],
        }
    )
    found = judged_change(Expectation(part="attn.4", responder="attn.5", among=among), answers)
    assert found.outcome == outcome
    assert found.said == "place 3 [2, 3], 0.3 [0.25, 0.35] logits"


def test_secure_parts_are_counted_by_what_is_sure_of_each() -> None:
    faults = pd.DataFrame(
        {"hit": [0.0, 0.05, 0.2, 0.6], "hit_lo": [0.0, 0.0, 0.05, 0.5], "hit_hi": [0.05, 0.2, 0.35, 0.7]}
    ).assign(secure=lambda one: one["hit"] <= 0.1)
    judged = {
        least: judged_secure(Expectation(quantity="N-1 secure share", at_least=least), faults, 0.1).outcome
        for least in (0.25, 0.5, 0.9)
    }
    assert judged == {0.25: "holds", 0.5: "undecided", 0.9: "fails"}


def test_a_run_is_judged_by_its_own_tables(run: Path, tmp_path: Path, cli: Cli) -> None:
    ledger = hs.Ledger.open(run)
    row = ledger.repair().set_index("ablated").loc["attn.4"]
    path = written(tmp_path, run, OWN + "at_most = -1", OWN + "at_least = 0", OWN + f"at_most = {row['own_change']}")
    found = hs.check(path)
    assert [one.outcome for one in found.judged] == ["holds", "fails", "undecided"]
    low, high = row["own_change_lo"], row["own_change_hi"]
    assert found.judged[0].said == f"{row['own_change']:.3g} [{low:.3g}, {high:.3g}]"
    said = cli("check", path, "--junit", tmp_path / "junit.xml")
    assert said.code == found.exit_code == 1
    assert said.out.splitlines()[-1] == "1 of 3 hold, 1 fail, 1 undecided"
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("3", "1", "1")
    assert [len(case) for case in suite] == [0, 1, 1]


@pytest.mark.parametrize(("expected", "code"), [(["at_most = -1"], 0), (["at_most = -1", "at_least = -2.2"], 3)])
def test_exit_codes_tell_fails_from_undecided(
    run: Path, tmp_path: Path, cli: Cli, expected: list[str], code: int
) -> None:
    row = hs.Ledger.open(run).repair().set_index("ablated").loc["attn.4"]
    expected = [one.replace("-2.2", str(row["own_change"])) for one in expected]
    path = written(tmp_path, run, *(OWN + one for one in expected))
    said = cli("check", path, "--json")
    assert said.code == code
    assert len(json.loads(said.out)["expectations"]) == len(expected)


def test_a_run_that_is_not_there_is_made_as_the_file_says(tmp_path: Path) -> None:
    asked = (
        'model = "lerna"\nprompts = "indirect"\nlimit = 24\ncomponents = "attn.4"\ndonors = 1\nfreeze = false\n'
        "distribution = false\nnull_draws = 0\n"
    )
    path = written(tmp_path, Path("made"), OWN + "at_most = -1", more=asked)
    assert check(path).exit_code == 0
    before = (tmp_path / "made" / "run.json").stat().st_mtime_ns
    assert check(path).exit_code == 0
    assert (tmp_path / "made" / "run.json").stat().st_mtime_ns == before, "a finished run is not made again"


def test_a_base_that_tells_nothing_of_a_part_is_said_to(
    run: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hydrascope.checking._check._beside", lambda found, base, ledger: found)
    said = cli("check", written(tmp_path, run, OWN + "at_most = -1"), "--base", run)
    assert said.out.splitlines()[0].endswith(", nothing on the same prompts in the base")


def test_a_run_that_was_made_otherwise_is_refused_with_what_a_file_can_mend(
    run: Path, tmp_path: Path, cli: Cli
) -> None:
    path = written(tmp_path, run, OWN + "at_most = -1", more='model = "lerna"\ncomponents = "attn.4"\n')
    said = cli("check", path)
    assert "below [run] give the options that it was made with" in said.refusal()
    assert "--out" not in said.err and "Loading weights" not in said.err


def test_todays_values_hold_today_and_beside_themselves_nothing_moved(run: Path, tmp_path: Path, cli: Cli) -> None:
    path = tmp_path / "expectations.toml"
    assert cli("check", path, "--record", run).code == 0
    expected = read_expectations(path).expected
    assert {one.part for one in expected} == {"attn.3", "attn.4", "attn.5"}
    assert {one.quantity for one in expected} == {"own change", "total effect", "restored share", "change"}
    found = check(path, base=run)
    assert {one.outcome for one in found.judged} == {"holds"}
    assert {one.beside for one in found.judged} == {"+0 [+0, +0]"}
    assert "delete it" in cli("check", path, "--record", run).refusal()


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        ('part = "attn.4"\nquantity = "own chance"\nat_most = 1', "did you mean 'own change'"),
        ('quantity = "own change"\nat_most = 1', "is of a part; name it"),
        ('part = "attn.4"\nquantity = "own change"', "either at_least, at_most or both, or between"),
        ('part = "attn.4"\nquantity = "own change"\nbetween = [1, 0]', "put the smaller one first"),
        ('part = "attn.4"\nquantity = "own change"\namong = 2', "either at_least"),
        ('part = "attn.4"\nat_most = 1', "has a responder; name it"),
        ('part = "attn.4"\nquantity = "own change"\nat_mots = 1', "did you mean 'at_most'"),
        ('part = "attn.7"\nquantity = "own change"\nat_most = 1', "attn.7 was not knocked out in this run"),
        ('part = "attn.4"\nresponder = "attn.3"\nat_most = 1', "attn.3 does not come after attn.4"),
        ('part = "attn.4"\nquantity = "KL divergence"\nat_most = 1', "run it with the distribution (--distribution)"),
        ('part = "attn.4"\nquantity = "own change"\nat_most = nan', "at most cannot be"),
        ('quantity = "N-1 secure share"\nat_least = 0.9', "write [stress] with its folder"),
        ('part = "attn.4', "is no TOML"),
    ],
)
def test_an_expectation_that_says_nothing_is_refused(
    run: Path, tmp_path: Path, cli: Cli, expected: str, said: str
) -> None:
    assert said in cli("check", written(tmp_path, run, expected)).refusal()


@pytest.mark.parametrize("text", ["", "[run]\nmodel = 'lerna'\n", "[runs]\n", "[run]\nfolder = 'here'\n", "run = 1\n"])
def test_a_file_without_a_run_or_expectations_is_refused(tmp_path: Path, cli: Cli, text: str) -> None:
    (tmp_path / "expectations.toml").write_text(text)
    cli("check", tmp_path / "expectations.toml").refusal()
    cli("check", tmp_path / "nothing.toml").refusal()


def test_pytest_collects_them_in_a_project_of_its_own(run: Path, tmp_path: Path) -> None:
    row = hs.Ledger.open(run).repair().set_index("ablated").loc["attn.4"]
    expected = ("at_most = -1", "at_least = 0", f"at_most = {row['own_change']}")
    written(tmp_path, run, *(OWN + one for one in expected))

    def outcomes(*options: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "pytest", "-q", "-rfs", "-p", "no:cacheprovider", *options, str(tmp_path)]
        surroundings = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, cwd=tmp_path, env=surroundings, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    code, out = outcomes()
    assert code == 1
    assert "1 failed, 1 passed, 1 skipped" in out
    assert "own change of attn.4 at least 0" in out and "Traceback" not in out
    assert "2 failed, 1 passed" in outcomes("-o", "hydrascope_strict=true")[1]
