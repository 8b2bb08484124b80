"""How much of what routed MLPs answer is their router's doing.

A routed MLP f reads a state h and asks the experts that its router chooses, r. Under a knock-out both change, and its
change is the sum of two parts:

    same experts   f(h, r0) - f(h0, r0)    the new state, sent where the clean run (h0, r0) sent the old one
    re-routed      f(h, r) - f(h, r0)      what sending it elsewhere, or weighing the answers anew, adds

The routing change is the share of the chosen experts that the clean run did not choose.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hydrascope.analysis import parts
from hydrascope.analysis.responders import answering
from hydrascope.analysis.statistics import DRAWS, Array, mean_interval, simultaneous_means
from hydrascope.errors import ComponentError

PARTS = ("change", "same_experts", "rerouted", "routing_change")
"""What the tables give, each with an interval."""


def has_routing(ds: xr.Dataset) -> bool:
    """Whether the ledger splits the changes of routed MLPs."""
    return "rerouted_change" in ds


def routed_writers(ds: xr.Dataset) -> NDArray[np.bool_]:
    """Which writers are routed MLPs whose changes are split.

    Raises:
        DetailDropped: the run kept only sums by kind of writer.
        ComponentError: the model has none.
    """
    parts.require_writers(ds, "re-routing")
    if not has_routing(ds):
        raise ComponentError("this run's model has no MLP whose change can be split by its routing; see inspect")
    return np.isin(parts.names(ds, "writer"), json.loads(ds.attrs["routed_writers"]))


def routing(ds: xr.Dataset, *, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """How each routed MLP answers each knock-out: with the same experts, or with others.

    Args:
        ds: the ledger.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per knock-out and routed MLP behind it: `ablated`, `ablated_layer`, `ablated_kind`, `writer`,
        `writer_layer`; `change`, `same_experts`, `rerouted` (means over prompts, logits; the last two sum to the
        first), `routing_change` (share of the chosen experts), each with `_lo` and `_hi`; `p` (max-|t|, adjusted over
        the rows) and `significant`, whether the re-routed part differs from zero.

    Raises:
        DetailDropped: the run kept only sums by kind of writer.
        ComponentError: the model has no such MLP.
    """
    resampling = parts.plan(ds, draws, seed)
    rows, columns = np.nonzero(answering(ds) & routed_writers(ds))
    table = {name: values[rows] for name, values in parts.knockout_columns(ds).items()}
    table["writer"] = np.array(parts.names(ds, "writer"), dtype=object)[columns]
    table["writer_layer"] = ds["writer_layer"].values.astype(int)[columns]
    values = _parts(ds, rows, columns)
    for name in PARTS:
        _add(table, name, mean_interval(values[name], resampling))
    joint = simultaneous_means(values["rerouted"], resampling)
    table["p"], table["significant"] = joint.p, joint.significant
    return pd.DataFrame(table)


def routing_totals(ds: xr.Dataset, *, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """The same for all routed MLPs behind a knock-out together.

    Args:
        ds: the ledger.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        One row per knock-out with routed MLPs behind it: `ablated`, `ablated_layer`, `ablated_kind`, `writers` (how
        many); `change`, `same_experts`, `rerouted` (sums over these MLPs, means over prompts, logits),
        `routing_change` (mean over these MLPs), each with `_lo` and `_hi`.

    Raises:
        DetailDropped: the run kept only sums by kind of writer.
        ComponentError: the model has no such MLP.
    """
    resampling = parts.plan(ds, draws, seed)
    behind = answering(ds) & routed_writers(ds)
    rows = np.flatnonzero(behind.any(1))
    table = {name: values[rows] for name, values in parts.knockout_columns(ds).items()}
    table["writers"] = behind[rows].sum(1)
    for name in PARTS:
        summed = np.zeros((ds.sizes["prompt"], len(rows)))
        for i, k in enumerate(rows):
            columns = np.flatnonzero(behind[k])
            values = _parts(ds, np.full_like(columns, k), columns)[name]
            summed[:, i] = values.mean(1) if name == "routing_change" else values.sum(1)
        _add(table, name, mean_interval(summed, resampling))
    return pd.DataFrame(table)


def _parts(ds: xr.Dataset, rows: NDArray[Any], columns: NDArray[Any]) -> dict[str, Array]:
    """The quantities of some cells, each of shape (prompts, cells)."""

    def cells(variable: str) -> Array:
        return ds[variable].values[:, rows, columns].astype(np.float64)

    change, rerouted = cells("change"), cells("rerouted_change")
    named = change, change - rerouted, rerouted, cells("routing_change")
    return dict(zip(PARTS, named, strict=True))


def _add(table: dict[str, Any], name: str, estimate: tuple[Array, Array, Array]) -> None:
    table[name], table[f"{name}_lo"], table[f"{name}_hi"] = estimate
