"""Adapts prompts to tokenizers that make the space a token of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hydrascope.prompts._prompt_set import Prompt
from hydrascope.prompts._targets import target_tokens
from hydrascope.prompts._tokenizer import Tokenizer


def with_final_space(prompts: Sequence[Prompt], tokenizer: Tokenizer) -> tuple[Prompt, ...]:
    """End every prompt in a space if the first token of all answers is a space.

    Only the first token of an answer is read. If that is a space for all of them, targets and foils cannot be told
    apart; after the space, their first letters can.

    Args:
        prompts: the prompts of a task.
        tokenizer: the model's tokenizer.

    Returns:
        The prompts with the space at their end, or unchanged.
    """
    first = {
        tuple(target_tokens(tokenizer, prompt.text, (), answer)[:1])
        for prompt in prompts
        for answer in (prompt.target, prompt.foil)
        if prompt.text and answer
    }
    if len(first) != 1 or str(tokenizer.decode(list(first.pop()))).strip():
        return tuple(prompts)
    return tuple(
        replace(
            prompt,
            text=_spaced(prompt.text),
            counterfactual=_spaced(prompt.counterfactual),
            target=_bare(prompt.target),
            foil=_bare(prompt.foil),
        )
        for prompt in prompts
    )


def _spaced(text: str | None) -> str | None:
    return text + " " if text and not text[-1].isspace() else text


def _bare(answer: str | None) -> str | None:
    return answer.lstrip() if answer and answer.strip() else answer
