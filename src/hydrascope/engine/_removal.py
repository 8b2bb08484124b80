"""The model without some of its parts, in forwards that begin at the first one that is missing.

A missing block passes on what it is given, as in a model that is shorter by it; a missing writer, head or neuron is
zero, as behind a projection with zeroed columns. A part that has constants leaves those in its places. A forward costs
the blocks from there on that are left, and nothing is read but the logits: for an account of what answers a loss, use
`run_interventions`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope.anatomy import Hooks, Model, hidden_argument, hooked, replace_first_tensor
from hydrascope.components import Component
from hydrascope.engine._clean import Streams, off_device
from hydrascope.engine._measure import Constants
from hydrascope.engine._strategies import forwards_exchanged, resuming


@dataclass(frozen=True)
class Trunk:
    """Texts of one length in a model that lacks some parts, so far that a forward can begin at any block.

    Attributes:
        ids: token ids.
        missing: the parts that it lacks.
        streams: what every block returned.
        constants: what a missing part leaves in each of its places; a part that is not among them leaves nothing.
    """

    ids: Int[Tensor, "texts tokens"]
    missing: frozenset[Component]
    streams: Streams
    constants: Mapping[Component, Constants] = field(default_factory=dict)

    @classmethod
    def grow(
        cls,
        model: Model,
        ids: Int[Tensor, "texts tokens"],
        below: Trunk | None = None,
        *more: Component,
        constants: Mapping[Component, Constants] | None = None,
    ) -> Trunk:
        """Run texts once.

        Args:
            model: the model.
            ids: texts of one length, without padding.
            below: the same texts in the untouched model, or one that lacks less; None for the untouched model.
            more: parts that are missing beside those of `below`.
            constants: what missing parts leave in their places; those of `below` if None.
        """
        if constants is None:
            constants = {} if below is None else below.constants
        returned: list[Any] = []
        missing = frozenset(more) if below is None else below.missing | set(more)
        first = 0 if below is None else _first(model, more)
        if below is not None:
            returned += below.streams.returned[:first]
        blocks = model.anatomy.layers
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if below is not None:
                stack.enter_context(_without(model, missing, below, first))
            hooks = stack.enter_context(hooked())
            for path in blocks[first:]:
                hooks.on_return(model.network.get_submodule(path), path, lambda one: returned.append(off_device(one)))
            model.network(input_ids=ids, use_cache=False, **_last_logits(model))
            hooks.require_fired()
        return cls(ids, missing, Streams(blocks, tuple(returned), {}), constants)

    def logits(self, model: Model, *more: Component) -> Float[Tensor, "texts tokens vocab"]:
        """The model's logits at every position.

        Args:
            model: the model.
            more: parts that are missing beside the trunk's own.
        """
        first = _first(model, more)
        with torch.no_grad(), _without(model, self.missing | set(more), self, first):
            found: Tensor = model.network(input_ids=self.ids, use_cache=False).logits
        return found


def _first(model: Model, parts: Sequence[Component]) -> int:
    """First block in which parts lie; the last of all where there are none."""
    return min((part.layer for part in parts), default=model.anatomy.n_layers - 1)


def _last_logits(model: Model) -> dict[str, Any]:
    """What spares logits that nobody reads, where the model can."""
    return {"logits_to_keep": 1} if "logits_to_keep" in signature(model.network.forward).parameters else {}


@contextmanager
def _without(model: Model, missing: Collection[Component], trunk: Trunk, first: int) -> Iterator[None]:
    """Leave parts from a block on out, and begin there with the trunk's stream."""
    later = [part for part in missing if part.layer >= first]
    blocks = {part.layer for part in later if part.kind == "layer" and part not in trunk.constants}
    network, paths = model.network, model.anatomy.layers
    passing = {network.get_submodule(paths[i]): _passing(trunk.streams.returned[i]) for i in blocks}
    with resuming(network, trunk.streams, first, 1), forwards_exchanged(passing), hooked() as hooks:
        for part in later:
            if part.layer not in blocks:
                _replace(model, part, trunk.constants.get(part), hooks)
        yield
    hooks.require_fired()


def _passing(returned: Any) -> Callable[..., Any]:
    """A block's forward that returns its input, in the form in which the block returned its output."""

    def forward(*args: Any, **kwargs: Any) -> Any:
        hidden = hidden_argument(args, kwargs)
        assert hidden is not None
        return replace_first_tensor(returned, hidden)

    return forward


def _replace(model: Model, part: Component, constants: Constants | None, hooks: Hooks) -> None:
    """Put constants, or zeros, in a part's places."""
    for number, place in enumerate(model.anatomy.places(part)):

        def edit(tensor: Tensor, span: slice = place.span, number: int = number) -> Tensor:
            replaced = tensor.clone()
            replaced[..., span] = 0 if constants is None else constants[number].to(tensor)
            return replaced

        watch = hooks.on_input if place.site.side == "input" else hooks.on_output
        watch(model.network.get_submodule(place.site.module), f"{part} at {place.site.module}", edit)
