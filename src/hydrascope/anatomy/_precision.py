"""Tolerances that follow from the precision of a model's arithmetic.

Weights and activations keep the dtype they come in; read-outs and sums are always float32 or finer. Half precision
rounds the residual stream itself. Modules with quantised weights multiply in half precision, and some also round their
inputs, so that they get the tolerance of bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hydrascope.anatomy._weights import FLOAT_DTYPES, model_dtype, quantization

ANATOMY = {torch.float64: 2e-5, torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 2e-2}
"""Relative error that counts as equal while an anatomy is found; proofs allow five times as much."""

CLOSING = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 5e-2, torch.bfloat16: 3e-1}
"""Largest |remainder| / max(1, |total effect|) of an account that closes, in logits."""


def relative_error(measured: Tensor, right: Tensor) -> float:
    """Norm of the difference over the norm of the right value, in float64."""
    return float((measured.double() - right.double()).norm() / right.double().norm().clamp_min(1e-30))


def precision(network: Any) -> torch.dtype:
    """The dtype whose rounding the model's arithmetic has."""
    quantised = quantization(network) or any(tensor.dtype not in FLOAT_DTYPES for tensor in network.parameters())
    return torch.bfloat16 if quantised else model_dtype(network)
