"""A run as the report shows it: its tables, and the knock-outs shown first."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import pandas as pd
import xarray as xr

from hydrascope.analysis import Findings, Quantity, head_answers, quantity, reads_each


@dataclass(frozen=True)
class Run:
    """What every section is made from.

    Attributes:
        findings: tables of the ledger as stored, with heads and neurons apart where it keeps them so.
        focus: address of the knock-out that the summary describes and every chart shows first.
    """

    findings: Findings
    focus: str

    @property
    def ds(self) -> xr.Dataset:
        """The ledger as stored."""
        return self.findings.ds

    @property
    def of_tokens(self) -> bool:
        """Whether every position of a text was read, instead of one behind a prompt."""
        return reads_each(self.ds)

    @property
    def tables(self) -> Findings:
        """Tables for most of the page: behind prompts those of whole layers."""
        return self.findings if self.of_tokens else self.findings.by_layer

    @property
    def quantity(self) -> Quantity:
        """What the ledger decomposes, in words."""
        return quantity(self.ds)

    @property
    def unit(self) -> str:
        """Unit of effects on an axis."""
        return "logits of the target" if self.of_tokens else self.quantity.axis

    @property
    def layers(self) -> int:
        """Number of blocks of the model."""
        return int(self.ds.attrs["n_layers"])

    @cached_property
    def losses(self) -> pd.DataFrame:
        """Mean `own_change` per knock-out, over prompts or its top tokens."""
        if not self.of_tokens:
            return self.tables.repair
        return self.tables.self_repair.query("selection == 'top'")

    @cached_property
    def kinds(self) -> list[str]:
        """Kinds of knock-outs shown, two at most: attention and MLPs, then the most frequent."""
        counts = self.losses["ablated_kind"].value_counts()
        first = [kind for kind in ("attn", "mlp") if kind in counts]
        return [*first, *(str(kind) for kind in counts.index if kind not in first)][:2]

    @cached_property
    def head_answers(self) -> pd.DataFrame:
        """How every head that is kept apart responds to every knock-out."""
        return head_answers(self.ds, **self.findings.settings)

    def strongest(self, most: int, among: Collection[str] | None = None) -> list[str]:
        """`focus` and the `most` of `among` that lose most, in the order of the run."""
        rows = self.losses
        rows = rows if among is None else rows[rows["ablated"].isin(among)]
        kept = {self.focus, *rows.loc[rows["own_change"].abs().nlargest(most).index, "ablated"]}
        return [str(name) for name in rows["ablated"] if name in kept]

    def first(self, names: Collection[str]) -> str:
        """The one of some knock-outs that is shown first."""
        return self.focus if self.focus in names else next(iter(names))
