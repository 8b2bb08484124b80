"""Reads addresses of components, of sets of them, and of knock-outs."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hydrascope.components._component import (
    ARROW,
    FREEZES,
    UNIT_KINDS,
    WRITER_KINDS,
    Component,
    Inventory,
    Knockout,
)
from hydrascope.errors import ComponentError, closest, did_you_mean

RECEIVER_KINDS = ("attn", "mixer", "mlp", "head", "kv", "neuron")
"""Kinds that can be the receiver of an edge."""

MOST_PAIRS = 2**20
"""Most pairs of parts that one item of a list may name, as an edge or as a part and a frozen one."""

_KINDS = (*WRITER_KINDS, *UNIT_KINDS, "layer")
"""Kinds that have sets."""

_DIVIDING = ("head", "neuron")
"""Kinds of units into which an account can divide a writer."""

_ORDER = ("embed", "layer", "attn", "kv", "head", "mixer", "mlp", "expert", "neuron")
"""Kinds of one block in the order of the forward pass."""

_SHORT = (
    (re.compile(r"[lL]([0-9]{1,18})[hH]([0-9]{1,18})"), "head"),
    (re.compile(r"[lL]([0-9]{1,18})[nN]([0-9]{1,18})"), "neuron"),
    (re.compile(r"[lL]([0-9]{1,18})[eE]([0-9]{1,18})"), "expert"),
    (re.compile(r"a([0-9]{1,18})"), "attn"),
    (re.compile(r"m([0-9]{1,18})"), "mlp"),
)
_NUMBER = re.compile(r"[0-9]{1,18}")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")


@dataclass(frozen=True)
class _Set:
    """A set as it is written; None for all blocks, or all units."""

    kind: str
    layers: range | None = None
    units: range | None = None


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
        + _meant(text)
    )


def _meant(text: str) -> str:
    """What a slip such as `atn.5`, `attn5` or a module's name `h.5.attn` may stand for, in brackets."""
    words, numbers = re.findall("[A-Za-z]{3,}", text[:80]), re.findall(_NUMBER, text[:80])
    kind = next(filter(None, (closest(word, (*_KINDS, "embed", "writers")) for word in reversed(words))), None)
    return "" if kind is None else f" (did you mean '{'.'.join([kind, *numbers])}'?)"


def check_addresses(text: str) -> None:
    """Refuse a list of addresses that no model could have, before one is opened.

    Args:
        text: as of `parse_knockouts`.

    Raises:
        ComponentError: an address is malformed.
    """
    for item in _items(text):
        for piece in re.split(rf"{ARROW}|[+{FREEZES}]", item):
            _read(piece.strip())


def _items(text: str) -> list[str]:
    items = list(dict.fromkeys(filter(None, (piece.strip() for piece in text.split(",")))))
    if not items:
        raise ComponentError(f"'{text}' names no component; write for example attn,mlp")
    return items


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
    for item in _items(text):
        if ARROW in item:
            knockouts |= dict.fromkeys(_parse_edges(item, inventory))
        elif FREEZES in item:
            knockouts |= dict.fromkeys(_parse_frozen(item, inventory))
        else:
            knockouts |= dict.fromkeys(_parse_parts(item, inventory))
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
    _require_few(len(found) * len(frozen), item)
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


def _require_few(pairs: int, item: str) -> None:
    if pairs > MOST_PAIRS:
        raise ComponentError(
            f"'{item}' names {pairs:,} pairs of parts, more than the {MOST_PAIRS:,} that can be looked through; "
            "name fewer at a time"
        )


def _parse_edges(item: str, inventory: Inventory) -> list[Knockout]:
    """Parse edges from a set of senders to a set of receivers."""
    if FREEZES in item:
        raise ComponentError(f"'{item}' freezes parts beside an edge; freeze them beside a part, as in attn.4/attn.6")
    sides = [side.strip() for side in item.split(ARROW)]
    if len(sides) > 2 or "+" in item:
        raise ComponentError(f"'{item}' is more than one edge; write each by itself, for example head.2.1->head.5.3")
    senders, receivers = (_parse_set(side, inventory) for side in sides)
    _require_few(len(senders) * len(receivers), item)
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


def _read(item: str) -> Component | _Set:
    """Read a set, or the address of one component, as it is written."""
    kind, *ranges = item.split(".")
    one = kind not in _KINDS or (ranges and not any(r == "*" or "-" in r for r in ranges))
    if item == "writers" or not one or (kind in UNIT_KINDS and len(ranges) == 1):
        if len(ranges) > (2 if kind in UNIT_KINDS else 1):
            raise ComponentError(f"'{item}' has too many parts; write for example {kind}.4-9")
        return _Set(kind, *(_indices(text, item) for text in ranges))
    return parse_component(item)


def _parse_set(item: str, inventory: Inventory) -> list[Component]:
    wanted = _read(item)
    if isinstance(wanted, Component):
        return [wanted]
    if wanted.kind == "writers":
        return [part for kind in WRITER_KINDS for part in inventory.expand(kind)]
    if wanted.kind not in inventory.units:
        raise ComponentError(f"this model has no '{item}'; {_available(wanted.kind, inventory)}")
    found = inventory.expand(wanted.kind, wanted.layers, wanted.units)
    of_kind, layers, units = inventory.units[wanted.kind], wanted.layers, wanted.units
    counts = [count for layer, count in of_kind.items() if layers is None or layer in layers]
    too_far = units is not None and units.stop > max(counts, default=0)
    if not found or too_far or (layers is not None and layers.stop - layers.start > len(counts)):
        raise ComponentError(f"'{item}' names parts this model lacks; {_available(wanted.kind, inventory)}")
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
                f"'{item}' divides no writer into units{did_you_mean(kind, ('layers', 'heads', 'neurons'))}; write for "
                "example layers, heads, neurons or head,neuron.6-7"
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
