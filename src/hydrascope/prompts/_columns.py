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
}
"""Columns that are read, with the field of `Prompt` that each fills; others are ignored."""

_KNOWN_FACT = {"subject", "attribute", "template", "prediction", "prompt", "relation_id"}


def prompt_from_row(row: Mapping[str, object]) -> Prompt:
    """Turn a row of JSON values into a prompt.

    In a row with the keys of the known facts of Meng et al. (2022), the target is `attribute` and the group
    `relation_id`.

    Args:
        row: values by column; None stands for an absent value.

    Returns:
        The prompt.

    Raises:
        MalformedPrompt: there is neither `prompt` nor `input_ids`, or a value has the wrong type.
    """
    if row.keys() >= _KNOWN_FACT:
        row = {"prompt": row["prompt"], "target": row["attribute"], "group": row["relation_id"]}
    require_prompt_column(row)
    values: dict[str, Any] = {field: row.get(column) for column, field in COLUMNS.items()}
    if isinstance(values["group"], int):
        values["group"] = str(values["group"])
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
    """Require a column `prompt` or `input_ids`.

    Args:
        columns: names of the columns.

    Raises:
        MalformedPrompt: there is neither; the error lists the columns and points out a misspelt one.
    """
    found = [str(column) for column in columns]
    if "prompt" in found or "input_ids" in found:
        return
    close = [column for column in found if difflib.get_close_matches(column.lower(), ("prompt", "input_ids"))]
    advice = f"rename '{close[0]}'" if close else "add one of them"
    listed = ", ".join(f"'{column}'" for column in found) or "no columns"
    raise MalformedPrompt(f"there is neither 'prompt' nor 'input_ids' among {listed}; {advice}")


def _number(column: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise MalformedPrompt(f"'{column}' holds '{text}', no token id; write whole numbers") from None
