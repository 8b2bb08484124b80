"""Proves, on a model and a few random prompts, that receivers of edges write what the engine says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import Check, Model, Place, Site, hooked, random_ids, require
from hydrascope.components import Component, Knockout
from hydrascope.engine._clean import CleanRun, record
from hydrascope.engine._edges import edge_values, sender_places
from hydrascope.engine._strategies import Strategy
from hydrascope.engine.proof._engine import own_value

PROBED = 6
"""Edges that are tried, evenly spread over those asked for."""


def prove_edges(model: Model, strategy: Strategy, knockouts: Sequence[Knockout]) -> None:
    """Compare edges with full forwards that carry plain hooks.

    Args:
        model: the model.
        strategy: how interventions are run at the last token.
        knockouts: what will be ablated; without an edge nothing is done.

    Raises:
        AnatomyRefused: the engine's values differ from the plain ones.
    """
    edges = [knockout for knockout in knockouts if knockout.sender is not None]
    edges = edges[:: -(-len(edges) // PROBED) or 1]
    if not edges:
        return
    anatomy = model.anatomy
    parts = (*(writer.component for writer in anatomy.writers), *(edge.parts[0] for edge in edges))
    places = [place for part in parts for place in anatomy.places(part)]
    places += [place for edge in edges for place in sender_places(edge, anatomy)]
    ids = random_ids(model.network, batch=3, tokens=6, seed=6)
    sites = list(dict.fromkeys(place.site for place in places))
    clean = record(model, ids, sites, keep=strategy.keep)

    def donated(place: Place, shift: int) -> Float[Tensor, "prompts edited _"]:
        return own_value(clean, place).roll(shift, 0)

    asked = [(edge, shift) for edge in edges for shift in (0, 1)]
    heard = edge_values(model, clean, asked, donated, strategy, len(asked))
    still, error = 0.0, 0.0
    for edge in edges:
        sender, receiver = edge.sender, edge.parts[0]
        assert sender is not None
        plain = _plain(model, clean, sender, receiver)
        for place, own, other in zip(anatomy.places(receiver), heard[edge, 0], heard[edge, 1], strict=True):
            size = clean.values[place.site].float().abs().max().clamp_min(1e-6)
            still = max(still, float((own - own_value(clean, place)).abs().max() / size))
            error = max(error, float((other[:, 0] - plain[place.site][:, place.span]).abs().max() / size))
    allowed = 5 * anatomy.tolerance
    require(
        [
            Check("edges, self donor", still, allowed, "a receiver that reads the sender's own output writes its own"),
            Check("edges", error, allowed, "receivers write what they write in full forwards with all else held"),
        ]
    )


def _plain(model: Model, clean: CleanRun, sender: Component, receiver: Component) -> dict[Site, Tensor]:
    """The receiver's sites in a full forward: the sender another prompt's, every other writer its own."""
    anatomy = model.anatomy
    free = (*anatomy.written_by(sender), *anatomy.written_by(receiver))
    held = {p.site for w in anatomy.writers if w.component not in free for p in anatomy.places(w.component)}
    sent = {place.site: place for place in anatomy.places(sender)}
    read = {place.site for place in anatomy.places(receiver)}
    seen: dict[Site, Tensor] = {}
    with hooked() as hooks, torch.no_grad():
        for site in dict.fromkeys((*sent, *read, *held)):

            def through(tensor: Tensor, site: Site = site) -> Tensor:
                changed = tensor.clone(memory_format=torch.contiguous_format)
                last = changed.view(*clean.ids.shape, -1)[:, -1]
                if site in sent:
                    last[:, sent[site].span] = own_value(clean, sent[site])[:, 0].roll(1, 0)
                if site in read:
                    seen[site] = last.clone()
                if site in held:
                    last[:] = clean.values[site][:, 0]
                return changed

            hook = hooks.on_input if site.side == "input" else hooks.on_output
            hook(model.network.get_submodule(site.module), str(site), through)
        model.network(input_ids=clean.ids, use_cache=False)
    hooks.require_fired()
    return seen
