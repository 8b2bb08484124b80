"""Companion runs: made beside it, continued, refused when changed, gone when it is overwritten."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hydrascope as hs
from hydrascope.errors import AblationError, RunError, SettingsChanged
from hydrascope.run import _prompt_run
from tests.conftest import Cli

PARTS = "attn.1,mlp.1"
OPTIONS = hs.Options(null_draws=0)


@pytest.fixture(scope="module")
def model(model_folder: Path) -> hs.Model:
    return hs.load(str(model_folder))


@pytest.fixture(scope="module")
def prompts(prompt_file: Path) -> hs.PromptSet:
    return hs.load_prompts(str(prompt_file))


def knock_out(
    model: hs.Model,
    prompts: hs.PromptSet,
    out: Path | None,
    *others: hs.Ablation,
    ablation: hs.Ablation | None = None,
    **more: Any,
) -> hs.Ledger:
    several = (ablation or hs.Resample(donors=2), *others)
    return hs.knock_out(model, prompts, PARTS, several, out=out, options=OPTIONS, **more)


def test_a_companion_is_the_run_it_would_be_alone(model: hs.Model, prompts: hs.PromptSet, tmp_path: Path) -> None:
    ledger = knock_out(model, prompts, tmp_path / "run", hs.Zero(), hs.Mean())
    assert list(ledger.also) == ["mean", "zero"]
    alone = knock_out(model, prompts, None, ablation=hs.Zero())
    np.testing.assert_array_equal(ledger.also["zero"].dataset["change"], alone.dataset["change"])
    assert ledger.dataset.attrs["ablation"] == "resample"
    assert {one.dataset.attrs["ablation"] for one in ledger.also.values()} == {"zero", "mean"}
    np.testing.assert_array_equal(ledger.dataset["prompt"], ledger.also["mean"].dataset["prompt"])


def test_killed_in_a_companion_the_same_command_goes_on(
    model: hs.Model, prompts: hs.PromptSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    whole = knock_out(model, prompts, tmp_path / "whole", hs.Zero(), hs.Mean())
    child = os.fork()
    if child == 0:  # killed as the second companion's ledger is about to be finished
        measure = _prompt_run.PromptRun.measure

        def die(run, *arguments):
            file = measure(run, *arguments)
            if run.task.ablation.name == "mean":
                os.kill(os.getpid(), signal.SIGKILL)
            return file

        _prompt_run.PromptRun.measure = die
        knock_out(model, prompts, out, hs.Zero(), hs.Mean())
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert list(hs.Ledger.open(out).also) == ["zero"]  # what has not finished is not shown
    worked: list[str] = []
    finish = _prompt_run.PromptRun.finish
    monkeypatch.setattr(
        _prompt_run.PromptRun, "finish", lambda run, at: (worked.append(run.task.ablation.name), finish(run, at))
    )
    again = knock_out(model, prompts, out, hs.Zero(), hs.Mean())
    assert worked == ["mean"]
    for name in ("zero", "mean"):
        np.testing.assert_array_equal(again.also[name].dataset["change"], whole.also[name].dataset["change"])
    assert {path.name for path in (out / "companions" / "mean").iterdir()} == {"run.json", "ledger.zarr"}


def test_changed_settings_are_refused_and_overwriting_starts_anew(
    model: hs.Model, prompts: hs.PromptSet, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    knock_out(model, prompts, out, hs.Noise(donors=1), hs.Zero())
    with pytest.raises(SettingsChanged, match=r"noise' holds another run \(--ablation noise"):
        knock_out(model, prompts, out, hs.Noise(donors=2))
    with pytest.raises(SettingsChanged, match=r"run' holds another run \(--seed 0 there, 1 now"):
        knock_out(model, prompts, out, hs.Noise(donors=1), seed=1)
    assert list(knock_out(model, prompts, out, hs.Mean()).also) == ["mean", "noise", "zero"]  # one more, none lost
    assert list(knock_out(model, prompts, out, hs.Noise(donors=2), overwrite=True).also) == ["noise"]


def test_progress_names_the_companion(model: hs.Model, prompts: hs.PromptSet, tmp_path: Path) -> None:
    stages: dict[str, None] = {}
    knock_out(
        model, prompts, tmp_path / "run", hs.Zero(), progress=lambda stage, done, total: stages.update({stage: None})
    )
    assert list(stages) == ["clean runs", "knock-outs", "zero: clean runs", "zero: knock-outs"]


def test_what_can_be_no_companion_is_refused(model: hs.Model, prompts: hs.PromptSet, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="kept in its folder"):
        knock_out(model, prompts, None, hs.Zero())
    with pytest.raises(RunError, match="resample is asked for twice"):
        knock_out(model, prompts, tmp_path / "run", hs.Resample(donors=3))
    assert not (tmp_path / "run").exists()


def test_several_ablations_on_the_command_line(
    model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hydrascope.report._page.render", lambda dataset: "<html></html>")
    command = ("run", model_folder, "--prompts", prompt_file, "--components", PARTS, "--donors", "2")
    assert cli(*command, "--ablation", "resample,zero", "--out", tmp_path / "run").code == 0
    assert list(hs.Ledger.open(tmp_path / "run").also) == ["zero"]
    planned = cli(*command, "--ablation", "resample,zero", "--dry-run")
    assert "\nand zero:\n" in planned.out
    assert "no ablation 'nought'" in cli(*command, "--ablation", "resample,nought").refusal()
    assert "one value per prompt, not 2" in cli(*command, "--ablation", "mean,zero").refusal()


def test_donors_go_to_those_that_draw_several() -> None:
    from hydrascope.ablations import named_ablations

    assert named_ablations("zero, resample", 4) == (hs.Zero(), hs.Resample(donors=4))
    with pytest.raises(AblationError):
        named_ablations("zero,mean", 4)


def test_doses_on_the_command_line(
    model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hydrascope.report._page.render", lambda dataset: "<html></html>")
    command = ("run", model_folder, "--prompts", prompt_file, "--components", PARTS, "--ablation", "zero")
    assert cli(*command, "--dose", "0.5,1,0.25", "--out", tmp_path / "run").code == 0
    ledger = hs.Ledger.open(tmp_path / "run")
    assert {name: one.dataset.attrs["dose"] for name, one in ledger.also.items()} == {
        "dose-0.25": 0.25,
        "dose-0.5": 0.5,
    }
    assert ledger.dataset.attrs["dose"] == 1
    assert list(ledger.doses()["dose"].unique()) == [0, 0.25, 0.5, 1]
    assert "dose cannot be 'half'; give a number" in cli(*command, "--dose", "half").refusal()
    assert "asked for twice" in cli(*command, "--dose", "1,1").refusal()
    assert "dose cannot be 2; give a number from 0 to 1" in cli(*command, "--dose", "2").refusal()
    with pytest.raises(RunError, match=r"dose cannot be 1\.5"):
        hs.knock_out(hs.load(str(model_folder)), hs.load_prompts(str(prompt_file)), dose=(1, 1.5), out=tmp_path / "no")
