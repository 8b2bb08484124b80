"""Mechanisms of self-repair on text: less suppression, new promotion, the norm.

Changes of later writers are divided by what the writers do in the clean run, in one of two ways that both sum to the
compensation. On every token a writer whose clean direct effect is d and changes by c counts

    by sign   all of c as `suppression` if d < 0, and as `promotion` if not;
    at zero   what of c lies between d and d + c below zero as `suppression`, and what lies above as `promotion`
              (McDougall et al. 2023, arXiv 2310.04625; the sums of `released`).

They differ only for writers that pass zero. Ledgers that keep sums by kind know the first alone; ledgers that keep
every writer know both. Both are net: suppression above zero is released, below zero it grows; promotion below zero is
lost support. The norm's part is measured by the two scales of the final norm, not left over from the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._erasure import split_change
from hydrascope.analysis._self_repair import relative
from hydrascope.analysis._statistics import RESAMPLES, Array, add_estimate, divide
from hydrascope.analysis._tokens import SELECTIONS, TOP_SHARE, Tokens

Split = Literal["sign", "zero"]
WHOLE = "self_repair"
"""Name of the sum of all mechanisms."""


def mechanisms(
    ds: xr.Dataset,
    *,
    split: Split = "sign",
    top_share: float = TOP_SHARE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Self-repair by mechanism, of every knock-out whose direct effect is known.

    Args:
        ds: the ledger.
        split: how suppression and promotion are told apart; `zero` needs a ledger of every writer.
        top_share: share of tokens selected for each knock-out.
        resamples: number of bootstrap resamples, of whole documents.
        seed: seed of the bootstrap.

    Returns:
        One row per knock-out, selection and mechanism: `ablated`, `ablated_layer`, `ablated_kind`, `selection`,
        `removed`, `own_change` (mean, logits), `mechanism`: `attn_suppression`, `attn_promotion`, these two for
        `mlp` and `mixer`, `norm`, and their sum `self_repair`;
        `mean` in logits; `share` of the own change, an unclipped ratio of sums; both with `_lo` and `_hi`;
        `share_median` and `share_mean`, of single tokens' shares where the own change is not small.

    Raises:
        DetailDropped: no knock-out's direct effect is known, or `zero` was asked of sums by kind.
    """
    return table_of(ds, lambda tokens: by_token(tokens, split), top_share=top_share, resamples=resamples, seed=seed)


def table_of(
    ds: xr.Dataset, found_by: Callable[[Tokens], dict[str, Array]], *, top_share: float, resamples: int, seed: int
) -> pd.DataFrame:
    """The table of `mechanisms` for any way to divide compensation.

    `found_by` takes the knock-outs and returns what each mechanism gives back, (tokens, parts) each.
    """
    resampling, tokens = access.bootstrap(ds, resamples, seed), Tokens.of(ds)
    found = found_by(tokens)
    tables = []
    for selection in SELECTIONS:
        chosen = tokens.chosen(selection, top_share, resampling)
        own = chosen.mean(tokens.own)[0]
        for mechanism, values in found.items():
            table: dict[str, Any] = {**tokens.columns(), "selection": selection, "removed": tokens.removed(top_share)}
            table |= {"own_change": own, "mechanism": mechanism}
            add_estimate(table, "mean", chosen.mean(values))
            add_estimate(table, "share", chosen.share(values))
            table |= {"share_median": chosen.median_share(values), "share_mean": chosen.mean_share(values)}
            tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True).sort_values("ablated_layer", kind="stable", ignore_index=True)


def pooled_mechanisms(
    ds: xr.Dataset,
    *,
    split: Split = "sign",
    top_share: float = TOP_SHARE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Self-repair by mechanism, of all removed parts in the second half of the layers.

    Args:
        ds: the ledger.
        split: how suppression and promotion are told apart.
        top_share: share of tokens selected for each knock-out.
        resamples: number of bootstrap resamples, of whole documents.
        seed: seed of the bootstrap.

    Returns:
        One row per selection and mechanism: `selection`, `mechanism`, `parts` (how many); `own_change` (mean over parts
        and tokens, in logits) and `mean`, `share`, all three with `_lo` and `_hi`; `meaningful`: own changes do not
        cancel, so that shares may be read. No rows where no such part was removed.

    Raises:
        DetailDropped: no knock-out's direct effect is known, or `zero` was asked of sums by kind.
    """
    resampling, tokens = access.bootstrap(ds, resamples, seed), Tokens.of(ds)
    found = by_token(tokens, split)
    keep = tokens.removed(top_share) & (2 * tokens.columns()["ablated_layer"] >= int(ds.attrs["n_layers"]))
    rows: list[dict[str, Any]] = []
    if not keep.any():
        return pd.DataFrame(rows)
    for selection in SELECTIONS:
        chosen = tokens.chosen(selection, top_share, resampling)
        for mechanism, values in found.items():
            row: dict[str, Any] = {"selection": selection, "mechanism": mechanism, "parts": int(keep.sum())}
            add_estimate(row, "own_change", chosen.pooled_mean(tokens.own, keep))
            add_estimate(row, "mean", chosen.pooled_mean(values, keep))
            add_estimate(row, "share", chosen.pooled_share(values, keep))
            row["meaningful"] = chosen.pooled_one_sign(keep)
            rows.append(row)
    return pd.DataFrame(rows)


def mechanisms_by_depth(table: pd.DataFrame, n_layers: int) -> pd.DataFrame:
    """Mechanisms of the removed parts of each layer together.

    Args:
        table: from `mechanisms`.
        n_layers: number of blocks of the model.

    Returns:
        One row per layer, selection and mechanism: `layer`, `depth` (0 first, 1 last), `selection`, `mechanism`,
        `parts`; `mean` over those parts in logits; `share`, the ratio of sums over them.
    """
    grouped = table[table["removed"]].groupby(["ablated_layer", "selection", "mechanism"], sort=False)
    found = grouped[["mean", "own_change"]].mean().reset_index().rename(columns={"ablated_layer": "layer"})
    found["parts"] = grouped.size().to_numpy()
    found["depth"] = relative(found["layer"], n_layers)
    found["share"] = divide(found["mean"].to_numpy(), -found["own_change"].to_numpy())
    return found.drop(columns="own_change")


def by_token(tokens: Tokens, split: Split = "sign") -> dict[str, Array]:
    """What each mechanism gives back, (tokens, parts) each; `self_repair`, the sum, last."""
    found: dict[str, Array] = {}
    for kind, answer in tokens.answers.items():
        if kind in access.KINDS:
            suppression = _suppression(tokens, kind, split)
            found |= {f"{kind}_suppression": suppression, f"{kind}_promotion": answer - suppression}
        else:
            found[kind] = answer
    return found | {WHOLE: tokens.total - tokens.own}


def _suppression(tokens: Tokens, kind: str, split: Split) -> Array:
    """Summed changes of a kind's writers where they write against the target."""
    ds = tokens.ds
    if split == "zero":
        access.require_writers(ds, "telling apart at zero what writers let go and what they newly write")
    if not access.has_writers(ds):
        against = access.names(ds, "writer").index(f"{kind}.against")
        found: Array = access.numbers(ds, "change")[:, tokens.known, against]
        return found
    columns = np.flatnonzero(access.writer_kinds(ds) == kind)
    direct, change = access.numbers(ds, "direct_effect")[:, columns], ds["change"].values
    free = ~ds["is_own"].values[:, columns]
    found = np.empty(tokens.own.shape)
    for i, k in enumerate(tokens.known):
        moved = change[:, k, columns].astype(np.float64) * free[k]
        if split == "zero":
            cut = split_change(direct, moved)
            found[:, i] = (cut["relaxed"] + cut["strengthened"]).sum(1)
        else:
            found[:, i] = (moved * (direct < 0)).sum(1)
    return found
