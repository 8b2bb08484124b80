"""Which logit a run reads of every prompt: the policies of `--target`.

label: the prompt's target, on prompts that the model completes with it.
difference: the target's logit minus the foil's, on prompts where it is positive.
top: the clean run's top token.
random-top: a random one of the clean run's ten most probable tokens. Having picked the very highest logit, `top` is
lowered by any disturbance on average; this is the control.
kl: the whole distribution. KL divergence has no linear read-out, so the account is of the top token, and knock-outs are
ranked by KL instead of by its logit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from hydrascope.prompts._encode import Encoded, EncodedPrompt
from hydrascope.prompts._filters import answered_correctly, require_distinct_foils, target_above_foil

TargetPolicy = Literal["label", "difference", "top", "random-top", "kl"]

LEADING = 10
"""Most probable tokens that `random-top` draws from."""


@dataclass(frozen=True)
class CleanAnswers:
    """What the untouched model says after N prompts.

    Attributes:
        top: its most probable token.
        leading: its most probable tokens, best first; all of them where the vocabulary is smaller.
        margin: logit of the target minus that of the foil; NaN where a prompt has not both.
    """

    top: Int[np.ndarray, " prompts"]
    leading: Int[np.ndarray, "prompts leading"]
    margin: Float[np.ndarray, " prompts"]


@dataclass(frozen=True)
class SelectedPrompts:
    """The prompts that a run keeps and the logit it reads of each.

    Attributes:
        prompts: shortest first, within a length in order.
        tokens: the target of each.
        foils: the token whose logit is subtracted; None where the target's own logit is read.
        dropped_wrong: prompts left out because the model completes them otherwise.
        dropped_alike: prompts left out because target and foil begin with the same token.
    """

    prompts: tuple[EncodedPrompt, ...]
    tokens: tuple[int, ...]
    foils: tuple[int, ...] | None = None
    dropped_wrong: int = 0
    dropped_alike: int = 0


def select_prompts(
    encoded: Encoded, policy: TargetPolicy, clean: CleanAnswers, *, keep_wrong: bool, seed: int
) -> SelectedPrompts:
    """Choose what is read of every prompt, and the prompts that stay.

    Args:
        encoded: all N prompts.
        policy: see the module.
        clean: what the model says, by prompt index.
        keep_wrong: keep prompts that the model completes otherwise.
        seed: of `random-top`; a prompt's draw depends on nothing but seed and index.

    Returns:
        Prompts with their tokens.

    Raises:
        EmptyPrompts: none stays.
        TargetError: a difference is asked for and a prompt lacks target or foil.
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
