"""A run divided into shards, each computed by a process of its own, perhaps on a machine of its own, and joined.

The run's folder is there, with its record, as soon as the first shard begins, and the others keep to that record. Each
shard has a folder in it, with a ledger that is laid out for the whole run, and computes what must be computed together
as the whole run would, so that every number is the same to the last bit. No lock is shared: what processes could race
for, the folder and the joined ledger, appears under its name whole, by renaming a folder, which only one can do.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import torch

from hydrascope.errors import HydrascopeError, OutputError, SettingsChanged
from hydrascope.ledger import read_record, remove, write_record
from hydrascope.run._execution import compute, facts_of
from hydrascope.run._joining import disagreement, join, unready
from hydrascope.run._record import store_prompts
from hydrascope.run._request import RunRequest
from hydrascope.run._runner import Progress, Tell
from hydrascope.run._shard import Shard
from hydrascope.run._task import Task
from hydrascope.run_directory import JSON, RunDirectory, locked, open_run_directory
from hydrascope.run_settings import difference


def execute_shard(
    task: Task,
    shard: Shard,
    out: Path,
    request: RunRequest,
    *,
    overwrite: bool = False,
    progress: Progress = lambda stage, done, total: None,
    tell: Tell = lambda lines: None,
) -> RunDirectory:
    """Compute one shard of a run, or what is left of it; the last one that finishes joins all.

    Args:
        task: the whole run.
        shard: which share of it.
        out: the run's folder, which all shards name.
        request: what was asked, kept in the folder together with the prompts.
        overwrite: throw away this shard, and no other.
        progress: takes stage, number done and total.
        tell: takes what is said before the first number.

    Returns:
        The run's folder; complete if all shards are joined.

    Raises:
        SettingsChanged: the folder's run has other settings, packages, memory or number of shards.
        HydrascopeError: what goes wrong on the way. A shard that fails before its first batch is done leaves nothing
            behind.
    """
    started = time.monotonic()
    directory = _shared_directory(task, shard, out, request)
    if directory.complete and not overwrite:
        return directory
    if directory.complete:
        raise OutputError(
            f"the shards of '{out}' are joined and gone; choose another --out, or start anew with --overwrite alone"
        )
    here, facts = directory.shard(shard.name).path, {**directory.record, "shard": shard.number}
    try:
        with locked(here):
            own = open_run_directory(here, task.settings, facts, overwrite=overwrite)
            if not own.complete:
                with compute(task, own, progress, tell) as runner:
                    rows = int(runner.measure(shard).done().sum())
                own.mark_complete(rows=rows, seconds=time.monotonic() - started, machine=_machine(task))
    except HydrascopeError:
        _leave(directory)
        raise
    try:
        waiting = directory.ledger.exists() or unready(directory)
    except OutputError:
        if not directory.ledger.exists():  # else another process has joined the shards, and takes them away
            raise
        waiting = True
    return RunDirectory(out, read_record(out / JSON)) if waiting else join(directory)


def _shared_directory(task: Task, shard: Shard, out: Path, request: RunRequest) -> RunDirectory:
    """The run's folder, made with its record by whichever shard comes first."""
    facts = {**facts_of(task, request), "shards": shard.count}
    record = {"settings": task.settings, **facts, "complete": False}
    if not (out / JSON).is_file():
        draft = out.with_name(f".{out.name}.{uuid4().hex}")
        try:
            draft.mkdir(parents=True)
            write_record(draft / JSON, record)
            store_prompts(RunDirectory(draft, record), task.prompts)
            os.rename(draft, out)
        except OSError as error:
            if not (out / JSON).is_file():  # another shard's is as good
                why = "exists and is no run of hydrascope" if out.exists() else f"cannot be written: {error.strerror}"
                raise OutputError(f"'{out}' {why}; choose another --out") from error
        finally:
            remove(draft)
    there = read_record(out / JSON)
    if task.options.memory is None:
        record["memory"] = there.get("memory")
    told = difference(there["settings"], task.settings)
    if not told and not there["complete"]:
        if "shards" not in there:
            raise OutputError(
                f"'{out}' holds a run that is not divided; go on without --shard, or choose another --out"
            )
        told = disagreement(there, record)
    if told:
        raise SettingsChanged(f"'{out}' holds another run ({told}); choose another --out, or remove it")
    directory = RunDirectory(out, there)
    if directory.complete:
        directory.tidy()
    return directory


def _machine(task: Task) -> str:
    """What the last bits depend on beside settings: a run joined from unlike machines says so."""
    if task.model.device.type == "cuda":
        return torch.cuda.get_device_name(task.model.device)
    return f"{torch.get_num_threads()} threads with {torch.backends.cpu.get_cpu_capability()}"


def _leave(directory: RunDirectory) -> None:
    """Remove the run's folder again if no shard has anything in it."""
    with suppress(OSError):
        directory.shards.rmdir()
        directory.discard()
        directory.path.rmdir()
