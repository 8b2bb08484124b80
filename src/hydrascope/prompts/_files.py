"""Loads prompt sets from files, names and Python lists."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from hydrascope.errors import EmptyPrompts, PromptError, shown
from hydrascope.prompts._builtin import builtin_file
from hydrascope.prompts._columns import prompt_from_cells, prompt_from_row, require_prompt_column
from hydrascope.prompts._prompt_set import Prompt, PromptSet
from hydrascope.prompts._records import ENDINGS, as_object, at, csv_records, json_records, read_text
from hydrascope.prompts._tokenizer import Tokenizer
from hydrascope.prompts.tasks import TASKS, load_task, named_task


@runtime_checkable
class Table(Protocol):
    """A table of pandas; one row is one prompt."""

    @property
    def columns(self) -> Any:
        """Names of the columns."""

    def convert_dtypes(self) -> Any:
        """The table with whole numbers as such, also where there are gaps."""

    def notna(self) -> Any:
        """Which cells are no gaps."""


def load(
    spec: str | os.PathLike[str] | PromptSet | Table | Iterable[str | Mapping[str, object] | Prompt],
    *,
    name: str | None = None,
    tokenizer: Tokenizer | None = None,
) -> PromptSet:
    """Load a prompt set from a file, a name or a list.

    A file has one prompt a line (`.jsonl`, or `.csv` with a header) or is one JSON list (`.json`, `.jsonl`). Columns
    are `prompt`, `input_ids` or `messages`, and optionally `target` (a list where several answers are right),
    `target_id`, `foil`, `foil_id`, `counterfactual`, `counterfactual_input_ids`, `delimiter` and `group`, or `clean`,
    `corrupted` and `answer`; others are ignored. Known facts (see `prompt_from_row`) are recognised by their keys. For
    ordinary text, use `documents` and `cut`.

    Args:
        spec: a path ending in `.jsonl`, `.json` or `.csv`; the name of a built-in set such as `facts`; a task such as
            `ioi`, or a task and a file or folder to read, as in `relations:FOLDER` (see `hydrascope.prompts.tasks`); or
            a list of texts, `Prompt`s and dictionaries with the columns of a file; or a pandas table with them.
        name: name of the set; by default the stem of the file, the built-in name, or `inline`.
        tokenizer: the model's tokenizer; needed by tasks that choose names or years by how it writes them.

    Returns:
        The prompts in the order given.

    Raises:
        EmptyPrompts: there is no prompt.
        MalformedPrompt: a line cannot be read; the error names file and line.
        PromptError: there is no such file, built-in set or task, or the file is of another kind.
    """
    if tokenizer is not None and not hasattr(tokenizer, "decode"):
        raise PromptError(
            f"{shown(tokenizer)} is no tokenizer; give the one of the model, hydrascope.load(...).tokenizer"
        )
    if isinstance(spec, PromptSet):
        return spec if name is None else PromptSet(name, spec.prompts, spec.source, spec.unfit)
    if isinstance(spec, Mapping):
        raise PromptError("a dictionary is one prompt, not a set of them; put it into a list")
    if isinstance(spec, bytes) or not (isinstance(spec, str | os.PathLike) or _is_list(spec)):
        raise PromptError(f"{shown(spec)} is no set of prompts; give a file, a task's name, a list of texts or a table")
    if not isinstance(spec, str | os.PathLike):
        return PromptSet(name or "inline", tuple(_from_memory(spec)))
    if isinstance(spec, str) and named_task(spec):
        return load_task(spec, tokenizer, name)
    if isinstance(spec, str) and _is_name(spec):
        return PromptSet(name or spec, _from_file(builtin_file(spec, TASKS)), source="bundled")
    path = Path(spec)
    return PromptSet(name or path.stem, _from_file(path), source=str(path))


def _is_list(given: Any) -> bool:
    try:
        iter(given)
    except TypeError:  # also of what only looks so, such as an array without dimensions
        return False
    return True


def _is_name(spec: str) -> bool:
    return Path(spec).suffix.lower() not in ENDINGS and Path(spec).name == spec and not os.path.isfile(spec)


def _from_memory(items: Table | Iterable[str | Mapping[str, object] | Prompt]) -> Iterator[Prompt]:
    if isinstance(items, Table):
        require_prompt_column(items.columns)
        items = rows_of(items)
    for number, item in enumerate(items):
        where = f"prompt {number} of the list"
        if isinstance(item, Prompt):
            yield item
        elif isinstance(item, str):
            yield at(where, lambda text: Prompt(text=text), item)
        else:
            yield at(where, prompt_from_row, at(where, as_object, item))


def rows_of(table: Table) -> list[Mapping[str, object]]:
    """Rows of a table, None where there are gaps."""
    rows: list[Mapping[str, object]]
    rows = table.convert_dtypes().astype(object).where(table.notna(), None).to_dict("records")
    return rows


def _from_file(path: Path) -> tuple[Prompt, ...]:
    text = read_text(path)
    if path.suffix.lower() == ".csv":
        rows = csv_records(path, text, require_prompt_column)
        prompts = tuple(at(row.where, prompt_from_cells, row.values) for row in rows)
    else:
        prompts = tuple(at(row.where, prompt_from_row, row.values) for row in json_records(path, text))
    if not prompts:
        raise EmptyPrompts(f"'{path}' holds no prompt; give at least one line with a 'prompt'")
    return prompts
