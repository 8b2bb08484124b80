"""Importance of every part as tables: by rate, ranked, and whose curves cross."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hydrascope.analysis import (
    SIGNIFICANT,
    Array,
    Findings,
    Ordered,
    Resampling,
    ablated_direct,
    add_estimate,
    false_discovery,
    kendalls_tau,
)
from hydrascope.resilience._importance import Importance, mean_importance
from hydrascope.resilience._load import losing
from hydrascope.resilience._sets import pair_sets
from hydrascope.resilience._two_ways import Sampled, by_group, resampled, two_ways
from hydrascope.resilience._values import SetValues

USUAL = 0.3
"""Failure rate nearest to which importance is ranked."""
COMPARED = 8
"""Most parts whose curves are searched for crossings."""

ORDERS = ("direct effect", "alone", "under failure", "Shapley value")
"""The orders of importance that are compared."""


def importance_table(samples: Importance, resampling: Resampling) -> pd.DataFrame:
    """Importance of every part at every failure rate of the others.

    Args:
        samples: importance by group and mask.
        resampling: groups of prompts.

    Returns:
        One row per part and rate, 0 and 1 included: `part`, `rate`, `importance` with `importance_lo` and
        `importance_hi`, in the value's unit, positive where the part's failure costs.
    """
    parts, nodes = samples.faults.parts, samples.faults.nodes
    places = [(part, node) for part in range(len(parts)) for node in range(len(nodes))]
    found = two_ways(
        [samples.at(*place) for place in places], resampling, [samples.informative(*place) for place in places]
    )
    table: dict[str, Any] = {
        "part": np.array([parts[part] for part, _ in places], object),
        "rate": np.array([nodes[node] for _, node in places]),
    }
    add_estimate(table, "importance", found.interval)
    return pd.DataFrame(table)


def ranked_node(samples: Importance) -> int:
    """Node of the curve at which importance under failure is ranked."""
    return 1 + int(np.argmin(np.abs(np.array(samples.faults.rates) - USUAL)))


def ranking(samples: Importance, values: SetValues, account: Findings, resampling: Resampling) -> pd.DataFrame:
    """Every part by what it writes, by its loss alone, and by its loss among other losses.

    Args:
        samples: importance by group and mask.
        values: values of the sets, to find each part's interactions.
        account: tables of the knock-outs of single parts.
        resampling: groups of prompts.

    Returns:
        One row per part: `part`; from the account `direct_effect`, `own_change`, `total_effect` and `covered_by`, the
        writer that answers most among those that clearly give something back (empty if none); `alone`, the loss where
        nothing else fails; `rate` and `under_failure`, the loss where the others fail at that rate; `shapley`;
        `exposure`, by how much the loss grows with the others' failure rate from 0 on, NaN where not all pairs of the
        part were measured; `rank_*` of the four orders, 1 for the most important; `rises`, places gained under failure.
        Estimates have `_lo` and `_hi`.
    """
    parts, node = samples.faults.parts, ranked_node(samples)
    cells = sampled_scores(samples, values, resampling)
    table = _account_columns(account, parts)
    alone = two_ways([samples.at(part, 0) for part in range(len(parts))], resampling)
    told = [samples.informative(part, node) for part in range(len(parts))]
    add_estimate(table, "alone", alone.interval)
    table["rate"] = np.full(len(parts), samples.faults.nodes[node])
    for name, some in cells.items():
        add_estimate(table, name, two_ways(some, resampling, told if name == "under_failure" else None).interval)
    for name, order in zip(("direct", "alone", "under", "shapley"), _orders(table), strict=True):
        table[f"rank_{name}"] = _ranks(order)
    table["rises"] = table["rank_alone"] - table["rank_under"]
    return pd.DataFrame(table)


def sampled_scores(samples: Importance, values: SetValues, resampling: Resampling) -> dict[str, list[Sampled]]:
    """What parts are worth among other losses, by group and mask.

    Args:
        samples: importance by group and mask.
        values: values of the sets, to find each part's interactions.
        resampling: groups of prompts.

    Returns:
        `under_failure`, `shapley` and `exposure`, as in `ranking`, each a cell for each part.
    """
    every, node = range(len(samples.faults.parts)), ranked_node(samples)
    return {
        "under_failure": [samples.at(part, node) for part in every],
        "shapley": [samples.shapley(part) for part in every],
        "exposure": _exposures(values, resampling),
    }


def _account_columns(account: Findings, parts: tuple[str, ...]) -> dict[str, Any]:
    rows = account.repair.set_index("ablated").reindex(list(parts))
    found: dict[str, Any] = {"part": np.array(parts, object)}
    for name in ("direct_effect", "own_change", "total_effect"):
        for column in (name, f"{name}_lo", f"{name}_hi"):
            found[column] = rows[column].to_numpy(float) if column in rows else np.full(len(parts), np.nan)
    found["covered_by"] = np.array([covering(account, part) for part in parts], object)
    return found


def covering(account: Findings, part: str) -> str:
    """The writer that clearly gives most back when a part is out.

    Empty where none does, where the account does not keep writers, and where the part clearly loses nothing of its own.
    """
    if part not in losing(account):
        return ""
    answers = account.who_repairs
    mine = answers[(answers["ablated"] == part) & answers["significant"]]
    given_back = mine[mine["change"] > 0]
    return "" if given_back.empty else str(given_back["writer"].iloc[int(given_back["change"].argmax())])


def _exposures(values: SetValues, resampling: Resampling) -> list[Sampled]:
    """By group, minus the sum of each part's interactions with all others; NaN unless all were measured."""
    count = len(values.parts)
    groups = len(resampling.sizes)
    clean = values.clean[:, None]
    alone = by_group(values.of(np.eye(count, dtype=bool)) - clean, resampling)
    found = []
    for part in range(count):
        sets = pair_sets([(part, other) for other in range(count) if other != part], count)
        if not all(values.has(one) for one in sets):
            found.append(np.full((groups, 1), np.nan))
            continue
        joint = by_group(values.of(sets) - clean, resampling)
        others = np.delete(alone, part, axis=1)
        found.append(-(joint - others - alone[:, [part]]).sum(1, keepdims=True))
    return found


def _orders(table: dict[str, Any]) -> tuple[Array, ...]:
    return tuple(table[name] for name in ("direct_effect", "alone", "under_failure", "shapley"))


def _ranks(order: Array) -> Array:
    """1 for the largest; NaN where there is no value."""
    found: Array = stats.rankdata(-order, nan_policy="omit")
    return found


def agreement(samples: Importance, account: Findings, resampling: Resampling, seed: int = 0) -> pd.DataFrame:
    """How far four orders of importance agree: Kendall's tau between each two.

    Args:
        samples: importance by group and mask.
        account: tables of the knock-outs of single parts, for the direct effects.
        resampling: groups of prompts.
        seed: of the bootstrap over groups and masks.

    Returns:
        One row per two orders of `ORDERS`: `order`, `other`, `tau` with `tau_lo` and `tau_hi`.
    """
    parts, node = samples.faults.parts, ranked_node(samples)
    every = range(len(parts))
    known = list(account.ds["ablated"].values)
    columns = [known.index(part) for part in parts]
    direct = ablated_direct(account.ds)[:, columns]
    cells = {
        "direct effect": [one[:, None] for one in by_group(direct, resampling).T],
        "alone": [samples.at(part, 0) for part in every],
        "under failure": [samples.at(part, node) for part in every],
        "Shapley value": [samples.shapley(part) for part in every],
    }
    orders = {
        name: Ordered(np.array([one.mean() for one in some]), resampled(some, resampling, seed))
        for name, some in cells.items()
    }
    rows = []
    for order, other in combinations(ORDERS, 2):
        row: dict[str, Any] = {"order": order, "other": other}
        add_estimate(row, "tau", kendalls_tau(orders[order], orders[other], resampling.units))
        rows.append(row)
    return pd.DataFrame(rows)


def crossings(samples: Importance, resampling: Resampling) -> pd.DataFrame:
    """Parts that clearly matter less than another one alone, and clearly more among failures.

    The most important parts are compared two by two at every rate; of the differences called clear, one in twenty is
    expected to be zero in truth (false discovery rate).

    Args:
        samples: importance by group and mask.
        resampling: groups of prompts.

    Returns:
        One row per crossing: `part`, more important alone; `overtaken_by`; `rate`, the first at which that is clear;
        `before` and `after`, the other's importance minus the part's alone and at that rate, with `_lo` and `_hi`.
    """
    parts, nodes = samples.faults.parts, range(len(samples.faults.nodes))
    leading = np.sort(np.argsort(-mean_importance(samples).max(1), kind="stable")[:COMPARED])
    pairs = list(combinations(leading.tolist(), 2))
    cells = [samples.at(b, node) - samples.at(a, node) for a, b in pairs for node in nodes]
    informative = [min(samples.informative(a, node), samples.informative(b, node)) for a, b in pairs for node in nodes]
    found = two_ways(cells, resampling, informative)
    value, lo, hi = (one.reshape(len(pairs), -1) for one in found.interval)
    clear = _clear(found.p).reshape(len(pairs), -1) * np.sign(value)
    rows = []
    for row, (a, b) in enumerate(pairs):
        start = clear[row, 0]
        later = np.flatnonzero(clear[row] == -start)
        if start == 0 or not len(later):
            continue
        turn, sign = later[0], -start  # so that the difference is of the overtaking part minus the other
        first, second = (a, b) if start < 0 else (b, a)
        table: dict[str, Any] = {
            "part": parts[first],
            "overtaken_by": parts[second],
            "rate": samples.faults.nodes[turn],
        }
        for name, at in (("before", 0), ("after", turn)):
            ends = sorted((sign * lo[row, at], sign * hi[row, at]))
            add_estimate(table, name, (sign * value[row, at], *ends))
        rows.append(table)
    columns = ["part", "overtaken_by", "rate", *(f"{n}{e}" for n in ("before", "after") for e in ("", "_lo", "_hi"))]
    return pd.DataFrame(rows, columns=columns)


def _clear(p: Array) -> Array:
    """1 where a difference is found, otherwise 0."""
    return (false_discovery(p) < SIGNIFICANT).astype(np.float64)
