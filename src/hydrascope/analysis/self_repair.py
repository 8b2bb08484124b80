"""Self-repair of single parts on ordinary text: by the norm, by attention and by MLPs, on selected and on all tokens.

Rushing & Nanda 2024 (arXiv 2402.15390): with the total effect dlogit and the change dDE of the ablated part's own
direct effect, self-repair is dlogit - dDE, and it is the sum of what other attention layers, MLPs and the final norm
give back. They look at the 2 % of tokens on which a head's direct effect is largest. That selection decides the sign
of the average, so both, the selected and all tokens, are given, always.

A part whose replacement left its direct effect as it was has not been removed, and nothing about it is repair: using
dlogit + DE instead, as the released code's older path does, would call it repaired.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hydrascope.analysis import parts
from hydrascope.analysis.repair import ABLATED_FROM, MEDIAN_FROM
from hydrascope.analysis.statistics import DRAWS, Array, divide, median_ratio, ratio_interval

TOP_SHARE = 0.02
"""The paper's share of tokens, those with the largest clean direct effect of the part in question."""

SELECTIONS = ("top", "all")


def self_repair(ds: xr.Dataset, *, top_share: float = TOP_SHARE, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Self-repair of every knock-out whose direct effect is known, on the top tokens and on all.

    Args:
        ds: the ledger.
        top_share: share of tokens that are selected for each knock-out.
        draws: bootstrap draws; whole documents are drawn.
        seed: of the draws.

    Returns:
        Two rows per knock-out, `selection` `top` and `all`. Columns: `ablated`, `ablated_layer`, `ablated_kind`,
        `selection`, `n_items`;
        means in logits with `_lo` and `_hi`: `direct_effect`, `own_change`, `total_effect`, `self_repair`
        (= total_effect - own_change), and its parts `repair_attn`, `repair_mlp` (`repair_mixer`), `repair_norm`;
        shares of the own change, unclipped ratios of sums with intervals: `restored`, `restored_attn`, ...,
        `restored_norm`; beside them `restored_median` and `restored_mean`, of single tokens' ratios where the own
        change is not small;
        `share_repaired`: tokens whose logit fell by less than the part lost; `share_norm_shrinks`: tokens on which
        the ablated stream is smaller than the clean one; both with intervals;
        `removed`: the mean own change is at least a quarter of the direct effect.
    """
    resampling = parts.plan(ds, draws, seed)
    direct, own = parts.ablated_direct(ds), parts.numbers(ds, "own_change")
    known = np.flatnonzero(np.isfinite(direct).all(0))
    direct, own = direct[:, known], own[:, known]
    total = parts.numbers(ds, "total_effect")[:, known]
    answers = {kind: parts.response(ds, kind)[:, known] for kind in parts.kinds(ds)}
    answers["norm"] = parts.numbers(ds, "norm_effect")[:, known]
    ratio = parts.numbers(ds, "scale_ratio")[:, known]
    tables = []
    for selection in SELECTIONS:
        chosen = _top(direct, top_share) if selection == "top" else np.ones(direct.shape, bool)
        weight = chosen.astype(np.float64)
        table: dict[str, Any] = {name: values[known] for name, values in parts.knockout_columns(ds).items()}
        table["selection"] = selection
        table["n_items"] = chosen.sum(0)
        means = {"direct_effect": direct, "own_change": own, "total_effect": total, "self_repair": total - own}
        means |= {f"repair_{kind}": answer for kind, answer in answers.items()}
        means |= {"share_repaired": (total > own).astype(float), "share_norm_shrinks": (ratio > 1).astype(float)}
        for name, values in means.items():
            _add(table, name, ratio_interval(weight * values, weight, resampling))
        returned = {"restored": total - own} | {f"restored_{kind}": answer for kind, answer in answers.items()}
        for name, values in returned.items():
            _add(table, name, ratio_interval(weight * values, -weight * own, resampling))
        threshold = MEDIAN_FROM * divide((weight * np.abs(own)).sum(0), weight.sum(0))
        table["restored_median"] = median_ratio(np.where(chosen, total - own, 0), np.where(chosen, -own, 0), threshold)
        table["restored_mean"] = _mean_ratio(total - own, -own, threshold, chosen)
        table["removed"] = np.abs(table["own_change"]) >= ABLATED_FROM * np.abs(table["direct_effect"])
        tables.append(pd.DataFrame(table))
    both = pd.concat(tables, ignore_index=True)
    return both.sort_values(["ablated_layer"], kind="stable", ignore_index=True)


def by_depth(table: pd.DataFrame, n_layers: int) -> pd.DataFrame:
    """Sums over the removed parts of each layer, as the paper's trend lines: what is restored over relative depth.

    Args:
        table: from `self_repair`.
        n_layers: depth of the model.

    Returns:
        One row per layer and selection: `layer`, `depth` (0 first, 1 last), `selection`, `parts` (how many were
        removed), `restored` and its parts, as ratios of sums over the layer's parts.
    """
    removed = table[table["removed"]]
    names = [name for name in table.columns if name.startswith("repair_") and not name.endswith(("_lo", "_hi"))]
    summed = removed.groupby(["ablated_layer", "selection"])[["own_change", "self_repair", *names]].sum()
    counts = removed.groupby(["ablated_layer", "selection"]).size()
    found = summed.index.to_frame(index=False).rename(columns={"ablated_layer": "layer"})
    found["depth"] = found["layer"] / max(1, n_layers - 1)
    found["parts"] = counts.to_numpy()
    lost = -summed["own_change"].to_numpy()
    for name in ("self_repair", *names):
        shown = "restored" if name == "self_repair" else name.replace("repair_", "restored_")
        found[shown] = divide(summed[name].to_numpy(), lost)
    return found


def _top(direct: Array, share: float) -> NDArray[np.bool_]:
    """For each column the tokens with the largest values, at least one; ties are taken in order."""
    count = max(1, round(share * len(direct)))
    order = np.argsort(-direct, axis=0, kind="stable")[:count]
    chosen = np.zeros(direct.shape, bool)
    np.put_along_axis(chosen, order, True, axis=0)
    return chosen


def _mean_ratio(above: Array, below: Array, threshold: Array, chosen: NDArray[np.bool_]) -> Array:
    keep = chosen & (np.abs(below) >= threshold) & (below != 0)
    ratios = np.divide(above, below, out=np.zeros_like(above), where=keep)
    return divide(ratios.sum(0), keep.sum(0).astype(np.float64))


def _add(table: dict[str, Any], name: str, estimate: tuple[Array, Array, Array]) -> None:
    table[name], table[f"{name}_lo"], table[f"{name}_hi"] = estimate
