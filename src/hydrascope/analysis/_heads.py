"""Every head at a glance: what it writes, what its loss costs, who compensates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._layers import by_layer
from hydrascope.analysis._repair import repair
from hydrascope.analysis._statistics import RESAMPLES, Resampling, add_estimate, mean_interval, with_ends

FROM_REPAIR = (
    *("own_change", "compensation", "norm_effect", "total_effect", "restored", "restored_with_norm"),
    *("compensation_attn", "compensation_mlp", "compensation_mixer"),
)
"""Columns of `repair` taken over, each with its interval."""


def has_heads(ds: xr.Dataset) -> bool:
    """Whether heads were knocked out by themselves, or are writers of the account."""
    return "head" in access.names(ds, "ablated_kind") or bool(_writers(ds))


def heads(ds: xr.Dataset, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Everything that a ledger knows of every head.

    Args:
        ds: the ledger.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per head that was knocked out by itself or is a writer, in the order of the blocks: `head`, `layer`,
        `unit`, `knocked_out`; `direct_effect` (clean; NaN unless it is a writer) and the columns of `repair` named in
        `FROM_REPAIR` (NaN where it was not knocked out), all with `_lo` and `_hi`; `meaningful`, whether its shares may
        be read; `repairer`, the writer whose mean change opposes the own change most (empty if none does), and
        `repairer_change`.
    """
    resampling = access.bootstrap(ds, resamples, seed)
    writers, asked = _writers(ds), _knockouts(ds)
    found = sorted({*writers, *asked})
    table: dict[str, Any] = {
        "head": [f"head.{layer}.{unit}" for layer, unit in found],
        "layer": [layer for layer, _ in found],
        "unit": [unit for _, unit in found],
        "knocked_out": [head in asked for head in found],
    }
    direct = np.full((ds.sizes["prompt"], len(found)), np.nan)
    known = [i for i, head in enumerate(found) if head in writers]
    direct[:, known] = access.numbers(ds, "direct_effect")[:, [writers[found[i]] for i in known]]
    add_estimate(table, "direct_effect", mean_interval(direct, resampling))
    own = ds.isel(ablated=list(asked.values()))
    account = repair(by_layer(own, ["mlp"]), resamples=resamples, seed=seed) if asked else pd.DataFrame({"ablated": []})
    wanted = with_ends(*(name for name in FROM_REPAIR if name in account))
    repairers = _repairers(own, resampling) if access.has_writers(ds) else {}
    account = account.set_index("ablated")[[*wanted, *(["meaningful"] if asked else [])]].reindex(table["head"])
    table |= {name: account[name].to_numpy() for name in wanted}
    table["meaningful"] = account["meaningful"].eq(True).to_numpy() if asked else np.zeros(len(found), bool)
    table["repairer"] = [repairers.get(name, ("", np.nan))[0] for name in table["head"]]
    table["repairer_change"] = [repairers.get(name, ("", np.nan))[1] for name in table["head"]]
    return pd.DataFrame(table)


def head_answers(ds: xr.Dataset, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """How every head that is a writer answers every knock-out.

    Args:
        ds: the ledger.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per knock-out and head that can answer it: `ablated`, `head`, `layer`, `unit`; `direct_effect` (clean)
        and `change`, means over prompts in logits, the latter with `_lo` and `_hi`.
    """
    writers = _writers(ds)
    places, columns = list(writers), np.array(list(writers.values()), dtype=np.intp)
    rows, found = np.nonzero(access.answering(ds)[:, columns])
    change = ds["change"].values[:, rows, columns[found]].astype(np.float64)
    names = np.array(access.names(ds, "ablated"), dtype=object)
    table: dict[str, Any] = {"ablated": names[rows]}
    table["head"] = [f"head.{places[i][0]}.{places[i][1]}" for i in found]
    table["layer"] = [places[i][0] for i in found]
    table["unit"] = [places[i][1] for i in found]
    resampling = access.bootstrap(ds, resamples, seed)
    table["direct_effect"] = resampling.mean(access.numbers(ds, "direct_effect")[:, columns])[found]
    add_estimate(table, "change", mean_interval(change, resampling))
    return pd.DataFrame(table)


def _writers(ds: xr.Dataset) -> dict[tuple[int, int], int]:
    """(layer, head) of every head that is a writer, to its position."""
    layers, units = ds["writer_layer"].values.astype(int), access.units(ds)
    inside = np.flatnonzero((units >= 0) & (access.writer_kinds(ds) == "attn"))
    return {(int(layers[i]), int(units[i])): int(i) for i in inside}


def _knockouts(ds: xr.Dataset) -> dict[tuple[int, int], int]:
    """(layer, head) of every head knocked out by itself, to its position."""
    kinds, found = access.names(ds, "ablated_kind"), {}
    for k, name in enumerate(access.names(ds, "ablated")):
        if kinds[k] == "head":
            _, layer, unit = name.split(".")
            found[int(layer), int(unit)] = k
    return found


def _repairers(ds: xr.Dataset, resampling: Resampling) -> dict[str, tuple[str, float]]:
    """For every knock-out the writer whose mean change opposes the own change most, if any does."""
    writers, free = access.names(ds, "writer"), access.answering(ds)
    found = {}
    for k, name in enumerate(access.names(ds, "ablated")):
        change = resampling.mean(ds["change"].values[:, k])
        opposed = np.where(free[k], -np.sign(resampling.mean(ds["own_change"].values[:, k])) * change, 0)
        strongest = int(opposed.argmax())
        if opposed[strongest] > 0:
            found[name] = (writers[strongest], float(change[strongest]))
    return found
