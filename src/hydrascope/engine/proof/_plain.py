"""Plain knock-outs for proofs: hooks on full forwards, sharing nothing with the engine's.

Each costs a whole forward pass; `run_interventions` is what runs use.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope.anatomy import (
    Arguments,
    Check,
    Directions,
    ExpertSite,
    Hooks,
    Model,
    hooked,
    routed_call,
    run_experts,
    with_routing,
)
from hydrascope.components import Component
from hydrascope.engine._clean import CleanRun
from hydrascope.engine._interventions import Edit, Intervention


def plain_forward(
    model: Model, clean: CleanRun, intervention: Intervention, tokens: Int[Tensor, " items"]
) -> Float[Tensor, " items"]:
    """Centred target logits at the read positions of a full forward with a plain hook per edit."""
    seen: list[Tensor] = []
    with hooked() as hooks, torch.no_grad():
        for edit in intervention.edits:
            attach_edit(model, hooks, clean.ids, edit, clean.layout.edited)
        tail = model.anatomy.tail
        hooks.on_output(model.network.get_submodule(tail.head), "head", lambda y: seen.append(y))
        model.network(input_ids=clean.ids, use_cache=False)
    hooks.require_fired()
    logits = seen[0][:, list(clean.layout.read)].flatten(0, 1).float() * tail.scale
    return logits.gather(1, tokens[:, None])[:, 0] - tail.of_tokens(logits).mean(-1)


def attach_edit(model: Model, hooks: Hooks, ids: Tensor, edit: Edit, edited: Sequence[int] = (-1,)) -> None:
    """Replace one place at some positions of whole prompts."""
    site = edit.place.site
    module = model.network.get_submodule(site.module)
    if site.expert >= 0:
        experts = next(found for found in model.anatomy.experts if found.module == site.module)
        hooks.on_whole_call(module, str(site), lambda a, y: _put_expert(model, ids, edit, edited, experts, a, y))
        return

    def put(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        value = edit.value.to(tensor).reshape(len(ids), len(edited), -1)
        changed.view(*ids.shape, -1)[:, list(edited), edit.place.span] = value
        return changed

    (hooks.on_input if site.side == "input" else hooks.on_output)(module, str(site), put)


def _put_expert(
    model: Model,
    ids: Tensor,
    edit: Edit,
    edited: Sequence[int],
    site: ExpertSite,
    arguments: Arguments,
    output: Tensor,
) -> None:
    """Subtract the output with every other expert's weight at zero, and add the value."""
    call = routed_call(site, arguments)
    mine = call.index == edit.place.site.expert
    alone = run_experts(model.network, site, arguments, call, call.index, call.weight * mine) * mine.any(
        -1, keepdim=True
    )
    value = edit.value.to(output).reshape(len(ids), len(edited), -1)
    output.view(*ids.shape, -1)[:, list(edited)] += value - alone.view(*ids.shape, -1)[:, list(edited)]


def routing_checks(
    model: Model,
    ids: Tensor,
    intervention: Intervention,
    read: Directions,
    rerouted: Float[Tensor, " prompts"],
    allowed: float,
) -> tuple[Check]:
    """Compare the re-routed part of a change with a plain run that is routed as the clean one.

    Args:
        model: the model; every way from its experts to a write must be known.
        ids: whole prompts.
        intervention: a knock-out.
        read: read-out direction of each prompt.
        rerouted: re-routed part of the change, read in that direction, from the engine.
        allowed: largest difference that passes.
    """
    site = model.anatomy.experts[-1]
    routed: list[tuple[Tensor, Tensor]] = []
    _write(model, ids, (), site, routed)
    own = _write(model, ids, intervention.edits, site, [])
    as_clean = _write(model, ids, intervention.edits, site, routed)
    expected = ((own - as_clean) * read.vectors).sum(-1).cpu()
    error = float((rerouted - expected).abs().max())
    return (Check("re-routing", error, allowed, "sent where the clean run sends it, an MLP lacks its re-routed part"),)


def _write(
    model: Model, ids: Tensor, edits: Sequence[Edit], site: ExpertSite, routed: list[tuple[Tensor, Tensor]]
) -> Float[Tensor, "prompts d"]:
    """The last token's write of a routed MLP; a clean run fills `routed`, others are routed by it."""
    writer = model.anatomy.writer(Component("mlp", site.layer))
    network, written = model.network, torch.zeros(1, device=ids.device)

    def route(arguments: Arguments) -> Arguments:
        call = routed_call(site, arguments)
        last = torch.arange(1, ids.shape[0] + 1, device=ids.device) * ids.shape[1] - 1
        if not edits:
            routed.append((call.index[last], call.weight[last]))
        if not routed:
            return arguments
        index, weight = call.index.clone(), call.weight.clone()
        index[last], weight[last] = routed[0]
        return with_routing(site, arguments, index, weight)

    with hooked() as hooks, torch.no_grad():
        for edit in edits:
            attach_edit(model, hooks, ids, edit)
        hooks.on_arguments(network.get_submodule(site.module), "routing", route)
        for path, gain in zip(writer.modules, writer.gains, strict=True):

            def add(output: Tensor, gain: float = gain) -> None:
                nonlocal written
                written = written + gain * output.reshape(*ids.shape, -1)[:, -1].float()

            hooks.on_output(network.get_submodule(path), f"write of {path}", add)
        network(input_ids=ids, use_cache=False)
    hooks.require_fired()
    return written
