"""Reads ordinary text as documents.

No text is cut across two documents, and the bootstrap resamples whole documents.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hydrascope.errors import EmptyPrompts, PromptError
from hydrascope.prompts._hub import HubTable, hub_records
from hydrascope.prompts._records import ENDINGS, Record, read_text, records

_TEXT = (".txt", ".text", ".md")
_END_OF_TEXT = "<|endoftext|>"
_HEADING = re.compile(r"^ = [^=\n].* = $", re.MULTILINE)
"""The title of a WikiText article; headings inside an article have more equals signs."""


@dataclass(frozen=True)
class Document:
    """A document.

    Attributes:
        name: file, or row of a file or table, that it was read from.
        text: the whole text, with at least one character that is not white space.
    """

    name: str
    text: str


def documents(source: str | os.PathLike[str]) -> tuple[Document, ...]:
    """Read documents from a file, a folder or the Hugging Face hub.

    A text file is one document, or several separated by `<|endoftext|>` or by the article titles of WikiText. In JSON,
    JSON lines and CSV, the column `text` of each row is one document.

    Args:
        source: a file, a folder (read with its subfolders, sorted by path), or `hub:OWNER/NAME` with an optional
            `:SPLIT`.

    Returns:
        At least one document, in the order of the source.

    Raises:
        EmptyPrompts: there is no text.
        PromptError: the source cannot be read.
        MalformedPrompt: a file is not UTF-8, or a row has no text.
    """
    name = os.fspath(source)
    if name.startswith("hub:"):
        found = tuple(_rows(hub_records(HubTable.parse(name.removeprefix("hub:")))))
    else:
        found = tuple(document for path in _files(Path(name)) for document in _in_file(path))
    if not found:
        raise EmptyPrompts(f"'{name}' holds no text; give a file that has some")
    return found


def is_text(source: str) -> bool:
    """Whether a source holds ordinary text rather than prompts.

    Args:
        source: as of `documents`; text files, folders, hub tables and rows with `text` but no `prompt` are text.
    """
    path = Path(source)
    if source.startswith("hub:") or path.is_dir() or path.suffix.lower() in _TEXT:
        return True
    if path.suffix.lower() not in ENDINGS or not path.exists():
        return False
    first = next(iter(records(path)), None)
    return first is not None and "text" in first.values and not {"prompt", "input_ids"} & set(first.values)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in (*_TEXT, *ENDINGS))


def _in_file(path: Path) -> Iterator[Document]:
    if path.suffix.lower() in ENDINGS:
        yield from _rows(records(path))
        return
    if path.suffix.lower() not in _TEXT:
        raise PromptError(f"'{path}' is no text; give a file that ends in {', '.join((*_TEXT, *ENDINGS))}")
    pieces = [piece for piece in _pieces(read_text(path, _TEXT)) if piece.strip()]
    for number, piece in enumerate(pieces):
        yield Document(f"{path}, document {number}" if len(pieces) > 1 else str(path), piece)


def _pieces(text: str) -> list[str]:
    if _END_OF_TEXT in text:
        return text.split(_END_OF_TEXT)
    starts = [found.start() for found in _HEADING.finditer(text)]
    return [text[start:end] for start, end in zip([0, *starts], [*starts, None], strict=True)]


def _rows(rows: Iterator[Record]) -> Iterator[Document]:
    for row in rows:
        if row.values.get("text", row) not in ("", None):  # tables of lines have empty ones
            yield Document(row.where, row.text("text"))
