"""Parts by the first-order estimate of what their removal costs: one backward pass over the text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from hydrascope.anatomy import Site, hooked
from hydrascope.components import Component
from hydrascope.engine import frozen_weights
from hydrascope.pruning._judge import Judge
from hydrascope.pruning.rankings._base import Choice, Ranking


class Taylor(Ranking):
    """The parts with the smallest |sum of output times gradient of the loss| (as LLM-Pruner, arXiv 2305.11627)."""

    name = "taylor"
    meaning = "smallest first-order estimate of its cost, |output x gradient|"

    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose by the sum over all tokens."""
        places = {part: judge.model.anatomy.places(part) for part in parts}
        sites = list({place.site: None for some in places.values() for place in some})
        total: dict[Site, Tensor] = defaultdict(lambda: torch.zeros(()).double())
        for batch in judge.batches:
            for site, products in _products(judge, judge.ids(batch), sites).items():
                total[site] = total[site] + products
        scores = {
            part: abs(float(sum(total[place.site][place.span].sum() for place in some)))
            for part, some in places.items()
        }
        return Choice.by_score(scores, sizes)


def _products(judge: Judge, ids: Tensor, sites: Sequence[Site]) -> dict[Site, Tensor]:
    """Value times gradient of the summed loss at every site, summed over tokens, entry by entry."""
    network = judge.model.network
    values: dict[Site, Tensor] = {}
    added: dict[Site, Tensor] = {}
    with hooked() as hooks, frozen_weights(network), torch.enable_grad():
        for site in sites:

            def edit(tensor: Tensor, site: Site = site) -> Tensor:
                values[site] = tensor.detach().clone()
                added[site] = torch.zeros_like(tensor).requires_grad_()
                return tensor + added[site]

            watch = hooks.on_input if site.side == "input" else hooks.on_output
            watch(network.get_submodule(site.module), str(site), edit)
        logits = network(input_ids=ids, use_cache=False).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
        slopes = torch.autograd.grad(loss, [added[site] for site in sites])
    return {
        site: (values[site].double() * slope.double()).flatten(0, -2).sum(0).cpu()
        for site, slope in zip(sites, slopes, strict=True)
    }
