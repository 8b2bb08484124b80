"""What late MLPs take away from the target, and how much they let go.

Every writer's change on every prompt is split at zero, after McDougall et al. 2023 (arXiv 2310.04625), so that the four
parts sum to the change:

    change > 0   relaxed       what brings a negative direct effect up towards zero
                 promoted      the rest: a direct effect raised further above zero
    change < 0   lost          what brings a positive direct effect down towards zero
                 strengthened  the rest: a direct effect lowered further below zero

A change that passes zero counts in both: up to zero it relaxes, beyond it promotes. The mean over donors is split.
Noise alone fills all four parts, positive and negative alike, so the sums `suppression` (= relaxed + strengthened) and
`promotion` (= promoted + lost) are what to test against zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._statistics import (
    RESAMPLES,
    Array,
    add_estimate,
    mean_interval,
    ratio_interval,
    simultaneous_means,
    with_ends,
)

PARTS = ("relaxed", "promoted", "lost", "strengthened")
"""The four parts of a change, in the order of the columns."""


def split_change(direct: Array, change: Array) -> dict[str, Array]:
    """Split changes at zero of the direct effect.

    Args:
        direct: clean direct effects, in logits.
        change: changes of the direct effects, in logits, of the shape of `direct`.

    Returns:
        `relaxed`, `promoted` (both at least 0), `lost`, `strengthened` (both at most 0).
    """
    up, down = np.maximum(change, 0), np.minimum(change, 0)
    relaxed = np.minimum(up, np.maximum(-direct, 0))
    lost = np.maximum(down, -np.maximum(direct, 0))
    return {"relaxed": relaxed, "promoted": up - relaxed, "lost": lost, "strengthened": down - lost}


def late(ds: xr.Dataset) -> NDArray[np.bool_]:
    """Writers in the second half of the blocks."""
    access.require_writers(ds, "what the late writers do")
    layers = ds["writer_layer"].values.astype(int)
    kind = access.writer_kinds(ds)
    depth = int(ds.attrs["n_layers"])
    found: NDArray[np.bool_] = (2 * layers >= depth) & np.isin(kind, access.KINDS)
    return found


def late_mlps(ds: xr.Dataset, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Clean direct effect of the late MLPs on the target.

    Args:
        ds: the ledger.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per MLP in the second half of the blocks: `writer`, `writer_layer`; `direct_effect` (mean, logits),
        `share_negative` (share of prompts on which it writes against the target), each with `_lo` and `_hi`; `p`
        (max-|t|, adjusted over the rows), `erases` (mean below zero, significantly).
    """
    resampling = access.bootstrap(ds, resamples, seed)
    columns = np.flatnonzero(late(ds) & (access.writer_kinds(ds) == "mlp"))
    direct = access.numbers(ds, "direct_effect")[:, columns]
    table: dict[str, Any] = {
        "writer": np.array(access.names(ds, "writer"), dtype=object)[columns],
        "writer_layer": ds["writer_layer"].values.astype(int)[columns],
    }
    add_estimate(table, "direct_effect", mean_interval(direct, resampling))
    add_estimate(table, "share_negative", mean_interval((direct < 0).astype(float), resampling))
    joint = simultaneous_means(direct, resampling)
    table["p"] = joint.p
    table["erases"] = joint.significant & (joint.mean < 0)
    return pd.DataFrame(table)


def released(ds: xr.Dataset, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """How much the late MLPs, or late attention, let go under each knock-out.

    Args:
        ds: the ledger.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per knock-out and kind that has late answering writers: `ablated`, `ablated_layer`, `ablated_kind`,
        `kind`, `writers` (how many); sums over these writers, means over prompts, in logits: `direct_effect` (clean),
        `change`, `relaxed`, `promoted`, `lost`, `strengthened`, `suppression` (= relaxed + strengthened), `promotion`
        (= promoted + lost); `released_share`, relaxed as a share of all that these writers take away in the clean run
        (ratio of sums). All with `_lo` and `_hi`.
    """
    resampling = access.bootstrap(ds, resamples, seed)
    free, second_half, kind_of = access.answering(ds), late(ds), access.writer_kinds(ds)
    direct = access.numbers(ds, "direct_effect")
    tables = []
    for kind in access.kinds(ds):
        columns = free & second_half & (kind_of == kind)
        rows = np.flatnonzero(columns.any(1))
        if not len(rows):
            continue
        sums = [_sums(direct, ds["change"].values[:, k], columns[k]) for k in rows]
        table = access.knockout_columns(ds, rows)
        table["kind"] = kind
        table["writers"] = columns[rows].sum(1)
        stacked = {name: np.stack([one[name] for one in sums], axis=1) for name in sums[0]}
        taken = stacked.pop("taken")
        for name, values in stacked.items():
            add_estimate(table, name, mean_interval(values, resampling))
        add_estimate(table, "released_share", ratio_interval(stacked["relaxed"], taken, resampling))
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=_RELEASED)


def _sums(direct: Array, change: NDArray[np.float32], columns: NDArray[np.bool_]) -> dict[str, Array]:
    """Parts of one knock-out, summed over the chosen writers; (prompts,) each."""
    clean, moved = direct[:, columns], change[:, columns].astype(np.float64)
    sums = {"direct_effect": clean.sum(1), "change": moved.sum(1)}
    sums |= {name: values.sum(1) for name, values in split_change(clean, moved).items()}
    sums["suppression"] = sums["relaxed"] + sums["strengthened"]
    sums["promotion"] = sums["promoted"] + sums["lost"]
    sums["taken"] = np.maximum(-clean, 0).sum(1)
    return sums


_RELEASED = [
    *("ablated", "ablated_layer", "ablated_kind", "kind", "writers"),
    *with_ends("direct_effect", "change", *PARTS, "suppression", "promotion", "released_share"),
]
