"""Reads rows of JSON, JSON lines and CSV files, whatever their columns mean."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hydrascope.errors import MalformedPrompt, PromptError

ENDINGS = (".jsonl", ".json", ".csv")
"""Endings of files with rows."""

_Row = TypeVar("_Row")
_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Record:
    """A row of a file, and where it stands.

    Attributes:
        where: file and line, for errors.
        values: values by column; in a CSV file all are text, empty cells included.
    """

    where: str
    values: Mapping[str, Any]

    def text(self, column: str) -> str:
        """The text of a column that must hold some.

        Args:
            column: name of the column.

        Returns:
            A text that is not empty.

        Raises:
            MalformedPrompt: the column is missing, empty or no text.
        """
        value = self.values.get(column)
        if not isinstance(value, str) or not value:
            there = ", ".join(f"'{name}'" for name in self.values) or "no columns"
            raise MalformedPrompt(f"{self.where}: there is no text under '{column}' among {there}; add it")
        return value


def records(path: Path) -> Iterator[Record]:
    """Read the rows of a `.jsonl`, `.json` or `.csv` file.

    Args:
        path: path of the file.

    Returns:
        The rows in order.

    Raises:
        PromptError: there is no such file, or it has another ending.
        MalformedPrompt: a line cannot be read; the error names file and line.
    """
    text = read_text(path)
    yield from csv_records(path, text) if path.suffix.lower() == ".csv" else json_records(path, text)


def read_text(path: Path, endings: tuple[str, ...] = ENDINGS) -> str:
    """Read a UTF-8 file that has one of some endings.

    Args:
        path: path of the file.
        endings: allowed endings, each with its dot.

    Returns:
        The file's whole text.

    Raises:
        PromptError: there is no such file, or it has another ending.
        MalformedPrompt: the file is not UTF-8.
    """
    if path.suffix.lower() not in endings:
        raise PromptError(f"'{path}' is no prompt file; give a file that ends in {', '.join(endings)}")
    try:
        # newline="" keeps line ends inside quoted CSV cells as they are.
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except UnicodeDecodeError:
        raise MalformedPrompt(f"'{path}' is not UTF-8 text; save it as UTF-8") from None
    except (OSError, ValueError) as error:  # a name with a null character is a wrong value
        why = getattr(error, "strerror", None) or error
        raise PromptError(f"'{path}' cannot be read ({why}); check the path") from error


def json_records(path: Path, text: str) -> Iterator[Record]:
    """Read one JSON object a line, or one JSON list of objects."""
    if text.lstrip().startswith("["):
        for number, item in enumerate(parse_json(path, 1, text), start=1):
            yield _object(f"{path}, entry {number}", item)
        return
    # Not splitlines(): a JSON string may hold the other characters at which that splits.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _object(f"{path}, line {number}", parse_json(path, number, line))


def parse_json(path: Path, first_line: int, text: str) -> Any:
    """Parse JSON that begins at some line of a file.

    Args:
        path: path of the file, for errors.
        first_line: number of the line at which the text begins, from 1.
        text: the text to parse.

    Returns:
        The parsed value.

    Raises:
        MalformedPrompt: the text is not valid JSON; the error names file and line.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise MalformedPrompt(
            f"{path}, line {line}: no valid JSON at column {error.colno} ({error.msg}); "
            "write one JSON object per line, or one JSON list"
        ) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, or brackets inside brackets without end
        raise MalformedPrompt(f"{path}, line {first_line}: no JSON that can be a prompt; check its brackets") from None


def csv_records(
    path: Path, text: str, check_header: Callable[[list[str]], None] = lambda columns: None
) -> Iterator[Record]:
    """Read CSV rows under a header.

    Args:
        path: path of the file, for errors.
        text: text of the file.
        check_header: gets the names of the columns and raises `MalformedPrompt` to refuse them.

    Returns:
        The rows in order.

    Raises:
        MalformedPrompt: a line is not valid CSV or has too many cells; the error names file and line.
    """
    # strict: an unclosed quote would otherwise swallow the rest of the file as one cell.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            where = f"{path}, line {line}"
            line = reader.line_num + 1
            if not cells:
                continue
            if header is None:
                header = [column.strip() for column in cells]
                at(where, check_header, header)
            elif len(cells) > len(header):
                raise MalformedPrompt(
                    f"{where}: there are {len(cells)} cells under {len(header)} columns; "
                    "put quotes around a text that contains a comma"
                )
            else:
                yield Record(where, dict(zip(header, cells, strict=False)))
    except csv.Error as error:
        raise MalformedPrompt(f"{path}, line {line}: no valid CSV ({error}); check its quotes") from None


def at(where: str, read: Callable[[_Row], _Read], row: _Row) -> _Read:
    """Call `read` on a row, and put the row's place in front of its errors."""
    try:
        return read(row)
    except MalformedPrompt as error:
        raise MalformedPrompt(f"{where}: {error}") from None


def as_object(item: object) -> Mapping[str, Any]:
    """Require a JSON object.

    Raises:
        MalformedPrompt: the item is something else.
    """
    if not isinstance(item, Mapping):
        shown = repr(item)
        shown = shown if len(shown) <= 40 else shown[:39] + "…"
        raise MalformedPrompt(f'{shown} is no JSON object; write for example {{"prompt": "..."}}')
    return item


def _object(where: str, item: object) -> Record:
    return Record(where, at(where, as_object, item))
