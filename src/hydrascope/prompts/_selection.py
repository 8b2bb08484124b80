"""Selects prompts and the logit to read after each: the policies of `--target`.

label: the target's logit, on prompts that the model completes with the target.
difference: the target's logit minus the foil's, on prompts where it is positive.
top: the logit of the clean run's top token.
random-top: the logit of a random one of the clean run's ten most probable tokens; the control for `top`, which any
disturbance lowers on average because the highest logit was chosen.
kl: the whole distribution. KL divergence has no linear read-out, so the account is of the top token, but knock-outs are
ranked by KL divergence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from hydrascope.prompts._encode import Encoded, EncodedPrompt
from hydrascope.prompts._filters import answered_correctly, require_distinct_foils, target_above_foil

TargetPolicy = Literal["label", "difference", "top", "random-top", "kl"]
"""What is read after each prompt."""

LEADING = 10
"""Number of most probable tokens that `random-top` draws from."""


@dataclass(frozen=True)
class CleanAnswers:
    """The untouched model's predictions after each prompt.

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
    """

    prompts: tuple[EncodedPrompt, ...]
    tokens: tuple[int, ...]
    foils: tuple[int, ...] | None = None
    dropped_wrong: int = 0
    dropped_alike: int = 0


def select_prompts(
    encoded: Encoded, policy: TargetPolicy, clean: CleanAnswers, *, keep_wrong: bool, seed: int
) -> SelectedPrompts:
    """Select prompts and the logit to read after each.

    Args:
        encoded: all prompts of the run.
        policy: what is read; the module's docstring lists the policies.
        clean: the untouched model's predictions, by prompt index.
        keep_wrong: whether to keep prompts that the model does not complete correctly.
        seed: seed of `random-top`; a prompt's token depends on nothing but seed and prompt index.

    Returns:
        The kept prompts with their tokens.

    Raises:
        EmptyPrompts: no prompt is kept.
        TargetError: a difference is to be read, but a prompt lacks target or foil.
    """
    foiled, wrong, alike = policy == "difference", 0, 0
    if foiled:
        kept = require_distinct_foils(encoded)
        encoded, alike = kept.encoded, kept.dropped
    if policy in ("label", "difference") and not keep_wrong:
        right = (
            target_above_foil(encoded, clean.margin.tolist())
            if foiled
            else answered_correctly(encoded, clean.top.tolist())
        )
        encoded, wrong = right.encoded, right.dropped
    prompts = tuple(sorted(encoded.prompts, key=lambda prompt: (len(prompt.ids), prompt.index)))
    tokens = tuple(_token(prompt, policy, clean, seed) for prompt in prompts)
    foils = tuple(int(prompt.foil_id) for prompt in prompts if prompt.foil_id is not None) if foiled else None
    return SelectedPrompts(prompts, tokens, foils, wrong, alike)


def _token(prompt: EncodedPrompt, policy: TargetPolicy, clean: CleanAnswers, seed: int) -> int:
    if policy in ("label", "difference") and prompt.target_id is not None:
        return prompt.target_id
    if policy == "random-top":
        return int(np.random.default_rng((seed, prompt.index)).choice(clean.leading[prompt.index]))
    return int(clean.top[prompt.index])
