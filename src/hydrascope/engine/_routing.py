"""Routed MLPs: single experts replaced, and every change split by what the router did.

An expert's value at a token is the module's output when that expert alone is asked, at the weight the router gave it;
zero where the router did not choose it. Replacing it subtracts the row's own value and adds the donor's, so that it is
right for rows that arrive with another residual state too.

With h a row's input of a routed MLP, h0 the clean row's, r and r0 their routings (whom it asks, at which weights), and
f(h, r) the MLP's write,

    f(h, r) - f(h0, r0) = [f(h, r0) - f(h0, r0)] + [f(h, r) - f(h, r0)]
                            same experts             re-routed

The split runs a routed MLP's experts once more at the read positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
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
    first_tensor,
    hidden_argument,
    routed_call,
    run_experts,
)
from hydrascope.engine._interventions import Edits
from hydrascope.engine._positions import Layout
from hydrascope.errors import HookDidNotFire


@dataclass(frozen=True)
class Routing:
    """What routers did in a forward; one column per expert site, in the anatomy's order.

    Attributes:
        rerouted: <f(h, r) - f(h, r0), w> of every intervention, not divided by the norm's scale.
        moved: share of the chosen experts that the clean row did not choose.
    """

    rerouted: Float[Tensor, "interventions sites items"]
    moved: Float[Tensor, "interventions sites items"]

    def at(self, rows: Tensor) -> Routing:
        """Some interventions, on the CPU."""
        return Routing(self.rerouted.cpu()[rows], self.moved.cpu()[rows])


class RoutedMlps:
    """Replaces experts in one forward and splits the changes of routed MLPs.

    Args:
        vectors: read-out direction of each item.
        interventions: rows of a prompt at the end of the forward, the clean one included.
        edits: the forward's replacements; only single experts concern this.
        layout: positions that are replaced and read.
        split: split changes; every expert site must have a link.
    """

    def __init__(
        self,
        model: Model,
        vectors: Float[Tensor, "items d"],
        interventions: int,
        edits: Edits,
        layout: Layout,
        split: bool,
    ) -> None:
        self.model, self.vectors, self.layout, self.split = model, vectors, layout, split
        self.edits = {
            experts.module: [
                (intervention, site.expert, value)
                for site, some in edits.items()
                if site.expert >= 0 and site.module == experts.module
                for intervention, _, value in some
            ]
            for experts in model.anatomy.experts
        }
        shape = (interventions, len(model.anatomy.experts), vectors.shape[0])
        self.found = Routing(*(torch.zeros(shape, device=vectors.device) for _ in range(2)))
        self.made: set[Site] = set()

    def attach(self, hooks: Hooks, first_block: int = 0) -> None:
        """Hook the experts, before any hook that reads the writers they are part of."""
        module = self.model.network.get_submodule
        for column, site in enumerate(self.model.anatomy.experts):
            if site.layer < first_block or not (self.split or self.edits[site.module]):
                continue
            rerouted: list[Tensor] = []

            def route(
                arguments: Arguments,
                output: Tensor,
                site: ExpertSite = site,
                column: int = column,
                rerouted: list[Tensor] = rerouted,
            ) -> None:
                call = routed_call(site, arguments)
                if self.split:
                    rerouted.append(self._reroute(site, arguments, call, output, column))
                self._replace(site, arguments, call, output)

            hooks.on_whole_call(module(site.module), f"experts of block {site.layer}", route)
            if self.split:
                self._attach_read(hooks, site, column, rerouted)

    def _attach_read(self, hooks: Hooks, site: ExpertSite, column: int, rerouted: list[Tensor]) -> None:
        link = site.link
        assert link is not None
        gains = {
            path: gain
            for writer in self.model.anatomy.writers
            for path, gain in zip(writer.modules, writer.gains, strict=True)
        }
        module, gain = self.model.network.get_submodule(link.module), gains[link.module]

        def read(arguments: Arguments, output: Tensor) -> None:
            if len(rerouted) != 1:
                raise HookDidNotFire(
                    f"the routing of block {site.layer} was seen {len(rerouted)} times instead of once"
                )
            change = rerouted.pop() * link.gain
            if link.side == "input":
                state = hidden_argument(*arguments)
                assert state is not None
                entered = self.layout.items_of(state.contiguous())
                clean_routed = first_tensor(module.forward((entered - change).flatten(0, 1)[:, None]))
                assert clean_routed is not None
                change = self.layout.items_of(output).float() - clean_routed.float().view_as(change)
            reads = torch.einsum("vpd,pd->vp", change.to(self.vectors), self.vectors) * gain
            self.found.rerouted[: len(reads), column] = reads

        hooks.on_whole_call(module, f"write of the experts of block {site.layer}", read)

    def _reroute(
        self, site: ExpertSite, arguments: Arguments, call: RoutedCall, output: Tensor, column: int
    ) -> Float[Tensor, "interventions items d"]:
        """What the experts return by the row's own routing beyond what they would by the clean row's."""
        hidden, index, weight = (self.layout.items_of(t.contiguous()) for t in (call.hidden, call.index, call.weight))
        as_clean = RoutedCall(hidden.flatten(0, 1), *(t[:1].expand_as(t).flatten(0, 1) for t in (index, weight)))
        asked = run_experts(self.model.network, site, arguments, as_clean, as_clean.index, as_clean.weight)
        known = (index[..., :, None] == index[:1, :, None, :]).any(-1)
        self.found.moved[: len(index), column] = 1 - known.float().mean(-1)
        returned = self.layout.items_of(output)
        return returned - asked.view_as(returned)

    def _replace(self, site: ExpertSite, arguments: Arguments, call: RoutedCall, output: Tensor) -> None:
        edits, where = self.edits[site.module], list(self.layout.edited)
        if not edits:
            return
        interventions = torch.tensor([intervention for intervention, _, _ in edits], device=output.device)
        seen = (self.layout.by_row(t.contiguous()) for t in (call.hidden, call.index, call.weight))
        some = RoutedCall(*(t[interventions][:, :, where].flatten(0, 2) for t in seen))
        each = self.layout.prompts * len(where)
        experts = torch.tensor([expert for _, expert, _ in edits], device=output.device).repeat_interleave(each)
        own = own_writes(self.model.network, site, arguments, some, experts)
        rows = self.layout.by_row(output)
        for (intervention, expert, value), taken in zip(edits, own.split(each), strict=True):
            given = value.to(taken)
            rows[intervention][:, where] += given - taken.view_as(given)
            self.made.add(site.site(expert))


def keep_experts(
    model: Model,
    hooks: Hooks,
    sites: Sequence[Site],
    values: dict[Site, Tensor],
    layout: Layout,
) -> None:
    """Keep in `values` what single experts write at the replaced positions, `[prompts, edited, d]`."""
    firsts = torch.arange(layout.prompts, device=model.device)[:, None] * layout.tokens
    rows = (firsts + torch.tensor(layout.edited, device=model.device)).flatten()
    for experts in model.anatomy.experts:
        asked = [site.expert for site in sites if site.expert >= 0 and site.module == experts.module]

        def keep(arguments: Arguments, _: Tensor, experts: ExpertSite = experts, asked: list[int] = asked) -> None:
            call = routed_call(experts, arguments).at(rows)
            each = expert_writes(model.network, experts, arguments, call)
            for expert in asked:
                mine = each * (call.index == expert)[..., None]
                values[experts.site(expert)] = mine.sum(1).view(layout.prompts, len(layout.edited), -1)

        if asked:
            hooks.on_whole_call(model.network.get_submodule(experts.module), f"experts of block {experts.layer}", keep)


def own_writes(
    network: nn.Module, site: ExpertSite, arguments: Arguments, call: RoutedCall, experts: Int[Tensor, " tokens"]
) -> Float[Tensor, "tokens d"]:
    """What one expert for each token writes in a call, zero where it was not chosen."""
    asked = experts[:, None]
    mine = call.index == asked
    alone = run_experts(network, site, arguments, call, asked, (call.weight * mine).sum(-1, keepdim=True))
    return alone * mine.any(-1, keepdim=True)
