"""The writer axis of an account: what is read, what is own, and how much of it is kept.

A ledger keeps every writer's change (`full`) or, for very many knock-outs, sums by kind of writer (`kinds`). The
entries by kind are `embed`, two for each kind of writer that was not knocked out, `own` for those that were, and
`bias`. The two of a kind are divided on every prompt by the sign of the writer's clean direct effect: a positive change
of writers against the target is relaxed suppression, of writers for it new promotion (McDougall et al. 2023,
arXiv 2310.04625). The sums and compensation by kind stay exact; which writer compensates is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from hydrascope.anatomy import Anatomy
from hydrascope.components import Component, Knockout
from hydrascope.engine._units import UnitDecomposition


@dataclass(frozen=True)
class Column:
    """One writer of an account, or a part of one.

    Attributes:
        name: address in the ledger.
        layer: block; -1 for the embedding, the number of blocks for the biases behind the last one.
        kind: `embed`, `attn`, `mlp`, `mixer` or `bias`; a head is `attn`, a neuron `mlp`.
        unit: number of the head or neuron; -1 for anything else.
        writer: the writer that the column is, or is a part of; None for embedding and final biases.
        split: the writer's decomposition, if it is read unit by unit.
    """

    name: str
    layer: int
    kind: str
    unit: int = -1
    writer: Component | None = None
    split: UnitDecomposition | None = None


def columns(anatomy: Anatomy, decompositions: Sequence[UnitDecomposition] = ()) -> tuple[Column, ...]:
    """Embedding, every writer or its units and bias, final biases."""
    divided = {split.writer: split for split in decompositions}
    found = [Column("embed", -1, "embed")]
    for writer in anatomy.writers:
        component = writer.component
        layer, kind, split = component.layer, component.kind, divided.get(component)
        if split is None:
            found.append(Column(str(component), layer, kind, writer=component))
            continue
        found += [
            Column(str(Component(split.kind, layer, unit)), layer, kind, unit, component, split)
            for unit in range(split.units)
        ]
        found.append(Column(f"bias.{component}", layer, "bias", writer=component, split=split))
    return (*found, Column("bias", anatomy.n_layers, "bias"))


@dataclass(frozen=True)
class Masks:
    """For every knock-out, the columns it changes by itself (own) and those that can respond (downstream)."""

    own: Bool[np.ndarray, "ablated columns"]
    downstream: Bool[np.ndarray, "ablated columns"]

    @classmethod
    def of(
        cls,
        knockouts: Sequence[Knockout],
        found: Sequence[Column],
        anatomy: Anatomy,
        immovable: Mapping[int, Bool[np.ndarray, " columns"]],
    ) -> Masks:
        """Both masks, writer by writer and not column by column, of which there may be tens of thousands.

        Args:
            knockouts: what is ablated.
            found: the columns.
            anatomy: of the model.
            immovable: for some knock-outs the columns that cannot respond.
        """
        own = np.zeros((len(knockouts), len(found)), bool)
        downstream = np.zeros_like(own)
        stretches = _stretches(found)
        later: dict[Component, list[bool]] = {}
        for k, knockout in enumerate(knockouts):
            for part in knockout.parts:
                whole = Component(part.kind, part.layer)
                if whole not in later:  # a unit and its whole block have one downstream
                    later[whole] = [anatomy.is_downstream(writer, whole) for writer, _, _ in stretches]
                mine = anatomy.written_by(whole)
                for (writer, span, split), after in zip(stretches, later[whole], strict=True):
                    if writer in mine:
                        own[k, span] |= _own(split, part, span.stop - span.start)
                        # units do not read each other, but a post-norm scales them together
                        downstream[k, span] |= split is not None and split.norm is not None
                    else:
                        downstream[k, span] |= after
        for k, held in immovable.items():
            downstream[k] &= ~held
        still = [span.stop - 1 for _, span, split in stretches if split is not None and not split.bias_moves]
        downstream[:, still] = False
        return cls(own, downstream & ~own)


def frozen_columns(
    knockouts: Sequence[Knockout], found: Sequence[Column], anatomy: Anatomy
) -> dict[int, Bool[np.ndarray, " columns"]]:
    """For each knock-out with frozen parts, the columns that cannot move where those are frozen."""
    stretches = _stretches(found)
    frozen = {k: np.zeros(len(found), bool) for k, knockout in enumerate(knockouts) if knockout.frozen}
    for k, columns_held in frozen.items():
        for part in knockouts[k].frozen:
            mine = anatomy.written_by(part)
            for writer, span, split in stretches:
                if writer in mine:
                    columns_held[span] |= _held(split, part, span.stop - span.start)
    return frozen


def _stretches(found: Sequence[Column]) -> list[tuple[Component, slice, UnitDecomposition | None]]:
    """Every writer with its columns, which lie side by side."""
    stretches: list[tuple[Component, slice, UnitDecomposition | None]] = []
    for start, column in enumerate(found):
        if column.writer is not None and (not stretches or stretches[-1][0] != column.writer):
            width = 1 if column.split is None else column.split.width
            stretches.append((column.writer, slice(start, start + width), column.split))
    return stretches


def _held(split: UnitDecomposition | None, part: Component, width: int) -> Bool[np.ndarray, " width"]:
    """Columns of a writer that cannot move while `part` is frozen."""
    if part.unit is None:
        return np.ones(width, bool)
    held = np.zeros(width, bool)
    # behind a post-norm a frozen unit is still scaled with the others
    if split is not None and split.norm is None and (units := split.within(part)) is not None:
        held[units] = True
    return held


def _own(split: UnitDecomposition | None, part: Component, width: int) -> Bool[np.ndarray, " width"]:
    """Columns of a writer that the knock-out of `part` replaces, wholly or in part."""
    units = None if split is None else split.within(part)
    own = np.full(width, units is None)
    if units is not None:
        own[units] = True
    return own


Detail = Literal["full", "kinds"]

OWN = "own"
"""Entry of the parts that were knocked out."""


@dataclass(frozen=True)
class Aggregation:
    """Turns columns into the ledger's entries along `writer`; here each column is an entry.

    Attributes:
        entries: the ledger's entries.
        masks: which entries are own and which can respond.
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
        """Changes by entry, given the columns that were knocked out themselves and all clean direct effects."""
        return change


@dataclass(frozen=True)
class AggregationByKind(Aggregation):
    """Sums columns by kind and sign, own ones apart; direct effects all go under their kind and sign.

    Attributes:
        member: columns of each entry, whatever their sign; none of `own`.
        signed: sign of the direct effects that belong to an entry; 0 for either.
    """

    member: Bool[np.ndarray, "columns entries"]
    signed: Int[np.ndarray, " entries"]

    @classmethod
    def of(cls, found: Sequence[Column], masks: Masks) -> AggregationByKind:
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
        """Sums by kind and sign; none is own, since that differs between knock-outs."""
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


def aggregation(detail: Detail, found: Sequence[Column], masks: Masks) -> Aggregation:
    """The aggregation for a level of detail."""
    return Aggregation(tuple(found), masks) if detail == "full" else AggregationByKind.of(found, masks)
