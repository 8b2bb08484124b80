"""Directions in the residual stream that read the logit of a token.

With the final norm's scale sigma frozen, a writer's direct effect on token i is <write, w_i> / sigma, and

    w_i = scale * pre_gain * C (gain * (W_U[i] - mean_V W_U)),    C = I - 11^T/d for LayerNorm, I for RMSNorm

(McGrath et al. 2023, eqs. 7 to 10: unembedding with the vocabulary mean subtracted). A logit difference is read by
w_target - w_foil, in which the mean cancels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hydrascope.anatomy._anatomy import Tail
from hydrascope.anatomy._weights import weights_loaded


@dataclass(frozen=True)
class Directions:
    """One read-out direction for each prompt.

    Attributes:
        vectors: w_i of the target, minus that of the foil where a difference is read; float32.
        constants: share of norm and head biases in the centred logit or the difference, not divided by sigma.
        tokens: target token ids.
        foils: ids of the tokens whose logit is subtracted; None where the target's centred logit is read.
    """

    vectors: Float[Tensor, "prompts d"]
    constants: Float[Tensor, " prompts"]
    tokens: Int[Tensor, " prompts"]
    foils: Int[Tensor, " prompts"] | None = None


def directions(
    network: nn.Module, tail: Tail, tokens: Int[Tensor, " prompts"], foils: Int[Tensor, " prompts"] | None = None
) -> Directions:
    """The read-out directions of tokens.

    Args:
        network: the model, for the rows of its unembedding.
        tail: the model's map from the last residual state to the logits.
        tokens: target token id of each prompt.
        foils: id of the token whose logit is subtracted, for each prompt; None to read centred logits.

    Returns:
        Vectors and constants in float32, on the device of the tail.
    """
    head: Any = network.get_submodule(tail.head)
    here, bias = tail.mean_row.device, None
    with weights_loaded(head):
        where = head.weight.device
        rows = head.weight.detach()[tokens.to(where)].to(here, torch.float32)
        rows = rows - (tail.mean_row if foils is None else head.weight.detach()[foils.to(where)].to(rows))
        if getattr(head, "bias", None) is not None:
            bias = head.bias.detach()[tokens.to(where)].to(rows)
            bias = bias - (tail.mean_head_bias if foils is None else head.bias.detach()[foils.to(where)].to(rows))
    vectors = rows * tail.gain
    if tail.centred:
        vectors = vectors - vectors.mean(-1, keepdim=True)
    constants = tail.pre_gain * (rows @ tail.bias)
    if bias is not None:
        constants = constants + bias
    return Directions(vectors * (tail.scale * tail.pre_gain), tail.scale * constants, tokens, foils)
