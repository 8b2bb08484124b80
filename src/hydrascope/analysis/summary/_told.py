"""What has been told of a ledger, and what the sentences look at.

Two kinds of ledger are told of. In one a row is a prompt, read at one position; in the other a row is a token of a
text, read at each position, and every part is looked at on the tokens where it matters most. Both have one table with a
row per knock-out, and the sentences quote its numbers and intervals.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, wraps
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import _ledger_access as access
from hydrascope.analysis._findings import Findings
from hydrascope.analysis._mechanisms import WHOLE
from hydrascope.analysis._outcomes import strongest
from hydrascope.analysis._statistics import CONCLUSIVE_FROM, Reading
from hydrascope.analysis.summary._words import noun, quantity

Finding = Literal["repair", "breakage", "none", "nothing lost", "too few prompts"]
Number = float | int | str
Row = Any
"""One row of a table; pandas cannot type its fields."""


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
        """A column of a table with its interval; of the focus unless a row is given."""
        row = self.focus if row is None else row
        return Reading(float(row[name]), float(row[f"{name}_lo"]), float(row[f"{name}_hi"]), self.conclusive)

    @cached_property
    def conclusive(self) -> bool:
        """Whether there are enough prompts, or documents, to call any sign certain."""
        if access.reads_each(self.ds):
            return self.documents >= CONCLUSIVE_FROM
        return self.findings.resampling.conclusive

    @cached_property
    def table(self) -> pd.DataFrame:
        """The account of every knock-out, under the names of `repair`; of texts on each part's top tokens."""
        return self.findings.account

    def rows(self, column: str, value: object = True) -> pd.DataFrame:
        """Knock-outs whose column has a value."""
        return self.table[self.table[column] == value]

    @cached_property
    def focus(self) -> Row:
        """The row that is described: what was repaired most clearly, or else what comes next (`strongest`)."""
        return self.table.loc[strongest(self.table)]

    @cached_property
    def ablated(self) -> str:
        """Address of the knock-out that is described."""
        return str(self.focus["ablated"])

    @cached_property
    def finding(self) -> Finding:
        """What the run shows, in one word."""
        if not self.conclusive:
            return "too few prompts"
        if not self.table["lost"].any():
            return "nothing lost"
        if len(self.rows("outcome", "repaired")):
            return "repair"
        return "breakage" if len(self.rows("outcome", "made worse")) else "none"

    @cached_property
    def answering_kinds(self) -> list[str]:
        """Kinds of writers that can answer the knock-out of the focus."""
        free = access.answering(self.ds)[access.knockout_index(self.ds, self.ablated)]
        kinds = set(access.writer_kinds(self.ds)[free])
        return [kind for kind in access.KINDS if kind in kinds]

    @cached_property
    def noun(self) -> str:
        """What was knocked out, in the singular."""
        return noun(self.ds)

    # where a row is a token of a text

    @cached_property
    def documents(self) -> int:
        """How many documents the tokens are from."""
        return len(set(self.ds["group"].values))

    @cached_property
    def floor(self) -> float:
        """Effects up to this size are rounding."""
        return self.findings.closing.error

    def pooled(self, selection: str, mechanism: str = WHOLE) -> pd.Series[Any]:
        """The row of the pooled mechanisms of the second half of the layers."""
        table = self.findings.pooled_mechanisms
        return table[(table["selection"] == selection) & (table["mechanism"] == mechanism)].iloc[0]

    @property
    def nothing_pooled(self) -> bool:
        """Whether no part of the second half was really removed."""
        return self.findings.pooled_mechanisms.empty


def extreme(table: pd.DataFrame, column: str, sign: int = 1) -> Row:
    """The row with the largest value of a column, or the smallest where `sign` is -1."""
    return table.iloc[int((sign * table[column]).to_numpy(dtype=np.float64).argmax())]


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
