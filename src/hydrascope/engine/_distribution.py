"""Measures of the next-token distribution, a slice of the vocabulary at a time.

No row's logits ever exist whole: a slice is made, added to the running sums and dropped while it is still in the
processor's cache, so that the measures cost little beside the matrix product that makes the logits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope.anatomy import Tail, weights_loaded
from hydrascope.engine._memory import logit_bytes


@dataclass(frozen=True)
class Distribution:
    """What the logits say, intervention by intervention; intervention 0 is the clean run.

    Attributes:
        logit: target logit minus the mean over the vocabulary, or minus the foil's logit; before a soft-cap, multiplied
            in float32. The other measures are of the logits in the model's own format.
        log_prob: log-probability of the target, in nats.
        kl: KL(clean || intervention) in nats.
        rank: number of tokens with a higher logit than the target.
        probe: logits of the clean run, to compare with the untouched model's; None if not asked for.
    """

    logit: Float[Tensor, "interventions prompts"]
    log_prob: Float[Tensor, "interventions prompts"]
    kl: Float[Tensor, "interventions prompts"]
    rank: Float[Tensor, "interventions prompts"]
    probe: Float[Tensor, "prompts vocab"] | None

    def at(self, order: Int[Tensor, " interventions"]) -> Distribution:
        """The measures with interventions in another order; intervention 0 stays first."""
        return Distribution(self.logit[order], self.log_prob[order], self.kl[order], self.rank[order], self.probe)

    def behind(self, clean: Distribution) -> Distribution:
        """The measures with a clean run, measured before, as intervention 0."""

        def joined(measure: str) -> Tensor:
            return torch.cat([getattr(clean, measure)[:1], getattr(self, measure)])

        logit, log_prob, kl, rank = map(joined, ("logit", "log_prob", "kl", "rank"))
        return Distribution(logit, log_prob, kl, rank, clean.probe)


def read_logits(
    head: Any,
    tail: Tail,
    normed: Float[Tensor, "interventions prompts d"],
    tokens: Int[Tensor, " prompts"],
    with_distribution: bool,
    with_clean_logits: bool = True,
    foils: Int[Tensor, " prompts"] | None = None,
    known: Distribution | None = None,
) -> Distribution:
    """Unembed all rows and keep only what is asked of their logits.

    Args:
        head: the unembedding, a linear map.
        tail: multiplier and soft-cap behind the unembedding.
        normed: input of the unembedding.
        tokens: target of each prompt.
        with_distribution: measure log-probability, KL and rank; otherwise they are zero and only the targets and the
            unembedding's mean row are multiplied.
        with_clean_logits: keep intervention 0's logits, which takes the whole vocabulary of it.
        foils: token of each prompt whose logit is subtracted from the target's in place of the mean.
        known: clean run that was measured before and is not among the rows; with `probe` if `with_distribution`.

    Returns:
        The measures, float32 on the CPU.
    """
    with torch.no_grad(), weights_loaded(head):
        weight, bias = head.weight, getattr(head, "bias", None)
        states, tokens = normed.transpose(0, 1).contiguous().to(weight.device), tokens.to(weight.device)
        probe = None if known is None or known.probe is None else known.probe.to(weight.device)
        if known is None and (with_distribution or with_clean_logits):
            probe = tail.cap(torch.nn.functional.linear(states[:, 0], weight, bias).float() * tail.scale)
        # bfloat16 has steps of an eighth between 16 and 32, where logits are: many an effect is smaller
        fine = states.to(torch.promote_types(states.dtype, torch.float32))
        target = _logit(weight, bias, tail, fine, tokens)
        if with_distribution:
            assert probe is not None
            as_model = _logit(weight, bias, tail, states, tokens)
            other, *rest = _whole_vocabulary(weight, bias, tail, states, tokens, as_model, probe)
        else:
            other = (fine.float() @ tail.mean_row.to(weight.device) + tail.mean_head_bias) * tail.scale
            rest = [torch.zeros_like(target)] * 3
        if foils is not None:
            other = _logit(weight, bias, tail, fine, foils)
    logit, log_prob, kl, rank = (measure.T.contiguous().cpu() for measure in (target - other, *rest))
    if known is not None:
        return Distribution(logit, log_prob, kl, rank, None).behind(known)
    return Distribution(logit, log_prob, kl, rank, None if probe is None else probe.cpu())


def _logit(
    weight: Float[Tensor, "vocab d"],
    bias: Float[Tensor, " vocab"] | None,
    tail: Tail,
    states: Float[Tensor, "prompts interventions d"],
    tokens: Int[Tensor, " prompts"],
) -> Float[Tensor, "prompts interventions"]:
    """One token's logit for each prompt, before a soft-cap."""
    logit = torch.baddbmm(_bias_of(bias, tokens, states), states, weight[tokens][:, :, None].to(states))[..., 0].float()
    return logit * tail.scale


def _bias_of(bias: Tensor | None, tokens: Tensor, states: Tensor) -> Tensor:
    return states.new_zeros(1) if bias is None else bias[tokens][:, None, None].to(states)


def _whole_vocabulary(
    weight: Float[Tensor, "vocab d"],
    bias: Float[Tensor, " vocab"] | None,
    tail: Tail,
    states: Float[Tensor, "prompts interventions d"],
    tokens: Int[Tensor, " prompts"],
    target: Float[Tensor, "prompts interventions"],
    probe: Float[Tensor, "prompts vocab"],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean of the uncapped logits, log-probability of the target, KL divergence and rank.

    KL(p || q) = sum_i p_i (y_i - x_i) - log Z_p + log Z_q, for logits y of the clean run and x of an intervention. All
    terms are float64: they are of the size of the logits, and cancel to a divergence that may be a millionth of it.
    """
    vocabulary, size = weight.shape[0], logit_bytes(states.device)
    width = min(vocabulary, max(128, size // (8 * target.numel()) // 128 * 128))
    averaged = vocabulary if tail.averaged is None else int(tail.averaged.sum())
    capped = tail.cap(target)
    total, rank = torch.zeros_like(target), torch.zeros_like(target)
    highest = torch.full_like(target, -torch.inf)
    terms = target.new_empty(*target.shape, width, dtype=torch.float64)
    gap, partition = terms.new_zeros(target.shape), terms.new_zeros(target.shape)
    clean_partition = torch.stack([part.double().logsumexp(-1) for part in probe.split(width, -1)]).logsumexp(0)
    where = tokens.tolist()
    above = target.new_empty(*target.shape, width)
    for first in range(0, vocabulary, width):
        part = slice(first, min(first + width, vocabulary))
        logits = torch.nn.functional.linear(states, weight[part], None if bias is None else bias[part]).float()
        if tail.scale != 1:
            logits *= tail.scale
        some = None if tail.averaged is None else tail.averaged[part]
        total += (logits if some is None or some.all() else logits[..., some.to(logits.device)]).sum(-1)
        logits = tail.cap(logits)
        for prompt, token in enumerate(where):
            if part.start <= token < part.stop:  # its own product may round differently and outrank itself
                logits[prompt, :, token - first] = capped[prompt]
        rank += torch.gt(logits, capped[..., None], out=above[..., : logits.shape[-1]]).sum(-1)
        exact, clean = terms[..., : logits.shape[-1]].copy_(logits), probe[:, part, None].double()
        share = (clean - clean_partition[:, None, None]).exp()
        gap += (share * clean).sum(1) - torch.bmm(exact, share)[..., 0]
        before, highest = highest, torch.maximum(highest, logits.amax(-1))
        partition *= (before - highest).exp()
        partition += exact.sub_(highest[..., None]).exp_().sum(-1)
    log_partition = highest + partition.log()
    kl = gap - clean_partition[:, None] + log_partition
    return total / averaged, (capped - log_partition).float(), kl.clamp_min(0.0).float(), rank
