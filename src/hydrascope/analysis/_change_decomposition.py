"""Changes split exactly in two: routing or same experts, pattern or value.

A routed MLP f reads a state h and asks the experts that its router chooses, r. Under a knock-out both change, and its
change is the sum of two parts:

    same experts   f(h, r0) - f(h0, r0)    the new state, sent where the clean run (h0, r0) sent the old one
    re-routed      f(h, r) - f(h, r0)      what sending it elsewhere, or weighing the answers anew, adds

A head reads from earlier tokens j with weights a_j what they have there, u_j. Its change is the sum of two parts, too:

    pattern effect   sum_j (a'_j - a_j) (u_j + u'_j) / 2    weight moves to other tokens
    value effect     sum_j (a_j + a'_j) / 2 (u'_j - u_j)    the tokens have something else there

This split treats before and after alike: each part is what one change does with the other halfway done. It says by
which way an answer came about, not why weights or values changed, nor what would be left if only one of them could.

Beside each split stands how far its cause moved: the routing change is the share of the chosen experts that the clean
run did not choose, the moved weight, 1/2 sum_j |a'_j - a_j|, the share of a head's attention that lies elsewhere.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._mechanisms import table_of
from hydrascope.analysis._statistics import (
    RESAMPLES,
    SIGNIFICANT,
    Array,
    Resampling,
    add_estimate,
    mean_interval,
    search,
)
from hydrascope.analysis._tokens import TOP_SHARE, Tokens
from hydrascope.errors import ComponentError, DetailDropped


@dataclass(frozen=True)
class _Decomposition:
    """Names of the two parts in tables and in the ledger.

    Attributes:
        rest: the part that the ledger does not keep, change minus `part`.
        part: the part that it keeps.
        variable: the ledger's variable of `part`, in logits.
        share: the variable, and column, of how far the cause moved, between 0 and 1.
    """

    rest: str
    part: str
    variable: str
    share: str

    @property
    def names(self) -> tuple[str, str, str, str]:
        """Columns of the tables that come with an interval."""
        return ("change", self.rest, self.part, self.share)

    def cells(self, ds: xr.Dataset, rows: NDArray[Any], columns: NDArray[Any]) -> dict[str, Array]:
        """Each quantity for some cells of the ledger, (prompts, cells)."""

        def of(variable: str) -> Array:
            return ds[variable].values[:, rows, columns].astype(np.float64)

        change, part = of("change"), of(self.variable)
        return dict(zip(self.names, (change, change - part, part, of(self.share)), strict=True))


_ROUTING = _Decomposition("same_experts", "rerouted", "rerouted_change", "routing_change")
_ATTENTION = _Decomposition("value_effect", "pattern_effect", "pattern_effect", "moved_weight")

BOTH_EFFECTS = "attention"
"""Name of the sum of pattern and value effect among the mechanisms of `attention_split_on_tokens`."""


def has_routing(ds: xr.Dataset) -> bool:
    """Whether the ledger splits the changes of routed MLPs."""
    return _ROUTING.variable in ds


def has_attention_split(ds: xr.Dataset) -> bool:
    """Whether the ledger splits the changes of attention."""
    return _ATTENTION.variable in ds


def routing(ds: xr.Dataset, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """How each routed MLP answers: with the same experts, or with others.

    Args:
        ds: the ledger.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per knock-out and routed MLP behind it: `ablated`, `ablated_layer`, `ablated_kind`, `writer`,
        `writer_layer`; `change` and its parts `same_experts` and `rerouted` (means over prompts, logits),
        `routing_change` (share of the chosen experts), each with `_lo` and `_hi`; `p` (false discovery rate over the
        rows) and `significant`, whether the re-routed part differs from zero.

    Raises:
        DetailDropped: the run kept only sums by kind of writer.
        ComponentError: the model has no routed MLP whose change can be split.
    """
    return _by_writer(ds, _ROUTING, _routed(ds), access.bootstrap(ds, resamples, seed))


def routing_totals(ds: xr.Dataset, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """How all routed MLPs behind a knock-out together answer it.

    Args:
        ds: the ledger.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per knock-out with routed MLPs behind it: `ablated`, `ablated_layer`, `ablated_kind`, `writers` (how
        many); `change`, `same_experts` and `rerouted` (sums over the writers, means over prompts, logits),
        `routing_change` (mean over the writers), each with `_lo` and `_hi`.

    Raises:
        DetailDropped: the run kept only sums by kind of writer.
        ComponentError: the model has no routed MLP whose change can be split.
    """
    return _totals(ds, _ROUTING, _routed(ds), access.bootstrap(ds, resamples, seed))


def attention_split(ds: xr.Dataset, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Pattern and value effect of each attention layer, or head, per knock-out.

    Args:
        ds: the ledger.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per knock-out and attention writer behind it: `ablated`, `ablated_layer`, `ablated_kind`, `writer`,
        `writer_layer`; `change` and its parts `value_effect` and `pattern_effect` (means over prompts, logits),
        `moved_weight` (mean over a layer's heads), each with `_lo` and `_hi`; `p` (false discovery rate over the rows)
        and `significant`, whether the pattern effect differs from zero.

    Raises:
        DetailDropped: the run did not split attention, or kept only sums by kind of writer.
    """
    return _by_writer(ds, _ATTENTION, _attention(ds), access.bootstrap(ds, resamples, seed))


def attention_split_totals(ds: xr.Dataset, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Pattern and value effect of all attention behind a knock-out together.

    Args:
        ds: the ledger.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per knock-out with attention behind it: `ablated`, `ablated_layer`, `ablated_kind`, `writers` (how
        many); `change`, `value_effect` and `pattern_effect` (sums over the writers, means over prompts, logits),
        `moved_weight` (mean over the writers), each with `_lo` and `_hi`.

    Raises:
        DetailDropped: the run did not split attention, or kept only sums by kind of writer.
    """
    return _totals(ds, _ATTENTION, _attention(ds), access.bootstrap(ds, resamples, seed))


def attention_split_on_tokens(
    ds: xr.Dataset, *, top_share: float = TOP_SHARE, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Pattern and value effect on ordinary text, on top tokens and on all.

    Sums by kind of writer are enough for it.

    Args:
        ds: the ledger.
        top_share: share of tokens selected for each knock-out.
        resamples: number of bootstrap resamples, of whole documents.
        seed: seed of the bootstrap.

    Returns:
        The columns of `mechanisms`, for every knock-out whose direct effect is known; mechanisms are `pattern_effect`,
        `value_effect` and their sum, `attention`.

    Raises:
        DetailDropped: the run did not split attention, or no knock-out's direct effect is known.
    """
    _require_attention_split(ds)
    return table_of(ds, _by_token, top_share=top_share, resamples=resamples, seed=seed)


def _by_writer(ds: xr.Dataset, split: _Decomposition, among: NDArray[np.bool_], resampling: Resampling) -> pd.DataFrame:
    rows, columns = np.nonzero(access.answering(ds) & among)
    table = access.knockout_columns(ds, rows)
    table["writer"] = np.array(access.names(ds, "writer"), dtype=object)[columns]
    table["writer_layer"] = ds["writer_layer"].values.astype(int)[columns]
    values = split.cells(ds, rows, columns)
    for name in split.names:
        add_estimate(table, name, mean_interval(values[name], resampling))
    table["p"] = search(values[split.part], resampling)
    table["significant"] = table["p"] < SIGNIFICANT
    return pd.DataFrame(table)


def _totals(ds: xr.Dataset, split: _Decomposition, among: NDArray[np.bool_], resampling: Resampling) -> pd.DataFrame:
    behind = access.answering(ds) & among
    rows = np.flatnonzero(behind.any(1))
    table = access.knockout_columns(ds, rows)
    table["writers"] = behind[rows].sum(1)
    summed = {name: np.zeros((ds.sizes["prompt"], len(rows))) for name in split.names}
    for i, k in enumerate(rows):
        columns = np.flatnonzero(behind[k])
        for name, values in split.cells(ds, np.full_like(columns, k), columns).items():
            summed[name][:, i] = values.mean(1) if name == split.share else values.sum(1)
    for name in split.names:
        add_estimate(table, name, mean_interval(summed[name], resampling))
    return pd.DataFrame(table)


def _by_token(tokens: Tokens) -> dict[str, Array]:
    whole = tokens.answers.get("attn", np.zeros_like(tokens.own))
    moved = access.response(tokens.ds, "attn", variable=_ATTENTION.variable)[:, tokens.known]
    return {_ATTENTION.part: moved, _ATTENTION.rest: whole - moved, BOTH_EFFECTS: whole}


def _routed(ds: xr.Dataset) -> NDArray[np.bool_]:
    """Which writers are routed MLPs with a split change."""
    access.require_writers(ds, "re-routing")
    if not has_routing(ds):
        raise ComponentError("this run's model has no MLP whose change can be split by its routing; see inspect")
    return np.isin(access.names(ds, "writer"), json.loads(ds.attrs["routed_writers"]))


def _attention(ds: xr.Dataset) -> NDArray[np.bool_]:
    """Which writers are attention with a split change."""
    _require_attention_split(ds)
    access.require_writers(ds, "who looks elsewhere")
    found: NDArray[np.bool_] = access.writer_kinds(ds) == "attn"
    return found


def _require_attention_split(ds: xr.Dataset) -> None:
    if not has_attention_split(ds):
        raise DetailDropped(
            "this run did not split what attention changes into moved weights and changed values; run it again with "
            "attention split (--split-attention)"
        )
