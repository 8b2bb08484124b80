"""One push whose end can be differentiated: how far its rows' next-token distributions are from the clean run's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hydrascope.anatomy import Hooks, Model, hooked, weights_loaded
from hydrascope.engine.capture import Clean
from hydrascope.engine.rows import Rows
from hydrascope.engine.strategy import Strategy
from hydrascope.engine.variants import Variant, in_order_of_depth

LOGIT_BYTES = 64 * 2**20
"""Logits alive at once, in float32; for the gradient they are made again."""


class _ReachedHead(Exception):
    """Ends the forward pass where the unembedding would begin."""


def divergence(
    model: Model, clean: Clean, variants: Sequence[Variant], strategy: Strategy
) -> Float[Tensor, "variants items"]:
    """KL(clean || variant) of the next-token distribution in nats, with its gradient where one is asked for.

    Args:
        model: the model.
        clean: its clean pass on a batch.
        variants: what to replace.
        strategy: how rows come by what they share with the clean run.

    Returns:
        One number per variant and read position, in the order given.

    Raises:
        HookDidNotFire: an edit did not happen exactly once.
    """
    order = in_order_of_depth(variants)
    push = _Graded(model, clean, [variants[i] for i in order], strategy, with_clean=strategy.staircase)
    with hooked() as hooks, suppress(_ReachedHead), _frozen(model.network):
        push.attach(hooks)
        strategy.push(model.network, clean, len(variants) + push.with_clean)
    push.check_fired(hooks)
    states = push.normed[int(push.with_clean) :]
    items = max(1, LOGIT_BYTES // (4 * model.anatomy.n_vocab * len(variants)))
    found = [
        checkpoint(_kl, model, some, logits, use_reentrant=False, preserve_rng_state=False)
        for some, logits in zip(states.split(items, 1), clean.logits.split(items), strict=True)
    ]
    each: Tensor = torch.cat(found, 1)
    return each[torch.tensor(order).argsort().to(each.device)]


def _kl(
    model: Model, states: Float[Tensor, "variants items d"], clean: Float[Tensor, "items vocab"]
) -> Float[Tensor, "variants items"]:
    tail = model.anatomy.tail
    head: Any = model.network.get_submodule(tail.head)
    with weights_loaded(head):
        weight, bias = head.weight.detach(), getattr(head, "bias", None)
        bias = None if bias is None else bias.detach()
        logits = torch.nn.functional.linear(states.to(weight.device), weight, bias).float()
    log_q = tail.cap(logits * tail.scale).log_softmax(-1)
    log_p = clean.to(log_q.device).float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1)


class _Graded(Rows):
    """One push that ends at the head, with nothing changed in place that a gradient needs."""

    def attach(self, hooks: Hooks) -> None:
        module = self.model.network.get_submodule
        for layer, path in enumerate(self.model.anatomy.layers):
            hooks.on_input(module(path), f"start of block {layer}", lambda h, layer=layer: self._grow(h, layer))  # type: ignore[misc]
        for site in self.edits:
            watch = hooks.on_input if site.side == "input" else hooks.on_output
            watch(module(site.module), str(site), lambda x, site=site: self._put(_copy(x), site))  # type: ignore[misc]
        hooks.on_input(module(self.model.anatomy.tail.head), "head", self._stop)

    def _stop(self, normed: Tensor) -> NoReturn:
        self.normed = self.layout.items_of(normed)
        raise _ReachedHead


def _copy(tensor: Tensor) -> Tensor:
    return tensor.clone(memory_format=torch.contiguous_format)


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Weights that want no gradient: nothing is kept for theirs."""
    wanting = [weight for weight in network.parameters() if weight.requires_grad]
    try:
        for weight in wanting:
            weight.requires_grad_(False)
        yield
    finally:
        for weight in wanting:
            weight.requires_grad_(True)
