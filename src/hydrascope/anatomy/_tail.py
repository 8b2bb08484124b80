"""Finds the tail: final norm, unembedding, multipliers and soft-cap.

The norm's gain, bias and eps come from its outputs on chosen inputs, so that no norm has to be known by name. Only the
value of a soft-cap is looked for in the model's config.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hydrascope.anatomy._anatomy import Tail
from hydrascope.anatomy._trace import Trace
from hydrascope.anatomy._weights import FLOAT_DTYPES, weights_loaded
from hydrascope.errors import AnatomyRefused

_SCALES = tuple(2.0**power for power in range(7, 44, 6))
"""Input sizes tried in turn until eps is negligible; multiplying by a power of two never rounds."""

_ROWS = 1024
"""Rows of an unembedding that are summed in float64 at a time."""


def find_tail(model: nn.Module, trace: Trace, last_block: str, tolerance: float, tokens: Collection[int] = ()) -> Tail:
    """Find final norm, unembedding, multipliers and soft-cap.

    Args:
        model: the model.
        trace: a recorded forward pass of it.
        last_block: path of the last block, whose output is the last residual state.
        tolerance: relative error that counts as equal.
        tokens: ids that the tokenizer can produce; none to take every row of the unembedding for a token.

    Returns:
        The tail, not yet proved on real states.

    Raises:
        AnatomyRefused: the head is no linear map of a normed state, or the logits are no scaled or soft-capped head
            output.
    """
    resid = trace.of(last_block)[0].output
    assert resid is not None
    head_path = _head_path(model)
    head_call = trace.of(head_path)[-1]
    if head_call.input is None or head_call.output is None:
        raise AnatomyRefused("linear head", f"the unembedding '{head_path}' was not called with a hidden state")
    norm_path = _norm_path(model, trace, last_block, resid)
    if norm_path is None:
        normed = resid
        gain, bias, eps, centred = torch.ones(resid.shape[-1]), torch.zeros(resid.shape[-1]), 0.0, False
    else:
        output = trace.of(norm_path)[-1].output
        assert output is not None
        normed = output
        gain, bias, eps, centred = probe_norm(model.get_submodule(norm_path), resid)
    pre_gain = _ratio(normed, head_call.input, tolerance, "state before the head")
    scale, softcap = _head_to_logits(model, head_call.output, trace.logits, tolerance)
    head: Any = model.get_submodule(head_path)
    averaged = _averaged(trace.logits.shape[-1], tokens)
    mean_row, mean_head_bias = _vocabulary_means(head, head_path, (trace.logits.shape[-1], resid.shape[-1]), averaged)
    return Tail(
        norm=norm_path,
        head=head_path,
        norm_calls=len(trace.of(norm_path)) if norm_path is not None else 0,
        centred=centred,
        eps=eps,
        gain=gain.to(resid.device),
        bias=bias.to(resid.device),
        pre_gain=pre_gain,
        scale=scale,
        softcap=softcap,
        mean_row=mean_row.to(resid.device),
        mean_head_bias=mean_head_bias,
        averaged=averaged,
    )


def probe_norm(norm: nn.Module, resid: Float[Tensor, "batch tokens d"]) -> tuple[Tensor, Tensor, float, bool]:
    """Find gain, bias, eps and centring of a norm from its outputs.

    The bias is the output at zero. The norm centres if adding a constant to the input changes nothing. The gain is read
    at inputs so large that eps is negligible, eps at smaller ones.

    Args:
        norm: a LayerNorm- or RMSNorm-like module.
        resid: residual states, for their width, dtype and device.

    Returns:
        `(gain [d], bias [d], eps, centred)`, float32 on the CPU.
    """
    parameters = list(norm.parameters())
    dtype = parameters[0].dtype if parameters else resid.dtype
    work = torch.float64 if all(p.dtype == torch.float32 for p in parameters) else torch.float32
    x = torch.randn(8, resid.shape[-1], generator=torch.Generator().manual_seed(0)).to(resid.device, work)

    def ask(states: Tensor) -> Tensor:
        with torch.no_grad():
            answer: Tensor = norm(states.to(dtype))
        return answer.to(x)

    bias = ask(torch.zeros_like(x[:1]))[0]
    unit = x / x.pow(2).mean(-1, keepdim=True).sqrt()
    rounding = max(1e-6, torch.finfo(dtype).eps)
    scale = next((s for s in _SCALES if _close(ask(unit * s), ask(unit * s * 8), rounding)), _SCALES[-1])
    plain = ask(unit * scale)
    centred = bool((ask(unit * scale + 3 * scale) - plain).abs().max() < 0.1 * (plain - bias).abs().max())
    core = unit - unit.mean(-1, keepdim=True) if centred else unit
    size = core.pow(2).mean(-1, keepdim=True).sqrt()
    gain = ((plain - bias) * core / size).sum(0) / (core / size).pow(2).sum(0)

    def kept(s: float) -> float:
        """The factor s / sqrt(s^2 + eps) of an input with root mean square s."""
        full = core / size * gain
        return float(((ask(unit / size * s) - bias) * full).sum() / full.pow(2).sum())

    return gain.float().cpu(), bias.float().cpu(), _eps(kept, scale), centred


def _eps(kept: Callable[[float], float], high: float) -> float:
    """Solve for eps, the square of the s at which `kept(s)` squared is one half.

    Args:
        kept: the factor s / sqrt(s^2 + eps) as a function of s.
        high: an s at which eps is negligible.

    Returns:
        The eps, by bisection; 0 if eps is negligible down to 1e-20 times `high`.
    """
    low = high * 1e-20
    if kept(low) ** 2 > 0.5:
        return 0.0
    for _ in range(80):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if kept(middle) ** 2 < 0.5 else (low, middle)
    return low * high


def _close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    return bool((a - b).norm() <= tolerance * b.norm())


def _head_path(model: Any) -> str:
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    for path, module in model.named_modules():
        if module is head and head is not None:
            return str(path)
    raise AnatomyRefused("linear head", "the model does not name its output embeddings")


def _norm_path(model: nn.Module, trace: Trace, last_block: str, resid: Tensor) -> str | None:
    """Path of the first module after the blocks that takes the last residual state."""
    after = next(i for i, call in enumerate(trace.calls) if call.path == last_block) + 1
    head = _head_path(model)
    for call in trace.calls[after:]:
        if call.path == head or call.input is None or call.output is None:
            continue
        if call.input.shape == resid.shape == call.output.shape and torch.equal(call.input, resid):
            if torch.equal(call.output, resid):  # an inactive dropout, say
                continue
            return call.path
    return None


def _ratio(a: Tensor, b: Tensor, tolerance: float, where: str) -> float:
    if a.shape == b.shape:
        ratio = float((a.double() * b.double()).sum() / a.double().pow(2).sum())
        if (b.double() - ratio * a.double()).norm() <= tolerance * b.double().norm():
            return 1.0 if abs(ratio - 1) < tolerance else ratio
    raise AnatomyRefused("linear tail", f"the {where} is no multiple of the normed last residual state")


def _head_to_logits(model: nn.Module, head: Tensor, logits: Tensor, tolerance: float) -> tuple[float, float | None]:
    """Find the multiplier and soft-cap between the head's output and the logits."""
    y, goal = head.double(), logits.double()
    try:
        return _ratio(y, goal, tolerance, "logits"), None
    except AnatomyRefused:
        pass
    for cap in _positive_numbers(model):
        inner = torch.atanh((goal / cap).clamp(-1 + 1e-12, 1 - 1e-12)) * cap
        scale = float((y * inner).sum() / y.pow(2).sum())
        scale = 1.0 if abs(scale - 1) < 1e-2 else scale
        if (torch.tanh(y * scale / cap) * cap - goal).norm() <= max(tolerance, 1e-5) * goal.norm():
            return scale, cap
    raise AnatomyRefused("logits from head", "the logits are neither a multiple nor a soft-cap of the head's output")


def _positive_numbers(model: Any) -> list[float]:
    config = model.config.get_text_config()
    values = {float(v) for v in vars(config).values() if isinstance(v, int | float) and not isinstance(v, bool)}
    return sorted(v for v in values if v > 0)


def _averaged(vocabulary: int, tokens: Collection[int]) -> Bool[Tensor, " vocab"] | None:
    """Which rows of the unembedding are tokens; None where all are, or where no tokenizer tells."""
    known = [token for token in set(tokens) if 0 <= token < vocabulary]
    if len(known) in (0, vocabulary):
        return None
    averaged = torch.zeros(vocabulary, dtype=torch.bool)
    averaged[known] = True
    return averaged


def _vocabulary_means(
    head: Any, path: str, shape: tuple[int, int], averaged: Bool[Tensor, " vocab"] | None
) -> tuple[Float[Tensor, " d"], float]:
    """Means of the unembedding's rows and bias over the vocabulary."""
    with weights_loaded(head):
        weight, bias = getattr(head, "weight", None), getattr(head, "bias", None)
        if weight is None or tuple(weight.shape) != shape:
            raise AnatomyRefused("linear head", f"'{path}' has no [vocabulary, d_model] weight")
        if type(weight.data) is not Tensor or weight.dtype not in FLOAT_DTYPES:
            raise AnatomyRefused(
                "linear head", f"the weight of '{path}' is quantised, so its rows cannot be read; leave that module out"
            )
        total = torch.zeros(shape[1], dtype=torch.float64, device=weight.device)
        chosen = torch.arange(shape[0]) if averaged is None else averaged.nonzero()[:, 0]
        for rows in chosen.to(weight.device).split(_ROWS):
            total += weight.detach()[rows].double().sum(0)
        mean_bias = 0.0 if bias is None else float(bias.detach()[chosen.to(bias.device)].double().mean())
        return (total / len(chosen)).float(), mean_bias
