"""Prompt sets from files, built-in names and Python lists."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from hydrascope.errors import EmptyPrompts, MalformedPrompt, PromptError
from hydrascope.prompts.builtin import builtin_file
from hydrascope.prompts.rows import prompt_from_cells, prompt_from_row, require_prompt_column
from hydrascope.prompts.sets import Prompt, PromptSet

ENDINGS = (".jsonl", ".json", ".csv")

_Row = TypeVar("_Row")
_Read = TypeVar("_Read")


def load(
    spec: str | os.PathLike[str] | PromptSet | Iterable[str | Mapping[str, object] | Prompt],
    *,
    name: str | None = None,
) -> PromptSet:
    """Load prompts from wherever they are.

    Files have one prompt per line (`.jsonl`, `.csv` with a header) or are one JSON list (`.json`,
    `.jsonl`). Columns: `prompt` or `input_ids`, and optionally `target`, `target_id`,
    `counterfactual`, `counterfactual_input_ids`, `group`; others are ignored. The known-facts
    format (see `prompt_from_row`) is recognised by its keys.

    Args:
        spec: a path ending in `.jsonl`, `.json` or `.csv`; the name of a built-in set such as
            `facts`; or a list of texts, dictionaries (as rows of a file) and `Prompt`s.
        name: label of the set; by default the stem of the file, the built-in name, or `inline`.

    Returns:
        The prompts in the order given.

    Raises:
        EmptyPrompts: there is no prompt.
        MalformedPrompt: a line cannot be read; the message names file and line.
        PromptError: no such file or built-in set, or a file of another kind.
    """
    if isinstance(spec, PromptSet):
        return spec if name is None else PromptSet(name, spec.prompts, spec.source)
    if isinstance(spec, Mapping):
        raise PromptError("a dictionary is one prompt, not a set of them; put it into a list")
    if not isinstance(spec, str | os.PathLike):
        return PromptSet(name or "inline", tuple(_from_memory(spec)))
    if isinstance(spec, str) and _is_name(spec):
        return PromptSet(name or spec, _from_file(builtin_file(spec)), source="bundled")
    path = Path(spec)
    return PromptSet(name or path.stem, _from_file(path), source=str(path))


def _is_name(spec: str) -> bool:
    return Path(spec).suffix.lower() not in ENDINGS and Path(spec).name == spec and not Path(spec).is_file()


def _from_memory(items: Iterable[str | Mapping[str, object] | Prompt]) -> Iterator[Prompt]:
    for number, item in enumerate(items):
        if isinstance(item, Prompt):
            yield item
        elif isinstance(item, str):
            yield _at(f"prompt {number} of the list", lambda text: Prompt(text=text), item)
        else:
            yield _at(f"prompt {number} of the list", _from_json, item)


def _from_file(path: Path) -> tuple[Prompt, ...]:
    if path.suffix.lower() not in ENDINGS:
        raise PromptError(f"'{path}' is no prompt file; give a file that ends in {', '.join(ENDINGS)}")
    try:
        # newline="" keeps line ends inside quoted CSV cells as they are.
        with path.open(encoding="utf-8-sig", newline="") as file:
            text = file.read()
    except UnicodeDecodeError:
        raise MalformedPrompt(f"'{path}' is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise PromptError(f"'{path}' cannot be read ({error.strerror}); check the path") from error
    prompts = tuple(_csv(path, text) if path.suffix.lower() == ".csv" else _json(path, text))
    if not prompts:
        raise EmptyPrompts(f"'{path}' holds no prompt; give at least one line with a 'prompt'")
    return prompts


def _json(path: Path, text: str) -> Iterator[Prompt]:
    if text.lstrip().startswith("["):
        for number, item in enumerate(_parse(path, 1, text), start=1):
            yield _at(f"{path}, entry {number}", _from_json, item)
        return
    # Not splitlines(): a JSON string may hold the other characters at which that splits.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _at(f"{path}, line {number}", _from_json, _parse(path, number, line))


def _parse(path: Path, first_line: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise MalformedPrompt(
            f"{path}, line {line}: no valid JSON at column {error.colno} ({error.msg}); "
            "write one JSON object per line, or one JSON list"
        ) from None


def _from_json(item: object) -> Prompt:
    if not isinstance(item, Mapping):
        raise MalformedPrompt(f'{_short(item)} is no JSON object; write for example {{"prompt": "..."}}')
    return prompt_from_row(item)


def _csv(path: Path, text: str) -> Iterator[Prompt]:
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
                _at(where, require_prompt_column, header)
            elif len(cells) > len(header):
                raise MalformedPrompt(
                    f"{where}: there are {len(cells)} cells under {len(header)} columns; "
                    "put quotes around a text that contains a comma"
                )
            else:
                yield _at(where, prompt_from_cells, dict(zip(header, cells, strict=False)))
    except csv.Error as error:
        raise MalformedPrompt(f"{path}, line {line}: no valid CSV ({error}); check its quotes") from None


def _at(where: str, read: Callable[[_Row], _Read], row: _Row) -> _Read:
    try:
        return read(row)
    except MalformedPrompt as error:
        raise MalformedPrompt(f"{where}: {error}") from None


def _short(item: object) -> str:
    shown = repr(item)
    return shown if len(shown) <= 40 else shown[:39] + "…"
