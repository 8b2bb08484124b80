"""Single experts in a pass: their own writes are read, and replaced, inside the module that sums them.

An expert's value at a token is what the module returns when that expert alone is asked, at the weight the router gave
it; zero where the router did not choose it. Replacing it subtracts the row's own value and adds the donor's, so that
it is right for rows that arrive with another residual state too.
"""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from hydrascope.anatomy import (
    Arguments,
    ExpertSite,
    Hooks,
    Model,
    RoutedCall,
    Site,
    expert_writes,
    routed_call,
    run_experts,
)


def keep_experts(
    model: Model,
    hooks: Hooks,
    sites: Sequence[Site],
    values: dict[Site, Tensor],
    rows: Tensor | slice,
    shape: tuple[int, ...],
) -> None:
    """Keep what single experts write.

    Args:
        model: the model.
        hooks: where to put hooks.
        sites: what is kept; only single experts concern this.
        values: takes what is found, `[*shape, d]`.
        rows: which tokens of the pass, all prompts' tokens one behind the other.
        shape: how these tokens are arranged.
    """
    for experts in model.anatomy.experts:
        asked = [site.expert for site in sites if site.expert >= 0 and site.module == experts.module]

        def keep(arguments: Arguments, _: Tensor, experts: ExpertSite = experts, asked: list[int] = asked) -> None:
            call = routed_call(experts, arguments).at(rows)
            each = expert_writes(model.network, experts, arguments, call)
            for expert in asked:
                mine = each * (call.index == expert)[..., None]
                values[experts.site(expert)] = mine.sum(1).view(*shape, -1)

        if asked:
            hooks.on_whole_call(model.network.get_submodule(experts.module), f"experts of block {experts.layer}", keep)


def own_writes(
    network: nn.Module, site: ExpertSite, arguments: Arguments, call: RoutedCall, experts: Int[Tensor, " tokens"]
) -> Float[Tensor, "tokens d"]:
    """What one expert, another for each token, writes in a call."""
    asked = experts[:, None]
    mine = call.index == asked
    alone = run_experts(network, site, arguments, call, asked, (call.weight * mine).sum(-1, keepdim=True))
    return alone * mine.any(-1, keepdim=True)
