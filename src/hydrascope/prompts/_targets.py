"""Finds the tokens of an answer as the continuation of its prompt.

The answer's tokens are those that prompt and answer, joined, have beyond the prompt. Two things keep the border where
the tokenizer sets one:

- Tokens of nothing but the delimiter, such as the space that some tokenizers write before a number, are read as part of
  the prompt, so that the first token of the answer says something about the answer.
- Spaces that end the prompt are left to the answer where the tokenizer writes them with it, as most do before a word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hydrascope.prompts._delimiter import between
from hydrascope.prompts._tokenizer import Tokenizer, bare_ids


@dataclass(frozen=True)
class Start:
    """Where an answer begins.

    Attributes:
        text: text of the prompt, without final spaces that the answer's first token holds; None if given as ids.
        moved: tokens of the delimiter behind it.
    """

    text: str | None
    moved: tuple[int, ...] = ()


@dataclass(frozen=True)
class Continuation:
    """An answer in the tokens of one model.

    Attributes:
        start: what the model is given.
        answer: tokens of the answer; empty if the tokenizer has none for it.
    """

    start: Start
    answer: tuple[int, ...]


def continued(tokenizer: Tokenizer, text: str, answer: str, delimiter: str = "auto") -> Continuation | None:
    """Find the tokens of an answer behind a text.

    Args:
        tokenizer: the model's tokenizer.
        text: the prompt.
        answer: what follows, not empty.
        delimiter: what stands between; see `between`.

    Returns:
        The answer and what is before it, or None if one token holds the end of the prompt and the beginning of the
        answer.
    """
    gap = between(text, answer, delimiter)
    for before in filter(None, dict.fromkeys((text, text.rstrip(" ")))):
        left = text[len(before) :] + gap
        rest = _behind(tokenizer, before, left + answer)
        if rest is not None:
            moved, found = _split(tokenizer, rest, left, answer)
            return Continuation(Start(before, moved), found)
    return None


def continued_ids(
    tokenizer: Tokenizer, ids: Sequence[int], shown: str, answer: str, delimiter: str = "auto"
) -> Continuation:
    """Find the tokens of an answer behind token ids, which never change.

    Where the tokenizer writes the text of the ids otherwise, the answer is taken as it follows any letter, or the last
    character where there is no delimiter.

    Args:
        tokenizer: the model's tokenizer.
        ids: the prompt.
        shown: text of the prompt.
        answer: what follows, not empty.
        delimiter: what stands between; see `between`.
    """
    gap = between(shown, answer, delimiter)
    rest = _behind(tokenizer, shown, gap + answer) if bare_ids(tokenizer, shown) == list(ids) else None
    if rest is None:
        rest = _behind(tokenizer, "a" if gap else shown[-1:], gap + answer)
    moved, found = _split(tokenizer, bare_ids(tokenizer, gap + answer) if rest is None else rest, gap, answer)
    return Continuation(Start(None, moved), found)


def _behind(tokenizer: Tokenizer, before: str, following: str) -> list[int] | None:
    """Tokens that a text has beyond its beginning, or None if one token holds both."""
    first, joined = bare_ids(tokenizer, before), bare_ids(tokenizer, before + following)
    return joined[len(first) :] if joined[: len(first)] == first else None


def _split(tokenizer: Tokenizer, rest: Sequence[int], gap: str, answer: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tokens of the gap, with spaces that begin the answer, and those of the answer itself."""
    if answer.strip():
        gap += answer[: len(answer) - len(answer.lstrip(" "))]
    count = 0
    # the decoders of some tokenizers drop a first space, so that its token has no text
    while gap and count < len(rest) - 1 and gap.startswith(str(tokenizer.decode(list(rest[: count + 1])))):
        count += 1
    return tuple(rest[:count]), tuple(rest[count:])
