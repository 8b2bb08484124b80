"""Finds the tokens of a target as the continuation of its prompt."""

from __future__ import annotations

from collections.abc import Sequence

from hydrascope.prompts._tokenizer import Tokenizer, bare_ids


def target_tokens(tokenizer: Tokenizer, text: str | None, ids: Sequence[int], target: str) -> list[int]:
    """Find the token ids of a target directly after its prompt.

    Target and prompt are joined by a space, unless the prompt ends or the target begins with white space. The target's
    tokens are those that the joined text has beyond the prompt's. The prompt's tokens never change: if the joined text
    does not begin with them (as a merge crosses the border), or the prompt is given as ids, the target is tokenised
    alone, with its space, or without if its first token would be nothing but white space.

    With a tokenizer of single characters, the first token of a joined target is the space, since that is what follows
    the prompt; end the prompt in a space to read the first letter instead. Where no space belongs between prompt and
    target, as in Chinese, give the target by its id.

    Args:
        tokenizer: the model's tokenizer.
        text: the prompt's text, or None if it is given as ids.
        ids: the prompt's token ids; used if there is no text.
        target: text of the target, not empty.

    Returns:
        The target's token ids; empty if the tokenizer has none for it.
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
