"""Numbers in words: a phrase is chosen by where the interval lies, never by where the mean lies."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """A measured mean and what may be said about its sign.

    Attributes:
        mean: in logits, or whatever it is the mean of.
        lo: lower end of the 95 % interval; NaN if unknown.
        hi: upper end.
        conclusive: whether there are enough independent prompts to say anything about the sign.
    """

    mean: float
    lo: float
    hi: float
    conclusive: bool

    @property
    def sign(self) -> int:
        """1 or -1 when the interval excludes zero, otherwise 0; comparisons with NaN are false."""
        return (int(self.lo > 0) - int(self.hi < 0)) if self.conclusive else 0

    @property
    def doubt(self) -> str:
        """Why its sign cannot be stated."""
        return "which cannot be told from zero" if self.conclusive else "of unknown sign with so few prompts"

    @property
    def still(self) -> bool:
        """Whether it is exactly zero on every prompt."""
        return self.mean == self.lo == self.hi == 0


def digits(value: float) -> str:
    """A number with two or three significant digits and a true minus sign."""
    size = abs(value)
    if size == 0:
        text = "0"
    elif size < 0.001:
        text = f"{size:.0e}".replace("e-0", "e-").replace("-", "−")
    else:
        text = f"{size:.{1 if size >= 10 else 2 if size >= 0.1 else 3}f}"
    return f"−{text}" if value < 0 else text


def percent(value: float) -> str:
    """A share in percent, with its sign when negative; never minus zero."""
    rounded = round(100 * value)
    return f"−{-rounded} %" if rounded < 0 else f"{rounded} %"


def signed(value: float) -> str:
    """A number that always carries its sign."""
    return digits(value) if value <= 0 else f"+{digits(value)}"


def spread(reading: Reading, direction: int = 1, form: Callable[[float], str] = digits) -> str:
    """The mean with its interval, both multiplied by `direction` (1 or -1)."""
    low, high = sorted((direction * reading.lo, direction * reading.hi))
    text = form(direction * reading.mean)
    return f"{text} [{form(low)}, {form(high)}]" if math.isfinite(high - low) else text


def loss(own: Reading, subject: str = "target") -> str:
    """What knocking something out did directly, for "Knocking out X ..."."""
    if own.sign < 0:
        return f"directly takes {spread(own, -1)} logits from the {subject}"
    if own.sign > 0:
        return f"directly adds {spread(own)} logits to the {subject}, against which it writes"
    return f"directly moves the {subject} by {spread(own)} logits, {own.doubt}"


def answer(reading: Reading, own: Reading, subject: str = "target") -> str:
    """What a part of the model did in response, seen against what was lost; past tense.

    "gave back" and "took back" are repair: the response opposes the own change.
    """
    if reading.still:
        return "did not move"
    if reading.sign == 0:
        return f"moved by {spread(reading)}, {reading.doubt}"
    size = spread(reading, reading.sign)
    if own.sign == 0:
        return f"{'raised' if reading.sign > 0 else 'lowered'} the {subject} by {size}"
    if own.sign < 0:
        return f"gave back {size}" if reading.sign > 0 else f"lost a further {size}"
    return f"took back {size}" if reading.sign < 0 else f"added a further {size}"


def count(number: int, one: str, many: str = "") -> str:
    """`1 prompt`, `2 prompts`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
