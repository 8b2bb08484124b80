"""A run that is killed, wherever and however often, continues with the same command and ends in the same bits."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from hydrascope.errors import OutputError
from hydrascope.ledger import open_dataset
from tests.support import tiny
from tests.support.resume_driver import BATCH, CHUNK

DRIVER = Path(__file__).parents[1] / "support" / "resume_driver.py"

STAGES = [
    ("os.rename", "run.json.new", 1),  # run.json is written, but not yet under its name
    ("os.rename", "prompts.jsonl.new", 1),
    ("open", "scratch.zarr", 1),
    ("open", "scratch.zarr/clean/", 9),
    ("open", "clean/top", 4),  # the first chunk's values are there, but it is not counted yet
    ("os.rename", "clean/top", 4),
    ("open", "ledger.zarr.new", 1),
    ("open", "ledger.zarr.new", 30),
    ("os.rename", "ledger.zarr.new ", 1),  # the empty ledger is about to appear under its name
    ("open", "ledger.zarr/change/", 1),
    ("os.rename", "ledger.zarr/kl/", 1),
    ("open", "ledger.zarr/done/", 2),  # a batch's arrays are there, but it is not counted yet
    ("open", "ledger.zarr/null_change/", 2),
    ("os.rename", "ledger.zarr/zarr.json", 1),  # all batches are done, the closing error is about to be noted
    ("os.rename", "run.json.new", 1),  # the run is about to be called complete
    ("shutil.rmtree", "scratch.zarr", 1),
    ("os.rename", "report.html", 1),
]
"""File operations in the order in which a run comes by them; a kill just before each."""


@dataclass
class Driver:
    """The process that forks one child per attempt, and the folder it works in."""

    process: subprocess.Popen[str]
    folder: Path

    def attempt(self, **how: Any) -> int:
        """One child; its wait status."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"out": str(self.out), **how}) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    out: Path = Path()

    def into(self, name: str) -> None:
        """Let the attempts that follow work on another run."""
        self.out = self.folder / name

    def journal(self) -> list[str]:
        """Every piece of work that was begun, in order."""
        path = self.out.with_suffix(".log")
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    folder = tmp_path_factory.mktemp("killed")
    network = tiny.network(width=64)  # wide enough that a batch of another size rounds otherwise
    model = tiny.save(folder / "model", network)
    prompts = tiny.prompt_file(folder / "p.jsonl", tiny.completed(network, 40))
    with subprocess.Popen(
        [sys.executable, DRIVER, model, prompts], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Driver(process, folder)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def whole(driver: Driver) -> Driver:
    """The run that nothing interrupts."""
    driver.into("whole")
    assert driver.attempt() == 0
    return driver


def finished(out: Path) -> set[str]:
    """Pieces of work whose results are on disk, as the journal names them."""
    done = set()
    if (out / "scratch.zarr" / "clean" / "top").is_dir():
        top = np.asarray(zarr.open_array(out / "scratch.zarr" / "clean" / "top", mode="r")[:])
        done |= {f"chunk {row}" for row in np.flatnonzero(top >= 0)}
    if (out / "ledger.zarr").is_dir():
        counted = np.asarray(zarr.open_array(out / "ledger.zarr" / "done", mode="r")[:])
        done |= {f"batch {row}" for row in np.flatnonzero(counted)}
    return done


def rows_of(lines: Sequence[str]) -> list[str]:
    """Every row of work in the journal, in order."""
    return [f"{line.split()[0]} {row}" for line in lines for row in json.loads(line.split(maxsplit=1)[1])]


def piece_of(row: str) -> tuple[str, int]:
    """The chunk of the clean runs, or the batch of the ledger, that is written at once."""
    kind, number = row.split()
    return kind, int(number) // {"chunk": CHUNK, "batch": BATCH}[kind]


def killed(driver: Driver, **how: Any) -> None:
    """One attempt that ends in a kill; what it must not have done and must not have left behind is checked."""
    before, begun = finished(driver.out), len(driver.journal())
    assert driver.attempt(**how) == signal.SIGKILL, how
    worked = rows_of(driver.journal()[begun:])
    assert not before & set(worked), "finished work was done again"
    lost = set(worked) - finished(driver.out)
    if (driver.out / "ledger.zarr").is_dir() and not (driver.out / "scratch.zarr").is_dir():
        lost -= {row for row in lost if row.startswith("chunk")}
    assert len({piece_of(row) for row in lost}) <= 1, "more than one batch was lost"
    if (driver.out / "run.json").exists():
        assert set(json.loads((driver.out / "run.json").read_text())) >= {"settings", "complete", "memory", "command"}
    if (driver.out / "report.html").exists():
        assert (driver.out / "report.html").read_text().endswith("</html>")


def same_in_the_end(driver: Driver, whole: Path, **how: Any) -> None:
    assert driver.attempt(**how) == 0
    expected, found = (xr.open_zarr(out / "ledger.zarr", consolidated=False).load() for out in (whole, driver.out))
    assert set(expected.variables) == set(found.variables)
    for name, variable in expected.variables.items():
        np.testing.assert_array_equal(found[name].values, variable.values, err_msg=str(name))
    own = {"command", "created", "seconds", "seal"}
    assert {k: v for k, v in found.attrs.items() if k not in own} == {
        k: v for k, v in expected.attrs.items() if k not in own
    }
    assert {path.name for path in driver.out.iterdir()} == {"run.json", "prompts.jsonl", "ledger.zarr", "report.html"}


def test_killed_at_ten_random_moments(driver: Driver, whole: Driver) -> None:
    reference = driver.folder / "whole"
    driver.into("random")
    rng = random.Random(7)
    for _ in range(10):
        killed(driver, work=rng.choice((1, 1, 2)), after=rng.random() * 0.02)
    same_in_the_end(driver, reference)


def test_killed_at_every_stage(driver: Driver, whole: Driver) -> None:
    reference = driver.folder / "whole"
    driver.into("stages")
    for stage in STAGES:
        killed(driver, at=stage)
    same_in_the_end(driver, reference)


def test_an_unfinished_run_is_not_read_as_a_finished_one(driver: Driver, whole: Driver) -> None:
    driver.into("unfinished")
    killed(driver, at=("open", "ledger.zarr/done/", 2))
    with pytest.raises(OutputError, match="has not finished; run the same command again"):
        open_dataset(driver.out)


def test_a_finished_run_is_not_touched(driver: Driver, whole: Driver) -> None:
    driver.into("whole")
    begun = driver.journal()
    before = {path: path.stat().st_mtime_ns for path in driver.out.rglob("*") if path.name != "report.html"}
    assert driver.attempt() == 0
    assert driver.journal() == begun
    after = {path: path.stat().st_mtime_ns for path in driver.out.rglob("*") if path.name != "report.html"}
    del before[driver.out / "ledger.zarr"], after[driver.out / "ledger.zarr"]
    assert after == before


def test_a_kill_while_overwriting_never_mixes_two_runs(driver: Driver, whole: Driver) -> None:
    reference = driver.folder / "whole"
    stages = [
        ("os.rename", "ledger.zarr", 1),
        ("shutil.rmtree", "ledger.zarr.new", 1),
        ("os.rename", "run.json.new", 1),
    ]
    driver.into("other")
    assert driver.attempt(seed=1) == 0
    for number, stage in enumerate(stages):
        driver.into(f"over-{number}")
        shutil.copytree(driver.folder / "other", driver.out)
        assert driver.attempt(overwrite=True, at=stage) == signal.SIGKILL
        same_in_the_end(driver, reference, overwrite=True)
