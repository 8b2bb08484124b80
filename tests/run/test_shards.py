"""Runs that are divided: shards joined are the undivided run to the last bit, and what cannot be joined is named."""

from __future__ import annotations

import json
import os
import shutil
import signal
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import hydrascope as hs
from hydrascope import zoo
from hydrascope.engine import _memory
from hydrascope.errors import SettingsChanged, TooFewDonors
from hydrascope.ledger import LedgerFile, open_dataset, read_record, write_record
from hydrascope.run import RunRequest, Shard, estimate, execute, execute_shard, prepare
from hydrascope.run._joining import join
from hydrascope.run._prompt_run import PromptRun
from hydrascope.run._runner import Runner
from hydrascope.run._task import Task
from hydrascope.run_directory import RunDirectory
from tests.conftest import Cli

MEMORY = "300MB"
COUNT = 3
TIMES = {"created", "seconds"}


@dataclass(frozen=True)
class Case:
    """A run, small enough to be made twice, in which there is more to compute together than there are shards."""

    prompts: hs.PromptSet
    options: hs.Options
    ablation: hs.Ablation = hs.Resample(donors=2)  # noqa: RUF009

    def task(self, model: hs.Model, **changes: Any) -> Task:
        return prepare(model, self.prompts, self.ablation, self.options.but(**changes))

    def request(self, model: hs.Model) -> RunRequest:
        return RunRequest.of(model, self.prompts, (self.ablation,), 1.0, self.options, freeze=False, out=None)

    def shard(self, model: hs.Model, number: int, out: Path, count: int = COUNT, **changes: Any) -> RunDirectory:
        return execute_shard(self.task(model, **changes), Shard(number, count), out, self.request(model))


@pytest.fixture(scope="module")
def model() -> hs.Model:
    return hs.load("lerna")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydrascope.run._prompt_run.BATCH", 4)
    monkeypatch.setattr(_memory, "TEXTS_IN_BLOCK", 4)


FACTS = Case(
    hs.load_prompts(zoo.default().path / "indirect.jsonl").spread(20),
    hs.Options(components="attn.2,mlp.5", null_draws=1, memory=MEMORY),
)


def texts(model: hs.Model) -> Case:
    found = hs.load_prompts(zoo.default().path / "retrieval.jsonl").spread(24)
    options = hs.Options(protocol="text", components="head.3.*", memory=MEMORY)
    return Case(found, options, hs.Resample(donors=1))


def answers(model: hs.Model) -> Case:
    rows = [{"prompt": row.text, "target": f"{row.target} and {row.target}"} for row in FACTS.prompts]
    return Case(hs.load_prompts(rows), FACTS.options.but(answer="whole", keep_wrong=True), hs.Zero())


CASES: dict[str, Callable[[hs.Model], Case]] = {
    "last token": lambda model: FACTS,
    "optimal": lambda model: Case(FACTS.prompts.spread(12), FACTS.options.but(null_draws=0), hs.Optimal(steps=3)),
    "texts": texts,
    "whole answers": answers,
}


def in_children(works: Sequence[Callable[[], object]]) -> list[int]:
    """Do several things at once, each in a process of its own; their wait statuses."""
    children = []
    for work in works:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work()
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(child)
    return [os.waitpid(child, 0)[1] for child in children]


def require_same(one: Path, other: Path) -> None:
    """All arrays to the last bit, all attributes but times."""
    a, b = (xr.open_zarr(path / "ledger.zarr", consolidated=False).load() for path in (one, other))
    assert set(a.variables) == set(b.variables)
    for name in a.variables:
        assert a[name].dtype == b[name].dtype
        assert a[name].values.tolist() == b[name].values.tolist() or (
            a[name].values.tobytes() == b[name].values.tobytes()  # NaN is no number's equal
        ), name
    differing = {name for name in {*a.attrs, *b.attrs} if a.attrs.get(name) != b.attrs.get(name)}
    assert differing <= {*TIMES, "seal"}  # which is of the attributes, too
    open_dataset(other)


@pytest.mark.parametrize("name", CASES)
def test_shards_at_once_joined_are_the_undivided_run(name: str, model: hs.Model, tmp_path: Path) -> None:
    case = CASES[name](model)
    execute(case.task(model), tmp_path / "whole", request=case.request(model))
    out = tmp_path / "divided"
    works = [lambda number=number: case.shard(model, number, out) for number in range(1, COUNT + 1)]
    assert in_children(works) == [0] * COUNT
    directory = case.shard(model, COUNT, out)
    assert directory.complete
    require_same(tmp_path / "whole", out)
    assert {path.name for path in out.iterdir()} == {"run.json", "prompts.jsonl", "ledger.zarr"}
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "divided"}


def test_nothing_is_computed_by_two_shards_and_a_killed_one_goes_on(
    model: hs.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(FACTS.task(model), tmp_path / "whole", request=FACTS.request(model))
    out, noted = tmp_path / "divided", tmp_path / "noted"
    arrays = Runner._arrays

    def noting(run: Any, group: Any, done: Any) -> Any:
        with noted.open("a") as file:
            file.write(f"{group.rows.start}\n")
        if noted.read_text().count("\n") == 2 and not (tmp_path / "killed").exists():
            (tmp_path / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return arrays(run, group, done)

    monkeypatch.setattr(Runner, "_arrays", noting)
    assert in_children([lambda: FACTS.shard(model, 1, out)]) == [signal.SIGKILL]
    for number in (3, 2, 1):
        FACTS.shard(model, number, out)
    assert noted.read_text().split() == ["0", "4", "16", "8", "12", "4"]
    require_same(tmp_path / "whole", out)


def test_more_shards_than_batches_leave_some_with_nothing(model: hs.Model, tmp_path: Path) -> None:
    few = Case(FACTS.prompts.spread(8), FACTS.options.but(null_draws=0))
    execute(few.task(model), tmp_path / "whole", request=few.request(model))
    done = [few.shard(model, number, tmp_path / "divided").complete for number in (1, 2, 3)]
    assert done == [False, False, True]
    assert not read_record(tmp_path / "divided" / "run.json")["machines"][1:]
    require_same(tmp_path / "whole", tmp_path / "divided")


def test_a_dry_run_tells_the_shards_own_share(model: hs.Model) -> None:
    for case in (FACTS, texts(model)):
        task = case.task(model)
        whole, parts = estimate(task), [estimate(task, Shard(number, COUNT)) for number in range(1, COUNT + 1)]
        for field in ("prompts", "read", "edited", "intervention_tokens"):
            assert sum(getattr(part, field) for part in parts) == getattr(whole, field), field
        assert max(part.flops for part in parts) < whole.flops < sum(part.flops for part in parts) + 1


def test_a_shard_that_cannot_begin_leaves_nothing(model: hs.Model, tmp_path: Path) -> None:
    alone = Case(FACTS.prompts.spread(3), FACTS.options, hs.Resample(donors=9))
    with pytest.raises(TooFewDonors):
        alone.shard(model, 1, tmp_path / "divided")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "count", "told"),
    [
        ({"seed": 1}, COUNT, r"holds another run \(--seed 0 there, 1 now\)"),
        ({"memory": "200MB"}, COUNT, r"\(--memory 300 MB there, 200 MB now\)"),
        ({}, 4, r"\(divided by 3 there, by 4 now\)"),
    ],
)
def test_shards_that_disagree_are_refused(
    changes: dict[str, Any], count: int, told: str, model: hs.Model, tmp_path: Path
) -> None:
    out = tmp_path / "divided"
    FACTS.shard(model, 1, out)
    with pytest.raises(SettingsChanged, match=told):
        FACTS.shard(model, 2, out, count, **changes)
    assert [path.name for path in (out / "shards").iterdir()] == ["1-of-3"]


def test_shards_of_other_packages_are_refused(model: hs.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FACTS.shard(model, 1, tmp_path / "divided")
    monkeypatch.setattr("hydrascope.run._execution.version", lambda package: "0.0")
    with pytest.raises(SettingsChanged, match=r"torch [0-9.a-z+]+ there, 0\.0 now"):
        FACTS.shard(model, 2, tmp_path / "divided")


def test_memory_is_the_first_shards_where_none_is_given(
    model: hs.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets: list[int] = []
    measure = PromptRun.measure
    monkeypatch.setattr(
        PromptRun, "measure", lambda run, shard: (budgets.append(run.budget.bytes), measure(run, shard))[1]
    )
    unlimited = Case(FACTS.prompts, hs.Options(components="attn.2"))
    for number, free in ((1, 200 * 2**20), (2, 90 * 2**20)):
        monkeypatch.setattr(_memory, "_free", lambda device, free=free: free)
        unlimited.shard(model, number, tmp_path / "divided")
    assert budgets == [100 * 2**20] * 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, prompt_file: Path) -> tuple[Path, list[Any]]:
    """A folder with two of two shards of a run, not joined yet, and the command that made them."""
    folder = tmp_path_factory.mktemp("shards")
    command = ["run", model_folder, "--prompts", prompt_file, "--components", "attn", "--donors", "2", "--memory"]
    return folder, [*command, "300MB", "--no-freeze", "--keep-wrong"]


@pytest.fixture
def divided(folders: tuple[Path, list[Any]], cli: Cli, tmp_path: Path) -> tuple[Path, list[Any]]:
    kept, command = folders
    if not (kept / "run").exists():
        assert cli(*command, "--out", kept / "run", "--shard", "1/2").code == 0
        shutil.copytree(kept / "run", kept / "first")
        shutil.copytree(kept / "run" / "shards" / "1-of-2", kept / "one")
        other = cli(*command, "--out", kept / "run", "--shard", "2/2", "--json")
        assert json.loads(other.out)["complete"]
    shutil.copytree(kept / "first", tmp_path / "run")
    return tmp_path / "run", [*command, "--out", tmp_path / "run"]


def test_the_command_without_a_shard_joins_and_reports(divided: tuple[Path, list[Any]], cli: Cli) -> None:
    out, command = divided
    missing = cli(*command).refusal()
    assert missing == (
        f"the shards in '{out}/shards' cannot be joined: 2/2 is missing; run the same command with --shard 2/2"
    )
    said = cli(*command, "--shard", "2/2")
    assert said.code == 0 and said.out.splitlines()[0].startswith("shard 2/2 is done, and all are joined")
    assert cli(*command, "--shard", "1/2").out == said.out.replace("2/2", "1/2")  # nothing is left to do
    assert cli(*command).code == 0
    assert (out / "report.html").exists()
    assert "are joined and gone" in cli(*command, "--shard", "1/2", "--overwrite").refusal()


def damage_numbers(shard: Path) -> None:
    file = next((shard / "ledger.zarr" / "total_effect").glob("c.*"))
    file.unlink()


def damage_record(shard: Path) -> None:
    (shard / "run.json").write_text((shard / "run.json").read_text().replace('"rows"', '"rose"'))


def unfinish(shard: Path) -> None:
    write_record(shard / "run.json", {**read_record(shard / "run.json"), "complete": False})


def swap(shard: Path) -> None:
    write_record(shard / "run.json", {**read_record(shard / "run.json"), "shard": 2})


def from_another_run(shard: Path) -> None:
    record = read_record(shard / "run.json")
    write_record(shard / "run.json", {**record, "settings": {**record["settings"], "seed": 7}})


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (damage_numbers, "is damaged: it is not what was written; run the same command with --shard 1/2 --overwrite"),
        (damage_record, "the record of shard 1/2 in"),
        (unfinish, "1/2 has not finished, 2/2 is missing; run the same command with --shard 1/2 and --shard 2/2"),
        (swap, "is another shard (2); run the same command with --shard 1/2 --overwrite"),
        (from_another_run, "is of another run (--seed 7 there, 0 now); run the same command with --shard 1/2"),
    ],
)
def test_what_cannot_be_joined_is_named(
    harm: Callable[[Path], None], told: str, divided: tuple[Path, list[Any]], cli: Cli
) -> None:
    out, command = divided
    harm(out / "shards" / "1-of-2")
    if harm is damage_numbers:  # it is found out when the last one joins
        assert told in cli(*command, "--shard", "2/2").refusal(begun=True)
    refused = cli(*command).refusal()
    assert told in refused and str(out / "shards") in refused
    assert not (out / "ledger.zarr").exists()
    assert not list((out / "shards").glob("joined*"))
    if harm is damage_numbers:
        assert cli(*command, "--shard", "1/2", "--overwrite").code == 0
        open_dataset(out)


def test_a_join_that_was_killed_at_its_end_is_noted_later(
    divided: tuple[Path, list[Any]], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, command = divided
    marking = RunDirectory.mark_complete

    def die(directory: RunDirectory, **facts: Any) -> RunDirectory:
        if directory.path == out:
            os.kill(os.getpid(), signal.SIGKILL)
        return marking(directory, **facts)

    with monkeypatch.context() as patched:
        patched.setattr(RunDirectory, "mark_complete", die)
        assert in_children([lambda: cli(*command, "--shard", "2/2")]) == [signal.SIGKILL]
    assert not read_record(out / "run.json")["complete"]
    assert cli(*command).code == 0
    assert not (out / "shards").exists()


def test_a_slower_join_leaves_the_faster_ones_ledger(
    divided: tuple[Path, list[Any]], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, command = divided
    faster = out.with_name("faster")
    shutil.copytree(out, faster)
    assert cli(*command[:-1], faster, "--shard", "2/2").code == 0
    real = os.rename

    def rename(source: Any, target: Any) -> None:
        if Path(target) == out / "ledger.zarr":  # in the last moment the other one is there
            shutil.copytree(faster / "ledger.zarr", target)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    assert cli(*command, "--shard", "2/2").code == 0
    assert not list((out / "shards").glob("joined*"))
    monkeypatch.undo()
    assert join(RunDirectory(out, read_record(out / "run.json"))).complete
    require_same(faster, out)


def test_shards_that_a_faster_join_takes_away_are_not_missed(
    divided: tuple[Path, list[Any]], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, command = divided
    faster = out.with_name("faster")
    shutil.copytree(out, faster)
    assert cli(*command[:-1], faster, "--shard", "2/2").code == 0
    finish = LedgerFile.finish

    def overtaken(file: LedgerFile, seconds: float) -> None:
        shutil.copytree(faster / "ledger.zarr", out / "ledger.zarr")
        shutil.rmtree(out / "shards")
        shutil.copy(faster / "run.json", out / "run.json")
        finish(file, seconds)

    monkeypatch.setattr(LedgerFile, "finish", overtaken)
    assert cli(*command, "--shard", "2/2").code == 0
    assert {path.name for path in out.iterdir()} == {path.name for path in faster.iterdir()}
    require_same(faster, out)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--shard", "0/3", "--out", "x"], "shard cannot be '0/3'; give which and how many, from 1/3 to 3/3"),
        (["--shard", "4/3", "--out", "x"], "shard cannot be '4/3'"),
        (["--shard", "a", "--out", "x"], "shard cannot be 'a'"),
        (["--shard", "1/3"], "a shard needs the folder that it shares with the others; give it with --out"),
    ],
)
def test_a_shard_is_a_share_of_a_folder(more: list[str], told: str, folders: tuple[Path, list[Any]], cli: Cli) -> None:
    assert cli(*folders[1], *more).refusal().startswith(told)


def test_a_run_that_was_begun_whole_is_not_divided(
    divided: tuple[Path, list[Any]], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, command = divided
    begun = out.with_name("begun")
    monkeypatch.setattr(Runner, "finish", lambda run, started: os.kill(os.getpid(), signal.SIGKILL))
    assert in_children([lambda: cli(*command[:-1], begun)]) == [signal.SIGKILL]
    assert "holds a run that is not divided" in cli(*command[:-1], begun, "--shard", "1/2").refusal()
    (elsewhere := out.with_name("elsewhere")).mkdir()
    (elsewhere / "mine.txt").touch()
    refused = cli(*command[:-1], elsewhere, "--shard", "1/2").refusal()
    assert refused == f"'{elsewhere}' exists and is no run of hydrascope; choose another --out"


def test_shares_hold_every_row_once() -> None:
    together = [range(first, min(first + 7, 60)) for first in range(0, 60, 7)]
    shares = [Shard(number, 4).share(together, 60) for number in range(1, 5)]
    np.testing.assert_array_equal(np.sum(shares, 0), 1)
    assert all(len({share[row] for row in some}) == 1 for share in shares for some in together)
