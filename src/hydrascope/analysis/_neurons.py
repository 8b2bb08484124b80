"""Which neurons answer a knock-out, and how few of them carry the answer.

Rushing & Nanda 2024 (arXiv 2402.15390) find that in the last MLP a few neurons suffice on each prompt, different ones
on different prompts, and that the strongest usually wrote against the answer and now does so less. A change that
opposes what the knock-out lost counts as repair, positive whichever way the knock-out moved the target:

    repair_j = -sign(mean own change) * change_j

Everything needs a ledger whose account keeps neurons apart (`--writers neurons`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._erasure import PARTS, split_change
from hydrascope.analysis._statistics import (
    RESAMPLES,
    SIGNIFICANT,
    Array,
    Resampling,
    add_estimate,
    add_single,
    divide,
    jaccard_by_chance,
    jackknife,
    mean_interval,
    ratio_interval,
    search,
    with_ends,
)
from hydrascope.errors import DetailDropped

ALL_MLPS = "all"
"""Scope of all split MLPs together."""
THRESHOLDS = (0.5, 0.1, 0.05, 0.025, 0.01)
"""Shares of the own change that a single neuron may exceed."""
SUBSTANTIAL = 0.5
"""Thresholds count on prompts from this share of the mean |own change| on."""
TOP = 0.01
"""Share of all neurons that count as the strongest."""
CLASSES = {
    "relaxed": "anti-erasure",
    "promoted": "promotion",
    "lost": "lost",
    "strengthened": "strengthened",
}
"""Largest part of a neuron's change (see `split_change`) to its class."""


@dataclass(frozen=True)
class _Answers:
    """One knock-out's answering neurons.

    Attributes:
        columns: positions of the neurons among the ledger's writers.
        direct: clean direct effects, (prompts, neurons), in logits.
        change: their changes, (prompts, neurons), in logits.
        own: own change of the knock-out, (prompts,).
        resampling: what is independent.
    """

    columns: NDArray[np.intp]
    direct: Array
    change: Array
    own: Array
    resampling: Resampling

    @property
    def repair(self) -> Array:
        """Changes, positive where they oppose the own change."""
        return self.change if self.resampling.mean(self.own) <= 0 else -self.change


def has_neurons(ds: xr.Dataset) -> bool:
    """Whether the account keeps the neurons of any MLP apart."""
    return access.has_writers(ds) and bool(_neurons(ds).any())


def neurons(
    ds: xr.Dataset, ablated: str | None = None, *, most: int | None = 50, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """The neurons that answer each knock-out, strongest first.

    Args:
        ds: the ledger.
        ablated: only this knock-out; all of them if None.
        most: neurons kept of each knock-out; None keeps all.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per knock-out and neuron, sorted by |change| within a knock-out: `ablated`, `neuron`, `layer`, `unit`;
        `direct_effect` (clean), `change`, `relaxed`, `promoted`, `lost`, `strengthened` (means over prompts in logits;
        the last four sum to the change), the first two with `_lo` and `_hi`; `p` of the change (false discovery rate
        over all neurons that can answer) and `significant`; `class`: `anti-erasure` (it wrote against
        the target and is released), `promotion` (it newly writes for it), `lost` or `strengthened`, by the largest part
        that has the sign of the change, and `none` for one that never moves; `share_in_half`, the share of prompts on
        which it is among the fewest that carry half of the repair.

    Raises:
        ComponentError: the ledger has no such knock-out.
        DetailDropped: the ledger keeps no neurons apart.
    """
    resampling = access.bootstrap(ds, resamples, seed)
    names, layers, units = access.names(ds, "writer"), ds["writer_layer"].values, access.units(ds)
    tables = []
    for _, name, found in _each(ds, resampling, ablated):
        mean = resampling.mean(found.change)
        order = np.argsort(-np.abs(mean), kind="stable")[:most]
        columns, direct, change = found.columns[order], found.direct[:, order], found.change[:, order]
        table: dict[str, Any] = {"ablated": name, "neuron": [names[c] for c in columns]}
        table |= {"layer": layers[columns].astype(int), "unit": units[columns]}
        for quantity, values in (("direct_effect", direct), ("change", change)):
            add_estimate(table, quantity, mean_interval(values, resampling))
        table["p"] = search(found.change, resampling)[order]
        table["significant"] = table["p"] < SIGNIFICANT
        split = {part: resampling.mean(values) for part, values in split_change(direct, change).items()}
        table |= split | {"class": _classes(mean[order], split)}
        table["share_in_half"] = resampling.mean(carrying(found.repair, 0.5)[:, order])
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["ablated", "neuron", "class"])


def neuron_sparsity(ds: xr.Dataset, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """How many neurons carry each repair, and whether they are the same ones.

    Args:
        ds: the ledger.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per knock-out and scope (each split MLP that can answer, and `all` where there are several): `ablated`,
        `ablated_layer`, `ablated_kind`, `scope`, `neurons` (how many can answer);

        * `repair`: sum of the repairing changes, mean over prompts in logits, with `_lo`, `_hi`;
        * `half`, `half_q1`, `half_q3`, `most`, `most_q1`, `most_q3`: fewest neurons that carry 50 % and 90 % of that
          sum on a prompt, median and quartiles over prompts; `half_of_mean`, `most_of_mean`: fewest that carry them of
          the mean change;
        * `top_share`: share of that sum in the strongest 1 % of the neurons, mean over prompts, with `_lo`, `_hi`;
        * `above_50`, `above_10`, `above_5`, `above_2.5`, `above_1`: how many neurons repair more than that many percent
          of the own change each; means over prompts whose own change is at least half of the mean, with `_lo`, `_hi`;
        * `overlap`: mean Jaccard index, over all pairs of prompts, of the sets of neurons that carry half, with `_lo`,
          `_hi`; `overlap_chance`: what random sets of these sizes would have.

        Prompts without any repairing change count only for `repair` and `above`.

    Raises:
        DetailDropped: the ledger keeps no neurons apart.
    """
    resampling = access.bootstrap(ds, resamples, seed)
    knockouts = access.knockout_columns(ds)
    layers = ds["writer_layer"].values.astype(int)
    rows = []
    for k, _, found in _each(ds, resampling):
        inside = layers[found.columns]
        scopes = {f"mlp.{layer}": inside == layer for layer in dict.fromkeys(inside)}
        scopes |= {ALL_MLPS: np.ones(len(inside), bool)} if len(scopes) > 1 else {}
        for scope, chosen in scopes.items():
            row: dict[str, Any] = {name: values[k] for name, values in knockouts.items()}
            row |= {"scope": scope, "neurons": int(chosen.sum())}
            rows.append(row | _measured(found.repair[:, chosen], found.own, resampling))
    return pd.DataFrame(rows, columns=_SPARSITY)


def neuron_curves(ds: xr.Dataset, ablated: str, *, points: int = 60) -> pd.DataFrame:
    """How the repair accumulates over neurons, strongest first on each prompt.

    Args:
        ds: the ledger.
        ablated: address of the knock-out.
        points: numbers of neurons at most, evenly spaced on a logarithmic scale.

    Returns:
        One row per number of neurons: `ablated`, `n`; `carried`, `carried_q1`, `carried_q3`: the share of the repairing
        change that the `n` strongest carry, median and quartiles over prompts; and for each threshold x, `nth_50` ...
        `nth_1`: the share of prompts on which the n-th strongest neuron repairs more than x % of the own change
        (Rushing & Nanda's curves).

    Raises:
        ComponentError: the ledger has no such knock-out.
        DetailDropped: the ledger keeps no neurons apart.
    """
    tables = []
    for _, name, found in _each(ds, access.bootstrap(ds), ablated):
        ordered = -np.sort(-np.maximum(found.repair, 0), axis=1)
        n = np.unique(np.geomspace(1, ordered.shape[1], points).round().astype(int))
        carried = divide(ordered.cumsum(1)[:, n - 1], ordered.sum(1)[:, None])
        carried = carried[~np.isnan(carried).any(1)]
        own = np.abs(found.own)
        asked = _substantial(own)
        table: dict[str, Any] = {"ablated": name, "n": n}
        table |= dict(zip(("carried_q1", "carried", "carried_q3"), _quartiles(carried), strict=True))
        for threshold in THRESHOLDS:
            exceeds = ordered[:, n - 1] > threshold * own[:, None]
            table[f"nth_{100 * threshold:g}"] = exceeds[asked].mean(0) if asked.any() else np.nan
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["ablated", "n", "carried"])


def carrying(repair: Array, share: float) -> NDArray[np.bool_]:
    """Fewest entries of each row that carry a share of its positive sum, (rows, neurons)."""
    positive = np.maximum(repair, 0)
    order = np.argsort(-positive, axis=1, kind="stable")
    chosen = np.zeros(repair.shape, bool)
    np.put_along_axis(chosen, order, np.arange(repair.shape[1]) < _fewest(repair, share)[:, None], 1)
    return chosen


def _fewest(repair: Array, share: float) -> NDArray[np.intp]:
    """How many `carrying` chooses in each row."""
    ordered = -np.sort(-np.maximum(repair, 0), axis=1)
    before = ordered.cumsum(1) - ordered
    # the rounding of a sum must not call for one neuron more
    needed = (before < share * ordered.sum(1, keepdims=True) * (1 - 1e-12)) & (ordered > 0)
    counts: NDArray[np.intp] = needed.sum(1)
    return counts


def _measured(repair: Array, own: Array, resampling: Resampling) -> dict[str, Any]:
    positive = np.maximum(repair, 0)
    summed = positive.sum(1)
    known = summed > 0
    row: dict[str, Any] = {}
    add_single(row, "repair", mean_interval(summed[:, None], resampling))
    half = carrying(repair, 0.5)
    for name, fewest in (("half", half.sum(1)), ("most", _fewest(repair, 0.9))):
        counts = fewest[known].astype(np.float64)
        row |= dict(zip((f"{name}_q1", name, f"{name}_q3"), _quartiles(counts[:, None])[:, 0], strict=True))
    mean = resampling.mean(repair)[None]
    row |= {"half_of_mean": int(_fewest(mean, 0.5)[0]), "most_of_mean": int(_fewest(mean, 0.9)[0])}
    top = max(1, round(TOP * repair.shape[1]))
    best = -np.partition(-positive, top - 1, axis=1)[:, :top].sum(1)
    share = np.where(known, divide(best, summed), 0.0)
    add_single(row, "top_share", ratio_interval(share[:, None], known[:, None].astype(float), resampling))
    asked = _substantial(np.abs(own))
    for threshold in THRESHOLDS:
        counts = (repair > threshold * np.abs(own)[:, None]).sum(1) * asked
        estimate = ratio_interval(counts[:, None].astype(float), asked[:, None].astype(float), resampling)
        add_single(row, f"above_{100 * threshold:g}", estimate)
    return row | _overlap(half, known, resampling)


def _overlap(half: NDArray[np.bool_], known: NDArray[np.bool_], resampling: Resampling) -> dict[str, Any]:
    """Mean Jaccard index over pairs of prompts, and its expectation by chance.

    A pair weighs as both its prompts do. A group is left out with all pairs that it is in.
    """
    sizes = half.sum(1)
    shared = half.astype(np.float64) @ half.T.astype(np.float64)
    pairs = known[:, None] & known[None, :] & ~np.eye(len(half), dtype=bool)
    jaccard = np.where(pairs, divide(shared, sizes[:, None] + sizes[None, :] - shared), 0.0)
    chance = np.where(pairs, jaccard_by_chance(sizes, half.shape[1]), 0.0)
    shares = [resampling.sums(resampling.sums(matrix).T) for matrix in (jaccard, pairs, chance)]
    # what is left of the sum over pairs without a group: its row and its column are gone
    lost = [(matrix.sum(0) + matrix.sum(1) - np.diag(matrix))[:, None] for matrix in shares]
    whole = [np.array([matrix.sum()]) for matrix in shares]
    row: dict[str, Any] = {}
    add_single(row, "overlap", jackknife(divide, resampling, *lost[:2], totals=whole[:2]).interval)
    return row | {"overlap_chance": float(divide(whole[2], whole[1])[0])}


def _each(ds: xr.Dataset, resampling: Resampling, ablated: str | None = None) -> Iterator[tuple[int, str, _Answers]]:
    """Every knock-out that neurons can answer, or one, with its answers; one at a time, for there may be many."""
    if not has_neurons(ds):
        raise DetailDropped(
            "which neurons answer needs their changes apart, and this run kept MLPs whole; run it again with "
            "neurons apart (--writers neurons, or neuron.11 for those of one MLP)"
        )
    chosen = range(ds.sizes["ablated"]) if ablated is None else [access.knockout_index(ds, ablated)]
    free, names = access.answering(ds) & _neurons(ds), access.names(ds, "ablated")
    for k in chosen:
        if free[k].any():
            yield k, names[k], _answers(ds, k, np.flatnonzero(free[k]), resampling)


def _answers(ds: xr.Dataset, k: int, columns: NDArray[np.intp], resampling: Resampling) -> _Answers:
    direct = ds["direct_effect"].values[:, columns].astype(np.float64)
    change = ds["change"].values[:, k, columns].astype(np.float64)
    return _Answers(columns, direct, change, ds["own_change"].values[:, k].astype(np.float64), resampling)


def _neurons(ds: xr.Dataset) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (access.units(ds) >= 0) & (access.writer_kinds(ds) == "mlp")
    return found


def _substantial(own: Array) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (own >= SUBSTANTIAL * own.mean()) & (own > 0)
    return found


def _classes(change: Array, split: dict[str, Array]) -> NDArray[Any]:
    sizes = np.stack([np.abs(split[part]) for part in PARTS])
    agrees = np.stack([change > 0, change > 0, change < 0, change < 0])
    largest = np.where(agrees, sizes, -1.0).argmax(0)
    names = np.array([CLASSES[part] for part in PARTS], dtype=object)[largest]
    found: NDArray[Any] = np.where(change == 0, "none", names)
    return found


def _quartiles(values: Array) -> Array:
    """First quartile, median and third quartile of each column; NaN without rows."""
    if not len(values):
        return np.full((3, values.shape[1]), np.nan)
    found: Array = np.quantile(values, [0.25, 0.5, 0.75], axis=0)
    return found


_SPARSITY = [
    *("ablated", "ablated_layer", "ablated_kind", "scope", "neurons"),
    *with_ends("repair"),
    *("half", "half_q1", "half_q3", "most", "most_q1", "most_q3", "half_of_mean", "most_of_mean"),
    *with_ends("top_share"),
    *with_ends(*(f"above_{100 * threshold:g}" for threshold in THRESHOLDS), "overlap"),
    "overlap_chance",
]
