"""Records the input and output of every module in one forward pass.

Meant for a few tokens: everything is kept in memory. To read or replace some activations, use `hooked`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hydrascope.anatomy._hooks import Hooks, hooked
from hydrascope.errors import AnatomyRefused


@dataclass(frozen=True)
class Call:
    """One call of one module.

    Attributes:
        path: path of the module.
        input: hidden state it was called with; None if there is no floating-point one.
        output: first tensor it returned; None if there is no floating-point one.
    """

    path: str
    input: Tensor | None
    output: Tensor | None


@dataclass(frozen=True)
class Trace:
    """The module calls of one forward pass.

    Attributes:
        ids: token ids.
        calls: every call in the order of return, with its tensors on the device of `ids`.
        logits: the model's logits.
    """

    ids: Int[Tensor, "batch tokens"]
    calls: tuple[Call, ...]
    logits: Float[Tensor, "batch tokens vocab"]

    def of(self, path: str) -> list[Call]:
        """The calls of one module."""
        return [call for call in self.calls if call.path == path]


def forward(model: nn.Module, ids: Int[Tensor, "batch tokens"]) -> Float[Tensor, "batch tokens vocab"]:
    """The logits of the untouched model, computed without a cache."""
    with torch.no_grad():
        logits: Tensor = model(input_ids=ids, use_cache=False).logits
    return logits


def record(model: nn.Module, ids: Int[Tensor, "batch tokens"]) -> Trace:
    """Run the model once and record every module's call.

    Args:
        model: a Hugging Face causal language model in eval mode.
        ids: a few tokens.

    Returns:
        The recorded calls and the logits.

    Raises:
        AnatomyRefused: the logits are not finite or not one row per token.
    """
    calls: list[Call] = []

    def watch(hooks: Hooks, path: str, module: nn.Module) -> None:
        hooks.on_call(module, lambda x, y: calls.append(Call(path, _kept(x, ids.device), _kept(y, ids.device))))

    with hooked() as hooks:
        for path, module in model.named_modules():
            if path:
                watch(hooks, path, module)
        logits = forward(model, ids)
    if logits.shape[:2] != ids.shape:
        raise AnatomyRefused("causal logits", f"logits of shape {tuple(logits.shape)} for {tuple(ids.shape)} tokens")
    if not torch.isfinite(logits).all():
        raise AnatomyRefused("finite logits", "the untouched model returns NaN or infinite logits")
    return Trace(ids, tuple(calls), logits.to(ids.device))


def _kept(tensor: Tensor | None, device: torch.device) -> Tensor | None:
    """A copy on one device, so that calls on several devices can be compared."""
    if tensor is None or not tensor.is_floating_point():
        return None
    return tensor.detach().to(device, copy=True)


def find_layers(model: nn.Module, trace: Trace) -> tuple[str, ...]:
    """Find the decoder blocks.

    They are the members of the outermost module list in which each one's output is the next one's input.

    Args:
        model: the model.
        trace: a recorded forward pass of it.

    Returns:
        Paths of the blocks, in order.

    Raises:
        AnatomyRefused: there is no such list.
    """
    lists = [path for path, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module)]
    for path in sorted(lists, key=lambda path: path.count(".")):
        members = [f"{path}.{i}" for i in range(len(model.get_submodule(path)))]  # type: ignore[arg-type]
        if _hand_on(members, trace):
            return tuple(members)
        run = [member for member in members if trace.of(member)]
        if 0 < len(run) < len(members) and _hand_on(run, trace):
            raise AnatomyRefused(
                "decoder blocks", f"'{path}' holds {len(members)} blocks and runs {len(run)}; mend what its config says"
            )
    raise AnatomyRefused("decoder blocks", "no list of blocks passes a single residual stream from one to the next")


def _hand_on(paths: Sequence[str], trace: Trace) -> bool:
    chain = []
    for path in paths:
        calls = trace.of(path)
        if len(calls) != 1 or calls[0].input is None or calls[0].output is None:
            return False
        if calls[0].input.shape != calls[0].output.shape or calls[0].input.shape[:2] != trace.ids.shape:
            return False
        chain.append(calls[0])
    return all(torch.equal(a.output, b.input) for a, b in pairwise(chain))  # type: ignore[arg-type]
