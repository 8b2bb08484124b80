"""How much of the account a ledger keeps: every writer's change, or sums by kind of writer.

By kind, the entries are `embed`, two for each kind of writer that was not knocked out, `own` for those that were, and
`bias`. The two of a kind are told apart on every prompt by the sign of the writer's clean direct effect: a positive
change of those that write against the target is relaxed suppression, of those that write for it new promotion
(McDougall et al. 2023, arXiv 2310.04625). The entries still sum to the total effect, and compensation by kind is what
it was; who compensates is no longer known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from hydrascope.engine.columns import Column, Masks

Detail = Literal["full", "kinds"]

OWN = "own"
"""The entry of whatever was knocked out."""


@dataclass(frozen=True)
class Bookkeeping:
    """Turns what was measured of every column into the ledger's entries along `writer`; here each column is one.

    Attributes:
        entries: the ledger's entries.
        masks: which of them are own and which can respond.
    """

    entries: tuple[Column, ...]
    masks: Masks

    def direct(self, direct: Float[np.ndarray, "prompts columns"]) -> Float[np.ndarray, "prompts entries"]:
        """Direct effects by entry."""
        return direct

    def change(
        self,
        change: Float[np.ndarray, "jobs prompts columns"],
        own: Bool[np.ndarray, "jobs columns"],
        direct: Float[np.ndarray, "prompts columns"],
    ) -> Float[np.ndarray, "jobs prompts entries"]:
        """Changes by entry, given which columns were knocked out themselves and all clean direct effects."""
        return change


@dataclass(frozen=True)
class ByKind(Bookkeeping):
    """Columns are summed by kind and sign, own ones apart; direct effects are all under their kind and sign.

    Attributes:
        member: which columns belong to which entry, whatever their sign; none to `own`.
        signed: 0 for entries without a sign, else the sign of the direct effects that belong to them.
    """

    member: Bool[np.ndarray, "columns entries"]
    signed: Int[np.ndarray, " entries"]

    @classmethod
    def of(cls, found: Sequence[Column], masks: Masks) -> ByKind:
        """The entries for these columns."""
        kinds = list(dict.fromkeys(column.kind for column in found if column.kind not in ("embed", "bias")))
        entries = [("embed", "embed", 0)]
        entries += [(f"{kind}.{where}", kind, sign) for kind in kinds for where, sign in (("against", -1), ("for", 1))]
        entries += [(OWN, OWN, 0), ("bias", "bias", 0)]
        last = found[-1].layer
        named = tuple(Column(name, last if kind == "bias" else -1, kind) for name, kind, _ in entries)
        member = np.array([[column.kind == kind for _, kind, _ in entries] for column in found])
        own = np.zeros((len(masks.own), len(entries)), bool)
        own[:, [kind == OWN for _, kind, _ in entries]] = True
        signed = np.array([sign for *_, sign in entries])
        return cls(named, Masks(own, masks.downstream @ member), member, signed)

    def direct(self, direct: Float[np.ndarray, "prompts columns"]) -> Float[np.ndarray, "prompts entries"]:
        """Sums by kind and sign; nothing is own, since that differs from knock-out to knock-out."""
        return self._summed(direct, direct)

    def change(
        self,
        change: Float[np.ndarray, "jobs prompts columns"],
        own: Bool[np.ndarray, "jobs columns"],
        direct: Float[np.ndarray, "prompts columns"],
    ) -> Float[np.ndarray, "jobs prompts entries"]:
        """Sums by kind and sign of what is not own, and the sum of what is."""
        mine = own[:, None, :]
        booked = self._summed(change * ~mine, direct)
        booked[..., [entry.name == OWN for entry in self.entries]] = (change * mine).sum(-1, keepdims=True)
        return booked

    def _summed(
        self, values: Float[np.ndarray, "*jobs prompts columns"], direct: Float[np.ndarray, "prompts columns"]
    ) -> Float[np.ndarray, "*jobs prompts entries"]:
        against = direct < 0
        parts = ((0, np.ones_like(against)), (-1, against), (1, ~against))
        summed: Float[np.ndarray, "*jobs prompts entries"] = sum(
            (values * chosen) @ (self.member & (self.signed == sign)) for sign, chosen in parts
        )
        return summed


def bookkeeping(detail: Detail, found: Sequence[Column], masks: Masks) -> Bookkeeping:
    """The bookkeeping of that name."""
    return Bookkeeping(tuple(found), masks) if detail == "full" else ByKind.of(found, masks)
