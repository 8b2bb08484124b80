"""Crosses the lists of a plan: every value of one with every value of the others."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from glob import glob
from itertools import product
from pathlib import Path
from typing import Any

from hydrascope.errors import did_you_mean
from hydrascope.run import RunRequest, options_of

PATTERNS = {"model": "folders with a config.json", "prompts": "files"}
"""Options whose values may be patterns of paths, and what these stand for."""

_WILD = re.compile(r"[*?\[]")


class Misplaced(Exception):
    """Something in a plan says nothing.

    Attributes:
        key: the option, or whatever stands there instead.
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def crossed(block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Options of every cell that a block of a plan asks for, the first list varying slowest.

    Args:
        block: options by name, each a value or a list of them; a table in a list has options that go together.

    Raises:
        Misplaced: there is no such option, a list says nothing, or two lists vary the same option.
    """
    axes = {key: tuple(_entries(key, value)) for key, value in block.items()}
    varied: dict[str, str] = {}
    for key, entries in axes.items():
        for also in dict.fromkeys(name for entry in entries for name in entry if len(entries) > 1 or name != key):
            if varied.setdefault(also, key) != key:
                raise Misplaced(key, f"'{also}' varies with '{varied[also]}' and with '{key}'; let one of them say it")
    for chosen in product(*axes.values()):
        own = {key: entry[key] for key, entry in zip(axes, chosen, strict=True)}
        yield own | {
            name: value for key, entry in zip(axes, chosen, strict=True) for name, value in entry.items() if name != key
        }


def _entries(key: str, value: Any) -> Iterator[dict[str, Any]]:
    """Values of one option, each with what goes together with it."""
    _require_option(key)
    listed = value if isinstance(value, list) else [value]
    if not listed:
        raise Misplaced(key, f"'{key}' is an empty list; name a value, or leave it out")
    for one in listed:
        if isinstance(one, list):
            raise Misplaced(
                key, f"'{key}' has a list in its list; write what one cell gets as one text, as in 'attn,mlp'"
            )
        entry = dict(one) if isinstance(one, dict) else {key: one}
        for name in entry:
            _require_option(name, key)
        if key not in entry:
            raise Misplaced(key, f"a table of '{key}' does not say the {key} itself; write it there, too")
        for found in _matching(key, entry[key]):
            yield {**entry, key: found}


def _require_option(name: str, key: str | None = None) -> None:
    known = options_of(RunRequest, without=())
    if name not in known:
        hint = did_you_mean(name, (*known, "folder", "report", "cells") if key is None else known)
        raise Misplaced(
            key or name, f"there is no option '{name}'{hint}; a plan takes those of 'hydrascope run --help'"
        )


def _matching(key: str, value: Any) -> list[Any]:
    """A value, or the paths that it is a pattern of, numbers in their names in the order of numbers."""
    if key not in PATTERNS or not isinstance(value, str):
        return [value]
    path = str(Path(value).expanduser()) if value.startswith("~") else value
    if not _WILD.search(path):
        return [path]
    found = [one for one in glob(path, recursive=True) if _is_meant(key, Path(one))]
    if not found:
        raise Misplaced(key, f"'{value}' matches no {PATTERNS[key]} here; check the pattern")
    return sorted(found, key=lambda one: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", one)])


def _is_meant(key: str, path: Path) -> bool:
    return path.is_file() if key == "prompts" else any(path.glob("*config.json"))
