"""A run from its command to its finished ledger, continued where it stopped."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xarray as xr

from hydrascope.engine import Budget, Plan
from hydrascope.errors import HydrascopeError, OutputError
from hydrascope.ledger import LedgerFile, open_dataset
from hydrascope.run._answer_run import AnswerRun
from hydrascope.run._joining import join
from hydrascope.run._prompt_run import PromptRun
from hydrascope.run._record import record_of, store_prompts
from hydrascope.run._request import RunRequest
from hydrascope.run._runner import Batch, Progress, Runner, Selection, Tell
from hydrascope.run._task import Task
from hydrascope.run._text_run import TextRun
from hydrascope.run_directory import LEDGER, RunDirectory, locked, open_run_directory


def execute(
    task: Task,
    out: Path | None = None,
    *,
    request: RunRequest | None = None,
    command: str = "",
    overwrite: bool = False,
    progress: Progress = lambda stage, done, total: None,
    tell: Tell = lambda lines: None,
) -> tuple[xr.Dataset, RunDirectory | None]:
    """Run a task, or what is left of it.

    Args:
        task: what to do.
        out: the run's folder, made or continued; None keeps nothing on disk afterwards.
        request: what was asked, kept in the folder together with the prompts.
        command: command that makes the run, where that is not the request's own.
        overwrite: throw away the run that is in `out`.
        progress: takes stage, number done and total.
        tell: takes what is said before the first number.

    Returns:
        The finished ledger and its folder, if any.

    Raises:
        OutputError: another process is at work in `out`.
        HydrascopeError: what goes wrong on the way, and what to do. A run that fails before its first batch is done
            leaves nothing behind, unless it failed for want of room.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="hydrascope-") as folder:
            dataset, _ = _execute(task, Path(folder) / "run", request, command, False, progress, tell)
            return dataset, None
    return _execute(task, out, request, command, overwrite, progress, tell)


def _kept(task: Task, out: Path) -> str:
    try:
        done, rows = LedgerFile.count(out / LEDGER)
    except OutputError as error:
        return str(error)
    what = "read positions" if task.positions.read == "each" else "prompts"
    return f"'{out}' keeps {done:,} of {rows:,} {what}" if rows else f"'{out}' has no knock-out yet"


def _execute(
    task: Task,
    out: Path,
    request: RunRequest | None,
    command: str,
    overwrite: bool,
    progress: Progress,
    tell: Tell,
) -> tuple[xr.Dataset, RunDirectory]:
    started = time.monotonic()
    with locked(out):
        directory = open_run_directory(out, task.settings, facts_of(task, request, command), overwrite=overwrite)
        if request is not None:
            store_prompts(directory, task.prompts)
        if not directory.complete:
            if "shards" in directory.record:
                directory = join(directory)
            else:
                with compute(task, directory, progress, tell) as runner:
                    runner.finish(started)
                directory = directory.mark_complete()
    return open_dataset(directory.ledger), directory


def facts_of(task: Task, request: RunRequest | None, command: str = "") -> dict[str, Any]:
    """What a run's record says beside its settings.

    Args:
        task: what is done.
        request: what was asked.
        command: command that makes the run, where that is not the request's own.
    """
    budget = Budget.read(task.options.memory, *task.model.devices)
    facts = {"memory": budget.bytes, "command": command, "versions": versions(), "created": _now()}
    return facts if request is None else facts | record_of(request, task.model, task.prompts)


@contextmanager
def compute(task: Task, directory: RunDirectory, progress: Progress, tell: Tell) -> Iterator[Runner]:
    """The runner of a task in its folder; an error that comes before the first batch is done leaves nothing there.

    Args:
        task: what to do.
        directory: the folder, of a run or a shard of it.
        progress: takes stage, number done and total.
        tell: takes what is said before the first number.
    """
    budget = Budget.read(task.options.memory, *task.model.devices)
    if task.options.memory is None:  # batches, and so rounding, are those before the kill
        budget = Budget(int(directory.record["memory"]))
    try:
        yield runner_of(task)(task, directory, budget, progress, tell)
    except KeyboardInterrupt as stop:
        stop.add_note(_kept(task, directory.path))
        raise
    except OutputError:
        raise  # room can be made, and what is done is worth keeping
    except HydrascopeError:
        if not LedgerFile.has_begun(directory.ledger):
            directory.discard()
        raise


@contextmanager
def dealt(task: Task, together: int, progress: Progress) -> Iterator[tuple[Selection, Plan, Iterator[Batch]]]:
    """What a run of the task is measured on, without measuring it.

    Clean runs are made and donors dealt out as the run does, in a folder that goes when the block ends.

    Args:
        task: what would be run.
        together: largest number of prompts of a batch at the last token.
        progress: takes stage, number done and total.

    Yields:
        The prompts that stay, the plan, and batches with the values that replace those of every part.
    """
    budget = Budget.read(task.options.memory, *task.model.devices)
    with tempfile.TemporaryDirectory(prefix="hydrascope-") as folder:
        runner = runner_of(task)(task, RunDirectory(Path(folder), {}), budget, progress, lambda lines: None)
        yield runner.deal(together)


def runner_of(task: Task) -> type[Runner]:
    """The kind of run that a task is: of last tokens, of whole answers, or of texts."""
    if task.positions.is_last:
        return PromptRun
    return AnswerRun if task.positions.span > 1 else TextRun


def versions() -> dict[str, str]:
    """Versions of everything that the numbers depend on."""
    packages = {name: version(name) for name in ("hydrascope", "torch", "transformers", "numpy")}
    return {**packages, "python": platform.python_version()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
