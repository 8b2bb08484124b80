"""Parts of a model, what is knocked out together, and the parts that a model has."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

WRITER_KINDS = ("attn", "mixer", "mlp")
"""Kinds whose output is added to the residual stream inside a block."""

UNIT_KINDS = {"head": "attn", "kv": "attn", "neuron": "mlp", "expert": "mlp"}
"""The kinds of units, each with the kind of writer that it is part of."""

ARROW = "->"
"""Stands between the sender and the receiver of an edge."""

FREEZES = "/"
"""Stands before each frozen part of a knock-out."""


@dataclass(frozen=True, order=True)
class Component:
    """One part of a model.

    Attributes:
        kind: `embed`, `attn`, `mlp`, `mixer`, `layer`, `head`, `kv`, `neuron` or `expert`.
        layer: block index, from 0; -1 for `embed`.
        unit: index of the unit in the block, from 0; None for whole writers and layers.
    """

    kind: str
    layer: int = -1
    unit: int | None = None

    def __str__(self) -> str:
        if self.layer < 0:
            return self.kind
        return f"{self.kind}.{self.layer}" + ("" if self.unit is None else f".{self.unit}")


def in_order(parts: Iterable[Component]) -> tuple[Component, ...]:
    """Parts in the order of the forward pass."""
    return tuple(sorted(parts, key=lambda part: (part.layer, part.kind, part.unit or 0)))


@dataclass(frozen=True)
class Knockout:
    """What is ablated together: components, or an edge.

    Attributes:
        parts: components whose output is replaced; for an edge, its receiver.
        sender: for an edge, the component whose ablated output the receiver reads; otherwise None.
        frozen: components that keep their clean value.
    """

    parts: tuple[Component, ...]
    sender: Component | None = None
    frozen: tuple[Component, ...] = ()

    def __str__(self) -> str:
        sent = "" if self.sender is None else f"{self.sender}{ARROW}"
        return sent + "+".join(map(str, self.parts)) + "".join(f"{FREEZES}{part}" for part in self.frozen)

    @property
    def first_layer(self) -> int:
        """Index of the first block with an ablated part."""
        return min(part.layer for part in self.parts)

    @property
    def kind(self) -> str:
        """The kind of its only part, or `joint`, `edge` or `frozen`."""
        if self.sender is not None:
            return "edge"
        if self.frozen:
            return "frozen"
        return self.parts[0].kind if len(self.parts) == 1 else "joint"


@dataclass(frozen=True)
class Inventory:
    """The components that a model has.

    Attributes:
        units: number of units by kind and layer; a whole writer counts as one unit.
        reads: pairs (earlier, later) of writers of one block in which the later one reads what the earlier wrote.
    """

    units: Mapping[str, Mapping[int, int]] = field(default_factory=dict)
    reads: frozenset[tuple[Component, Component]] = frozenset()

    def has(self, component: Component) -> bool:
        """Whether the model has this component."""
        count = self.units.get(component.kind, {}).get(component.layer, 0)
        return (component.unit or 0) < count

    def sees(self, receiver: Component, sender: Component) -> bool:
        """Whether the receiver reads what the sender writes; no part reads its own layer."""
        return receiver.layer > sender.layer or (writer_of(sender), writer_of(receiver)) in self.reads

    def expand(self, kind: str, layers: range | None = None, units: range | None = None) -> list[Component]:
        """List the components of one kind in some blocks.

        Args:
            kind: a kind of component.
            layers: block indices, from 0; None for all.
            units: indices of units in each block, from 0; None for all.

        Returns:
            The components that exist, block by block.
        """
        found = []
        for layer, count in self.units.get(kind, {}).items():
            if layers is not None and layer not in layers:
                continue
            if kind in UNIT_KINDS:
                wanted = range(count) if units is None else range(units.start, min(units.stop, count))
                found += [Component(kind, layer, unit) for unit in wanted]
            elif count:
                found.append(Component(kind, layer))
        return found


def writer_of(part: Component) -> Component:
    """The writer that contains a part; a writer contains itself."""
    return Component(UNIT_KINDS.get(part.kind, part.kind), part.layer)
