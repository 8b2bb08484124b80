"""Forwards without some parts, from the first missing one on: the logits of whole forwards that are masked by hand."""

from __future__ import annotations

import pytest
import torch

from hydrascope.anatomy import examine
from hydrascope.components import Component
from hydrascope.engine import Trunk
from tests.exporting.test_export import logits, passing, some_ids
from tests.support.families import FAMILIES, build


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "mixtral", "phi"])
@pytest.mark.parametrize("layers", [(0,), (1,), (2,), (0, 2)])
def test_without_blocks_logits_are_those_of_plain_forwards(name: str, layers: tuple[int, ...]) -> None:
    network, ids = build(name), some_ids()
    model = examine(network, None, name=name)
    masked = network
    for layer in layers:
        masked = passing(masked, FAMILIES[name].path(layer, "").rstrip("."))
    clean = Trunk.grow(model, ids)
    torch.testing.assert_close(clean.logits(model), logits(network, ids))
    parts = [Component("layer", layer) for layer in layers]
    right = logits(masked, ids)
    assert (right - logits(network, ids)).abs().max() > 1e-2
    torch.testing.assert_close(clean.logits(model, *parts), right)
    standing = Trunk.grow(model, ids, clean, *parts[:1])
    torch.testing.assert_close(standing.logits(model, *parts[1:]), right)
    torch.testing.assert_close(Trunk.grow(model, ids, clean, *parts).logits(model), right)


@pytest.mark.parametrize("part", ["attn", "mlp", "head", "neuron"])
def test_a_search_stands_on_smaller_parts_too(part: str) -> None:
    model, ids = examine(build("llama"), None, name="llama"), some_ids()
    unit = None if part in ("attn", "mlp") else 1
    first, later = Component(part, 0, unit), Component(part, 2, unit)
    clean = Trunk.grow(model, ids)
    right = clean.logits(model, first, later)
    torch.testing.assert_close(Trunk.grow(model, ids, clean, later).logits(model, first), right)
    torch.testing.assert_close(Trunk.grow(model, ids, clean, first).logits(model, later), right)
    (place,) = model.anatomy.places(later)

    def silence(tensor: torch.Tensor) -> torch.Tensor:
        silent = tensor.clone()
        silent[..., place.span] = 0
        return silent

    module = model.network.get_submodule(place.site.module)
    if place.site.side == "input":
        handle = module.register_forward_pre_hook(lambda _, args: (silence(args[0]),))
    else:
        handle = module.register_forward_hook(lambda _, __, output: silence(output))
    by_hand = logits(model.network, ids)
    handle.remove()
    torch.testing.assert_close(clean.logits(model, later), by_hand)
    torch.testing.assert_close(logits(model.network, ids), clean.logits(model))  # all hooks are gone
