"""Directions in the residual stream that read the logit of a token, with the final norm's scale left out.

With sigma frozen, a writer's direct effect on token i is <write, w_i> / sigma, and

    w_i = scale * pre_gain * C (gain * (W_U[i] - mean_V W_U)),    C = I - 11^T/d for LayerNorm, I for RMSNorm

(McGrath et al. 2023, eqs. 7 to 10: unembedding with the vocabulary mean subtracted).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hydrascope.anatomy.spec import Tail
from hydrascope.anatomy.weights import at_hand


@dataclass(frozen=True)
class Directions:
    """One read-out per prompt.

    Attributes:
        vectors: w_i of each prompt's target, float32.
        constants: what norm and head biases add to the centred logit; no scale touches it.
        tokens: the targets.
    """

    vectors: Float[Tensor, "prompts d"]
    constants: Float[Tensor, " prompts"]
    tokens: Int[Tensor, " prompts"]


def directions(network: nn.Module, tail: Tail, tokens: Int[Tensor, " prompts"]) -> Directions:
    """Read-out directions of the given tokens.

    Args:
        network: the model, for the rows of its unembedding.
        tail: how it gets from the last residual state to the logits.
        tokens: target token of each prompt.

    Returns:
        Vectors and constants, in float32.
    """
    head: Any = network.get_submodule(tail.head)
    here, bias = tail.mean_row.device, None
    with at_hand(head):
        rows = head.weight.detach()[tokens.to(head.weight.device)].to(here, torch.float32) - tail.mean_row
        if getattr(head, "bias", None) is not None:
            bias = head.bias.detach()[tokens.to(head.bias.device)].to(here, torch.float32) - tail.mean_head_bias
    vectors = rows * tail.gain
    if tail.centred:
        vectors = vectors - vectors.mean(-1, keepdim=True)
    constants = tail.pre_gain * (rows @ tail.bias)
    if bias is not None:
        constants = constants + bias
    return Directions(vectors * (tail.scale * tail.pre_gain), tail.scale * constants, tokens)
