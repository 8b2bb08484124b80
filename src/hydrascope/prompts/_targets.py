"""Which tokens a target is, as the continuation of its prompt."""

from __future__ import annotations

from collections.abc import Sequence

from hydrascope.prompts._tokenizer import Tokenizer, bare_ids


def target_tokens(tokenizer: Tokenizer, text: str | None, ids: Sequence[int], target: str) -> list[int]:
    """Ids of the target where it stands: directly after the prompt.

    The target joins the prompt by one space, unless the prompt ends or the target begins with
    white space. Prompt and joined text are tokenised, and what the joined text has in addition is
    the target; so a tokenizer whose words carry their space decides about it itself. The prompt
    is never altered: if the joined tokens do not begin with the prompt's (a merge across the
    border), or the prompt is given as ids, the target is tokenised alone, with its space and, if
    its first token would be nothing but white space, without.

    For a tokenizer with one token per character the first token of a joined target is the space.
    That is what follows the prompt there, so it stays: end such a prompt in a space to ask for
    the first letter. Where no space belongs between prompt and target, as in Chinese, give the
    target by its id.

    Args:
        tokenizer: a Hugging Face tokenizer.
        text: the prompt's text, or None.
        ids: the prompt's ids; used if there is no text.
        target: not empty.

    Returns:
        The ids of the target; empty if the tokenizer has none for it.
    """
    before = str(tokenizer.decode(list(ids))) if text is None else text
    spaced = target if before[-1:].isspace() or target[0].isspace() else " " + target
    if text is not None:
        prompt, joined = bare_ids(tokenizer, text), bare_ids(tokenizer, text + spaced)
        if joined[: len(prompt)] == prompt:
            return joined[len(prompt) :]
    alone = bare_ids(tokenizer, spaced)
    if alone and not tokenizer.decode(alone[:1]).strip() and target.strip():
        return bare_ids(tokenizer, target.lstrip())
    return alone
