"""The compensation matrix, knock-outs by writers, and how concentrated each response is.

A change shows who responded, not who was needed: whether the answer matters is for a joint knock-out to say.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._statistics import (
    RESAMPLES,
    SIGNIFICANT,
    Array,
    add_mean,
    divide,
    search,
)

STRONG_QUARTILE = 0.75
"""Prompts with a strong direct effect: the top quarter for the knock-out in question."""


def who_repairs(ds: xr.Dataset, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Mean change of every writer under every knock-out, corrected for the number of cells.

    Of the answering cells called significant, one in twenty is expected to be zero in truth (false discovery rate).

    Args:
        ds: the ledger.
        resamples: number of bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        One row per knock-out and writer that was knocked out or lies downstream: `ablated`, `ablated_layer`,
        `ablated_kind`, `writer`, `writer_layer`, `writer_kind`, `is_own`; `change` (mean over prompts, logits),
        `change_lo`, `change_hi`; `change_plain`, if groups differ in size; `p` (adjusted), `significant`. Own cells are
        what was taken, not an answer: their `p` is NaN.
    """
    access.require_writers(ds, "who repairs")
    resampling = access.bootstrap(ds, resamples, seed)
    free = access.answering(ds)
    own = ds["is_own"].values.astype(bool)
    rows, columns = np.nonzero(free | own)
    change = ds["change"].values[:, rows, columns].astype(np.float64)
    table = access.knockout_columns(ds, rows) | access.writer_columns(ds, columns)
    table["is_own"] = own[rows, columns]
    add_mean(table, "change", change, resampling)
    tested = free[rows, columns]
    table["p"] = np.full(len(rows), np.nan)
    table["p"][tested] = search(change[:, tested], resampling)
    table["significant"] = table["p"] < SIGNIFICANT
    return pd.DataFrame(table)


def concentration(ds: xr.Dataset) -> pd.DataFrame:
    """How much of the answer the largest one and two responders make up.

    `top1_share` and `top2_share` are shares of the sum of |mean change| over prompts; what would be expected of equal
    responders is 1 / `responders` and 2 / `responders`. The medians take each prompt's own largest responders, over
    prompts in the top quarter of direct effect (of own change for units inside a writer, whose direct effect the ledger
    does not know); noise and selection make them larger than the share of a mean.

    Args:
        ds: the ledger.

    Returns:
        One row per knock-out and scope (`attn`: attention writers, `all`: every writer) that has at least one answering
        writer: `ablated`, `ablated_layer`, `ablated_kind`, `scope`, `responders` (how many), `top1`, `top2` (addresses;
        empty when there is no second), `top1_share`, `top2_share` (NaN when nothing answers), `n_strong` (prompts),
        `top1_share_median`, `top2_share_median`.
    """
    access.require_writers(ds, "the concentration of the answer")
    resampling, change = access.bootstrap(ds), ds["change"].values
    direct, own = access.ablated_direct(ds), access.numbers(ds, "own_change")
    strength = np.where(np.isnan(direct), np.abs(own), direct)
    strong = strength >= np.quantile(strength, STRONG_QUARTILE, axis=0)
    free, kind = access.answering(ds), access.writer_kinds(ds)
    writers = access.names(ds, "writer")
    knockouts = access.knockout_columns(ds)
    rows = []
    for k in range(ds.sizes["ablated"]):
        for scope, columns in (("attn", free[k] & (kind == "attn")), ("all", free[k])):
            found = np.flatnonzero(columns)
            if not len(found):
                continue
            answers = change[:, k, found].astype(np.float64)
            mean = np.abs(resampling.mean(answers))
            order = np.argsort(-mean, kind="stable")
            top1, top2 = _top_shares(mean[None])
            each1, each2 = _top_shares(np.abs(answers[strong[:, k]]))
            rows.append(
                {name: values[k] for name, values in knockouts.items()}
                | {
                    "scope": scope,
                    "responders": len(found),
                    "top1": writers[found[order[0]]],
                    "top2": writers[found[order[1]]] if len(found) > 1 else "",
                    "top1_share": top1[0],
                    "top2_share": top2[0],
                    "n_strong": int(strong[:, k].sum()),
                    "top1_share_median": _median(each1),
                    "top2_share_median": _median(each2),
                }
            )
    return pd.DataFrame(rows, columns=_CONCENTRATION)


_CONCENTRATION = [
    *("ablated", "ablated_layer", "ablated_kind", "scope", "responders", "top1", "top2", "top1_share"),
    *("top2_share", "n_strong", "top1_share_median", "top2_share_median"),
]


def _top_shares(size: Array) -> tuple[Array, Array]:
    """Share of the largest and of the two largest entries of each row; NaN for rows of zeros."""
    ordered = -np.sort(-size, axis=1)
    whole = ordered.sum(1)
    return divide(ordered[:, 0], whole), divide(ordered[:, :2].sum(1), whole)


def _median(shares: Array) -> float:
    known = shares[~np.isnan(shares)]
    return float(np.median(known)) if len(known) else float("nan")
