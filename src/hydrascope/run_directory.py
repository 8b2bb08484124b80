"""A run's folder: its settings, whether it may be continued, and what lies where.

run.json        what was asked, settings and versions
prompts.jsonl   the prompts as they were run
ledger.zarr/    the ledger, appears when the knock-outs begin
scratch.zarr/   activations that replacements are made of; gone when the run is complete
shards/2-of-3/  shares of the run, folders of the same kind; gone when they are joined
companions/NAME/   other ablations, other doses and frozen responders; folders of the same kind
costs.jsonl     of a pruning, what every removed set costs; prune.json, what each ranking chose; constants.json, what
                removed parts leave in their places; exports.json, what smaller models save
report.html     the report
cell.json       of a cell of a sweep, that nothing is left to do
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydrascope.errors import OutputError, SettingsChanged, shown
from hydrascope.ledger import read_record, remove, unfinished, write_record
from hydrascope.run_settings import difference

JSON = "run.json"
PROMPTS = "prompts.jsonl"
REPORT = "report.html"

COMPANIONS, SHARDS = "companions", "shards"
FREEZE = "freeze"
"""Name of the companion run in which responders are frozen."""
SINGLES = "singles"
"""Name of the companion run, of a stress test or a ranking, in which every part is knocked out alone."""

RUN, STRESS, RANK, PRUNE = "run", "stress", "rank", "prune"
"""Kinds of folders, by the verb that makes them."""

COSTS, PRUNED, LEFT, EXPORTS = "costs.jsonl", "prune.json", "constants.json", "exports.json"
"""Files of a pruning: what every removed set costs, what each ranking chose, what removed parts leave, and
what smaller models save."""

CELL = "cell.json"
"""File of a cell of a sweep, that nothing is left to do and what was found."""

LEDGER = "ledger.zarr"
_FOLDERS = (LEDGER, "scratch.zarr", COMPANIONS, SHARDS)
_DRAFTS = tuple(f"{name}.new" for name in (JSON, PROMPTS, PRUNED, LEFT, EXPORTS, CELL, *_FOLDERS))
"""Names that a killed write can leave in the folder; never read, written over."""


@dataclass(frozen=True)
class RunDirectory:
    """The folder of one run.

    Attributes:
        path: the folder.
        record: content of `run.json`.
    """

    path: Path
    record: dict[str, Any]

    @property
    def ledger(self) -> Path:
        """Folder of the ledger."""
        return self.path / LEDGER

    @property
    def scratch(self) -> Path:
        """Folder of the scratch activations."""
        return self.path / "scratch.zarr"

    def companion(self, name: str) -> Path:
        """Folder of a companion run."""
        return self.path / COMPANIONS / name

    @property
    def shards(self) -> Path:
        """Folder of the run's shards, if it is divided."""
        return self.path / SHARDS

    def shard(self, name: str) -> RunDirectory:
        """Folder of a shard, whose record has not been read."""
        return RunDirectory(self.shards / name, {})

    @property
    def report(self) -> Path:
        """File of the report."""
        return self.path / REPORT

    @property
    def complete(self) -> bool:
        """Whether the ledger is whole and proved to close."""
        return bool(self.record["complete"]) and self.ledger.is_dir()

    def mark_complete(self, **facts: Any) -> RunDirectory:
        """Note that nothing is left to do, and drop what was only needed on the way.

        Args:
            facts: what else is noted.
        """
        record = {**self.record, **facts, "complete": True}
        write_record(self.path / JSON, record)
        self.tidy()
        return RunDirectory(self.path, record)

    def tidy(self) -> None:
        """Drop scratch activations and joined shards of a complete run."""
        remove(self.scratch)
        remove(self.shards)

    def discard(self) -> None:
        """Remove the run and all that it made in its folder."""
        _clear(self.path)
        remove(self.path / PROMPTS)
        remove(self.path / JSON)


def open_run_directory(
    path: Path, settings: Mapping[str, Any], facts: Mapping[str, Any], *, overwrite: bool = False
) -> RunDirectory:
    """Make a run's folder, or continue the run that is there.

    Args:
        path: the folder.
        settings: everything that the numbers depend on; a folder made with others is refused.
        facts: what is stored beside the settings when the folder is made, such as the memory budget.
        overwrite: throw away the run that is there.

    Raises:
        SettingsChanged: the folder has a run with other settings.
        OutputError: the folder has something else in it, or cannot be written.
    """
    record_file = path / JSON
    record = {"settings": dict(settings), **facts, "complete": False}
    try:
        if record_file.is_file() and not overwrite:
            return _continue(path, settings)
        if record_file.is_file() and _is_record(record_file):
            _clear(path)
        elif path.exists() and not _is_free(path):
            raise OutputError(f"'{path}' exists and is no run of hydrascope; choose another folder (--out)")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"'{path}' cannot be written: {error.strerror or error}; choose another folder (--out)"
        ) from error
    write_record(record_file, record)
    return RunDirectory(path, record)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep a run's folder to this process; where there is none it is made, and goes again if it stays empty.

    The lock is on the folder itself and the kernel's: a killed process leaves none behind. Where the file system or the
    operating system knows no such locks there is none.

    Args:
        path: the folder.

    Raises:
        OutputError: another process is at work in it.
    """
    made = False
    with suppress(OSError):  # `open_run_directory` says what is wrong
        made = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
    handle = None
    try:
        with suppress(ImportError, OSError):
            import fcntl

            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OutputError(
                    f"another process is at work in '{path}'; wait for its end or choose another folder (--out)"
                ) from None
        yield
    finally:
        if made:
            with suppress(OSError):  # something is in it
                path.rmdir()
        if handle is not None:
            os.close(handle)


def fresh_or_same(base: Path, settings: Mapping[str, Any]) -> Path:
    """`base`, or the first of `base-2`, `base-3` ... that is free or has a run with these settings."""
    number = 1
    while True:
        path = base if number == 1 else base.with_name(f"{base.name}-{number}")
        holds_run = (path / JSON).is_file()
        if read_record(path / JSON)["settings"] == dict(settings) if holds_run else _is_free(path):
            return path
        number += 1


def _is_free(path: Path) -> bool:
    """Whether nothing is there, or only what a run killed at its beginning leaves."""
    return not path.exists() or (path.is_dir() and all(entry.name in _DRAFTS for entry in path.iterdir()))


def _is_record(path: Path) -> bool:
    """Whether a file has been a run's record, however damaged it is now."""
    content = path.read_bytes()
    return b'"settings"' in content and b'"complete"' in content


def _clear(path: Path) -> None:
    """Remove a run's numbers and report, each folder in one step, lest a part be taken for whole."""
    for name in _FOLDERS:
        draft = path / f"{name}.new"
        if (path / name).is_dir():
            remove(draft)
            os.rename(path / name, draft)
        remove(draft)
    for name in (REPORT, COSTS, PRUNED, LEFT, EXPORTS, CELL):
        remove(path / name)


def is_finished(path: Path) -> bool:
    """Whether a folder has a run that is complete.

    Args:
        path: the folder.

    Raises:
        OutputError: its record is not what was written.
    """
    return (path / JSON).is_file() and bool(read_record(path / JSON).get("complete"))


def kind_of(path: Path) -> str:
    """What a folder holds: `RUN`, `STRESS`, `RANK` or `PRUNE`.

    A ledger proves itself, so where there is one the record is not asked. Companions, and folders without a record, say
    nothing else and are taken for runs.

    Args:
        path: the folder, or a ledger.

    Raises:
        OutputError: there is no ledger, and the record is not what was written.
    """
    if os.path.exists(path / LEDGER) or not os.path.isfile(path / JSON):  # a name can be too long for a Path's own
        return RUN
    return str(read_record(path / JSON).get("verb", RUN))


def finished_record(path: Path, kind: str, what: str) -> dict[str, Any]:
    """The record of a folder that holds something else than a run, finished.

    Args:
        path: the folder.
        kind: what it must hold, `STRESS`, `RANK` or `PRUNE`.
        what: the kind in words.

    Raises:
        OutputError: it holds something else, it has not finished, or its record is not what was written.
    """
    if kind_of(path) != kind:
        raise OutputError(f"no {what} in '{path}'; give the folder that 'hydrascope {kind}' wrote")
    record = read_record(path / JSON)
    if not record["complete"]:
        raise unfinished(path, what)
    return record


def lacking(path: Path, companion: str) -> OutputError:
    """The refusal of a finished folder whose numbers are no longer all there.

    Args:
        path: the folder.
        companion: name of what is not there, or a pattern.
    """
    return OutputError(
        f"'{path}' lacks {COMPANIONS}/{companion}, so that it would tell something else; put it back, or give the "
        "command that made it again"
    )


def folder_named(name: str | os.PathLike[str]) -> Path:
    """The folder or file that a user names, with `~` for the home directory.

    Everything else in a name is taken as it is: `a::b` is a folder, not an address.

    Args:
        name: the name.

    Raises:
        OutputError: it names nothing.
    """
    text = os.fspath(name) if isinstance(name, str | os.PathLike) else ""
    if not isinstance(text, str) or not text.strip() or "\0" in text:
        raise OutputError(f"{shown(name)} names no folder; give its path")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise OutputError(f"'{text}' names no folder, since there is no such user; give its path") from error


def reopen(path: Path, settings: Mapping[str, Any]) -> RunDirectory:
    """Open a finished run's folder, to add companion runs to it.

    Args:
        path: the folder.
        settings: settings of the task that is added to; they must be the run's.

    Raises:
        SettingsChanged: the run has other settings, so that companions would not be comparable.
    """
    _require_same(path, settings, "add to it what it was made with")
    return RunDirectory(path, read_record(path / JSON))


def _require_same(path: Path, settings: Mapping[str, Any], mend: str) -> None:
    if told := difference(read_record(path / JSON)["settings"], settings):
        raise SettingsChanged(f"'{path}' holds another run ({told}); {mend}")


def _continue(path: Path, settings: Mapping[str, Any]) -> RunDirectory:
    _require_same(path, settings, "choose another folder (--out), or start anew (--overwrite)")
    directory = RunDirectory(path, read_record(path / JSON))
    if directory.complete:
        directory.tidy()
    for half in path.glob(f".{REPORT}.*"):
        half.unlink()
    return directory
