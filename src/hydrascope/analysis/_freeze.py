"""Who is needed: how much repair vanishes while a responder is frozen.

A change K[k, j] shows who responded to a knock-out of k, not whose response mattered. With j frozen at its clean output
while k is out, its answer is gone, and so is all that others did because of it; but others may step in. With R(k) the
repair of k and R(k/j) the repair with j frozen, both summed over prompts,

    removed = [R(k) - R(k/j)] / R(k)

Joint knock-outs are a second test. I[k, j] = TE(k, j) - TE(k) - TE(j), with the norm left out of all three, is
-K[k, j] exactly where j acts on the logits alone; what is left of the sum of both is j's indirect part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._outcomes import strongest
from hydrascope.analysis._statistics import (
    RESAMPLES,
    Array,
    add_single,
    mean_interval,
    ratio_interval,
    with_ends,
)
from hydrascope.components import FREEZES
from hydrascope.errors import ComponentError

MEASURES = ("attention", "compensation", "with_norm")
"""Measures of repair: answers of later attention, of all later writers, and these with the final norm."""

FREEZE_MOST = 5
"""Most knock-outs whose responders are frozen."""
FREEZE_CONTROLS = 2
"""Other writers frozen for comparison."""

_FREEZE = [
    *("ablated", "frozen", "kind", "role", "measure", "meaningful"),
    *with_ends("repair", "repair_frozen", "removed", "answer", "removed_minus_control"),
]


def freeze(
    ds: xr.Dataset, frozen: xr.Dataset | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """How much of each repair vanishes while others are frozen.

    Args:
        ds: the ledger, with the knock-outs in which nothing is frozen.
        frozen: a ledger with frozen parts, of the same prompts, donors and seed; knock-outs of `ds` itself that freeze
            something are read as well.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per knock-out, set of frozen parts and measure of repair:

        * `ablated`; `frozen`, the addresses with slashes between them;
        * `kind` of the frozen parts, empty where they are of several; `role`: `responder` (of the layers of this kind
          behind it the one that answered most), `two` (those two that did), `all` (every one behind it), `control` (a
          single other one), `controls` (the mean of these), `other`;
        * `measure`: `attention`, `compensation` (of all later writers), `with_norm` (these and the final norm);
          `meaningful`, whether the interval of the repair leaves zero out;
        * `repair` and `repair_frozen` (means, logits), `removed` (ratio of sums), `answer`, what the frozen parts
          changed by when they were free (NaN where they are no writers of the account), and `removed_minus_control`,
          against the mean of the controls (NaN for these, and without them); each with `_lo` and `_hi`.

    Raises:
        ComponentError: the two ledgers are of different prompts.
    """
    resampling = access.bootstrap(ds, resamples, seed)
    rows = []
    for ablated, some in _by_knockout(ds, frozen).items():
        alone = ds.isel(ablated=[access.knockout_index(ds, ablated)])
        roles = {names: _role(ds, ablated, names) for names in some}
        free = _repairs(alone)
        for measure, repair in free.items():
            removed = {names: repair - _repairs(one)[measure] for names, one in some.items()}
            for kind in dict.fromkeys(_kind(names) for names in some):
                mine = {names: role for names, role in roles.items() if _kind(names) == kind}
                entries = [
                    (FREEZES.join(names), role, removed[names], _answer(alone, names)) for names, role in mine.items()
                ]
                controls = [entry for entry in entries if entry[1] == "control"]
                usual = nothing = np.full_like(repair, np.nan)
                if controls:
                    usual = np.mean([entry[2] for entry in controls], axis=0)
                    answer = np.mean([entry[3] for entry in controls], axis=0)
                    entries.append((" or ".join(entry[0] for entry in controls), "controls", usual, answer))
                for names, role, gone, answer in entries:
                    row: dict[str, Any] = {"ablated": ablated, "frozen": names, "kind": kind, "role": role}
                    row["measure"] = measure
                    add_single(row, "repair", mean_interval(repair, resampling))
                    add_single(row, "repair_frozen", mean_interval(repair - gone, resampling))
                    add_single(row, "removed", ratio_interval(gone, repair, resampling))
                    add_single(row, "answer", mean_interval(answer, resampling))
                    beyond = nothing if role in ("control", "controls") else gone - usual
                    add_single(row, "removed_minus_control", ratio_interval(beyond, repair, resampling))
                    row["meaningful"] = bool(row["repair_lo"] > 0 or row["repair_hi"] < 0)
                    rows.append(row)
    return pd.DataFrame(rows, columns=_FREEZE)


def interactions(
    ds: xr.Dataset, frozen: xr.Dataset | None = None, *, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Joint knock-outs of two against the answer of the later one, norm left out.

    Args:
        ds: the ledger, with both knocked out one at a time.
        frozen: a ledger of the same prompts with further joint knock-outs.
        resamples: number of bootstrap resamples.
        seed: seed of the bootstrap.

    Returns:
        One row per pair: `ablated`, `responder`, `interaction` I[k, j], `answer` K[k, j] and `excess`, the sum of
        both, which is zero where the responder acts on the logits alone; each with `_lo` and `_hi` (logits).
    """
    resampling, known, rows = access.bootstrap(ds, resamples, seed), access.names(ds, "ablated"), []
    for source in _sources(ds, frozen):
        for index, name in enumerate(access.names(source, "ablated")):
            pair = name.split("+")
            if len(pair) != 2 or FREEZES in name or not set(pair) <= set(known):
                continue
            first, second = (ds.isel(ablated=[known.index(part)]) for part in pair)
            joint = source.isel(ablated=[index])
            interaction = _without_norm(joint) - _without_norm(first) - _without_norm(second)
            answer = _answer(first, (pair[1],))
            row: dict[str, Any] = {"ablated": pair[0], "responder": pair[1]}
            add_single(row, "interaction", mean_interval(interaction, resampling))
            add_single(row, "answer", mean_interval(answer, resampling))
            add_single(row, "excess", mean_interval(interaction + answer, resampling))
            rows.append(row)
    return pd.DataFrame(rows, columns=["ablated", "responder", *with_ends("interaction", "answer", "excess")])


def choose_freezes(ds: xr.Dataset, table: pd.DataFrame, seed: int = 0) -> tuple[str, ...]:
    """What to knock out and freeze to learn who is needed.

    The loss that is repaired most clearly, then those that attention answers with attention, then the other repaired
    ones, `FREEZE_MOST` at most: each with its strongest responder frozen, the strongest two, all later layers of that
    kind, and a few others drawn at random; and each jointly with its strongest responder. The kind is attention where
    attention answers attention, otherwise the one that gives back most.

    Args:
        ds: the ledger.
        table: what `repair` returns for it.
        seed: of the random others.

    Returns:
        Addresses of knock-outs; none where nothing is clearly repaired.
    """
    found: dict[str, None] = {}
    for row in _worth_freezing(table):
        ablated = str(table.loc[row, "ablated"])
        kind = "attn" if table.loc[row, "hydra"] else _most(ds, ablated)
        ranked = _ranked(ds, ablated, kind)
        others = ranked[2:] or ranked[1:]
        drawn = np.random.default_rng((seed, int(row))).permutation(len(others))[:FREEZE_CONTROLS]
        controls = [others[i] for i in sorted(drawn)]
        found |= dict.fromkeys(freezes_of(ablated, ranked, controls))
    return tuple(found)


def _worth_freezing(table: pd.DataFrame) -> list[Any]:
    """Rows whose repair is to be confirmed, the clearest first; only of single parts."""
    single = table[~table["ablated"].str.contains("[+/]|->")]
    hydra = single[single["hydra"]].sort_values("compensation_attn", ascending=False)
    repaired = single[single["outcome"] == "repaired"].sort_values("self_repair_lo", ascending=False)
    first = [strongest(single)] if len(hydra) + len(repaired) else []
    return list(dict.fromkeys([*first, *hydra.index, *repaired.index]))[:FREEZE_MOST]


def freezes_of(ablated: str, ranked: Sequence[str], controls: Sequence[str]) -> list[str]:
    """Knock-outs that tell who is needed when one part is out.

    Args:
        ablated: address of the part.
        ranked: addresses of the responders, strongest first.
        controls: addresses of others, frozen one at a time.

    Returns:
        Addresses, possibly repeated: with the strongest frozen, the strongest two, all of them, and each control; and
        the part jointly with the strongest.
    """
    sets = [(ranked[0],), tuple(ranked[:2]), tuple(ranked), *((control,) for control in controls)]
    return [*(FREEZES.join([ablated, *sorted(names, key=_layer)]) for names in sets), f"{ablated}+{ranked[0]}"]


def _sources(ds: xr.Dataset, frozen: xr.Dataset | None) -> list[xr.Dataset]:
    if frozen is None:
        return [ds]
    if not np.array_equal(ds["prompt"].values, frozen["prompt"].values):
        raise ComponentError("these two ledgers are of different prompts; freeze parts in a run on the same ones")
    return [ds, frozen]


def _by_knockout(ds: xr.Dataset, frozen: xr.Dataset | None) -> dict[str, dict[tuple[str, ...], xr.Dataset]]:
    """Knock-outs with frozen parts: what is out, to what is frozen, to the ledger."""
    found: dict[str, dict[tuple[str, ...], xr.Dataset]] = {}
    known = access.names(ds, "ablated")
    for source in _sources(ds, frozen):
        for index, name in enumerate(access.names(source, "ablated")):
            ablated, *names = name.split(FREEZES)
            if names and ablated in known:
                found.setdefault(ablated, {})[tuple(names)] = source.isel(ablated=[index])
    return dict(sorted(found.items(), key=lambda item: known.index(item[0])))


def _repairs(one: xr.Dataset) -> dict[str, Array]:
    """Each measure of repair of a single knock-out, (prompt, 1)."""
    return {
        "attention": access.response(one, "attn"),
        "compensation": access.response(one),
        "with_norm": access.numbers(one, "total_effect") - access.numbers(one, "own_change"),
    }


def _without_norm(one: xr.Dataset) -> Array:
    return access.numbers(one, "total_effect") - access.numbers(one, "norm_effect")


def _answer(one: xr.Dataset, names: tuple[str, ...]) -> Array:
    """Summed change of some writers, (prompt, 1); NaN unless the account has all."""
    writers = access.names(one, "writer")
    if not set(names) <= set(writers):
        return np.full((one.sizes["prompt"], 1), np.nan)
    columns = [writers.index(name) for name in names]
    summed: Array = access.numbers(one, "change")[:, :, columns].sum(2)
    return summed


def _most(ds: xr.Dataset, ablated: str) -> str:
    """Kind of the later writers that together give back most."""
    one = ds.isel(ablated=[access.knockout_index(ds, ablated)])
    free = access.answering(one)[0]
    kinds = [kind for kind in access.kinds(ds) if (free & (access.writer_kinds(ds) == kind)).any()]
    return max(kinds, key=lambda kind: float(access.bootstrap(ds).mean(access.response(one, kind))[0]))


def _ranked(ds: xr.Dataset, ablated: str, kind: str) -> list[str]:
    """Writers of a kind behind a knock-out, strongest answer first, in the direction of the answer of all of them."""
    k = access.knockout_index(ds, ablated)
    columns = np.flatnonzero(access.answering(ds)[k] & (access.writer_kinds(ds) == kind))
    mean = access.bootstrap(ds).mean(ds["change"].values[:, k, columns])
    order = np.argsort(-mean * (-1 if mean.sum() < 0 else 1), kind="stable")
    writers = access.names(ds, "writer")
    return [writers[column] for column in columns[order]]


def _kind(names: tuple[str, ...]) -> str:
    """Kind of some frozen parts; empty where they are of several."""
    kinds = {name.split(".")[0] for name in names}
    return kinds.pop() if len(kinds) == 1 else ""


def _role(ds: xr.Dataset, ablated: str, names: tuple[str, ...]) -> str:
    ranked = _ranked(ds, ablated, _kind(names))
    if not set(names) <= set(ranked):
        return "other"
    if len(names) == 1:
        return "responder" if names[0] == ranked[0] else "control"
    if set(names) == set(ranked):
        return "all"
    return "two" if set(names) == set(ranked[:2]) else "other"


def _layer(name: str) -> tuple[int, ...]:
    return tuple(int(number) for number in name.split(".")[1:])
