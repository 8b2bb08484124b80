"""Rules by which a run keeps or drops prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from hydrascope.errors import EmptyPrompts, TargetError
from hydrascope.prompts._encode import Encoded, EncodedPrompt


@dataclass(frozen=True)
class Kept:
    """The prompts that a filter kept.

    Attributes:
        encoded: the kept prompts, each with its index in the whole set.
        dropped: number of prompts that were dropped.
    """

    encoded: Encoded
    dropped: int

    @property
    def prompts(self) -> tuple[EncodedPrompt, ...]:
        """The kept prompts."""
        return self.encoded.prompts


def answered_correctly(encoded: Encoded, clean_top: Sequence[int]) -> Kept:
    """Keep the prompts that the model completes correctly.

    A prompt is kept if its target is the most probable next token of the clean run, so that direct effects concern a
    fact that the model knows (McGrath et al. 2023, arXiv 2307.15771). A prompt without a target is always kept, since
    the model's top token is its target.

    Args:
        encoded: the prompts.
        clean_top: id of the clean run's most probable next token, by prompt index.

    Returns:
        The kept prompts, in order.

    Raises:
        EmptyPrompts: no prompt is completed correctly.
    """
    kept = _keep(encoded, lambda prompt: prompt.target_id in (None, clean_top[prompt.index]))
    if not kept.prompts:
        raise EmptyPrompts(
            f"the model's most probable next token is the target in none of the {kept.dropped} prompts; "
            "give prompts that it completes correctly, or take its top token as the target (--target top)"
        )
    return kept


def target_above_foil(encoded: Encoded, clean_margin: Sequence[float]) -> Kept:
    """Keep the prompts on which the model prefers the target to the foil.

    A positive logit difference counts as correct (Wang et al. 2022, arXiv 2211.00593), even if a third token is more
    probable than both.

    Args:
        encoded: prompts with target and foil.
        clean_margin: clean logit of the target minus that of the foil, by prompt index.

    Returns:
        The kept prompts, in order.

    Raises:
        EmptyPrompts: the target is above the foil on no prompt.
    """
    kept = _keep(encoded, lambda prompt: clean_margin[prompt.index] > 0)
    if not kept.prompts:
        raise EmptyPrompts(
            f"the model prefers the target to the foil in none of the {kept.dropped} prompts; give prompts that it "
            "completes correctly, or keep them all (--keep-wrong)"
        )
    return kept


def require_distinct_foils(encoded: Encoded) -> Kept:
    """Keep the prompts whose target and foil differ in their first tokens.

    Further tokens of target and foil are not read.

    Args:
        encoded: prompts with target and foil.

    Returns:
        The kept prompts, in order.

    Raises:
        TargetError: a prompt lacks target or foil.
        EmptyPrompts: target and foil begin alike on every prompt.
    """
    for prompt in encoded.prompts:
        for what, token in (("target", prompt.target_id), ("foil", prompt.foil_id)):
            if token is None:
                raise TargetError(
                    f"prompt {prompt.index} (counted from 0) has no {what}, which a logit difference needs; add a "
                    f"'{what}' to every prompt or choose another --target"
                )
    kept = _keep(encoded, lambda prompt: prompt.target_id != prompt.foil_id)
    if not kept.prompts:
        raise EmptyPrompts(
            f"target and foil begin with the same token in all {kept.dropped} prompts, so their logits do not differ; "
            "give others, or choose another --target"
        )
    return kept


def _keep(encoded: Encoded, rule: Callable[[EncodedPrompt], bool]) -> Kept:
    kept = tuple(prompt for prompt in encoded.prompts if rule(prompt))
    return Kept(replace(encoded, prompts=kept), len(encoded.prompts) - len(kept))
