"""Sweeps: cells are ordinary runs, nothing is made twice, and a failure stops no other cell."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import hydrascope as hs
from hydrascope import run
from hydrascope.engine import measure
from hydrascope.run import _runner
from hydrascope.run_directory import locked
from hydrascope.sweeping import _claim, _execution, execute_plan, read_plan
from hydrascope.sweeping._claim import claimed
from tests.conftest import Cli
from tests.support import tiny
from tests.support.ledgers import same_bits

pytestmark = pytest.mark.usefixtures("proved_once", "quick_pages")


@pytest.fixture
def quick_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hydrascope.report._page.render", lambda dataset: "<html></html>")


@pytest.fixture
def asked(model_folder: Path, prompt_file: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        **{"folder": str(tmp_path / "out"), "model": str(model_folder), "prompts": str(prompt_file)},
        **{"components": "attn", "null_draws": 0, "freeze": False, "ablation": ["zero", "mean"], "seed": [0, 1]},
    }


class Counted:
    """How many models were opened, and batches measured."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.opened = self.batches = 0
        opening = run.open_model

        def open_model(*given: Any, **more: Any) -> Any:
            self.opened += 1
            return opening(*given, **more)

        def measured(*given: Any, **more: Any) -> Any:
            self.batches += 1
            return measure(*given, **more)

        patch.setattr(_execution, "open_model", open_model)
        patch.setattr(_runner, "measure", measured)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def written(path: Path, asked: dict[str, Any]) -> Path:
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in asked.items()), encoding="utf-8")
    return path


def test_a_cell_is_the_ordinary_run_and_is_made_once(
    asked: dict[str, Any], tmp_path: Path, cli: Cli, counted: Counted
) -> None:
    plan = written(tmp_path / "plan.toml", asked)
    said = cli("sweep", plan)
    assert said.code == 0, said
    assert said.out.endswith(f"4 cells: 4 made, 0 reused\n{tmp_path / 'out'}\n")
    assert counted.opened == 1  # of four cells of one model
    for ablation in ("zero", "mean"):
        options = hs.Options(components="attn", null_draws=0, seed=1)
        hs.knock_out(asked["model"], asked["prompts"], ablation=ablation, options=options, out=tmp_path / ablation)
        same_bits(tmp_path / ablation, tmp_path / "out" / f"{ablation}-seed-1")
        assert (tmp_path / "out" / f"{ablation}-seed-1" / "report.html").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    batches, again = counted.batches, cli("sweep", plan, "--json")
    assert (counted.batches, counted.opened) == (batches, 1)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    cells = json.loads(again.out)["cells"]
    assert [cell["state"] for cell in cells] == ["reused"] * 4
    assert [cell["said"] for cell in cells] == [hs.Ledger.open(cell["folder"]).summary().headline for cell in cells]
    listed = json.loads(cli("runs", tmp_path / "out", "--json").out)
    assert {run["run"] for run in listed} == {cell["folder"] for cell in cells}


def test_a_failed_cell_is_told_and_tried_again_and_stops_no_other(
    asked: dict[str, Any], tmp_path: Path, cli: Cli, counted: Counted
) -> None:
    asked |= {"ablation": "zero", "seed": 0, "components": ["attn.0", "attn.9", "attn.1"]}
    plan = written(tmp_path / "plan.toml", asked)
    said = cli("sweep", plan)
    assert said.code == 1
    assert "attn.9\tfailed\t" in said.out and "3 cells: 2 made, 0 reused, 1 failed; the same command" in said.out
    assert not (tmp_path / "out" / "attn.9").exists()
    found = hs.sweep(asked)
    assert [one.state for one in found.outcomes] == ["reused", "failed", "reused"]
    assert found.exit_code == 1 and list(found.table()["cell"]) == ["attn.0", "attn.9", "attn.1"]
    assert found.ledger("attn.1").dataset.sizes["ablated"] == 1
    with pytest.raises(hs.OutputError, match=r"no finished cell is called 'attn\.9'; choose from attn\.0, attn\.1"):
        found.ledger("attn.9")


def test_a_bug_in_one_cell_leaves_its_traceback_and_stops_no_other(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(request: Any, *given: Any) -> Any:
        if request.seed == 0:
            raise ZeroDivisionError("nothing there")
        return preparing(request, *given)

    preparing = run.prepare_runs
    monkeypatch.setattr(_execution, "prepare_runs", broken)
    found = hs.sweep({**asked, "ablation": "zero"})
    assert [one.state for one in found.outcomes] == ["failed", "made"]
    assert "ZeroDivisionError nothing there; this is a bug" in found.outcomes[0].said
    assert "in broken" in (tmp_path / "out" / "seed-0.txt").read_text()


def test_a_dry_run_prices_what_is_left_and_computes_nothing(
    asked: dict[str, Any], tmp_path: Path, cli: Cli, counted: Counted
) -> None:
    hs.sweep({**asked, "ablation": "zero", "seed": 0})
    batches = counted.batches
    plan = written(tmp_path / "plan.toml", {**asked, "components": ["attn", "attn.9"]})
    said = cli("sweep", plan, "--dry-run", "--json")
    assert said.code == 1  # attn.9 is refused
    told = json.loads(said.out)
    assert [cell["state"] for cell in told["cells"]].count("refused") == 4
    assert [cell["state"] for cell in told["cells"]].count("finished") == 1
    new = [cell for cell in told["cells"] if cell["state"] == "new"]
    assert len(new) == 3 and all(cell["interventions"] and cell["seconds"] for cell in new)
    assert counted.batches == batches
    assert "8 cells, 1 finished; the rest at least" in cli("sweep", plan, "--dry-run").out


def test_what_is_begun_is_continued_and_what_is_whole_is_believed_by_its_seal_only(
    asked: dict[str, Any], tmp_path: Path, counted: Counted
) -> None:
    asked |= {"ablation": "zero", "seed": 0}
    (made,) = hs.sweep(asked).outcomes
    note = Path(made.folder) / "cell.json"
    batches = counted.batches
    for damage in (lambda: note.unlink(), lambda: note.write_text(note.read_text().replace("headline", "heading"))):
        damage()
        (found,) = hs.sweep(asked).outcomes  # opened, continued, found to be whole
        assert (found.state, counted.batches) == ("made", batches)
    hs.knock_out(
        asked["model"],
        asked["prompts"],
        ablation="zero",
        options=hs.Options(components="attn.1"),
        out=made.folder,
        overwrite=True,
    )
    assert not note.exists()
    assert hs.sweep(asked).outcomes[0].folder == made.folder + "-2"  # another run is there now


def test_companions_are_part_of_a_cell(asked: dict[str, Any], tmp_path: Path) -> None:
    (made,) = hs.sweep({**asked, "ablation": "zero,mean", "dose": "1,0.5", "seed": 0}).outcomes
    companions = Path(made.folder) / "companions"
    assert {path.name for path in companions.iterdir()} == {"mean", "dose-0.5"}
    shutil.rmtree(companions)
    (Path(made.folder) / "cell.json").unlink()
    hs.sweep({**asked, "ablation": "zero,mean", "dose": "1,0.5", "seed": 0})
    assert {path.name for path in companions.iterdir()} == {"mean", "dose-0.5"}


def test_verify_finds_weights_that_have_changed_under_their_name(asked: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "mine", tiny.network())
    asked |= {"ablation": "zero", "seed": 0, "model": str(folder)}
    assert [one.state for one in hs.sweep(asked).outcomes] == ["made"]
    assert [one.state for one in hs.sweep(asked, verify=True).outcomes] == ["reused"]
    tiny.save(folder, tiny.network(seed=1))
    assert [one.state for one in hs.sweep(asked).outcomes] == ["reused"]
    (found,) = hs.sweep(asked, verify=True).outcomes
    assert found.state == "failed" and "holds another run (of other weights)" in found.said


def test_random_weights_are_a_control_of_the_same_shape_told_as_such(asked: dict[str, Any], tmp_path: Path) -> None:
    model = asked["model"]
    control = {"model": model, "random_weights": 3}
    asked |= {"ablation": "zero", "seed": 0, "keep_wrong": True, "model": [model, control]}
    found = hs.sweep(asked)
    trained, random = (found.ledger(one.cell).dataset.attrs for one in found.outcomes)
    assert (trained["random_weights"], random["random_weights"]) == ("", "seed 3")
    assert random["model_name"] == "tiny+random-3"
    assert trained["weight_digest"] != random["weight_digest"] and trained["n_parameters"] == random["n_parameters"]
    assert hs.load(model, random_weights=3).source.weight_digest == random["weight_digest"]
    assert hs.load(model, random_weights=4).source.weight_digest != random["weight_digest"]
    record = json.loads((Path(found.outcomes[1].folder) / "run.json").read_text())
    assert record["request"]["random_weights"] == 3 and "--random-weights 3" in record["command"]


def test_a_cell_at_which_another_process_works_is_waited_for_at_the_end(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    holding = claimed(tmp_path / "out" / ".seed-0.claim")
    holding.__enter__()

    def pause(seconds: float) -> None:
        order.append("waited")
        holding.__exit__(None, None, None)

    monkeypatch.setattr(time, "sleep", pause)
    execute_plan(read_plan({**asked, "ablation": "zero"}), told=lambda one: order.append(one.cell))
    assert order == ["seed-1", "waited", "seed-0"]
    assert not list((tmp_path / "out").glob(".*"))


def test_a_killed_sweep_goes_on_where_it_stopped(asked: dict[str, Any], tmp_path: Path, counted: Counted) -> None:
    """The real command in a process of its own, killed once a cell is whole and the next has begun."""
    plan = written(tmp_path / "plan.toml", asked)
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-m", "hydrascope", "sweep", plan], env={**os.environ, "OMP_NUM_THREADS": "1"}
    ) as killed:
        while len(list(out.glob("*/run.json"))) <= len(list(out.glob("*/cell.json"))) or not list(
            out.glob("*/cell.json")
        ):
            assert killed.poll() is None, "it ended before it could be killed"
            time.sleep(0.002)
        killed.send_signal(signal.SIGKILL)
    whole = {path.parent.name for path in out.glob("*/cell.json")}
    assert 1 <= len(whole) < 4
    cut = next(path.parent.name for path in out.glob("*/run.json") if path.parent.name not in whole)
    found = hs.sweep(asked)
    assert {Path(one.folder).name for one in found.outcomes if one.state == "reused"} == whole
    assert found.exit_code == 0
    plain = hs.sweep({**asked, "ablation": cut.split("-")[0], "seed": int(cut[-1]), "folder": str(tmp_path / "plain")})
    same_bits(Path(plain.outcomes[0].folder), out / cut)
    assert not list(out.glob(".*"))


def test_an_interrupt_says_what_is_kept(
    asked: dict[str, Any], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = written(tmp_path / "plan.toml", asked)
    cells = iter(range(2))

    def stopped(*given: Any, **more: Any) -> Any:
        if next(cells, None) is None:
            raise KeyboardInterrupt
        return executing(*given, **more)

    executing = run.execute_runs
    monkeypatch.setattr(_execution, "execute_runs", stopped)
    said = cli("sweep", plan)
    assert said.code == 130
    assert f"interrupted; '{tmp_path / 'out'}' keeps 2 of 4 cells whole; the same command continues" in said.err


# --- claims ------------------------------------------------------------------------------------


def test_a_claim_is_held_by_one_and_goes_with_its_holder(tmp_path: Path) -> None:
    with claimed(tmp_path / "c") as mine:
        mine.require()
        with pytest.raises(_claim.Claimed, match=f"process {os.getpid()} on .* works on"), claimed(tmp_path / "c"):
            pass
    with claimed(tmp_path / "c"):
        pass
    assert not list(tmp_path.iterdir())


def left_by(path: Path, **owner: Any) -> None:
    path.mkdir()
    (path / "owner.json").write_text(json.dumps({"token": "old", **_claim._myself(), **owner}))


def test_a_claim_of_a_dead_process_here_is_taken_over_at_once(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    left_by(tmp_path / "c", pid=gone.pid)
    with claimed(tmp_path / "c"):
        pass
    left_by(tmp_path / "c", began=1.0)  # the number is another process's now
    with claimed(tmp_path / "c"):
        pass


def test_a_claim_of_another_machine_is_taken_over_when_its_heart_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_by(tmp_path / "c", host="elsewhere")
    with pytest.raises(_claim.Claimed), claimed(tmp_path / "c"):
        pass
    old = time.time() - 2 * _claim.DEAD
    os.utime(tmp_path / "c" / "owner.json", (old, old))
    with claimed(tmp_path / "c"):
        pass
    left_by(tmp_path / "c", host="elsewhere")
    os.utime(tmp_path / "c" / "owner.json", (old, old))
    (tmp_path / "c.takeover").mkdir()  # another is just doing so
    with pytest.raises(_claim.Claimed), claimed(tmp_path / "c"):
        pass
    os.utime(tmp_path / "c.takeover", (old, old))  # and was killed over it
    with claimed(tmp_path / "c"):
        pass
    assert not list(tmp_path.iterdir())


def test_whoever_was_still_for_too_long_learns_that_the_claim_is_another_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_claim, "BEAT", 0.01)
    with claimed(tmp_path / "c") as mine:
        touched = (tmp_path / "c" / "owner.json").stat().st_mtime_ns
        while (tmp_path / "c" / "owner.json").stat().st_mtime_ns == touched:
            time.sleep(0.005)  # the heart beats
        shutil.rmtree(tmp_path / "c")
        left_by(tmp_path / "c", host="elsewhere")
        while not mine._lost.is_set():
            time.sleep(0.005)
        with pytest.raises(_claim.Claimed, match="another process has taken over"):
            mine.require()
    assert (tmp_path / "c").exists()  # the other's stays


def test_a_folder_that_a_plain_run_works_in_fails_in_a_sentence(asked: dict[str, Any], tmp_path: Path) -> None:
    asked |= {"ablation": "zero"}
    with locked(tmp_path / "out" / "seed-0"):
        found = hs.sweep(asked)
    assert [one.state for one in found.outcomes] == ["failed", "made"]
    assert "another process is at work in" in found.outcomes[0].said
