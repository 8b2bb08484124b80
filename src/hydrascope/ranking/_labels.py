"""Labels of parts from a file: which are to be found."""

from __future__ import annotations

import csv
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hydrascope.components import parse_component
from hydrascope.errors import OutputError, RunError
from hydrascope.significance import is_circuit, read_circuit

_TRUE, _FALSE = {"1", "true", "yes"}, {"0", "false", "no"}


def read_labels(path: Path, parts: Collection[str]) -> dict[str, bool]:
    """Labels of parts.

    Args:
        path: JSON with a list of the parts to be found, all others being none, or an object from address to true or
            false, or a circuit file, whose nodes are to be found; or CSV with the columns `part` and `label`.
        parts: addresses of the parts that are ranked.

    Raises:
        OutputError: the file cannot be read.
        RunError: it has no labels, or names a part that is not ranked.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise OutputError(f"the labels in '{path}' cannot be read ({why}); name a JSON or CSV file") from error
    try:
        given = _of_csv(text) if path.suffix.lower() == ".csv" else json.loads(text)
        if is_circuit(given):
            nodes = read_circuit(text)
            given = {
                part: inside for part, inside in zip(nodes["part"], nodes["in_circuit"], strict=True) if part in parts
            }
        listed = {part: True for part in given} if isinstance(given, list) else dict(given)
        found = {str(parse_component(part)): _truth(label) for part, label in listed.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"'{path}' has no labels; give a JSON list of addresses, an object from address to true or false, or CSV "
            "with the columns part and label"
        ) from error
    if unknown := [part for part in found if part not in parts]:
        raise RunError(f"'{path}' labels {unknown[0]}, which is not among the components; name parts that are ranked")
    return {**dict.fromkeys(parts, False), **found} if isinstance(given, list) else found


def _of_csv(text: str) -> dict[str, str]:
    return {row["part"]: row["label"] for row in csv.DictReader(text.splitlines())}


def _truth(label: Any) -> bool:
    word = str(label).strip().lower()
    if word not in _TRUE | _FALSE:
        raise ValueError(word)
    return word in _TRUE
