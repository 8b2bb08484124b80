"""Edges: what a receiver would write if it read a sender's ablated output, and all else as it was.

The definition is carried out as it stands. A sender gets a row in which it is replaced and every other writer is held
at its clean write, so that the change reaches whoever reads it by the residual stream alone and no reader answers for
another. Each receiver's value is taken before it is held too: one row serves all receivers of a sender. That value is
then the replacement in an ordinary knock-out of the receiver. So a dose scales what the receiver writes, and not the
sender's ablation, which is always whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import Anatomy, Hooks, Model, Place, Site, hooked
from hydrascope.components import Component, Knockout
from hydrascope.engine._clean import CleanRun
from hydrascope.engine._forward import Rows, copied
from hydrascope.engine._interventions import Edit, Intervention
from hydrascope.engine._routing import RoutedMlps
from hydrascope.engine._strategies import Strategy

Drawn = tuple[Knockout, int]
"""A knock-out and the number of its draw."""

Donated = Callable[[Place, int], Float[Tensor, "prompts edited _"]]
"""Gives the replacement of a sender at a place under a draw."""

EdgeValues = tuple[Float[Tensor, "prompts edited _"], ...]
"""One value per place of a receiver."""


class _Row(NamedTuple):
    """A sender under one draw, with all its receivers or with one alone.

    Attributes:
        sender: the part that is replaced.
        draw: number of its replacement.
        alone: the receiver's writer, if of several modules: they may read one another, so none is frozen in this row.
    """

    sender: Component
    draw: int
    alone: Component | None


@dataclass(frozen=True)
class _Sent:
    """A row of senders: what it replaces, which writers are not frozen, and which receivers it reads."""

    name: str
    layer: int
    edits: tuple[Edit, ...]
    free: tuple[Component, ...]
    receivers: tuple[Component, ...]


class _ReachedLast(Exception):
    """Ends the forward behind the block of the last receiver."""


def sender_places(knockout: Knockout, anatomy: Anatomy) -> tuple[Place, ...]:
    """Places beside the replaced ones whose donors' values are needed: the sender's of an edge."""
    return () if knockout.sender is None else anatomy.places(knockout.sender)


def blocks_to_receiver(knockout: Knockout, staircase: bool) -> int:
    """Blocks that an edge's own row goes through before the knock-out; none for anything else.

    It is an upper bound: edges of one sender share a row.
    """
    if knockout.sender is None:
        return 0
    return knockout.first_layer + 1 - (max(knockout.sender.layer, 0) if staircase else 0)


def edge_values(
    model: Model,
    clean: CleanRun,
    asked: Iterable[Drawn],
    donated: Donated,
    strategy: Strategy,
    size: int,
) -> dict[Drawn, EdgeValues]:
    """What the receiver of each edge would write.

    Args:
        model: the model.
        clean: clean run on the batch, with the prefix kept.
        asked: knock-outs and their draws; those that are no edges are passed over.
        donated: gives the sender's replacement for the prompts of the batch.
        strategy: how interventions are run.
        size: rows a prompt that go through the model together, beside the clean one.

    Returns:
        For each edge one value per place of its receiver.

    Raises:
        HookDidNotFire: an edit or a reading did not happen exactly once.
    """
    anatomy = model.anatomy
    edges: dict[_Row, dict[Component, Drawn]] = {}
    for knockout, draw in asked:
        if knockout.sender is not None:
            [receiver] = knockout.parts
            [writer] = anatomy.written_by(receiver)
            row = _Row(knockout.sender, draw, writer if len(anatomy.writer(writer).modules) > 1 else None)
            edges.setdefault(row, {})[receiver] = (knockout, draw)
    rows = iter(sorted(edges, key=lambda row: row.sender.layer))
    values: dict[Drawn, EdgeValues] = {}
    while some := list(islice(rows, size)):
        sent = [_sent(row, tuple(edges[row]), donated, anatomy) for row in some]
        for row, heard in zip(some, _listen(model, clean, sent, strategy), strict=True):
            values |= {edges[row][receiver]: value for receiver, value in heard.items()}
    return values


def _sent(row: _Row, receivers: tuple[Component, ...], donated: Donated, anatomy: Anatomy) -> _Sent:
    edits = tuple(Edit(place, donated(place, row.draw)) for place in anatomy.places(row.sender))
    free = (*anatomy.written_by(row.sender), *((row.alone,) if row.alone else ()))
    return _Sent(str(row.sender), max(row.sender.layer, 0), edits, free, receivers)


def _listen(
    model: Model, clean: CleanRun, sent: Sequence[_Sent], strategy: Strategy
) -> list[dict[Component, EdgeValues]]:
    """Run one forward of senders, given in order of depth."""
    forward = _Listening(model, clean, sent, strategy)
    with hooked() as hooks, torch.no_grad(), suppress(_ReachedLast):
        forward.attach(hooks)
        strategy.run(model.network, clean, len(sent) + 1)
    forward.check_fired(hooks)
    return [
        {part: tuple(forward.seen[row, place] for place in model.anatomy.places(part)) for part in one.receivers}
        for row, one in enumerate(sent, start=1)
    ]


class _Listening(Rows):
    """One forward that replaces senders, reads receivers and freezes all other writers."""

    def __init__(self, model: Model, clean: CleanRun, sent: Sequence[_Sent], strategy: Strategy) -> None:
        interventions = [Intervention(one.name, one.layer, one.edits) for one in sent]
        super().__init__(model, clean, interventions, strategy)
        anatomy = model.anatomy
        self.last = max(receiver.layer for one in sent for receiver in one.receivers)
        self.watched: dict[Site, dict[tuple[int, Place], None]] = {}
        self.held: dict[Site, Tensor] = {}
        self.seen: dict[tuple[int, Place], Tensor] = {}
        nothing_read = torch.zeros(self.layout.items, anatomy.d_model, device=clean.ids.device)
        self.experts = RoutedMlps(model, nothing_read, len(sent) + 1, self.edits, self.layout, split=False)
        for row, one in enumerate(sent, start=1):
            for receiver in one.receivers:
                for place in anatomy.places(receiver):
                    self.watched.setdefault(place.site, {})[row, place] = None
        for writer in (w.component for w in anatomy.writers if self.first_block <= w.component.layer <= self.last):
            held = torch.tensor([False, *(writer not in one.free for one in sent)], device=clean.ids.device)
            self.held |= {place.site: held[:, None, None, None] for place in anatomy.places(writer)}

    def attach(self, hooks: Hooks) -> None:
        layers, module = self.model.anatomy.layers[: self.last + 1], self.model.network.get_submodule
        for layer, path in enumerate(layers):
            hooks.on_input(module(path), f"start of block {layer}", lambda h, layer=layer: self._grow(h, layer))  # type: ignore[misc]
        self.experts.attach(hooks, self.first_block)  # before their writer is frozen
        whole = [site for site in dict.fromkeys((*self.edits, *self.watched, *self.held)) if site.expert < 0]
        for site in whole:
            if site.side == "output":
                hooks.on_output(module(site.module), str(site), lambda y, site=site: self._pass(y, site))  # type: ignore[misc]
            else:
                hooks.on_input(module(site.module), str(site), lambda x, site=site: self._pass(copied(x), site))  # type: ignore[misc]
        hooks.on_output(module(layers[-1]), f"end of block {self.last}", self._stop)

    def check_fired(self, hooks: Hooks) -> None:
        self.made |= self.experts.made
        super().check_fired(hooks)

    def _pass(self, tensor: Tensor, site: Site) -> Tensor:
        """Replace, read and freeze in place, in this order: receivers are read before they are frozen."""
        rows = self.layout.by_row(self._put(tensor, site))
        for row, place in self.watched.get(site, ()):
            self.seen[row, place] = self.layout.take(tensor, row, place.span)
        if site in self.held:
            rows.copy_(torch.where(self.held[site][: len(rows)], rows[0], rows))
        return tensor

    def _stop(self, output: Tensor) -> None:
        raise _ReachedLast
