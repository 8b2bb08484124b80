"""Self-repair of single parts on ordinary text, on selected and on all tokens.

Rushing & Nanda 2024 (arXiv 2402.15390): with the total effect dlogit and the change dDE of the ablated part's own
direct effect, self-repair is dlogit - dDE, the sum of what other attention layers, MLPs and the final norm give back.
Using dlogit + DE instead, as the released code's older path does, would call repaired what was never removed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._outcomes import Account, outcomes
from hydrascope.analysis._statistics import RESAMPLES, Resampling, add_estimate, divide
from hydrascope.analysis._tokens import SELECTIONS, TOP_SHARE, Chosen, Tokens


def self_repair(
    ds: xr.Dataset, *, top_share: float = TOP_SHARE, resamples: int = RESAMPLES, seed: int = 0
) -> pd.DataFrame:
    """Self-repair on ordinary text, on every part's top tokens and on all.

    Args:
        ds: the ledger.
        top_share: share of tokens selected for each knock-out.
        resamples: number of bootstrap resamples, of whole documents.
        seed: seed of the bootstrap.

    Returns:
        Two rows per knock-out whose direct effect is known, `selection` `top` and `all`. Columns: `ablated`,
        `ablated_layer`, `ablated_kind`, `selection`, `n_items`;
        means in logits with `_lo` and `_hi`: `direct_effect`, `own_change`, `total_effect`, `self_repair`
        (= total_effect - own_change), and its parts `repair_attn`, `repair_mlp` (`repair_mixer`), `repair_norm`;
        shares of the own change, unclipped ratios of sums with intervals: `restored`, `restored_attn`, ...,
        `restored_norm`; beside them `restored_median` and `restored_mean`, of single tokens' ratios where the own
        change is not small;
        `share_repaired`: tokens whose logit fell by less than the part lost; `share_norm_shrinks`: tokens on which
        the ablated stream is smaller than the clean one; both with intervals;
        `removed`: on the part's top tokens the mean own change is at least a quarter of the direct effect;
        `meaningful`: removed, and own changes do not cancel, so that shares may be read; `lost`, `outcome`, `hydra`,
        `attn_below`, `hidden_by`: what became of each loss, see `_outcomes`.

    Raises:
        DetailDropped: no knock-out's direct effect is known.
    """
    resampling, tokens = access.bootstrap(ds, resamples, seed), Tokens.of(ds)
    repaired = tokens.total - tokens.own
    tables = []
    for selection in SELECTIONS:
        chosen = tokens.chosen(selection, top_share, resampling)
        table: dict[str, Any] = {**tokens.columns(), "selection": selection, "n_items": chosen.which.sum(0)}
        means = {"direct_effect": tokens.direct, "own_change": tokens.own, "total_effect": tokens.total}
        means |= {"self_repair": repaired} | {f"repair_{kind}": answer for kind, answer in tokens.answers.items()}
        means["share_repaired"] = (tokens.total > tokens.own).astype(float)
        means["share_norm_shrinks"] = (tokens.scale_ratio > 1).astype(float)
        for name, values in means.items():
            add_estimate(table, name, chosen.mean(values))
        returned = {"restored": repaired} | {f"restored_{kind}": answer for kind, answer in tokens.answers.items()}
        for name, values in returned.items():
            add_estimate(table, name, chosen.share(values))
        table["restored_median"] = chosen.median_share(repaired)
        table["restored_mean"] = chosen.mean_share(repaired)
        table["removed"] = tokens.removed(top_share)
        table["meaningful"] = table["removed"] & chosen.one_sign
        table |= _outcomes(tokens, chosen, table, resampling)
        tables.append(pd.DataFrame(table))
    both = pd.concat(tables, ignore_index=True)
    return both.sort_values(["ablated_layer"], kind="stable", ignore_index=True)


def _outcomes(tokens: Tokens, chosen: Chosen, table: dict[str, Any], resampling: Resampling) -> dict[str, Any]:
    answers = dict(tokens.answers)
    norm = answers.pop("norm")
    account = Account(
        own=tokens.own,
        answers=answers,
        norm=norm,
        control=None,
        removed=table["meaningful"],
        growing=np.ones(len(table["meaningful"]), bool),
        kinds=table["ablated_kind"],
        clean=float(resampling.mean(np.abs(access.numbers(tokens.ds, "clean_logit")))),
        kept=~table["removed"],
        shared=np.zeros(len(table["meaningful"]), bool),
        means=chosen,
    )
    return outcomes(account, resampling)


def self_repair_by_depth(table: pd.DataFrame, n_layers: int) -> pd.DataFrame:
    """Self-repair of the removed parts of each layer together, over relative depth.

    Args:
        table: from `self_repair`.
        n_layers: number of blocks of the model.

    Returns:
        One row per layer and selection: `layer`, `depth` (0 first, 1 last), `selection`, `parts` (how many were
        removed); `direct_effect`, `own_change`, `self_repair`, `repair_attn`, ..., means over those parts in logits;
        `restored`, `restored_attn`, ..., ratios of sums over them.
    """
    removed = table[table["removed"]]
    names = [name for name in table.columns if name.startswith("repair_") and not name.endswith(("_lo", "_hi"))]
    grouped = removed.groupby(["ablated_layer", "selection"])
    means = grouped[["direct_effect", "own_change", "self_repair", *names]].mean()
    found = means.reset_index().rename(columns={"ablated_layer": "layer"})
    found.insert(1, "depth", relative(found["layer"], n_layers))
    found.insert(3, "parts", grouped.size().to_numpy())
    for name in ("self_repair", *names):
        shown = "restored" if name == "self_repair" else name.replace("repair_", "restored_")
        found[shown] = divide(found[name].to_numpy(), -found["own_change"].to_numpy())
    return found


def relative(layer: pd.Series[int], n_layers: int) -> pd.Series[float]:
    """Relative depth of layers, 0 for the first and 1 for the last."""
    return layer / max(1, n_layers - 1)
