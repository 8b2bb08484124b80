"""Finds the anatomy of a model by experiment on a few random tokens.

Costs about ten short forward passes and no knowledge of the model's family. Nothing found here is taken for granted:
`_proof` checks it on other tokens.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from hydrascope.anatomy._anatomy import Anatomy, HeadSite, NeuronSite, Writer
from hydrascope.anatomy._blocks import Block, BlockWriter, find_mixers, find_reads, take_apart
from hydrascope.anatomy._experts import find_expert_sites
from hydrascope.anatomy._precision import ANATOMY, precision
from hydrascope.anatomy._silent import speaking
from hydrascope.anatomy._tail import find_tail
from hydrascope.anatomy._trace import find_layers, record
from hydrascope.anatomy._units import KVGroups, cached_groups, find_head_site, find_neuron_site, splitting_error
from hydrascope.anatomy._weights import devices
from hydrascope.components import Component


def random_ids(model: Any, batch: int = 2, tokens: int = 6, seed: int = 0) -> Tensor:
    """Random tokens of the model's vocabulary.

    Args:
        model: the model; its embedding gives the vocabulary and the device.
        batch: number of sequences.
        tokens: tokens of each.
        seed: seed of the choice.

    Returns:
        Token ids, `[batch, tokens]`.
    """
    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(0, vocabulary, (batch, tokens), generator=torch.Generator().manual_seed(seed))
    return ids.to(devices(model)[0])


def discover(model: nn.Module, tokens: Collection[int] = ()) -> Anatomy:
    """Find a model's writers, units and tail by experiment.

    Args:
        model: a Hugging Face causal language model in eval mode; it is only run, never changed.
        tokens: ids that its tokenizer can produce; none where there is no tokenizer.

    Returns:
        The anatomy, not yet proved on other tokens; see `prove_anatomy`.

    Raises:
        AnatomyRefused: a step failed; the error names it.
    """
    with speaking(model, random_ids(model)):
        return _discover(model, tokens)


def _discover(model: nn.Module, tokens: Collection[int]) -> Anatomy:
    tolerance = ANATOMY[precision(model)]
    trace = record(model, random_ids(model))
    layers = find_layers(model, trace)
    blocks = tuple(take_apart(trace, path, tolerance) for path in layers)
    mixers, reads = find_mixers(model, trace, blocks), find_reads(model, trace, blocks)
    groups = cached_groups(model, trace.ids, len(layers))
    carry = _later_carry(blocks)
    writers: list[Writer] = []
    pairs: set[tuple[Component, Component]] = set()
    heads: list[HeadSite] = []
    neurons: list[NeuronSite] = []
    for layer, block in enumerate(blocks):
        sites = [find_head_site(model, trace, layer, f, groups[layer]) for f in block.writers]
        attends = [_attends(found, groups, layer, site) for found, site in zip(block.writers, sites, strict=True)]
        kinds = ["mlp" if not m else "attn" if a else "mixer" for m, a in zip(mixers[layer], attends, strict=True)]
        for kind in dict.fromkeys(kinds):
            found = [f for f, k in zip(block.writers, kinds, strict=True) if k == kind]
            gains = tuple(f.gain * carry[layer] for f in found)
            writers.append(Writer(Component(kind, layer), tuple(f.module for f in found), gains))
        pairs |= {
            (Component(kinds[a], layer), Component(kinds[b], layer)) for a, b in reads[layer] if kinds[a] != kinds[b]
        }
        heads += [s for s, k in zip(sites, kinds, strict=True) if s and k == "attn" and kinds.count(k) == 1]
        if kinds.count("mlp") == 1:
            neuron = find_neuron_site(model, trace, layer, block.writers[kinds.index("mlp")])
            neurons += [neuron] if neuron else []
    return Anatomy(
        layers=layers,
        writers=tuple(writers),
        heads=tuple(site for site in heads if splitting_error(model, trace, site.module) < 5 * tolerance),
        neurons=tuple(site for site in neurons if splitting_error(model, trace, site.module) < 5 * tolerance),
        experts=find_expert_sites(model, trace, blocks, writers, tolerance),
        reads=frozenset(pairs),
        embed_gain=carry[0] * blocks[0].carry,
        tail=find_tail(model, trace, layers[-1], tolerance, tokens),
        d_model=blocks[0].resid.shape[-1],
        n_vocab=trace.logits.shape[-1],
        additivity_error=max(block.error for block in blocks),
        tolerance=tolerance,
    )


def _attends(found: BlockWriter, groups: list[KVGroups | None], layer: int, site: HeadSite | None) -> bool:
    """Whether a writer that mixes positions is attention.

    It is if its block caches keys and values and it has their heads. Where no block's cache can be read, the module's
    name decides.
    """
    if all(group is None for group in groups):
        return "att" in found.module
    group = groups[layer]
    return group is not None and site is not None and site.head_dim == group.width


def _later_carry(blocks: tuple[Block, ...]) -> list[float]:
    """Factor by which the blocks after each one scale the residual stream."""
    kept, carry = [], 1.0
    for block in reversed(blocks):
        kept.append(carry)
        carry *= block.carry
    return kept[::-1]
