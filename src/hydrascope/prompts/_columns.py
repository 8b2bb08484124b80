"""Turns the columns of a row, or a dictionary, into a prompt."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from hydrascope.errors import MalformedPrompt
from hydrascope.prompts._prompt_set import Prompt

COLUMNS = {
    "prompt": "text",
    "input_ids": "input_ids",
    "target": "target",
    "target_id": "target_id",
    "foil": "foil",
    "foil_id": "foil_id",
    "counterfactual": "counterfactual",
    "counterfactual_input_ids": "counterfactual_input_ids",
    "group": "group",
    "accepted": "accepted",
    "delimiter": "delimiter",
    "messages": "messages",
}
"""Columns that are read, with the field of `Prompt` that each fills; others are ignored."""

ALIASES = {"clean": "prompt", "corrupted": "counterfactual", "answer": "target"}
"""Names that published sets of clean and corrupted prompts use, read where ours is not there."""

PROMPT_COLUMNS = ("prompt", "input_ids", "messages", "clean")
"""Columns that hold a prompt, one of which every row has."""

_KNOWN_FACT = {"subject", "attribute", "template", "prediction", "prompt", "relation_id"}


def prompt_from_row(row: Mapping[str, object]) -> Prompt:
    """Turn a row of JSON values into a prompt.

    In a row with the keys of the known facts of Meng et al. (2022), the target is `attribute` and the group
    `relation_id`. Of a list under `target`, the first is the target and the others are accepted too. A number is an
    answer as it is written.

    Args:
        row: values by column; None stands for an absent value.

    Returns:
        The prompt.

    Raises:
        MalformedPrompt: there is none of `prompt`, `input_ids` and `messages`, or a value has the wrong type.
    """
    if row.keys() >= _KNOWN_FACT:
        row = {"prompt": row["prompt"], "target": row["attribute"], "group": row["relation_id"]}
    require_prompt_column(row)
    row = {**{ours: row[theirs] for theirs, ours in ALIASES.items() if theirs in row}, **row}
    values: dict[str, Any] = {field: row.get(column) for column, field in COLUMNS.items()}
    if isinstance(values["target"], list):
        values["target"], *more = values["target"] or [None]
        values["accepted"] = [*more, *(values["accepted"] or [])] or None
    if values["accepted"] is not None:
        accepted = values["accepted"]
        values["accepted"] = tuple(map(_written, accepted if isinstance(accepted, list | tuple) else [accepted]))
    for name in ("target", "foil", "group"):
        values[name] = _written(values[name])
    return Prompt(**values)


def prompt_from_cells(cells: Mapping[str, str]) -> Prompt:
    """Turn a row of text cells into a prompt; an empty cell is an absent value.

    Args:
        cells: text by column; lists of ids are written `464 3139` or `[464, 3139]`.

    Returns:
        The prompt.

    Raises:
        MalformedPrompt: there is neither `prompt` nor `input_ids`, or a cell of ids holds something else.
    """
    row: dict[str, object] = {column: cell or None for column, cell in cells.items()}
    for column in ("input_ids", "counterfactual_input_ids"):
        if row.get(column):
            row[column] = [_number(column, piece) for piece in re.findall(r"[^\s,\[\]]+", cells[column])]
    for column in ("target_id", "foil_id"):
        if row.get(column):
            row[column] = _number(column, cells[column].strip())
    return prompt_from_row(row)


def require_prompt_column(columns: Iterable[str]) -> None:
    """Require a column `prompt`, `input_ids` or `messages`.

    Args:
        columns: names of the columns.

    Raises:
        MalformedPrompt: there is none; the error lists the columns and points out a misspelt one.
    """
    found = [str(column) for column in columns]
    if {*PROMPT_COLUMNS} & {*found}:
        return
    close = [column for column in found if difflib.get_close_matches(column.lower(), ("prompt", "input_ids"))]
    advice = f"rename '{close[0]}'" if close else "add one of them"
    listed = ", ".join(f"'{column}'" for column in found) or "no columns"
    raise MalformedPrompt(f"there is neither 'prompt' nor 'input_ids' among {listed}; {advice}")


def _written(value: object) -> object:
    """A number as text, and anything else as it is."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _number(column: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise MalformedPrompt(f"'{column}' holds '{text}', no token id; write whole numbers") from None
