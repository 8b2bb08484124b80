"""Numbers for readers: few digits, a true minus, a dash for none."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

MINUS = "\N{MINUS SIGN}"
NONE = "\N{EN DASH}"
_PERCENT = re.compile(r"(\d)\s%")
_BRACKET = re.compile(r"\[[^\[\]]{1,40}\]")


def number(value: float, digits: int = 3) -> str:
    """A value with so many significant digits, without exponent between 1e-3 and 1e6."""
    value = float(value)
    if not math.isfinite(value):
        return NONE
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -3 or magnitude >= 6:
        mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
        return f"{mantissa}e{int(exponent)}".replace("-", MINUS)
    return f"{value:,.{max(digits - 1 - magnitude, 0)}f}".replace("-", MINUS)


def fixed(value: float, places: int = 2) -> str:
    """A value with so many decimals, for columns compared down the page."""
    value = float(value)
    if not math.isfinite(value):
        return NONE
    text = f"{value:,.{places}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")
    return text.replace("-", MINUS)


def percent(value: float) -> str:
    """A share in whole percent."""
    return NONE if not math.isfinite(value) else f"{fixed(100 * value, 0)}\N{NARROW NO-BREAK SPACE}%"


def interval(low: float, high: float, places: int = 2) -> str:
    """An interval in words; a dash when either end is missing."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return NONE
    return f"{fixed(low, places)} to {fixed(high, places)}"


def signed(value: float, places: int = 2) -> str:
    """A value with so many decimals and its sign, plus included."""
    return ("+" if value > 0 else "") + fixed(value, places)


def summands(values: Sequence[float], places: int = 2) -> list[str]:
    """Terms of a sum on one line, signs between them."""
    first, *rest = values
    return [fixed(first, places), *(_summand(value, places) for value in rest)]


def tied(sentence: str) -> str:
    """A sentence whose intervals and percentages do not break over two lines."""
    sentence = _PERCENT.sub("\\1\N{NARROW NO-BREAK SPACE}%", sentence)
    sentence = sentence.replace("R² ", "R²\N{NO-BREAK SPACE}")
    return _BRACKET.sub(lambda found: found[0].replace(" ", "\N{NO-BREAK SPACE}"), sentence)


def _summand(value: float, places: int) -> str:
    text = fixed(abs(value), places)
    sign = MINUS if value < 0 and float(f"{value:.{places}f}") != 0 else "+"
    return f"{sign} {text}"
