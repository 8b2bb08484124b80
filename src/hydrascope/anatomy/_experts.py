"""Routed experts: one module that gets the router's choice as arguments.

The write of one expert is the module's output when each token is routed to that expert alone, with its routing weight.
A module has experts if these writes sum to its output; that is tried on a forward pass and never read off a name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hydrascope.anatomy._anatomy import ExpertSite, Link, Writer
from hydrascope.anatomy._blocks import Block
from hydrascope.anatomy._hooks import Arguments, first_tensor, hidden_argument, hooked
from hydrascope.anatomy._precision import relative_error
from hydrascope.anatomy._trace import Trace, forward
from hydrascope.errors import HookDidNotFire


@dataclass(frozen=True)
class RoutedCall:
    """The arguments of one call of a module with routed experts.

    Attributes:
        hidden: hidden states that the experts read.
        index: experts that each token is routed to.
        weight: routing weight of each of these experts.
    """

    hidden: Float[Tensor, "tokens d"]
    index: Int[Tensor, "tokens k"]
    weight: Float[Tensor, "tokens k"]

    def at(self, rows: Tensor | slice) -> RoutedCall:
        """The call for some of its tokens."""
        return RoutedCall(self.hidden[rows], self.index[rows], self.weight[rows])


def routed_call(site: ExpertSite, arguments: Arguments) -> RoutedCall:
    """Find hidden states and routing among a module's arguments.

    Returns:
        Hidden states and routing, with batch and positions flattened to tokens.

    Raises:
        HookDidNotFire: the module was called in another way than when its anatomy was found.
    """
    try:
        hidden, index, weight = (_argument(arguments, key) for key in (site.hidden, site.index, site.weight))
        same = index.shape == weight.shape and index.shape[-1] == site.top_k
    except (IndexError, KeyError, AttributeError):
        same = False
    if not same:
        raise HookDidNotFire(
            f"the experts of '{site.module}' were called without the routing they were found with, so nothing can be "
            "trusted"
        )
    return RoutedCall(hidden.reshape(-1, hidden.shape[-1]), index.flatten(0, -2), weight.flatten(0, -2))


def run_experts(
    network: nn.Module, site: ExpertSite, arguments: Arguments, call: RoutedCall, index: Tensor, weight: Tensor
) -> Float[Tensor, "tokens d"]:
    """Run the experts on the tokens of a call with another routing.

    Args:
        network: the model.
        site: the routed experts.
        arguments: all arguments of a real call; those that are not hidden states or routing are passed on.
        call: the call whose hidden states are read.
        index: experts for each token, `[tokens, any number]`.
        weight: routing weights, shaped as `index`.

    Returns:
        The weighted sum of the experts' outputs.
    """
    args, kwargs = _given(arguments, {site.hidden: call.hidden, site.index: index, site.weight: weight})
    with torch.no_grad():  # forward, since hooks on the module call this function
        output = first_tensor(network.get_submodule(site.module).forward(*args, **kwargs))
    assert output is not None
    return output.reshape(-1, output.shape[-1])


def with_routing(site: ExpertSite, arguments: Arguments, index: Tensor, weight: Tensor) -> Arguments:
    """Replace the routing in a module's arguments.

    Returns:
        The arguments with the new routing.
    """
    old = (_argument(arguments, key) for key in (site.index, site.weight))
    shaped = (new.view_as(tensor) for new, tensor in zip((index, weight), old, strict=True))
    return _given(arguments, dict(zip((site.index, site.weight), shaped, strict=True)))


def expert_writes(
    network: nn.Module, site: ExpertSite, arguments: Arguments, call: RoutedCall
) -> Float[Tensor, "tokens k d"]:
    """The write of each expert that a token is routed to.

    Returns:
        Writes with their routing weights applied, in the router's order.
    """
    tokens, k = call.index.shape
    each = RoutedCall(call.hidden.repeat_interleave(k, 0), call.index.reshape(-1, 1), call.weight.reshape(-1, 1))
    return run_experts(network, site, arguments, each, each.index, each.weight).view(tokens, k, -1)


def find_expert_sites(
    network: nn.Module, trace: Trace, blocks: Sequence[Block], writers: Sequence[Writer], tolerance: float
) -> tuple[ExpertSite, ...]:
    """Find the routed experts of every MLP that has some.

    Args:
        network: the model.
        trace: a recorded forward pass of it.
        blocks: its blocks with their writers.
        writers: the writers of all blocks.
        tolerance: relative error that counts as equal.

    Returns:
        One site for each block with routed experts.
    """
    found: list[ExpertSite] = []
    with hooked() as hooks:
        for layer, block in enumerate(blocks):
            for path, module in network.named_modules():
                if path.startswith(block.path + "."):

                    def see(arguments: Arguments, output: Tensor, layer: int = layer, path: str = path) -> None:
                        site = _recognise(network, layer, path, arguments, output)
                        if site is not None and _misfit(network, site, arguments, output) < 5 * tolerance:
                            found.append(site)

                    hooks.watch_call(module, see)
        forward(network, trace.ids)
    single = [site for site in found if sum(other.layer == site.layer for other in found) == 1]
    return _linked(network, trace, blocks, writers, single, tolerance) if single else ()


def expert_error(network: nn.Module, ids: Tensor, sites: Sequence[ExpertSite]) -> float:
    """Largest relative error of "single experts sum to their module's output".

    Returns:
        The largest error over sites; 0 without sites.
    """
    errors: list[float] = []
    with hooked() as hooks:
        for site in sites:

            def see(arguments: Arguments, output: Tensor, site: ExpertSite = site) -> None:
                errors.append(_misfit(network, site, arguments, output))

            hooks.watch_call(network.get_submodule(site.module), see)
        forward(network, ids)
    return max(errors, default=0.0)


def experts_of_last_token(network: nn.Module, ids: Tensor, site: ExpertSite) -> list[int]:
    """The experts that the last tokens are routed to, most frequent first.

    Returns:
        Indices of experts.
    """
    index: list[Tensor] = []
    with hooked() as hooks:
        module = network.get_submodule(site.module)
        hooks.watch_call(module, lambda arguments, _: index.append(routed_call(site, arguments).index))
        forward(network, ids)
    experts, counts = index[0].view(*ids.shape, -1)[:, -1].unique(return_counts=True)
    return [int(expert) for expert in experts[counts.argsort(descending=True, stable=True)]]


def _given(arguments: Arguments, new: Mapping[int | str, Tensor]) -> Arguments:
    args, kwargs = arguments
    return tuple(new.get(i, value) for i, value in enumerate(args)), {k: new.get(k, v) for k, v in kwargs.items()}


def _argument(arguments: Arguments, key: int | str) -> Any:
    return arguments[0][key] if isinstance(key, int) else arguments[1][key]


def _recognise(network: nn.Module, layer: int, path: str, arguments: Arguments, output: Tensor) -> ExpertSite | None:
    """Recognise a routing among arguments: integers, and as many weights."""
    named: list[tuple[int | str, Any]] = [*enumerate(arguments[0]), *arguments[1].items()]
    tensors = [(key, value) for key, value in named if isinstance(value, Tensor)]
    hidden = hidden_argument(*arguments)
    tokens = output.numel() // max(1, output.shape[-1])
    indices = [(key, t) for key, t in tensors if _is_integer(t) and t.ndim > 1 and t.numel() == tokens * t.shape[-1]]
    if len(indices) != 1 or hidden is None or hidden.numel() != tokens * hidden.shape[-1]:
        return None
    index = indices[0][1]
    weights = [k for k, t in tensors if t.is_floating_point() and t is not hidden and t.shape == index.shape]
    count = _n_experts(network.get_submodule(path))
    if len(weights) != 1 or count is None or int(index.max()) >= count:
        return None
    key = next(key for key, value in tensors if value is hidden)
    return ExpertSite(layer, path, count, index.shape[-1], output.shape[-1], key, indices[0][0], weights[0])


def _is_integer(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() and not tensor.is_complex() and tensor.dtype != torch.bool


def _n_experts(module: nn.Module) -> int | None:
    """Number of experts: the first size of stacked weights, or a list's length."""
    stacks = {weight.shape[0] for weight in module.parameters(recurse=False) if weight.ndim > 2}
    if not stacks and isinstance(module, nn.ModuleList):
        stacks = {len(module)}
    return stacks.pop() if len(stacks) == 1 else None


def _misfit(network: nn.Module, site: ExpertSite, arguments: Arguments, output: Tensor) -> float:
    call = routed_call(site, arguments)
    summed = expert_writes(network, site, arguments, call).double().sum(1)
    return relative_error(summed, output.reshape(summed.shape))


def _linked(
    network: nn.Module,
    trace: Trace,
    blocks: Sequence[Block],
    writers: Sequence[Writer],
    sites: Sequence[ExpertSite],
    tolerance: float,
) -> tuple[ExpertSite, ...]:
    """Keep the sites that feed an MLP writer, and find the link of each.

    The experts' output is disturbed, and no writer but those of the block's MLP may change. Every block gets its
    recorded input, so that all blocks are tested in one pass.
    """
    generator = torch.Generator().manual_seed(0)
    added: dict[str, Tensor] = {}
    moved: dict[str, tuple[Tensor | None, Tensor]] = {}
    with hooked() as hooks:
        for block in blocks:
            hooks.on_input(network.get_submodule(block.path), block.path, lambda _, resid=block.resid: resid)  # type: ignore[misc]
        for site in sites:

            def disturb(output: Tensor, site: ExpertSite = site) -> Tensor:
                noise = torch.randn(output.shape, generator=generator, dtype=torch.float32).to(output)
                changed = output + noise * output.float().std().to(output)
                added[site.module] = changed - output
                return changed

            hooks.on_output(network.get_submodule(site.module), f"{site.module} disturbed", disturb)
        for path in {path for writer in writers for path in writer.modules}:

            def see(state: Tensor | None, output: Tensor | None, path: str = path) -> None:
                if output is not None:
                    moved[path] = None if state is None else state.detach().clone(), output.detach().clone()

            hooks.on_call(network.get_submodule(path), see)
        forward(network, trace.ids)
    found = []
    for site in sites:
        here = [writer for writer in writers if writer.component.layer == site.layer]
        paths = [path for writer in here for path in writer.modules if _has_moved(trace, path, moved, tolerance)]
        mlp = [path for writer in here if writer.component.kind == "mlp" for path in writer.modules]
        if paths and set(paths) <= set(mlp):
            link = _link(network, trace, paths[0], moved[paths[0]], added[site.module], tolerance)
            found.append(site.with_link(link if len(paths) == 1 else None))
    return tuple(found)


def _has_moved(trace: Trace, path: str, moved: dict[str, tuple[Tensor | None, Tensor]], tolerance: float) -> bool:
    before = trace.of(path)[0].output
    assert before is not None
    return bool((moved[path][1] - before).double().norm() > 5 * tolerance * before.double().norm())


def _link(
    network: nn.Module,
    trace: Trace,
    path: str,
    after: tuple[Tensor | None, Tensor],
    added: Tensor,
    tolerance: float,
) -> Link | None:
    """Find how a change of the experts' output reaches their writer."""
    before = trace.of(path)[0]
    assert before.output is not None
    gain, error = _multiple(added, after[1] - before.output)
    if error < 10 * tolerance:
        return Link(path, "output", gain)
    if before.input is None or after[0] is None:
        return None
    gain, error = _multiple(added, after[0] - before.input)
    with torch.no_grad():
        alone = first_tensor(network.get_submodule(path).forward(after[0]))
    assert alone is not None
    repeats = (alone - after[1]).double().norm() <= tolerance * after[1].double().norm()
    return Link(path, "input", gain) if error < 10 * tolerance and repeats else None


def _multiple(one: Tensor, other: Tensor) -> tuple[float, float]:
    """The factor that best turns one tensor into another, and its relative error."""
    if one.numel() != other.numel():
        return 0.0, float("inf")
    a, b = one.double().flatten(), other.double().flatten()
    gain = float(a @ b / (a @ a).clamp_min(1e-30))
    gain = 1.0 if abs(gain - 1) < 1e-5 else gain
    return gain, relative_error(gain * a, b)
