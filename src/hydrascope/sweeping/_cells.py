"""One cell of a sweep: an ordinary run in a folder of its own, and whether anything of it is left to do."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from hydrascope.errors import HydrascopeError
from hydrascope.ledger import read_record, write_record
from hydrascope.run import RunRequest, recorded_request
from hydrascope.run_directory import CELL, JSON, LEDGER

OPENING = ("model", "device", "dtype", "adapter", "merge", "gguf", "allow_unused", "random_weights")
"""Options that say which model is opened, and how."""

State = Literal["made", "reused", "failed"]


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: what tells it from the others.
        request: what is asked.
        folder: its run's folder.
    """

    name: str
    request: RunRequest
    folder: Path

    @property
    def opening(self) -> tuple[Any, ...]:
        """What is the same for cells that share an opened model."""
        return tuple(getattr(self.request, name) for name in OPENING)

    @property
    def begun(self) -> bool:
        """Whether something of it is on disk."""
        return (self.folder / JSON).is_file()

    def found(self) -> dict[str, Any] | None:
        """Headline and seconds of a cell of which nothing is left to do; None otherwise.

        The model is not opened for it. What is believed is a sealed note, written when run, companions and report were
        there, as long as it is of this very request and of the very settings that the run's sealed record has.
        """
        try:
            note, record = read_record(self.folder / CELL), read_record(self.folder / JSON)
        except HydrascopeError:
            return None
        same = note["settings"] == record["settings"] and _request_in(self.folder) == self.request
        return note["found"] if same and record.get("complete") and (self.folder / LEDGER).is_dir() else None

    def note(self, headline: str, seconds: float) -> None:
        """Write down that nothing is left to do."""
        settings = read_record(self.folder / JSON)["settings"]
        write_record(self.folder / CELL, {"settings": settings, "found": {"headline": headline, "seconds": seconds}})


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    Attributes:
        cell: its name.
        folder: its run's folder.
        state: `made` now, `reused` from an earlier time, or `failed`.
        said: what was found in one sentence, or why it failed.
        seconds: time that it took now.
    """

    cell: str
    folder: str
    state: State
    said: str
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


def folders_of(where: Path, asked: Sequence[tuple[str, RunRequest]]) -> list[Cell]:
    """Give every request its folder: the one that has its run already, whatever its name, or a new one by its name.

    So a plan can grow, which changes names, and nothing is made twice.

    Args:
        where: folder of the sweep.
        asked: names and requests.
    """
    taken = set(_runs_in(where))
    there = {request_key(one): path for path in sorted(taken, reverse=True) if (one := _request_in(path)) is not None}
    cells = []
    for name, request in asked:
        folder = there.get(request_key(request)) or _free(where, name, taken)
        taken.add(folder)
        cells.append(Cell(name, request, folder))
    return cells


def _free(where: Path, name: str, taken: Collection[Path]) -> Path:
    """`name`, or the first of `name-2`, `name-3` ... that is not taken."""
    numbered = (where / (name if number == 1 else f"{name}-{number}") for number in count(1))
    return next(path for path in numbered if path not in taken)


def request_key(request: RunRequest) -> str:
    """A text that is the same for requests that are the same."""
    return request.model_dump_json()


def _runs_in(where: Path) -> list[Path]:
    if not where.is_dir():
        return []
    return sorted(Path(entry.path) for entry in os.scandir(where) if os.path.isfile(os.path.join(entry.path, JSON)))


def _request_in(path: Path) -> RunRequest | None:
    try:
        return recorded_request(path)
    except HydrascopeError:  # whoever works in it is told
        return None
