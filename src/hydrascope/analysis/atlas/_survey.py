"""The tables of an atlas: a row per run, per run and part, per run and claim."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from hydrascope.analysis.atlas._entry import Entry

_ORDER = ["random_weights", "parameters", "shape", "model", "step", "task", "run"]
"""Trained models before random weights, small ones before large ones."""


@dataclass(frozen=True)
class Survey:
    """Finished runs side by side.

    Attributes:
        entries: the runs.
        left_out: folders that are in no table, each with the reason.
        place: what the runs lie in.
    """

    entries: tuple[Entry, ...]
    left_out: Mapping[str, str]
    place: str = ""

    @cached_property
    def runs(self) -> pd.DataFrame:
        """What every run shows as a whole.

        Returns:
            One row per run: `run`, its folder; `report`, its report's file, empty without; `label`, model and task,
            with the folder where these are not enough; `model`, `shape` (the model that random weights have the shape
            of), `random_weights`, `parameters`, `layers`, `revision`, `step` (of training, NaN where the name tells
            none), `task`, `protocol`, `read` (each position or the last), `ablation`, `donors`, `dose`, `positions`,
            `target`, `seed`, `dtype`, `prompts`, `groups`; `finding`, `headline` and `focus` of its summary;
            `knockouts`, how many, and of these `lost`,
            `answered` (attention by attention), `repaired`, `made_worse`, `norm`; `command`, which makes it; the
            account of all attention layers at 40 % to 85 % of the depth together, of texts that of all parts of the
            second half on top tokens: `pooled_parts`, `pooled_own_change`, `pooled_compensation`, `pooled_self_repair`,
            `pooled_total_effect` (means over these parts, in logits), `pooled_restored`, `pooled_restored_with_norm`
            (ratios of sums, NaN where nothing is lost for certain or where losses and gains cancel), each with `_lo`
            and `_hi`.
        """
        rows = pd.DataFrame([{**one.facts, **one.headline} for one in self.entries])
        rows = rows.sort_values(_ORDER, kind="stable", ignore_index=True)
        rows.insert(2, "label", _labels(rows))
        return rows

    @cached_property
    def parts(self) -> pd.DataFrame:
        """The account of every knock-out of every run.

        Returns:
            One row per run and knock-out: the facts of `runs`; `ablated`, `unit` (`attn`, `mlp`, `head` ...), `layer`,
            `depth` (0 first block, 1 last); what `Ledger.repair` says: `direct_effect`, `own_change`,
            `compensation_attn`, `compensation_mlp`, `compensation_mixer`, `compensation`, `norm_effect`,
            `self_repair`, `total_effect`, `restored`, `restored_with_norm` (NaN where the loss is not meaningful),
            `slope`, `r2`, each with `_lo` and `_hi`; `own_change_p`, adjusted over the knock-outs of the run, `lost`,
            `outcome`, `hydra`, `hidden_by`. Of texts, on each part's top tokens.
        """
        return self._stacked((one, one.parts) for one in self.entries)

    @cached_property
    def claims(self) -> pd.DataFrame:
        """Which of the paper's claims hold in which run.

        Returns:
            One row per run and claim: the facts of `runs`, and the columns of `Ledger.mcgrath`. A claim that the run
            has nothing to say of has no `value`.
        """
        return self._stacked((one, one.claims) for one in self.entries)

    def _stacked(self, tables: Iterable[tuple[Entry, pd.DataFrame]]) -> pd.DataFrame:
        """Tables of the runs below each other, in the order of `runs` and behind its facts."""
        order = {name: place for place, name in enumerate(self.runs["run"])}
        labels = dict(zip(self.runs["run"], self.runs["label"], strict=True))
        by_run = sorted(((one, table) for one, table in tables if len(table)), key=lambda it: order[it[0].facts["run"]])
        made = []
        for one, table in by_run:
            facts: dict[str, Any] = {**one.facts, "label": labels[one.facts["run"]]}
            made.append(pd.concat([pd.DataFrame([facts] * len(table), index=table.index), table], axis=1))
        return pd.concat(made, ignore_index=True) if made else pd.DataFrame(columns=["run", "label"])


def _labels(rows: pd.DataFrame) -> list[str]:
    short = [f"{model} · {task}" for model, task in zip(rows["model"], rows["task"], strict=True)]
    often = Counter(short)
    return [one if often[one] == 1 else f"{one} ({run})" for one, run in zip(short, rows["run"], strict=True)]
