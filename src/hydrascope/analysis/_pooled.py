"""Several knock-outs of one run taken together, so that none of them is picked out."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._statistics import Array, Resampling, add_single, mean_interval, ratio_interval

POOLED = ("own_change", "compensation", "self_repair", "total_effect")
"""Effects whose means are given."""
_SHARES = {"restored": "compensation", "restored_with_norm": "self_repair"}


def effects(ds: xr.Dataset) -> dict[str, Array]:
    """The terms of every account by name, (prompts, knock-outs) each, in logits."""
    found = {"own_change": access.numbers(ds, "own_change")}
    found |= {f"compensation_{kind}": access.response(ds, kind) for kind in access.kinds(ds)}
    compensation, norm = access.response(ds), access.numbers(ds, "norm_effect")
    found |= {"compensation": compensation, "norm_effect": norm, "self_repair": compensation + norm}
    return found | {"total_effect": access.numbers(ds, "total_effect")}


def pooled(values: dict[str, Array], of: NDArray[np.bool_], resampling: Resampling) -> dict[str, Any]:
    """The account of some knock-outs together.

    Args:
        values: from `effects`.
        of: which knock-outs.
        resampling: the bootstrap.

    Returns:
        `knockouts`, how many; `own_change`, `compensation`, `self_repair`, `total_effect`: means over them, in logits;
        `restored`, `restored_with_norm`: ratios of sums; each with `_lo` and `_hi`.
    """
    row: dict[str, Any] = {"knockouts": int(of.sum())}
    sums = {name: values[name][:, of].mean(1, keepdims=True) for name in POOLED}
    for name, mean in sums.items():
        add_single(row, name, mean_interval(mean, resampling))
    for name, answer in _SHARES.items():
        add_single(row, name, ratio_interval(sums[answer], -sums["own_change"], resampling))
    return row
