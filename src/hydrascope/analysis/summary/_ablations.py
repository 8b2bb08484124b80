"""Sentences on a run's other ablations: whether they rank alike, what each costs."""

from __future__ import annotations

from typing import Any

import pandas as pd

from hydrascope.analysis.summary._words import percent

_ON: dict[Any, str] = {"top": "on each one's top tokens ", "all": "on all tokens "}
"""Selection of tokens to its name in a sentence."""


def rank_agreement_sentence(table: pd.DataFrame) -> str:
    """`rank_agreement` in one sentence; empty where there is nothing to compare."""
    rows = table[(table["measure"] == "total_effect") & table["spearman"].notna()]
    if rows.empty:
        return ""
    told = []
    for selection, some in rows.groupby("selection", sort=False):
        pairs = ", ".join(
            f"{row.first} and {row.second} {row.spearman:.2f} [{row.spearman_lo:.2f}, {row.spearman_hi:.2f}]"
            for row in some.itertuples()
        )
        told.append(f"{_ON[selection]}{pairs}" if rows["selection"].nunique() > 1 else pairs)
    return (
        f"Rank correlation of the {int(rows['n'].max())} knock-outs' total effects between every two ablations: "
        f"{'; '.join(told)}."
    )


def ablation_loss_sentence(table: pd.DataFrame) -> str:
    """`ablation_loss` in one sentence; empty where there is nothing to compare."""
    medians = table.groupby("ablation", sort=False)["share"].median().dropna()
    if medians.empty:
        return ""
    shares = ", ".join(f"{percent(share)} of what {name} costs" for name, share in medians.items())
    return (
        f"The least harmful constant, learned on these prompts, costs in the median of {table['ablated'].nunique()} "
        f"knock-outs {shares} (KL divergence)."
    )
