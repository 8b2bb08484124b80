"""How exact a model's own arithmetic is, and so what an account of it can be held to.

Weights and activations are used in the format they come in; read-outs and sums are in float32 or finer in any case.
Half formats round the residual stream itself. Modules with quantised weights multiply in half formats, and some also
round what goes into them, so that they are held to no more than bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch

from hydrascope.anatomy._weights import FLOAT_DTYPES, model_dtype, quantization

ANATOMY = {torch.float64: 2e-5, torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}
"""Relative error that counts as equal while a model is taken apart; proofs allow five times as much."""

CLOSING = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 3e-1}
"""Largest |remainder| / max(1, |total effect|) of an account, in logits."""


def precision(network: Any) -> torch.dtype:
    """The number format whose rounding the model's arithmetic has."""
    quantised = quantization(network) or any(tensor.dtype not in FLOAT_DTYPES for tensor in network.parameters())
    return torch.bfloat16 if quantised else model_dtype(network)
