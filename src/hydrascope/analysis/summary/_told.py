"""What has been told of a ledger, and what the sentences look at.

Where a row is a prompt, read at one position, the sentences describe one knock-out, the `focus`. Where a row is a
token of a text, they describe all parts together, on the tokens where each matters most.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._attention_repair import AttentionAnswers, Finding, Row, ask_attention, find
from hydrascope.analysis._findings import Findings
from hydrascope.analysis._mechanisms import WHOLE
from hydrascope.analysis._statistics import CONCLUSIVE_FROM, Array, Reading, mean_interval
from hydrascope.analysis.summary._words import noun, quantity

Number = float | int | str


class Told:
    """Sentences about one ledger, the numbers in them, and where both come from.

    Attributes:
        findings: the tables; where a row is a prompt, of whole layers.
        ds: the ledger.
        quantity: what the account is of, in words.
        leading: leading sentences.
        details: sentences that stand behind the leading ones.
        numbers: numbers in the sentences, by name; all finite.
    """

    def __init__(self, findings: Findings) -> None:
        self.findings = findings if access.reads_each(findings.ds) else findings.by_layer
        self.ds = self.findings.ds
        self.quantity = quantity(self.ds)
        self.leading: list[str] = []
        self.details: list[str] = []
        self.numbers: dict[str, Number] = {}

    def say(self, sentence: str) -> None:
        """Add a leading sentence."""
        self.leading.append(sentence)

    def detail(self, sentence: str) -> None:
        """Add a sentence that stands behind the leading ones."""
        self.details.append(sentence)

    def number(self, name: str, value: Number) -> None:
        """Add a number, unless it is not finite."""
        if isinstance(value, str) or np.isfinite(value):
            self.numbers[name] = value

    def reading(self, name: str, reading: Reading) -> Reading:
        """Add a mean with its interval."""
        for suffix, value in (("", reading.mean), ("_lo", reading.lo), ("_hi", reading.hi)):
            self.number(name + suffix, value)
        return reading

    def column(self, name: str, row: Row | None = None) -> Reading:
        """A column with its interval, from the focus' row of `repair` unless a row is given."""
        row = self.focus if row is None else row
        return Reading(float(row[name]), float(row[f"{name}_lo"]), float(row[f"{name}_hi"]), self.conclusive)

    def measure(self, values: Array) -> Reading:
        """Mean of one number per prompt."""
        mean, lo, hi = (float(end[0]) for end in mean_interval(values.reshape(-1, 1), self.findings.resampling))
        return Reading(mean, lo, hi, self.conclusive)

    @cached_property
    def conclusive(self) -> bool:
        """Whether there are enough prompts, or documents, to call any sign certain."""
        if access.reads_each(self.ds):
            return self.documents >= CONCLUSIVE_FROM
        return self.findings.resampling.conclusive

    @cached_property
    def ablated(self) -> str:
        """Address of the focus: the strongest finding, or else the largest own change."""
        if not access.reads_each(self.ds):
            return str(self.focus["ablated"])
        rows = self.removed if len(self.removed) else self.top
        sure = rows[rows["self_repair_lo"] > self.floor]
        value = sure["self_repair"] if len(sure) else rows["own_change"].abs()
        return str(value.idxmax())

    # where a row is a prompt

    @cached_property
    def attention(self) -> AttentionAnswers:
        """Losses of attention layers, and what later attention did about them."""
        return ask_attention(self.ds, self.findings.repair, self.findings.resampling)

    @cached_property
    def found(self) -> tuple[Finding, Row | None]:
        """The finding about attention, and the knock-out that shows it most strongly."""
        return find(self.attention)

    @cached_property
    def focus(self) -> Row:
        """The row of the repair table that is described."""
        table, (_, strongest) = self.findings.repair, self.found
        if strongest is not None:
            return table.loc[strongest.row]
        asked = self.attention.table
        rows = np.arange(len(table)) if asked.empty else asked["row"].to_numpy()
        size = table["own_change"].abs().to_numpy()[rows]
        return table.loc[rows[int(size.argmax())]]

    @cached_property
    def asked(self) -> Row | None:
        """Attention's answer to the focus, with simultaneous intervals, if tested."""
        return self.attention.row_of(self.ablated)

    @cached_property
    def own(self) -> Reading:
        """What the knock-out of the focus did directly."""
        return self.column("own_change") if self.asked is None else self.attention.own(self.asked)

    @cached_property
    def answering_kinds(self) -> list[str]:
        """Kinds of writers that can answer the knock-out of the focus."""
        free = access.answering(self.ds)[access.knockout_index(self.ds, self.ablated)]
        kinds = set(access.writer_kinds(self.ds)[free])
        return [kind for kind in access.KINDS if kind in kinds]

    # where a row is a token of a text

    @cached_property
    def documents(self) -> int:
        """How many documents the tokens are from."""
        return len(set(self.ds["group"].values))

    @cached_property
    def noun(self) -> str:
        """What was knocked out, in the singular."""
        return noun(self.ds)

    @cached_property
    def floor(self) -> float:
        """Effects up to this size are rounding."""
        return self.findings.closing.error

    @cached_property
    def top(self) -> pd.DataFrame:
        """Self-repair of every part on its top tokens, by address."""
        table = self.findings.self_repair
        return table[table["selection"] == "top"].set_index("ablated", drop=False)

    @cached_property
    def removed(self) -> pd.DataFrame:
        """Rows of `top` whose part was really removed."""
        return self.top[self.top["removed"]]

    def pooled(self, selection: str, mechanism: str = WHOLE) -> pd.Series[Any]:
        """The row of the pooled mechanisms of the second half of the layers."""
        table = self.findings.pooled_mechanisms
        return table[(table["selection"] == selection) & (table["mechanism"] == mechanism)].iloc[0]

    @property
    def nothing_pooled(self) -> bool:
        """Whether no part of the second half was really removed."""
        return self.findings.pooled_mechanisms.empty


Tell = Callable[[Told], None]


def where(recorded: Callable[[xr.Dataset], bool]) -> Callable[[Tell], Tell]:
    """Make a sentence speak only of ledgers that recorded its subject."""

    def only(tell: Tell) -> Tell:
        @wraps(tell)
        def told_or_not(told: Told) -> None:
            if recorded(told.ds):
                tell(told)

        return told_or_not

    return only


def reads_once(ds: xr.Dataset) -> bool:
    """Whether effects were read at one position of each prompt."""
    return not access.reads_each(ds)
