"""The columns of an account: who is read, which of them a knock-out is, and which can respond to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from hydrascope.anatomy import Anatomy
from hydrascope.components import Component, Knockout
from hydrascope.engine.heads import Split


@dataclass(frozen=True)
class Column:
    """One writer of an account, or a part of one.

    Attributes:
        name: its address in the ledger.
        layer: its block; -1 for the embedding, the number of blocks for the biases behind the last one.
        kind: `embed`, `attn`, `mlp`, `mixer` or `bias`; a head is `attn`.
        unit: which head; -1 for anything else.
        writer: whose write it is, or is a part of; None for embedding and final biases.
        split: how that write is divided, if it is.
    """

    name: str
    layer: int
    kind: str
    unit: int = -1
    writer: Component | None = None
    split: Split | None = None

    def is_own(self, part: Component, anatomy: Anatomy) -> bool:
        """Whether it is what the knock-out of `part` replaces, wholly or in part."""
        if self.writer is None or self.writer not in anatomy.written_by(part):
            return False
        if self.split is None or part.kind not in ("head", "kv"):
            return True
        site = self.split.site
        return self.unit >= 0 and part.unit == (
            self.unit if part.kind == "head" else self.unit * site.n_kv // site.n_heads
        )

    def is_downstream(self, part: Component, anatomy: Anatomy) -> bool:
        """Whether it can respond to a change of `part`."""
        if self.writer is None or self.is_own(part, anatomy):
            return False
        if self.split is not None and self.unit < 0 and not self.split.bias_moves:
            return False
        if self.split is not None and self.writer in anatomy.written_by(part):
            return self.split.norm is not None  # heads do not read each other, but a post-norm scales them together
        return anatomy.is_downstream(self.writer, part)


def columns(anatomy: Anatomy, splits: Sequence[Split] = ()) -> tuple[Column, ...]:
    """Embedding, every writer or its heads and bias, final biases."""
    divided = {split.writer: split for split in splits}
    found = [Column("embed", -1, "embed")]
    for writer in anatomy.writers:
        component = writer.component
        layer, split = component.layer, divided.get(component)
        if split is None:
            found.append(Column(str(component), layer, component.kind, writer=component))
            continue
        for head in range(split.site.n_heads):
            found.append(Column(f"head.{layer}.{head}", layer, "attn", head, component, split))
        found.append(Column(f"bias.{layer}", layer, "bias", writer=component, split=split))
    return (*found, Column("bias", anatomy.n_layers, "bias"))


@dataclass(frozen=True)
class Masks:
    """For every knock-out and column, who is own and who can respond."""

    own: Bool[np.ndarray, "ablated columns"]
    downstream: Bool[np.ndarray, "ablated columns"]

    @classmethod
    def of(cls, knockouts: Sequence[Knockout], found: Sequence[Column], anatomy: Anatomy) -> Masks:
        """Both masks; units of one kind and block are asked about once, lest tens of thousands of neurons be."""
        known: dict[Component, tuple[np.ndarray, np.ndarray]] = {}

        def masks(part: Component) -> tuple[np.ndarray, np.ndarray]:
            key = part if part.kind in ("head", "kv") else Component(part.kind, part.layer)
            if key not in known:
                own = np.array([column.is_own(part, anatomy) for column in found])
                known[key] = own, np.array([column.is_downstream(part, anatomy) for column in found])
            return known[key]

        own = np.zeros((len(knockouts), len(found)), bool)
        downstream = np.zeros_like(own)
        for k, knockout in enumerate(knockouts):
            for part in knockout.parts:
                first, later = masks(part)
                own[k] |= first
                downstream[k] |= later
        return cls(own, downstream & ~own)
