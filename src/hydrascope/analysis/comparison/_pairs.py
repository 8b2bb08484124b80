"""Which prompts and knock-outs two runs share.

Runs of models with as many blocks are compared prompt by prompt, on what both measured: the effects of hard prompts
are large in both, and only their difference is left. `attn.5` of a model with 8 blocks is no counterpart of that of one
with 30, so such runs have no shared knock-outs; they are compared by relative depth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import xarray as xr

from hydrascope.analysis import _ledger_access as access
from hydrascope.errors import RunError

_PROMPT = ("text", "target", "position")
"""Coordinates that say whether two rows are of one prompt, or token."""
_TOLD = {
    "model_name": "model",
    "weight_digest": "digest of the weights",
    "dtype": "number format",
    "packing": "quantisation",
    "protocol": "protocol",
    "ablation": "ablation",
    "donors": "donors",
    "dose": "dose",
    "positions": "replaced positions",
    "target_policy": "target",
    "bos": "beginning of sequence",
    "delimiter": "delimiter",
    "answer": "answer",
    "prompts_name": "prompts",
    "prompts_digest": "digest of the prompts",
    "seed": "seed",
}
"""Attributes that are told where runs differ in them."""


@dataclass(frozen=True)
class Pairing:
    """Two ledgers, on what they share where they share anything.

    Attributes:
        first: rows and knock-outs that the second has too, in the order of the first.
        second: its counterpart, row by row and knock-out by knock-out.
        shared: whether prompts and knock-outs are shared; otherwise both ledgers are whole.
        why_not: why nothing is paired, as a clause; empty where it is.
        differing: what the runs differ in, with the value in the first and in the second.
    """

    first: xr.Dataset
    second: xr.Dataset
    shared: bool
    why_not: str
    differing: tuple[tuple[str, str, str], ...]


def pair(first: xr.Dataset, second: xr.Dataset) -> Pairing:
    """Find the prompts and knock-outs that two ledgers share.

    Args:
        first: ledger of the run that is compared with.
        second: ledger of the run that is told of.

    Raises:
        RunError: one run read the last token and the other whole texts.
    """
    if access.reads_each(first) != access.reads_each(second):
        raise RunError("one of these runs was read at the last token and the other on whole texts; compare two alike")
    told = ((words, *(str(ds.attrs.get(name, "")) for ds in (first, second))) for name, words in _TOLD.items())
    differing = tuple((words, one, other) for words, one, other in told if one != other)
    layers = [int(ds.attrs["n_layers"]) for ds in (first, second)]
    rows = _common(_prompts(first), _prompts(second))
    parts = _common(access.names(first, "ablated"), access.names(second, "ablated"))
    if layers[0] != layers[1]:
        why_not = f"the models have {layers[0]} and {layers[1]} layers"
    elif not parts[0]:
        why_not = "they knocked out no part in common"
    elif not rows[0]:
        why_not = "they have no prompt in common"
    else:
        one, other = (
            ds.isel(prompt=at, ablated=places) for ds, at, places in zip((first, second), rows, parts, strict=True)
        )
        return Pairing(one, other, True, "", differing)
    return Pairing(first, second, False, why_not, differing)


def _prompts(ds: xr.Dataset) -> list[Hashable]:
    """What a row is of; rows alike are counted, so that the second of two is paired with the second."""
    columns = [ds[name].values.tolist() for name in _PROMPT if name in ds.coords]
    seen: Counter[Hashable] = Counter()
    found: list[Hashable] = []
    for row in zip(*columns, strict=True):
        found.append((row, seen[row]))
        seen[row] += 1
    return found


def _common(first: Sequence[Hashable], second: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """Places, in both lists, of what both have, in the order of the first."""
    where = {label: place for place, label in enumerate(second)}
    at = [place for place, label in enumerate(first) if label in where]
    return at, [where[first[place]] for place in at]
