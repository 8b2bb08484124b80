"""Changes of writers that come about in two ways, which sum to them: one is in the ledger, the other is the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hydrascope.analysis import parts
from hydrascope.analysis.responders import answering
from hydrascope.analysis.statistics import Array, Resampling, mean_interval, simultaneous_means


@dataclass(frozen=True)
class TwoWays:
    """What the two ways are called in tables, and where the ledger keeps them.

    Attributes:
        rest: the way that is not kept: the change without the other.
        part: the way that is kept.
        variable: the ledger's variable with it, in logits.
        share: how far its cause moved, between 0 and 1.
        share_variable: the ledger's variable with that.
    """

    rest: str
    part: str
    variable: str
    share: str
    share_variable: str

    @property
    def names(self) -> tuple[str, str, str, str]:
        """What the tables give, each with an interval."""
        return ("change", self.rest, self.part, self.share)

    def cells(self, ds: xr.Dataset, rows: NDArray[Any], columns: NDArray[Any]) -> dict[str, Array]:
        """The quantities of some cells of the ledger, each of shape (prompts, cells)."""

        def of(variable: str) -> Array:
            return ds[variable].values[:, rows, columns].astype(np.float64)

        change, part = of("change"), of(self.variable)
        return dict(zip(self.names, (change, change - part, part, of(self.share_variable)), strict=True))


def by_writer(ds: xr.Dataset, ways: TwoWays, split: NDArray[np.bool_], resampling: Resampling) -> pd.DataFrame:
    """How each writer whose changes are split answers each knock-out before it.

    Args:
        ds: the ledger.
        ways: which split.
        split: the writers.
        resampling: the bootstrap.

    Returns:
        One row per knock-out and such a writer behind it: `ablated`, `ablated_layer`, `ablated_kind`, `writer`,
        `writer_layer`; `change` and both ways (means over prompts, logits; the ways sum to the change), the share, each
        with `_lo` and `_hi`; `p` (max-|t|, adjusted over the rows) and `significant`, whether the part differs from
        zero.
    """
    rows, columns = np.nonzero(answering(ds) & split)
    table = {name: values[rows] for name, values in parts.knockout_columns(ds).items()}
    table["writer"] = np.array(parts.names(ds, "writer"), dtype=object)[columns]
    table["writer_layer"] = ds["writer_layer"].values.astype(int)[columns]
    values = ways.cells(ds, rows, columns)
    for name in ways.names:
        _add(table, name, mean_interval(values[name], resampling))
    joint = simultaneous_means(values[ways.part], resampling)
    table["p"], table["significant"] = joint.p, joint.significant
    return pd.DataFrame(table)


def totals(ds: xr.Dataset, ways: TwoWays, split: NDArray[np.bool_], resampling: Resampling) -> pd.DataFrame:
    """The same for all such writers behind a knock-out together.

    Args:
        ds: the ledger.
        ways: which split.
        split: the writers.
        resampling: the bootstrap.

    Returns:
        One row per knock-out with such writers behind it: `ablated`, `ablated_layer`, `ablated_kind`, `writers` (how
        many); `change` and both ways (sums over the writers, means over prompts, logits), the share (mean over the
        writers), each with `_lo` and `_hi`.
    """
    behind = answering(ds) & split
    rows = np.flatnonzero(behind.any(1))
    table = {name: values[rows] for name, values in parts.knockout_columns(ds).items()}
    table["writers"] = behind[rows].sum(1)
    summed = {name: np.zeros((ds.sizes["prompt"], len(rows))) for name in ways.names}
    for i, k in enumerate(rows):
        columns = np.flatnonzero(behind[k])
        for name, values in ways.cells(ds, np.full_like(columns, k), columns).items():
            summed[name][:, i] = values.mean(1) if name == ways.share else values.sum(1)
    for name in ways.names:
        _add(table, name, mean_interval(summed[name], resampling))
    return pd.DataFrame(table)


def _add(table: dict[str, Any], name: str, estimate: tuple[Array, Array, Array]) -> None:
    table[name], table[f"{name}_lo"], table[f"{name}_hi"] = estimate
