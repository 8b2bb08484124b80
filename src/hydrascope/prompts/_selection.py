"""Selects prompts and the logit to read after each: the policies of `--target`.

label: the target's logit, on prompts that the model completes with the target; of several accepted answers, that which
the model gives.
difference: the target's logit minus the foil's, on prompts where it is positive.
top: the logit of the clean run's top token.
random-top: the logit of a random one of the clean run's ten most probable tokens; the control for `top`, which any
disturbance lowers on average because the highest logit was chosen.
kl: the whole distribution. KL divergence has no linear read-out, so the account is of the top token, but knock-outs are
ranked by KL divergence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from hydrascope.errors import EmptyPrompts, TargetError
from hydrascope.prompts._encode import Encoded, EncodedPrompt, LeftOut

TargetPolicy = Literal["label", "difference", "top", "random-top", "kl"]
"""What is read after each prompt."""

LEADING = 10
"""Number of most probable tokens that `random-top` draws from."""


@dataclass(frozen=True)
class CleanAnswers:
    """The untouched model's predictions after each prompt, in the order of `Encoded.prompts`.

    Attributes:
        top: id of the most probable token.
        leading: ids of the `LEADING` most probable tokens, most probable first; fewer in a smaller vocabulary.
        margin: logit of the target minus that of the foil; NaN for a prompt that lacks one.
    """

    top: Int[np.ndarray, " prompts"]
    leading: Int[np.ndarray, "prompts leading"]
    margin: Float[np.ndarray, " prompts"]


@dataclass(frozen=True)
class SelectedPrompts:
    """The prompts that a run keeps, and the tokens whose logits it reads.

    Attributes:
        prompts: the kept prompts, shortest first, each length in order.
        tokens: target token id of each prompt.
        foils: id of the token whose logit is subtracted, for each prompt; None where no difference is read.
        dropped_wrong: number of prompts dropped because the model does not complete them correctly.
        dropped_alike: number of prompts dropped because target and foil begin with the same token.
        left_out: the dropped ones, and those whose answers begin at no border of tokens, in the order of the set.
    """

    prompts: tuple[EncodedPrompt, ...]
    tokens: tuple[int, ...]
    foils: tuple[int, ...] | None = None
    dropped_wrong: int = 0
    dropped_alike: int = 0
    left_out: tuple[LeftOut, ...] = ()


def select_prompts(
    encoded: Encoded, policy: TargetPolicy, clean: CleanAnswers, *, keep_wrong: bool, seed: int
) -> SelectedPrompts:
    """Select prompts and the logit to read after each.

    Args:
        encoded: all prompts of the run.
        policy: what is read; the module's docstring lists the policies.
        clean: the untouched model's predictions.
        keep_wrong: whether to keep prompts that the model does not complete correctly.
        seed: seed of `random-top`; a prompt's token depends on nothing but seed and the prompt's tokens.

    Returns:
        The kept prompts with their tokens.

    Raises:
        EmptyPrompts: no prompt is kept.
        TargetError: a difference is to be read, but a prompt lacks target or foil.
    """
    place = encoded.rows
    top = {index: int(clean.top[row]) for index, row in place.items()}
    foiled, all_of_them, wrong, alike = policy == "difference", encoded, 0, 0
    if foiled:
        kept = require_distinct_foils(encoded)
        encoded, alike = kept.encoded, kept.dropped
    distinct = {prompt.index for prompt in encoded.prompts}
    if policy in ("label", "difference") and not keep_wrong:
        margin = {index: float(clean.margin[row]) for index, row in place.items()}
        right = target_above_foil(encoded, margin) if foiled else answered_correctly(encoded, top)
        encoded, wrong = right.encoded, right.dropped
    prompts = tuple(sorted(encoded.prompts, key=lambda prompt: (len(prompt.ids), prompt.index)))
    tokens = tuple(_token(one, policy, top[one.index], clean.leading[place[one.index]], seed) for one in prompts)
    foils = tuple(int(prompt.foil_id) for prompt in prompts if prompt.foil_id is not None) if foiled else None
    stay = {prompt.index for prompt in prompts}
    dropped = [
        _left_out(prompt, _why(foiled, prompt.index in distinct), top[prompt.index])
        for prompt in all_of_them.prompts
        if prompt.index not in stay
    ]
    left_out = sorted((*all_of_them.left_out, *dropped), key=lambda one: one.index)
    return SelectedPrompts(prompts, tokens, foils, wrong, alike, tuple(left_out))


def _why(foiled: bool, distinct: bool) -> str:
    if not distinct:
        return "target and foil begin with the same token"
    return "the foil is above the target" if foiled else "the model puts another token first"


def _left_out(prompt: EncodedPrompt, why: str, said: int) -> LeftOut:
    return LeftOut(prompt.index, prompt.text, prompt.target_text, why, said)


def _token(
    prompt: EncodedPrompt, policy: TargetPolicy, top: int, leading: Int[np.ndarray, " leading"], seed: int
) -> int:
    if policy == "label" and top in prompt.accepted:
        return top
    if policy in ("label", "difference") and prompt.target_id is not None:
        return prompt.target_id
    if policy == "random-top":
        return int(np.random.default_rng((seed, prompt.key)).choice(leading))
    return top


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


def answered_correctly(encoded: Encoded, clean_top: Sequence[int] | Mapping[int, int]) -> Kept:
    """Keep the prompts that the model completes correctly.

    A prompt is kept if its target, or another accepted answer, is the most probable next token of the clean run, so
    that direct effects concern a fact that the model knows (McGrath et al. 2023, arXiv 2307.15771). A prompt without a
    target is always kept, since the model's top token is its target.

    Args:
        encoded: the prompts.
        clean_top: id of the clean run's most probable next token, by prompt index.

    Returns:
        The kept prompts, in order.

    Raises:
        EmptyPrompts: no prompt is completed correctly.
    """
    kept = _keep(
        encoded,
        lambda prompt: prompt.target_id is None or clean_top[prompt.index] in (prompt.target_id, *prompt.accepted),
    )
    if not kept.prompts:
        raise EmptyPrompts(
            f"the model's most probable next token is the target in none of the {kept.dropped} prompts; "
            "give prompts that it completes correctly, or take its top token as the target (--target top)"
        )
    return kept


def target_above_foil(encoded: Encoded, clean_margin: Sequence[float] | Mapping[int, float]) -> Kept:
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
                    f"'{what}' to every prompt or choose another target (--target)"
                )
    kept = _keep(encoded, lambda prompt: prompt.target_id != prompt.foil_id)
    if not kept.prompts:
        raise EmptyPrompts(
            f"target and foil begin with the same token in all {kept.dropped} prompts, so their logits do not differ; "
            "give others, or choose another target (--target)"
        )
    return kept


def _keep(encoded: Encoded, rule: Callable[[EncodedPrompt], bool]) -> Kept:
    kept = tuple(prompt for prompt in encoded.prompts if rule(prompt))
    return Kept(replace(encoded, prompts=kept), len(encoded.prompts) - len(kept))
