"""What the account of a run is of, in words: the logit of one token, or the difference of two."""

from __future__ import annotations

from dataclasses import dataclass

import xarray as xr


@dataclass(frozen=True)
class Quantity:
    """Words for what is lost and given back.

    Attributes:
        subject: what effects are taken from or added to, as in "0.3 logits from the target".
        logit: its value, as in "the target's logit moved".
        answer: the same for a reader who is told of answers.
        axis: on an axis.
    """

    subject: str
    logit: str
    answer: str
    axis: str


_ONE_TOKEN = Quantity("target", "target's logit", "answer’s logit", "logits of the answer")
_DIFFERENCE = Quantity("logit difference", "logit difference", "logit difference", "logit difference")


def quantity(ds: xr.Dataset) -> Quantity:
    """The words for a ledger."""
    return _DIFFERENCE if ds.attrs.get("target_policy") == "difference" else _ONE_TOKEN
