"""Lets modules whose weights are all zero speak while an anatomy is found.

Blocks that were added to a model and not yet trained (LLaMA Pro, duplicated blocks) write zero, and what writes zero
shows no writer, no head and no mixing of positions. In their place stands, for as long as the search lasts, a fixed
random map of what they read; the proof afterwards is made on the model as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hydrascope.anatomy._hooks import hidden_argument
from hydrascope.anatomy._trace import record


@contextmanager
def speaking(model: nn.Module, ids: Int[Tensor, "batch tokens"]) -> Iterator[None]:
    """Replace, for a while, the output of every module with weights that returns zero for these tokens.

    Args:
        model: a Hugging Face causal language model in eval mode.
        ids: a few tokens.
    """
    handles = []
    for number, call in enumerate(record(model, ids).calls):
        module = model.get_submodule(call.path)
        weight = getattr(module, "weight", None)
        if weight is None or weight.ndim > 2 or call.input is None or call.output is None:
            continue
        if call.output.any() or not call.input.any():
            continue
        wide, narrow = call.input.shape[-1], call.output.shape[-1]
        speech = torch.randn(wide, narrow, generator=torch.Generator().manual_seed(number)) / wide**0.5

        def speak(_: nn.Module, args: Any, kwargs: Any, output: Tensor, speech: Tensor = speech) -> Tensor:
            read = hidden_argument(args, kwargs)
            assert read is not None
            return (read @ speech.to(read)).to(output).reshape(output.shape)

        handles.append(module.register_forward_hook(speak, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
