"""The file of expectations: what is run, and what must hold of it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import Field, FiniteFloat, model_validator

from hydrascope.errors import MalformedPrompt, OutputError, RunError, did_you_mean
from hydrascope.run import Checked, RunRequest

OF_PARTS = {
    "direct effect": "direct_effect",
    "own change": "own_change",
    "later attention": "compensation_attn",
    "later MLPs": "compensation_mlp",
    "compensation": "compensation",
    "norm effect": "norm_effect",
    "self-repair": "self_repair",
    "total effect": "total_effect",
    "KL divergence": "kl",
    "restored share": "restored_with_norm",
    "slope": "slope",
}
"""Quantities of a knocked out part, by the columns of `Ledger.repair`."""

CHANGE = "change"
SECURE = "N-1 secure share"
QUANTITIES = (*OF_PARTS, CHANGE, SECURE)


class Expectation(Checked, frozen=True, extra="forbid"):
    """One thing that must hold.

    Attributes:
        quantity: one of `QUANTITIES`.
        part: the part that is knocked out.
        responder: the writer whose change is read.
        at_least: smallest value allowed.
        at_most: largest value allowed.
        between: both.
        among: the responder's answer is one of so many largest.
    """

    quantity: str = CHANGE
    part: str | None = None
    responder: str | None = None
    at_least: FiniteFloat | None = None
    at_most: FiniteFloat | None = None
    between: tuple[FiniteFloat, FiniteFloat] | None = None
    among: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.quantity not in QUANTITIES:
            hint = did_you_mean(self.quantity, QUANTITIES)
            raise RunError(f"no quantity '{self.quantity}'{hint}; choose {', '.join(QUANTITIES)}")
        if (self.part is None) != (self.quantity == SECURE):
            raise RunError(
                f"'{self.quantity}' is of {'the whole model; leave part out' if self.part else 'a part; name it'}"
            )
        if (self.responder is None) != (self.quantity != CHANGE):
            raise RunError(f"'{self.quantity}' has {'no responder' if self.responder else 'a responder; name it'}")
        given = [self.among is not None, self.between is not None, not (self.at_least is self.at_most is None)]
        if sum(given) != 1 or (self.among is not None and self.quantity != CHANGE):
            raise RunError(
                f"say of '{self.quantity}' either at_least, at_most or both, or between"
                f"{', or among how many answers it is' if self.quantity == CHANGE else ''}"
            )
        if self.bounds[0] > self.bounds[1]:
            raise RunError(f"nothing lies between {self.bounds[0]:g} and {self.bounds[1]:g}; put the smaller one first")
        return self

    @property
    def bounds(self) -> tuple[float, float]:
        """Smallest and largest value allowed."""
        if self.between is not None:
            return self.between
        low, high = self.at_least, self.at_most
        return (float("-inf") if low is None else low, float("inf") if high is None else high)

    @property
    def name(self) -> str:
        """The expectation in words."""
        if self.among is not None:
            return f"{self.responder} among the {self.among} that answer {self.part} most"
        what = f"{self.quantity} of {self.part}" if self.part else self.quantity
        what = f"change of {self.responder} without {self.part}" if self.responder else what
        low, high = self.bounds
        if low == float("-inf"):
            return f"{what} at most {high:g}"
        return f"{what} at least {low:g}" if high == float("inf") else f"{what} between {low:g} and {high:g}"


@dataclass(frozen=True)
class Expectations:
    """A file of them.

    Attributes:
        path: the file.
        folder: folder of the run that is judged.
        request: how that run is made if it is not there; None where it must be.
        stress: folder of a stress test; None without one.
        expected: what must hold.
    """

    path: Path
    folder: Path
    request: RunRequest | None
    stress: Path | None
    expected: tuple[Expectation, ...]


def read_expectations(path: Path) -> Expectations:
    """Read a file of expectations.

    Args:
        path: a TOML file; folders in it are relative to its own.

    Raises:
        OutputError: it cannot be read.
        MalformedPrompt: it is no TOML.
        RunError: something in it says nothing, with its number.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise OutputError(f"'{path}' cannot be read: {why}; give a TOML file of expectations") from None
    except tomllib.TOMLDecodeError as error:
        raise MalformedPrompt(f"'{path}' is no TOML: {error}") from None
    if unknown := sorted(set(found) - {"run", "stress", "expect"}):
        raise RunError(f"'{path}' has a table '{unknown[0]}'; it can have [run], [stress] and [[expect]]")
    made = _table(found, "run", path)
    folder = made.pop("folder", None)
    if not isinstance(folder, str):
        raise RunError(f"'{path}' names no run; write [run] and under it folder = \"runs/mine\"")
    stress = _table(found, "stress", path).get("folder")
    rows = found.get("expect", [])
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise RunError(f"'{path}' expects nothing; write [[expect]] and under it what must hold")
    expected = []
    for number, row in enumerate(rows, start=1):
        try:
            expected.append(Expectation(**row))
        except RunError as error:
            raise RunError(f"expectation {number} of '{path}': {error}") from None
    if stress is None and any(one.quantity == SECURE for one in expected):
        raise RunError(f"'{path}' expects an {SECURE} and names no stress test; write [stress] with its folder")
    here = path.parent
    request = RunRequest(**made) if made else None
    return Expectations(path, here / folder, request, None if stress is None else here / str(stress), tuple(expected))


def _table(found: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    table = found.get(name, {})
    if not isinstance(table, dict):
        raise RunError(f"'{name}' in '{path}' is no table; write [{name}]")
    return dict(table)
