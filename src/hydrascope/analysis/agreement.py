"""How far different ways to ablate the same parts agree on what matters.

Zeros, means and other prompts' values are different questions, and a finding that only one of them shows is a finding
about that one (Zhang & Nanda 2023, arXiv 2309.16042; Li & Janson 2024, arXiv 2409.09951 give rank correlations of 0.59
to 0.91 with counterfactual ablation on single components of GPT-2 small).

On ordinary text the ranking is told on every part's top tokens and, beside that, on all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import parts
from hydrascope.analysis.statistics import DRAWS, Array, interval, weighted_mean
from hydrascope.analysis.tokens import counted

MEASURES = ("total_effect", "own_change", "compensation", "norm_effect", "self_repair")
LEAST = 3
"""Fewest knock-outs that can be ranked alike or not."""


def agreement(ledgers: Mapping[str, xr.Dataset], *, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Rank correlation of the knock-outs' mean effects between every two ablations.

    Args:
        ledgers: ledgers of the same knock-outs on the same prompts, by the name of their ablation. What not all of
            them have is left out.
        draws: bootstrap draws over prompts, the same for both sides.
        seed: of the draws.

    Returns:
        One row per pair, `selection` (`all`; of text `top`, too) and measure (`total_effect`, `own_change`,
        `compensation`, `norm_effect`, and `self_repair`, the sum of the last two): `first`, `second`, `selection`,
        `measure`, `n` knock-outs, `spearman` with `_lo` and `_hi`, and `ratio`, the size of the second's mean effects
        relative to the first's (ratio of sums of absolute values).
    """
    common = aligned(ledgers)
    if not common:
        return pd.DataFrame(columns=_COLUMNS)
    one = next(iter(common.values()))
    resampling, selections = parts.plan(one, draws, seed), counted(one)
    values = {name: {m: _values(ds, m) for m in MEASURES} for name, ds in common.items()}
    rows = []
    for (first, second), (selection, (known, weight)) in product(combinations(common, 2), selections.items()):
        for measure in MEASURES:
            a, b = (values[name][measure][:, known] for name in (first, second))
            drawn = spearman(resampling.means(a, weight), resampling.means(b, weight))
            lo, hi = interval(drawn[:, None])
            mean_a, mean_b = weighted_mean(a, weight), weighted_mean(b, weight)
            below = float(np.abs(mean_a).sum())
            rows.append(
                {
                    "first": first,
                    "second": second,
                    "selection": selection,
                    "measure": measure,
                    "n": a.shape[1],
                    "spearman": float(spearman(mean_a[None], mean_b[None])[0]),
                    "spearman_lo": float(lo[0]),
                    "spearman_hi": float(hi[0]),
                    "ratio": float(np.abs(mean_b).sum()) / below if below else float("nan"),
                }
            )
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = ["first", "second", "selection", "measure", "n", "spearman", "spearman_lo", "spearman_hi", "ratio"]


def by_ablation(ds: xr.Dataset, also: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """The ledgers of a run and of the other ablations that belong to it, by ablation; the run's own comes first."""
    others = {name: one for name, one in also.items() if one.attrs["ablation"] == name}
    return {str(ds.attrs["ablation"]): ds, **others}


def sentence(table: pd.DataFrame) -> str:
    """What `agreement` found, in one sentence; empty where there is nothing to compare."""
    rows = table[(table["measure"] == "total_effect") & table["spearman"].notna()]
    if rows.empty:
        return ""
    told = []
    for selection, some in rows.groupby("selection", sort=False):
        pairs = ", ".join(
            f"{row.first} and {row.second} {row.spearman:.2f} [{row.spearman_lo:.2f}, {row.spearman_hi:.2f}]"
            for row in some.itertuples()
        )
        told.append(f"{ON[selection]}{pairs}" if rows["selection"].nunique() > 1 else pairs)
    return (
        f"Rank correlation of the {int(rows['n'].max())} knock-outs' total effects between every two ablations: "
        f"{'; '.join(told)}."
    )


ON: dict[Any, str] = {"top": "on each one's top tokens ", "all": "on all tokens "}
"""What a selection of tokens is called where both are told."""


def spearman(a: Array, b: Array) -> Array:
    """Rank correlation of each row of `a` with the same row of `b`; ties share their mean rank.

    Args:
        a: shape (rows, cells).
        b: same shape.

    Returns:
        Shape (rows,); NaN where a side has fewer than `LEAST` cells, does not vary or is not finite.
    """
    found = np.full(len(a), np.nan)
    if a.shape[1] < LEAST:
        return found
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        if np.isfinite(x).all() and np.isfinite(y).all():
            ranks = [pd.Series(side).rank().to_numpy() for side in (x, y)]
            if all(np.ptp(side) > 0 for side in ranks):
                found[i] = np.corrcoef(ranks[0], ranks[1])[0, 1]
    return found


def aligned(ledgers: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """The ledgers on the prompts and knock-outs that all of them have, in the order of the first."""
    if len(ledgers) < 2:
        return {}
    first, *rest = ledgers.values()
    prompts = _shared([ds["prompt"].values.tolist() for ds in (first, *rest)])
    knocked_out = _shared([parts.names(ds, "ablated") for ds in (first, *rest)])
    if not prompts or not knocked_out:
        return {}
    return {name: ds.sel(prompt=prompts, ablated=knocked_out) for name, ds in ledgers.items()}


def _shared(labels: Sequence[list[Any]]) -> list[Any]:
    others = [set(some) for some in labels[1:]]
    return [label for label in labels[0] if all(label in some for some in others)]


def _values(ds: xr.Dataset, measure: str) -> Array:
    if measure == "compensation":
        return parts.response(ds)
    if measure == "self_repair":
        return parts.numbers(ds, "total_effect") - parts.numbers(ds, "own_change")
    return parts.numbers(ds, measure)
