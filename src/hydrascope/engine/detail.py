"""How much of the account a ledger keeps: every writer's change, or sums by kind of writer.

By kind, the entries are `embed`, one for each kind of writer that was not knocked out, `own` for those that were, and
`bias`. They still sum to the total effect, and compensation by kind is what it was; who compensates is no longer known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

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
        self, change: Float[np.ndarray, "jobs prompts columns"], own: Bool[np.ndarray, "jobs columns"]
    ) -> Float[np.ndarray, "jobs prompts entries"]:
        """Changes by entry, given which columns were knocked out themselves."""
        return change


@dataclass(frozen=True)
class ByKind(Bookkeeping):
    """Columns are summed by kind, own ones apart; direct effects are all under their kind.

    Attributes:
        member: which columns belong to which entry; none to `own`.
    """

    member: Bool[np.ndarray, "columns entries"]

    @classmethod
    def of(cls, found: Sequence[Column], masks: Masks) -> ByKind:
        """The entries for these columns."""
        kinds = dict.fromkeys(column.kind for column in found if column.kind not in ("embed", "bias"))
        names = ("embed", *kinds, OWN, "bias")
        entries = tuple(Column(name, found[-1].layer if name == "bias" else -1, name) for name in names)
        member = np.array([[column.kind == name for name in names] for column in found])
        own = np.zeros((len(masks.own), len(names)), bool)
        own[:, names.index(OWN)] = True
        return cls(entries, Masks(own, masks.downstream @ member), member)

    def direct(self, direct: Float[np.ndarray, "prompts columns"]) -> Float[np.ndarray, "prompts entries"]:
        """Sums by kind; nothing is own, since that differs from knock-out to knock-out."""
        summed: Float[np.ndarray, "prompts entries"] = direct @ self.member
        return summed

    def change(
        self, change: Float[np.ndarray, "jobs prompts columns"], own: Bool[np.ndarray, "jobs columns"]
    ) -> Float[np.ndarray, "jobs prompts entries"]:
        """Sums by kind of what is not own, and the sum of what is."""
        mine = own[:, None, :]
        booked: Float[np.ndarray, "jobs prompts entries"] = (change * ~mine) @ self.member
        booked[..., [entry.name == OWN for entry in self.entries]] = (change * mine).sum(-1, keepdims=True)
        return booked


def bookkeeping(detail: Detail, found: Sequence[Column], masks: Masks) -> Bookkeeping:
    """The bookkeeping of that name."""
    return Bookkeeping(tuple(found), masks) if detail == "full" else ByKind.of(found, masks)
