"""The tables as the report shows them, and the choice of what is shown first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import (
    Findings,
    Quantity,
    compensation_points,
    has_attention_split,
    has_routing,
    prompt_view,
    quantity,
)

VIEWS = 3
"""Prompts in the single-prompt view: largest, median and smallest answer."""
KNOCKOUTS_IN_VIEW = 12
CLOUDS = 48
"""Most knock-outs in the list of the scatter of compensation against loss."""


@dataclass
class Tables:
    """Tables of one ledger.

    Attributes:
        apart: the tables that the analysis makes, with heads and neurons apart where the account keeps them so.
        focus: the knock-out that the verdict describes; may be empty.
    """

    apart: Findings
    focus: str = ""

    @property
    def findings(self) -> Findings:
        """The tables of whole layers, which most of the page draws."""
        return self.apart.by_layer

    @property
    def ds(self) -> xr.Dataset:
        """The ledger."""
        return self.findings.ds

    @property
    def quantity(self) -> Quantity:
        """What the account is of, in words."""
        return quantity(self.ds)

    @property
    def unit(self) -> str:
        """What effects are in, on an axis."""
        return self.quantity.axis

    @property
    def layers(self) -> int:
        """Number of blocks of the model."""
        return int(self.ds.attrs["n_layers"])

    @property
    def repair(self) -> pd.DataFrame:
        """`analysis.repair.repair`."""
        return self.findings.repair

    @property
    def effects(self) -> pd.DataFrame:
        """`analysis.repair.layer_effects`."""
        return self.findings.layer_effects

    @property
    def who(self) -> pd.DataFrame:
        """`analysis.responders.who_repairs`."""
        return self.findings.who_repairs

    @property
    def late_mlps(self) -> pd.DataFrame:
        """`analysis.erasure.late_mlps`."""
        return self.findings.late_mlps

    @property
    def routes(self) -> bool:
        """Whether the model has MLPs whose changes are split by their routing."""
        return has_routing(self.ds)

    @property
    def routing(self) -> pd.DataFrame:
        """`analysis.routing.routing_totals`."""
        return self.findings.routing_totals

    @property
    def attention_split(self) -> bool:
        """Whether changes of attention are split into moved weights and changed values."""
        return has_attention_split(self.ds)

    @property
    def redistribution(self) -> pd.DataFrame:
        """`attention_split`."""
        return self.findings.attention_split

    @property
    def redistribution_totals(self) -> pd.DataFrame:
        """`attention_split_totals`."""
        return self.findings.attention_split_totals

    @cached_property
    def released(self) -> pd.DataFrame:
        """`analysis.erasure.released`, the rows of the MLPs."""
        table = self.findings.released
        return table[table["kind"] == "mlp"] if len(table) else table

    @cached_property
    def kinds(self) -> list[str]:
        """Kinds of what was knocked out, attention and MLPs first, most frequent next; two at most."""
        counts = self.repair["ablated_kind"].value_counts()
        first = [kind for kind in ("attn", "mlp") if kind in counts]
        return [*first, *(str(kind) for kind in counts.index if kind not in first)][:2]

    @cached_property
    def featured(self) -> str:
        """The knock-out shown first: the one that the verdict describes.

        Where it describes none: among knock-outs whose shares are meaningful (all, if there are none),
        attention before the rest, the one with the largest compensation in absolute value.
        """
        if self.focus in set(self.repair["ablated"]):
            return self.focus
        table = self.repair[self.repair["meaningful"]]
        table = table if len(table) else self.repair
        attention = table[table["ablated_kind"] == "attn"]
        table = attention if len(attention) else table
        return str(table["ablated"].iloc[int(table["compensation"].abs().argmax())])

    @cached_property
    def in_view(self) -> list[str]:
        """The knock-outs that lose most, and `featured`, in the order of the run."""
        strongest = self.repair["own_change"].abs().nlargest(KNOCKOUTS_IN_VIEW).index
        table = self.repair.loc[strongest.union(self.repair.index[self.repair["ablated"] == self.featured])]
        return [str(name) for name in table["ablated"]]

    def clouds(self) -> pd.DataFrame:
        """`analysis.compensation_points` of the knock-outs that lose most, one below the other."""
        table = self.repair.loc[self.repair["own_change"].abs().nlargest(CLOUDS).index].sort_index()
        names = [str(name) for name in table["ablated"]]
        return pd.concat(
            [compensation_points(self.ds, name).assign(ablated=name) for name in names],
            ignore_index=True,
        )

    def views(self) -> dict[tuple[str, str], pd.DataFrame]:
        """Single-prompt tables: prompts with the largest, median and smallest answer to `featured`.

        Returns:
            (prompt in words, knock-out) to the table of `analysis.prompt_view`.
        """
        points = compensation_points(self.ds, self.featured).sort_values("compensation", ascending=False)
        ranks = np.linspace(0, len(points) - 1, min(VIEWS, len(points))).round().astype(int)
        chosen = points.iloc[ranks]
        names = self.in_view
        found: dict[tuple[str, str], pd.DataFrame] = {}
        for row in chosen.to_dict("records"):
            text = in_words(row["prompt"], row["text"], row["target"])
            found |= {(text, name): prompt_view(self.ds, row["prompt"], name) for name in names}
        return found


def in_words(prompt: int, text: str, target: str, most: int = 72) -> str:
    """A prompt on one line: its number, the end of its text, and the answer."""
    text = " ".join(str(text).split())
    if len(text) > most:
        text = "…" + text[-most:]
    return f"#{prompt}  {text} → {str(target).strip()}"
