"""The clean run of a batch with the graph of its read-out, and gradients of it.

The forward is the engine's own: single tokens on a shared prefix at the last token, otherwise whole texts. A zero that
wants a gradient is added to every watched activation, so nothing that the model computes changes, and no weight gets a
gradient. Each prompt may have several rows, which differ only in the block whose gradient is dropped, so that one
backward pass reads the weights once for all of them. The graph is kept until the object goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hydrascope.anatomy import Arguments, Hooks, Model, Site, hidden_argument, hooked, weights_loaded
from hydrascope.attribution._scores import Value
from hydrascope.engine import CleanRun, Items, ReachedHead, Strategy, frozen_weights, watching
from hydrascope.errors import AnatomyRefused, NonFinite


class GradedRun:
    """One forward of the untouched model that gradients can be taken of.

    Args:
        model: the model.
        strategy: how the exact run runs its rows.
        clean: clean run of the batch.
        items: what is read.
        sites: where gradients are taken.
        value: the read-out.
        dropped: for each row of a prompt, a block through whose write no gradient goes back; None drops nothing.
        watched: also take gradients with respect to attention weights, and keep what blocks are called with.

    Attributes:
        read: read-out of every row and item.
        weights: by block, clean attention weights; empty unless watched.
        calls: arguments of every block's call; empty unless watched.
        streams: the residual stream that enters every block; empty unless watched.

    Raises:
        HookDidNotFire: a site was not passed exactly once.
        AnatomyRefused: no gradient comes through the model.
        NonFinite: the read-out is NaN or infinite.
    """

    def __init__(
        self,
        model: Model,
        strategy: Strategy,
        clean: CleanRun,
        items: Items,
        sites: Sequence[Site],
        value: Value,
        *,
        dropped: Sequence[int | None] = (None,),
        watched: bool = False,
    ) -> None:
        self.dropped = dropped
        self.model, self.layout, self.sites = model, strategy.layout(clean), sites
        self.read = torch.empty(0)
        self.weights: dict[int, Tensor] = {}
        self.calls: list[Arguments] = []
        self.streams: list[Tensor] = []
        self._zeros: dict[Site, Tensor] = {}
        self._weight_zeros: dict[int, Tensor] = {}
        self._items, self._value = items, value
        blocks = enumerate(map(model.network.get_submodule, model.anatomy.layers))
        self._block_of = {id(module): layer for layer, block in blocks for module in block.modules()}
        watch = watching(model.network, self._see_weights) if watched else nullcontext()
        with hooked() as hooks, torch.enable_grad(), frozen_weights(model.network), watch, suppress(ReachedHead):
            if strategy.staircase:
                self._multiply(hooks)
            self._attach(hooks, watched)
            strategy.whole.run(model.network, clean, len(dropped))
        hooks.require_fired()
        if not self.read.requires_grad:
            raise AnatomyRefused("gradients", "no gradient comes through this model; take exact knock-outs alone")
        if not torch.isfinite(self.read).all():
            raise NonFinite(f"the clean run leads to NaN or infinite logits; {model.mend}")
        read = len(self.layout.read)
        self._scale = 1.0 if items.together > 1 else 1 / read

    def _multiply(self, hooks: Hooks) -> None:
        block = self.model.network.get_submodule(self.model.anatomy.layers[0])
        hooks.on_input(block, "rows of a prompt", lambda x: x.repeat(len(self.dropped), *(1,) * (x.ndim - 1)))

    def _attach(self, hooks: Hooks, watched: bool) -> None:
        module = self.model.network.get_submodule
        for site in self.sites:
            watch = hooks.on_input if site.side == "input" else hooks.on_output
            watch(module(site.module), str(site), lambda x, site=site: self._add_zero(x, site))  # type: ignore[misc]
        for writer in self.model.anatomy.writers:
            for path in writer.modules:
                layer = writer.component.layer
                hooks.on_output(module(path), f"write of {path}", lambda x, layer=layer: self._let_drop(x, layer))  # type: ignore[misc]
        if watched:
            for path in self.model.anatomy.layers:
                hooks.on_arguments(module(path), f"call of {path}", self._keep_call)
        hooks.on_input(module(self.model.anatomy.tail.head), "head", self._stop)

    def _add_zero(self, x: Tensor, site: Site) -> Tensor:
        spread = torch.zeros_like(x, memory_format=torch.contiguous_format)
        zero = torch.zeros_like(self.layout.edited_of(spread)).requires_grad_()
        for row, one in enumerate(zero):
            self.layout.put(spread, row, slice(None), one)
        self._zeros[site] = zero
        return x + spread

    def _let_drop(self, written: Tensor, layer: int) -> None:
        rows = [row for row, dropped in enumerate(self.dropped) if dropped == layer]
        if rows and written.requires_grad:

            def drop(slope: Tensor) -> Tensor:
                slope = slope.clone(memory_format=torch.contiguous_format)
                self.layout.by_row(slope)[rows] = 0
                return slope

            written.register_hook(drop)

    def _keep_call(self, arguments: Arguments) -> Arguments:
        stream = hidden_argument(*arguments)
        assert stream is not None
        self.calls.append(arguments)
        self.streams.append(stream.detach().clone())  # some models add to it in place
        return arguments

    def _see_weights(self, module: nn.Module, weights: Tensor) -> Tensor:
        layer = self._block_of[id(module)]
        if layer in self.weights:
            raise AnatomyRefused("moved weights", f"block {layer} attends twice; leave the score query_key out")
        self.weights[layer] = weights.detach()
        self._weight_zeros[layer] = torch.zeros_like(weights).requires_grad_()
        return weights + self._weight_zeros[layer]

    def _stop(self, normed: Tensor) -> NoReturn:
        self.read = _read(self.model, self.layout.items_of(normed), self._items, self._value)
        raise ReachedHead

    def gradients(self) -> dict[Site, Float[Tensor, "rows prompts edited _"]]:
        """Gradient of each prompt's read-out with respect to every site's values at the replaced positions, row by row.

        A text's read-out is the mean over its read positions, an answer's the sum over its tokens.

        Raises:
            NonFinite: a gradient is NaN or infinite.
        """
        return dict(zip(self._zeros, self._slopes(list(self._zeros.values())), strict=True))

    def weight_gradients(self) -> dict[int, Tensor]:
        """Gradient with respect to the attention weights of every block, in the shape of `weights`."""
        return dict(zip(self._weight_zeros, self._slopes(list(self._weight_zeros.values())), strict=True))

    def _slopes(self, leaves: list[Tensor]) -> list[Tensor]:
        found = torch.autograd.grad(
            self.read.sum() * self._scale, leaves, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        if not all(torch.isfinite(slope).all() for slope in found):
            raise NonFinite(f"a gradient of the clean run is NaN or infinite; {self.model.mend}")
        return list(found)


def _read(
    model: Model, normed: Float[Tensor, "rows items d"], items: Items, value: Value
) -> Float[Tensor, "rows items"]:
    """The read-out of every item, as the exact run measures it, from the input of the unembedding."""
    tail = model.anatomy.tail
    head: Any = model.network.get_submodule(tail.head)
    with weights_loaded(head):
        weight, bias = head.weight.detach(), getattr(head, "bias", None)
        bias = weight.new_zeros(len(weight)) if bias is None else bias.detach()
        states, targets = normed.to(weight.device), items.targets.to(weight.device)
        if value == "log_prob":
            logits = tail.cap(torch.nn.functional.linear(states, weight, bias) * tail.scale)
            return logits.log_softmax(-1)[:, torch.arange(len(targets)), targets]
        if items.foils is None:
            rows, fixed = tail.mean_row.to(weight), tail.mean_head_bias
        else:
            foils = items.foils.to(weight.device)
            rows, fixed = weight[foils], bias[foils]
        found: Tensor = ((weight[targets] - rows) * states).sum(-1) + bias[targets] - fixed
        return found * tail.scale
