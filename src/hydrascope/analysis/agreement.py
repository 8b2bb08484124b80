"""How far different ways to ablate the same parts agree on what matters.

Zeros, means and other prompts' values are different questions, and a finding that only one of them shows is a finding
about that one (Zhang & Nanda 2023, arXiv 2309.16042; Li & Janson 2024, arXiv 2409.09951 give rank correlations of 0.59
to 0.91 with counterfactual ablation on single components of GPT-2 small).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import parts
from hydrascope.analysis.statistics import DRAWS, Array, interval

MEASURES = ("total_effect", "own_change", "compensation", "norm_effect")


def agreement(ledgers: Mapping[str, xr.Dataset], *, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Rank correlation of the knock-outs' mean effects between every two ablations.

    Args:
        ledgers: ledgers of the same knock-outs on the same prompts, by the name of their ablation. What not all of
            them have is left out.
        draws: bootstrap draws over prompts, the same for both sides.
        seed: of the draws.

    Returns:
        One row per pair and measure (`total_effect`, `own_change`, `compensation`, `norm_effect`): `first`, `second`,
        `measure`, `n` knock-outs, `spearman` with `_lo` and `_hi`, and `ratio`, the size of the second's mean effects
        relative to the first's (ratio of sums of absolute values).
    """
    common = aligned(ledgers)
    if not common:
        return pd.DataFrame(columns=_COLUMNS)
    resampling = parts.plan(next(iter(common.values())), draws, seed)
    means = {name: {m: _values(ds, m) for m in MEASURES} for name, ds in common.items()}
    rows = []
    for first, second in combinations(common, 2):
        for measure in MEASURES:
            a, b = means[first][measure], means[second][measure]
            drawn = spearman(resampling.means(a), resampling.means(b))
            lo, hi = interval(drawn[:, None])
            mean_a, mean_b = a.mean(0), b.mean(0)
            below = float(np.abs(mean_a).sum())
            rows.append(
                {
                    "first": first,
                    "second": second,
                    "measure": measure,
                    "n": a.shape[1],
                    "spearman": float(spearman(mean_a[None], mean_b[None])[0]),
                    "spearman_lo": float(lo[0]),
                    "spearman_hi": float(hi[0]),
                    "ratio": float(np.abs(mean_b).sum()) / below if below else float("nan"),
                }
            )
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = ["first", "second", "measure", "n", "spearman", "spearman_lo", "spearman_hi", "ratio"]


def by_ablation(ds: xr.Dataset, also: Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """The ledgers of a run and of the other ablations that belong to it, by ablation; the run's own comes first."""
    others = {name: one for name, one in also.items() if one.attrs["ablation"] == name}
    return {str(ds.attrs["ablation"]): ds, **others}


def sentence(table: pd.DataFrame) -> str:
    """What `agreement` found, in one sentence; empty where there is nothing to compare."""
    rows = table[(table["measure"] == "total_effect") & table["spearman"].notna()]
    if rows.empty:
        return ""
    pairs = ", ".join(
        f"{row.first} and {row.second} {row.spearman:.2f} [{row.spearman_lo:.2f}, {row.spearman_hi:.2f}]"
        for row in rows.itertuples()
    )
    return (
        f"Rank correlation of the {int(rows['n'].iloc[0])} knock-outs' total effects between every two ablations: "
        f"{pairs}."
    )


def spearman(a: Array, b: Array) -> Array:
    """Rank correlation of each row of `a` with the same row of `b`; ties share their mean rank.

    Args:
        a: shape (rows, cells).
        b: same shape.

    Returns:
        Shape (rows,); NaN where a side has fewer than three cells, does not vary or is not finite.
    """
    found = np.full(len(a), np.nan)
    if a.shape[1] < 3:
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
    asked, knocked_out = ([set(ds[name].values.tolist()) for ds in rest] for name in ("prompt", "ablated"))
    prompts = [p for p in first["prompt"].values.tolist() if all(p in some for some in asked)]
    parts_of = [k for k in parts.names(first, "ablated") if all(k in some for some in knocked_out)]
    if not prompts or not parts_of:
        return {}
    return {name: ds.sel(prompt=prompts, ablated=parts_of) for name, ds in ledgers.items()}


def _values(ds: xr.Dataset, measure: str) -> Array:
    return parts.response(ds) if measure == "compensation" else parts.numbers(ds, measure)
