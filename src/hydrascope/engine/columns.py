"""The columns of an account: who is read, which of them a knock-out is, and which can respond to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from hydrascope.anatomy import Anatomy
from hydrascope.components import Component, Knockout
from hydrascope.engine.splits import Split


@dataclass(frozen=True)
class Column:
    """One writer of an account, or a part of one.

    Attributes:
        name: its address in the ledger.
        layer: its block; -1 for the embedding, the number of blocks for the biases behind the last one.
        kind: `embed`, `attn`, `mlp`, `mixer` or `bias`; a head is `attn`, a neuron `mlp`.
        unit: which head or neuron; -1 for anything else.
        writer: whose write it is, or is a part of; None for embedding and final biases.
        split: how that write is divided, if it is.
    """

    name: str
    layer: int
    kind: str
    unit: int = -1
    writer: Component | None = None
    split: Split | None = None


def columns(anatomy: Anatomy, splits: Sequence[Split] = ()) -> tuple[Column, ...]:
    """Embedding, every writer or its units and bias, final biases."""
    divided = {split.writer: split for split in splits}
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
    """For every knock-out and column, who is own and who can respond."""

    own: Bool[np.ndarray, "ablated columns"]
    downstream: Bool[np.ndarray, "ablated columns"]

    @classmethod
    def of(cls, knockouts: Sequence[Knockout], found: Sequence[Column], anatomy: Anatomy) -> Masks:
        """Both masks, writer by writer and not column by column, of which there may be tens of thousands."""
        own = np.zeros((len(knockouts), len(found)), bool)
        downstream = np.zeros_like(own)
        stretches = _stretches(found)
        later: dict[Component, list[bool]] = {}
        for k, knockout in enumerate(knockouts):
            for part in knockout.parts:
                whole = Component(part.kind, part.layer)
                if whole not in later:  # what comes after a unit comes after all units of its block
                    later[whole] = [anatomy.is_downstream(writer, whole) for writer, _, _ in stretches]
                mine = anatomy.written_by(whole)
                for (writer, span, split), after in zip(stretches, later[whole], strict=True):
                    if writer in mine:
                        own[k, span] |= _own(split, part, span.stop - span.start)
                        # units do not read each other, but a post-norm scales them together
                        downstream[k, span] |= split is not None and split.norm is not None
                    else:
                        downstream[k, span] |= after
            for part in knockout.frozen:
                mine = anatomy.written_by(part)
                for writer, span, split in stretches:
                    if writer in mine:
                        downstream[k, span] &= ~_held(split, part, span.stop - span.start)
        still = [span.stop - 1 for _, span, split in stretches if split is not None and not split.bias_moves]
        downstream[:, still] = False
        return cls(own, downstream & ~own)


def _stretches(found: Sequence[Column]) -> list[tuple[Component, slice, Split | None]]:
    """Every writer with its columns, which lie side by side."""
    stretches: list[tuple[Component, slice, Split | None]] = []
    for start, column in enumerate(found):
        if column.writer is not None and (not stretches or stretches[-1][0] != column.writer):
            width = 1 if column.split is None else column.split.width
            stretches.append((column.writer, slice(start, start + width), column.split))
    return stretches


def _held(split: Split | None, part: Component, width: int) -> Bool[np.ndarray, " width"]:
    """Which columns of a writer cannot move while `part` is held."""
    if part.unit is None:
        return np.ones(width, bool)
    held = np.zeros(width, bool)
    # behind a post-norm a unit is scaled with those that are not held
    if split is not None and split.norm is None and (units := split.within(part)) is not None:
        held[units] = True
    return held


def _own(split: Split | None, part: Component, width: int) -> Bool[np.ndarray, " width"]:
    """Which columns of a writer the knock-out of `part` replaces, wholly or in part."""
    units = None if split is None else split.within(part)
    own = np.full(width, units is None)
    if units is not None:
        own[units] = True
    return own
