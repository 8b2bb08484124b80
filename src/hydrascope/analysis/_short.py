"""The columns of each table that a reader needs; the rest are for programs."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd


def _estimates(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}{end}" for name in names for end in ("", "_lo", "_hi"))


_PARTS = _estimates("own_change", "compensation_attn", "compensation_mlp", "compensation_mixer", "norm_effect")
_TWO_WAYS = _estimates("pattern_effect", "value_effect", "moved_weight")
_ROUTED = _estimates("same_experts", "rerouted", "routing_change")

_SHARES = ("restored", "share", "removed")
"""Beginnings of columns that are ratios to a loss, which mean nothing where little was lost."""

SHORT: Mapping[str, tuple[str, ...]] = {
    "repair": ("ablated", *_PARTS, *_estimates("total_effect", "restored_with_norm", "slope"), "outcome", "hidden_by"),
    "layer_effects": ("ablated", *_estimates("direct_effect", "drop", "r2")),
    "who_repairs": ("ablated", "writer", *_estimates("change"), "significant"),
    "concentration": ("ablated", "scope", "top1", "top1_share", "top2", "top2_share", "n_strong"),
    "late_mlps": ("writer", *_estimates("direct_effect"), "share_negative", "erases"),
    "released": ("ablated", "kind", *_estimates("change"), "relaxed", "promoted", "lost", "strengthened"),
    "routing": ("ablated", "writer", *_ROUTED),
    "routing_totals": ("ablated", "writers", *_ROUTED),
    "attention_split": ("ablated", "writer", *_TWO_WAYS),
    "attention_split_totals": ("ablated", "writers", *_TWO_WAYS),
    "attention_split_on_tokens": ("ablated", "selection", "mechanism", *_estimates("mean", "share")),
    "mcgrath": ("claim", "verdict", *_estimates("value"), "where", "paper"),
    "heads": (
        "head",
        *_estimates("direct_effect", "own_change", "total_effect", "restored_with_norm"),
        "repairer",
        "repairer_change",
    ),
    "neurons": ("ablated", "neuron", "class", *_estimates("direct_effect", "change"), "share_in_half"),
    "neuron_sparsity": ("ablated", "scope", "neurons", "half", "half_q1", "half_q3", "most", *_estimates("overlap")),
    "self_repair": (
        "ablated",
        "selection",
        *_estimates("direct_effect", "own_change", "self_repair", "total_effect", "restored"),
        "outcome",
        "hidden_by",
    ),
    "mechanisms": ("ablated", "selection", "mechanism", *_estimates("mean", "share")),
    "pooled_mechanisms": ("selection", "mechanism", "parts", *_estimates("mean", "share")),
    "freeze": ("ablated", "frozen", "role", "measure", *_estimates("repair", "repair_frozen", "removed")),
    "interactions": ("ablated", "responder", *_estimates("interaction", "answer")),
    "rank_agreement": ("first", "second", "selection", "measure", "n", *_estimates("spearman")),
    "ablation_loss": ("ablated", "ablation", "n", *_estimates("loss", "share")),
    "doses": ("ablated", "selection", "dose", "part", *_estimates("value")),
    "linearity": ("ablated", "selection", *_estimates("half_share", "bend")),
}
"""Name of each table to its short columns; those that a ledger does not know are left out."""


def shortened(name: str, table: pd.DataFrame) -> pd.DataFrame:
    """The columns of a table that a reader needs; shares that mean nothing are left empty.

    Args:
        name: name of the table in `TABLES`.
        table: the table.
    """
    if "meaningful" in table:
        shares = [column for column in table if str(column).startswith(_SHARES)]
        table = table.assign(**{str(column): table[column].where(table["meaningful"]) for column in shares})
    return table[[column for column in SHORT[name] if column in table and table[column].notna().any()]]
