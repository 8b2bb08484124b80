"""Reads a plan: lists of options that are crossed, and what holds for all cells."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from hydrascope import zoo
from hydrascope.errors import HydrascopeError, OutputError, RunError
from hydrascope.prompts import is_text, load, named_task
from hydrascope.run import PathLike, RunRequest
from hydrascope.run_directory import folder_named
from hydrascope.sweeping._cells import Cell, folders_of, request_key
from hydrascope.sweeping._crossing import Misplaced, crossed
from hydrascope.sweeping._names import named

_HUB_ID = re.compile(r"\w[\w.-]*(/[\w.-]+)?(@[\w./-]+)?")


@dataclass(frozen=True)
class Plan:
    """What a sweep does.

    Attributes:
        folder: where the cells' folders are.
        cells: the cells, those of one model one after the other.
        report: whether cells get a report.
    """

    folder: Path
    cells: tuple[Cell, ...]
    report: bool = True


def read_plan(source: PathLike | Mapping[str, Any]) -> Plan:
    """Read a plan, and find everything wrong with it that can be found without opening a model.

    Args:
        source: a TOML file, or what one holds as a dictionary. Paths in it are relative to where the command runs, as
            they are on the command line.

    Raises:
        OutputError: the file cannot be read.
        RunError: something in it says nothing, with its place.
    """
    if isinstance(source, Mapping):
        return _Reader("the plan", "", dict(source)).plan(Path("runs") / "sweep")
    path = folder_named(source)
    try:
        text = path.read_text(encoding="utf-8")
        found = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"'{path}' cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise RunError(f"'{path}' is no TOML: {error}; mend it there") from None
    return _Reader(f"'{path}'", text, found).plan(Path("runs") / path.stem)


@dataclass(frozen=True)
class _Reader:
    """A plan being read.

    Attributes:
        name: what it is called in a message.
        text: the file, to find lines in.
        found: what it holds.
    """

    name: str
    text: str
    found: dict[str, Any]

    def plan(self, usual_folder: Path) -> Plan:
        """The plan, checked."""
        given = {key.replace("-", "_"): value for key, value in self.found.items()}
        folder, report = given.pop("folder", str(usual_folder)), given.pop("report", True)
        if not isinstance(report, bool):
            raise self._error(0, "report", f"report cannot be {report!r}; give true or false")
        if not isinstance(folder, str):
            raise self._error(0, "folder", f"folder cannot be {folder!r}; give a path in quotes")
        requests = list(self._requests(given))
        self._require_each_once([request for _, request in requests])
        for number, request in {(one.model, one.prompts, one.protocol): (i, one) for i, one in requests[::-1]}.values():
            self._require_at_hand(number, request)
        where = folder_named(folder)
        names = named([request for _, request in requests])
        cells = folders_of(where, list(zip(names, (request for _, request in requests), strict=True)))
        first = {key: i for i, key in reversed(list(enumerate(cell.opening for cell in cells)))}
        return Plan(where, tuple(sorted(cells, key=lambda cell: first[cell.opening])), report)

    def _requests(self, given: dict[str, Any]) -> Iterator[tuple[int, RunRequest]]:
        """What is asked, with the number of its block; 0 is what stands above all blocks."""
        blocks = given.pop("cells", None)
        if blocks is None and not given:
            raise RunError(f'{self.name} asks for nothing; write for example model = ["lerna", "iolaus"]')
        if blocks is not None and (not isinstance(blocks, list) or not all(isinstance(one, dict) for one in blocks)):
            raise self._error(0, "cells", "'cells' is no table; write [[cells]] and below it what is crossed there")
        for number, block in enumerate([{}] if blocks is None else blocks, start=int(blocks is not None)):
            own = {key.replace("-", "_"): value for key, value in block.items()}
            try:
                for options in crossed({**given, **own}):
                    yield number, self._request(number, options)
            except Misplaced as error:
                raise self._error(number, error.key, str(error)) from None

    def _request(self, number: int, options: dict[str, Any]) -> RunRequest:
        try:
            request = RunRequest(**options)
        except HydrascopeError as error:
            said = str(error)
            named_there = (name for name in options if said.startswith(name.replace("_", " ")))
            shown_there = (name for name, one in options.items() if isinstance(one, str) and f"'{one}'" in said)
            raise self._error(number, next(chain(named_there, shown_there), ""), said) from None
        try:
            request.ablations()
        except HydrascopeError as error:
            raise self._error(number, "ablation", str(error)) from None
        return request

    def _require_each_once(self, requests: list[RunRequest]) -> None:
        first = {request_key(one): i for i, one in reversed(list(enumerate(requests)))}
        for i, request in enumerate(requests):
            if (twin := first[request_key(request)]) != i:
                raise RunError(f"{self.name} asks twice for the cell '{named(requests)[twin]}'; name each value once")

    def _require_at_hand(self, number: int, request: RunRequest) -> None:
        """Find missing models and broken prompt files now, and not hours later."""
        name, prompts = request.model, request.prompts
        if name is not None and zoo.find(name) is None and not Path(name).exists():
            beside = len(Path(name).parts) > 1 and Path(name).parent.is_dir()
            if beside or not _HUB_ID.fullmatch(name):
                raise self._error(number, "model", f"no model '{name}': there is no such folder")
        text = request.cut is not None and prompts is not None and is_text(prompts)
        if prompts is not None and not text and not named_task(prompts):
            try:
                load(prompts)
            except HydrascopeError as error:
                raise self._error(number, "prompts", str(error)) from None

    def _error(self, block: int, key: str, message: str) -> RunError:
        line = self._line(block, key) or self._line(0, key) or self._line(block, "")
        return RunError(f"{f'line {line} of ' if line else ''}{self.name}: {message}")

    def _line(self, block: int, key: str) -> int | None:
        """Line of a block in which a key stands, or of the block itself without a key."""
        at = 0
        spelled = re.compile(rf"\s*(\[*\s*)?[\"']?{re.escape(key).replace('_', '[-_]')}[\"']?\s*[=\]]")
        for number, line in enumerate(self.text.splitlines(), start=1):
            if opens := re.match(r"\s*\[\[\s*cells\s*\]\]", line):
                at += 1
            if at == block and (spelled.match(line) if key else opens):
                return number
        return None
