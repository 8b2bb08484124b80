"""Proves an anatomy on other tokens than it was found on.

Each check has a name, a measured value and the largest value that passes. Costs two short forward passes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hydrascope.anatomy._anatomy import Anatomy
from hydrascope.anatomy._discover import random_ids
from hydrascope.anatomy._experts import expert_error
from hydrascope.anatomy._precision import relative_error
from hydrascope.anatomy._readout import directions
from hydrascope.anatomy._trace import Trace, record
from hydrascope.anatomy._units import splitting_error
from hydrascope.errors import AnatomyRefused


@dataclass(frozen=True)
class Check:
    """A statement about a model, with its measured error.

    Attributes:
        name: short name, cited by refusals.
        value: measured error.
        allowed: largest error that passes.
        meaning: the statement in words.
    """

    name: str
    value: float
    allowed: float
    meaning: str

    @property
    def passed(self) -> bool:
        """Whether the error is small enough; NaN is not."""
        return self.value <= self.allowed


def require(checks: Iterable[Check]) -> None:
    """Refuse the model if a check failed.

    Raises:
        AnatomyRefused: a check failed; the error names the first, its value and its tolerance.
    """
    for check in checks:
        if not check.passed:
            raise AnatomyRefused(
                check.name, f"{check.meaning}: measured {check.value:.1e}, allowed {check.allowed:.0e}"
            )


def prove_anatomy(network: nn.Module, anatomy: Anatomy) -> tuple[Check, ...]:
    """Check an anatomy against the model on fresh random tokens.

    Args:
        network: the model.
        anatomy: its anatomy as found.

    Returns:
        The checks, passed or not.
    """
    trace = record(network, random_ids(network, batch=2, tokens=7, seed=1))
    allowed = anatomy.tolerance * 5
    resid = trace.of(anatomy.layers[-1])[0].output
    embed = trace.of(anatomy.layers[0])[0].input
    assert resid is not None and embed is not None
    total = anatomy.embed_gain * embed.double()
    for writer in anatomy.writers:
        for path, gain in zip(writer.modules, writer.gains, strict=True):
            write = trace.of(path)[0].output
            assert write is not None
            total = total + gain * write.double().reshape(resid.shape)
    projections = [site.module for site in anatomy.heads] + [site.module for site in anatomy.neurons]
    split = [splitting_error(network, trace, path) for path in projections]
    checks = [
        Check(
            "additive residual",
            _sum_error(total, resid, trace, anatomy),
            allowed,
            "embedding and writes sum to the last residual",
        ),
        Check("units", max(split, default=0.0), allowed, "heads and neurons sum to what their projection writes"),
        *_expert_checks(network, anatomy, trace, allowed),
        *_tail_checks(network, anatomy, trace, resid, allowed),
    ]
    return tuple(checks)


def _sum_error(total: Tensor, resid: Tensor, trace: Trace, anatomy: Anatomy) -> float:
    """Error of a sum of writes at its worst position, relative to the stream where that was largest.

    A stream that was large in the middle of the model and is small at its end, as at the first token of many models,
    has been rounded as the large one.
    """
    streams = [trace.of(layer)[0].output for layer in anatomy.layers]
    norms = [stream.double().reshape(resid.shape).norm(dim=-1) for stream in streams if stream is not None]
    largest = torch.stack(norms).amax(0).clamp_min(1e-30)
    return float(((total - resid.double()).norm(dim=-1) / largest).max())


def _expert_checks(network: nn.Module, anatomy: Anatomy, trace: Trace, allowed: float) -> list[Check]:
    if not anatomy.experts:
        return []
    error = expert_error(network, trace.ids, anatomy.experts)
    return [Check("experts", error, allowed, "experts run one by one sum to what their module returns")]


def _tail_checks(network: nn.Module, anatomy: Anatomy, trace: Trace, resid: Tensor, allowed: float) -> list[Check]:
    tail = anatomy.tail
    sigma = tail.sigma(resid)[..., None]
    state = resid.float() - resid.float().mean(-1, keepdim=True) if tail.centred else resid.float()
    norm_error = 0.0
    if tail.norm is not None:
        normed = trace.of(tail.norm)[-1].output
        assert normed is not None
        norm_error = relative_error(state / sigma * tail.gain + tail.bias, normed)
    head = trace.of(tail.head)[-1].output
    assert head is not None
    link_error = relative_error(tail.cap(head.float() * tail.scale), trace.logits)
    tokens = trace.logits[:, -1].argmax(-1)
    read = directions(network, tail, tokens)
    logits = head[:, -1].float() * tail.scale
    measured = logits.gather(1, tokens[:, None])[:, 0] - tail.of_tokens(logits).mean(-1)
    predicted = (resid[:, -1].float() * read.vectors).sum(-1) / sigma[:, -1, 0] + read.constants
    readout_error = float((predicted - measured).abs().max() / measured.abs().max().clamp_min(1.0))
    return [
        Check("final norm", norm_error, allowed, "gain * center(z) / sigma(z) + bias is the final norm"),
        Check(
            "logits from head", link_error, allowed, "multiplier and soft-cap turn the head's output into the logits"
        ),
        Check("read-out", readout_error, allowed, "the read-out direction gives the vocabulary-centred target logit"),
    ]
