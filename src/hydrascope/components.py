"""Addresses of the parts of a model, of sets of parts, and of knock-outs.

embed  attn.5  mlp.5  mixer.5  layer.5      whole writers; a layer is all writers of a block
head.5.3  kv.5.1  neuron.5.77  expert.5.2   units of a writer; a kv group is all heads with its key and value
L5H3  L5N77  L5E2  a5  m5                   short forms, as papers write them
attn  head  attn.4-9  head.9.*  head.9.0-3  sets; `writers` is every attn, mixer and mlp
attn.3,mlp.5                                a list: one knock-out for each entry
attn.3+attn.7                               one joint knock-out
head.2.1->head.5.3  attn->mlp.7             edges: from a sender, or a set of them, to a receiver
attn.4/attn.6  attn.4/attn.5-7/mlp.7        a knock-out with the parts behind a slash frozen

Knocking an edge out (path patching) replaces what the receiver writes by what it would write if it read the sender's
ablated output and all else clean; every other component reads the clean output. An attention receiver reads it in
query, key and value of the last token. Between two sets, those pairs are edges in which the receiver reads the sender.

A frozen part keeps its value of the clean run, so that it cannot compensate for the knock-out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hydrascope.errors import ComponentError

WRITER_KINDS = ("attn", "mixer", "mlp")
"""Kinds whose output is added to the residual stream inside a block."""

UNIT_KINDS = {"head": "attn", "kv": "attn", "neuron": "mlp", "expert": "mlp"}
"""The kinds of units, each with the kind of writer that it is part of."""

RECEIVER_KINDS = ("attn", "mixer", "mlp", "head", "kv", "neuron")
"""Kinds that can be the receiver of an edge."""

ARROW = "->"
"""Stands between the sender and the receiver of an edge."""

FREEZES = "/"
"""Stands before each frozen part of a knock-out."""

_DIVIDING = ("head", "neuron")
"""Kinds of units into which an account can divide a writer."""

_ORDER = ("embed", "layer", "attn", "kv", "head", "mixer", "mlp", "expert", "neuron")
"""Kinds of one block in the order of the forward pass."""

_SHORT = (
    (re.compile(r"[lL]([0-9]+)[hH]([0-9]+)"), "head"),
    (re.compile(r"[lL]([0-9]+)[nN]([0-9]+)"), "neuron"),
    (re.compile(r"[lL]([0-9]+)[eE]([0-9]+)"), "expert"),
    (re.compile(r"a([0-9]+)"), "attn"),
    (re.compile(r"m([0-9]+)"), "mlp"),
)
_NUMBER = re.compile(r"[0-9]+")
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?")


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
        return receiver.layer > sender.layer or (_writer(sender), _writer(receiver)) in self.reads

    def expand(self, kind: str, layers: Iterable[int], units: Iterable[int] | None) -> list[Component]:
        """List the components of one kind in some blocks.

        Args:
            kind: a kind that the model has.
            layers: block indices, from 0.
            units: indices of units in each block, from 0; None for all.

        Returns:
            The components that exist, block by block.
        """
        found = []
        for layer in layers:
            count = self.units[kind].get(layer, 0)
            if kind in UNIT_KINDS:
                wanted = range(count) if units is None else [u for u in units if u < count]
                found += [Component(kind, layer, unit) for unit in wanted]
            elif count:
                found.append(Component(kind, layer))
        return found


def parse_component(text: str) -> Component:
    """Parse the address of one component.

    Args:
        text: a long or short address, for example `head.5.3`, `L5H3` or `a5`.

    Returns:
        The component, which a model need not have.

    Raises:
        ComponentError: the text is no address.
    """
    text = text.strip()
    if text == "embed":
        return Component("embed")
    for pattern, kind in _SHORT:
        if match := pattern.fullmatch(text):
            numbers = [int(group) for group in match.groups()]
            return Component(kind, *numbers)
    kind, *numbers_text = text.split(".")
    if all(map(_NUMBER.fullmatch, numbers_text)):
        numbers = [int(number) for number in numbers_text]
        if kind in UNIT_KINDS and len(numbers) == 2:
            return Component(kind, *numbers)
        if kind in (*WRITER_KINDS, "layer") and len(numbers) == 1:
            return Component(kind, *numbers)
    raise ComponentError(
        f"'{text}' is not a component address; write for example attn.5, mlp.5, layer.5, head.5.3 or L5H3"
    )


def parse_knockouts(text: str, inventory: Inventory) -> list[Knockout]:
    """Parse a comma list of addresses, sets, joint knock-outs and edges.

    Args:
        text: for example `attn,mlp`, `head.9.*` or `attn.4-9,attn.3+attn.7`.
        inventory: the components that the model has.

    Returns:
        Knock-outs in the order given, without repeats; the parts of a joint one in the order of the forward pass.

    Raises:
        ComponentError: an address is malformed or names a part that the model lacks.
    """
    knockouts: dict[Knockout, None] = {}
    for item in filter(None, (piece.strip() for piece in text.split(","))):
        if ARROW in item:
            knockouts |= dict.fromkeys(_parse_edges(item, inventory))
        elif FREEZES in item:
            knockouts |= dict.fromkeys(_parse_frozen(item, inventory))
        else:
            knockouts |= dict.fromkeys(_parse_parts(item, inventory))
    if not knockouts:
        raise ComponentError(f"'{text}' names no component; write for example attn,mlp")
    return list(knockouts)


def _parse_parts(item: str, inventory: Inventory) -> list[Knockout]:
    """Parse a joint knock-out, or a set with one knock-out for each part."""
    if "+" in item:
        parts = tuple(parse_component(piece) for piece in item.split("+"))
        if len(set(parts)) != len(parts):
            raise ComponentError(f"'{item}' names the same component twice; name each part once")
        found = [Knockout(tuple(sorted(parts, key=_depth)))]
    else:
        found = [Knockout((component,)) for component in _parse_set(item, inventory)]
    for knockout in found:
        for part in knockout.parts:
            _require(part, inventory)
    return found


def _parse_frozen(item: str, inventory: Inventory) -> list[Knockout]:
    """Parse knock-outs with frozen parts."""
    left, *right = (piece.strip() for piece in item.split(FREEZES))
    frozen = sorted({part for piece in right for part in _parse_set(piece, inventory)}, key=_depth)
    for part in frozen:
        _require(part, inventory)
    found = _parse_parts(left, inventory)
    for knockout in found:
        for part in frozen:
            if part in knockout.parts or not any(inventory.sees(part, one) for one in knockout.parts):
                raise ComponentError(
                    f"'{part}' in '{item}' does not change when {knockout} is knocked out, so it cannot be frozen; "
                    "freeze parts that come after it"
                )
    return [Knockout(knockout.parts, frozen=tuple(frozen)) for knockout in found]


def _require(part: Component, inventory: Inventory) -> None:
    if not inventory.has(part):
        raise ComponentError(f"this model has no component '{part}'; {_available(part.kind, inventory)}")


def _writer(part: Component) -> Component:
    """The writer that contains a part; a writer contains itself."""
    return Component(UNIT_KINDS.get(part.kind, part.kind), part.layer)


def _parse_edges(item: str, inventory: Inventory) -> list[Knockout]:
    """Parse edges from a set of senders to a set of receivers."""
    if FREEZES in item:
        raise ComponentError(f"'{item}' freezes parts beside an edge; freeze them beside a part, as in attn.4/attn.6")
    sides = [side.strip() for side in item.split(ARROW)]
    if len(sides) > 2 or "+" in item:
        raise ComponentError(f"'{item}' is more than one edge; write each by itself, for example head.2.1->head.5.3")
    senders, receivers = (_parse_set(side, inventory) for side in sides)
    for receiver in receivers:
        if receiver.kind not in RECEIVER_KINDS:
            raise ComponentError(
                f"'{receiver}' in '{item}' cannot receive; let an edge end in {', '.join(RECEIVER_KINDS[:-1])} "
                f"or {RECEIVER_KINDS[-1]}"
            )
        _require(receiver, inventory)
    for sender in senders:
        if sender.kind != "embed":
            _require(sender, inventory)
    found = [Knockout((r,), s) for s in senders for r in receivers if inventory.sees(r, s)]
    if not found:
        raise ComponentError(
            f"'{item}' is no edge of this model, since the receiver does not read what the sender writes; name a "
            "receiver that comes later"
        )
    return found


def _depth(part: Component) -> tuple[int, int, int]:
    """Sort key in the order of the forward pass, so that a joint set has one spelling."""
    return part.layer, _ORDER.index(part.kind), -1 if part.unit is None else part.unit


def _parse_set(item: str, inventory: Inventory) -> list[Component]:
    if item == "writers":
        return [c for kind in WRITER_KINDS for c in inventory.expand(kind, inventory.units.get(kind, {}), None)]
    kind, *ranges = item.split(".")
    if not ranges and kind not in inventory.units and kind in (*WRITER_KINDS, *UNIT_KINDS, "layer"):
        raise ComponentError(f"this model has no '{item}'; {_available(kind, inventory)}")
    is_set = kind in inventory.units and (
        not ranges or any(r == "*" or "-" in r for r in ranges) or (kind in UNIT_KINDS and len(ranges) == 1)
    )
    if not is_set:
        return [parse_component(item)]
    if len(ranges) > (2 if kind in UNIT_KINDS else 1):
        raise ComponentError(f"'{item}' has too many parts; write for example {kind}.4-9")
    layers = _indices(ranges[0], item) if ranges else None
    units = _indices(ranges[1], item) if len(ranges) == 2 else None
    of_kind = inventory.units[kind]
    found = inventory.expand(kind, of_kind if layers is None else layers, units)
    if not found or (layers is not None and any(layer not in of_kind for layer in layers)):
        raise ComponentError(f"'{item}' names parts this model lacks; {_available(kind, inventory)}")
    return found


def parse_writers(text: str, inventory: Inventory) -> dict[Component, str]:
    """Parse which writers an account divides into their units.

    Args:
        text: `layers` for none; `heads`, `neurons`, or a comma list of sets such as `head,neuron.6-7`.
        inventory: the components that the model has.

    Returns:
        The kind of units by writer, in the order of the blocks; a writer is divided into all its units or into none.

    Raises:
        ComponentError: a set is malformed, or names units that the model lacks or only some units of a writer.
    """
    wanted: dict[Component, str] = {}
    for item in filter(None, (piece.strip() for piece in text.split(","))):
        kind, *ranges = item.split(".")
        kind = kind.removesuffix("s")
        if kind == "layer" and not ranges:
            continue
        if kind not in _DIVIDING:
            raise ComponentError(
                f"'{item}' divides no writer into units; write for example layers, heads, neurons or head,neuron.6-7"
            )
        if len(ranges) > 1 and ranges[1:] != ["*"]:
            raise ComponentError(
                f"'{item}' names some units of a writer; name all of them, for example {kind}.{ranges[0]}"
            )
        found = _parse_set(".".join([kind, *ranges[:1]]), inventory)
        wanted |= {Component(UNIT_KINDS[kind], part.layer): kind for part in found}
    return {writer: wanted[writer] for writer in sorted(wanted, key=_depth)}


def _indices(text: str, item: str) -> range | None:
    if text == "*":
        return None
    if match := _RANGE.fullmatch(text):
        first, last = int(match[1]), int(match[2] or match[1])
        if first <= last:
            return range(first, last + 1)
    raise ComponentError(f"'{text}' in '{item}' is not a range; write for example 4-9 or *")


def _available(kind: str, inventory: Inventory) -> str:
    counts = inventory.units.get(kind)
    if not counts:
        return f"it has {', '.join(sorted(k for k, v in inventory.units.items() if v))}"
    first, last = min(counts), max(counts)
    if kind in UNIT_KINDS:
        return f"it has {kind}.{first}.0 to {kind}.{last}.{counts[last] - 1}"
    return f"it has {kind}.{first} to {kind}.{last}"
