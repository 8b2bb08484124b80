"""What of the primaries' repair goes when a candidate, or a few of them together, cannot answer.

With R the repair of the primaries' loss, total effect minus own change, and R(/j) with j frozen at its clean output,

    removed = [R - R(/j)] / R
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from hydrascope.analysis import SIGNIFICANT, Resampling, add_estimate, false_discovery, mean_estimate, ratio_interval
from hydrascope.components import FREEZES
from hydrascope.significance._conditional import by_set

RANDOM = 5
"""Random sets that are frozen as a control."""

Sets = Mapping[tuple[str, ...], str]
"""Frozen parts to the name of who chose them."""


def freezing(
    free: Sequence[xr.Dataset], frozen: xr.Dataset, primaries: Sequence[str], sets: Sets, resampling: Resampling
) -> pd.DataFrame:
    """How much of the primaries' repair vanishes while others are frozen.

    Args:
        free: ledgers in which nothing is frozen.
        frozen: ledger of the primaries' knock-out with frozen parts.
        primaries: addresses of the parts that are out.
        sets: frozen parts that were chosen together, to the name of who chose them.
        resampling: groups of prompts.

    Returns:
        One row per set of frozen parts: `frozen`, addresses with commas between; `chosen_by`, `alone` for a single
        candidate; `repair` and `gone`, in logits, and `removed`, the second over the first, each with `_lo` and `_hi`;
        `p` of "nothing is gone", adjusted by the false discovery rate over the single candidates, and `needed`, whether
        less clearly comes back without it.
    """
    repair, kept = repair_of(free, primaries), _repairs(frozen)
    members = [parts for parts in kept if parts in sets or len(parts) == 1]
    gone = repair[:, None] - np.stack([kept[parts] for parts in members], 1)
    whole = np.repeat(repair[:, None], len(members), 1)
    table: dict[str, Any] = {"frozen": np.array([",".join(parts) for parts in members], object)}
    single = np.array([len(parts) == 1 and parts not in sets for parts in members])
    table["chosen_by"] = np.array([sets.get(parts, "alone") for parts in members], object)
    add_estimate(table, "repair", mean_estimate(whole, resampling).interval)
    lost = mean_estimate(gone, resampling)
    add_estimate(table, "gone", lost.interval)
    add_estimate(table, "removed", ratio_interval(gone, whole, resampling))
    p = np.full(len(members), np.nan)
    p[single] = false_discovery(lost.p[single])
    table["p"] = p
    table["needed"] = (p < SIGNIFICANT) & (table["gone"] * table["repair"] > 0)
    return pd.DataFrame(table)


def repair_of(ledgers: Sequence[xr.Dataset], primaries: Sequence[str]) -> Float[np.ndarray, " prompts"]:
    """What comes back when the primaries are out: total effect minus own change."""
    total, own = (by_set(ledgers, name)[frozenset(primaries)] for name in ("total_effect", "own_change"))
    found: Float[np.ndarray, " prompts"] = total - own
    return found


def _repairs(frozen: xr.Dataset) -> Mapping[tuple[str, ...], Float[np.ndarray, " prompts"]]:
    repair = np.asarray(frozen["total_effect"].values - frozen["own_change"].values, np.float64)
    names = [str(name).split(FREEZES)[1:] for name in frozen["ablated"].values]
    return {tuple(parts): repair[:, column] for column, parts in enumerate(names)}


def chosen_sets(
    orders: Mapping[str, Float[np.ndarray, " parts"]], parts: Sequence[str], later: Sequence[str], top: int, seed: int
) -> dict[tuple[str, ...], str]:
    """Sets of candidates that are frozen together: the first of each order, and random ones of their size.

    Args:
        orders: name to what the candidates are ordered by, the largest first; orders that are not known are left out.
        parts: addresses of the candidates, in the order of the forward pass.
        later: those that read the primaries and so can be frozen.
        top: parts in a set.
        seed: of the random sets, which have the kinds of parts that the first order chose.

    Returns:
        Frozen parts, in the order of the forward pass, to the name of the first order that chose them, or `random`;
        none with too few candidates for other sets.
    """
    places = [i for i, part in enumerate(parts) if part in set(later)]
    if len(places) <= top or top < 2:
        return {}
    found: dict[tuple[str, ...], str] = {}
    for name, order in orders.items():
        if np.isfinite(order[places]).all():
            first = sorted(np.array(places)[np.argsort(-order[places], kind="stable")[:top]].tolist())
            found.setdefault(tuple(parts[i] for i in first), name)
    kinds = [part.split(".")[0] for part in next(iter(found), ())]
    rng = np.random.default_rng((seed, top))
    for _ in range(RANDOM):
        drawn: list[int] = []
        for kind in kinds:
            same = [i for i in places if parts[i].split(".")[0] == kind and i not in drawn]
            drawn.append(int(rng.choice(same)))
        found.setdefault(tuple(parts[i] for i in sorted(drawn)), "random")
    return found
