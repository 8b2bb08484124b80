"""The prompts behind each cell of the compensation matrix."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hydrascope.analysis import names
from hydrascope.report._listing import in_words
from hydrascope.report._numbers import fixed

MOST = 3
"""Most prompts of a cell."""
PLACES = 3
"""Decimal places of a change."""


@dataclass(frozen=True)
class CellPrompts:
    """Prompts on which a writer changes most under a knock-out, of every cell that the matrix shows.

    Attributes:
        payload: JSON with prompts and changes of every cell, packed as integers.
        shown: knock-out and writer of the cell that is shown first.
        rows: number, text, answer and change of its prompts.
    """

    payload: str
    shown: tuple[str, str]
    rows: tuple[tuple[str, ...], ...]


def cell_prompts(ds: xr.Dataset, cells: pd.DataFrame, focus: str) -> CellPrompts:
    """The prompts behind the cells of a compensation matrix.

    Args:
        ds: the ledger.
        cells: rows of `analysis.who_repairs`, one for each cell.
        focus: the knock-out whose strongest responder is shown first, where something responds; otherwise the cell
            with the strongest response is.
    """
    k, w = (_codes(cells[axis], names(ds, axis)) for axis in ("ablated", "writer"))
    change = ds["change"].values[:, k, w]
    prompts = np.argsort(-np.abs(change), axis=0, kind="stable")[:MOST]
    moved = np.round(np.take_along_axis(change, prompts, axis=0).astype(np.float64) * 10**PLACES)
    ablated, writers = (list(dict.fromkeys(map(str, cells[axis]))) for axis in ("ablated", "writer"))

    strength = cells["change"].abs().where(~cells["is_own"], -1.0)
    strongest = cells.loc[strength.groupby(cells["ablated"], sort=False).idxmax()]
    first = dict(zip(strongest["ablated"], strongest["writer"], strict=True))
    best = str(cells["ablated"].iloc[int(strength.to_numpy().argmax())])
    name = focus if focus in set(cells.loc[~cells["is_own"], "ablated"]) else best
    here = int(np.flatnonzero((cells["ablated"] == name) & (cells["writer"] == first[name]))[0])
    told = (ds[field].values[prompts[:, here]] for field in ("prompt", "text", "target"))

    packed = np.concatenate([[_codes(cells["ablated"], ablated), _codes(cells["writer"], writers)], prompts, moved])
    bits = 16 if np.abs(packed).max() < 2**15 else 32
    payload = {
        "ablated": ablated,
        "writers": writers,
        "first": first,
        "count": len(cells),
        "places": PLACES,
        "bits": bits,
        "values": base64.b64encode(packed.astype(f"<i{bits // 8}").tobytes()).decode(),
    }
    return CellPrompts(
        json.dumps(payload, separators=(",", ":")),
        (name, first[name]),
        tuple(
            (*in_words(*prompt), fixed(value / 10**PLACES, PLACES))
            for *prompt, value in zip(*told, moved[:, here], strict=True)
        ),
    )


def _codes(values: pd.Series[str], among: Sequence[str]) -> NDArray[np.intp]:
    """Place of each address in a list."""
    return pd.Index(among).get_indexer(pd.Index(values.astype(str)))
