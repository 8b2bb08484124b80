"""Numbers and parts in words; the interval chooses the phrase, never the mean alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import xarray as xr

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._statistics import Reading
from hydrascope.analysis._tokens import TOP_SHARE

TOP_TOKENS = f"the {100 * TOP_SHARE:g} % of tokens"
"""How sentences call the selected tokens."""

_NOUNS = {"head": "head", "attn": "attention layer", "mlp": "MLP", "neuron": "neuron", "layer": "layer"}


@dataclass(frozen=True)
class Quantity:
    """Words for what is lost and given back.

    Attributes:
        subject: what effects are taken from or added to, as in "0.3 logits from the target".
        logit: the value of the subject, as in "the target's logit moved".
        answer: the value of the subject for a reader who is told of answers.
        axis: title of an axis.
    """

    subject: str
    logit: str
    answer: str
    axis: str


_ONE_TOKEN = Quantity("target", "target's logit", "answer’s logit", "logits of the answer")
_DIFFERENCE = Quantity("logit difference", "logit difference", "logit difference", "logit difference")


def quantity(ds: xr.Dataset) -> Quantity:
    """What the account decomposes: the logit of one token, or the difference of two."""
    return _DIFFERENCE if ds.attrs.get("target_policy") == "difference" else _ONE_TOKEN


def noun(ds: xr.Dataset) -> str:
    """What was knocked out, in the singular: `part` where kinds are mixed."""
    kinds = set(access.names(ds, "ablated_kind"))
    return _NOUNS.get(kinds.pop(), "part") if len(kinds) == 1 else "part"


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


def count(number: int, one: str, many: str = "") -> str:
    """`1 prompt`, `2 prompts`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def spread(reading: Reading, direction: int = 1, form: Callable[[float], str] = digits) -> str:
    """The mean with its interval, both multiplied by `direction` (1 or -1)."""
    low, high = sorted((direction * reading.lo, direction * reading.hi))
    text = form(direction * reading.mean)
    return f"{text} [{form(low)}, {form(high)}]" if math.isfinite(high - low) else text


def listed(pieces: Sequence[str]) -> str:
    """`one`, `one and two`, `one, two and three`."""
    *first, last = pieces
    return f"{', '.join(first)} and {last}" if first else last


def a(word: str) -> str:
    """A noun with its indefinite article, by how it is spoken."""
    return f"{'an' if word[0] in 'aeiou' or word == 'MLP' else 'a'} {word}"
