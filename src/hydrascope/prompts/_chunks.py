"""Cuts documents into texts of one length, none of which spans two documents.

For prompts that end where a token is to be predicted, use `load`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hydrascope.errors import EmptyPrompts, PromptError, PromptTooLong
from hydrascope.prompts._documents import Document
from hydrascope.prompts._encode import Bos
from hydrascope.prompts._prompt_set import Prompt, PromptSet
from hydrascope.prompts._tokenizer import Tokenizer, bare_ids, ids_with_policy


@dataclass(frozen=True)
class Cut:
    """How documents are cut into texts.

    Attributes:
        length: tokens of every text, with the beginning-of-sequence token if there is one.
        limit: largest number of texts, taken evenly from all that the documents give; None for all.
        bos: policy for the beginning-of-sequence token, as of `encode`.
    """

    length: int = 128
    limit: int | None = None
    bos: Bos = "auto"


def cut(documents: Sequence[Document], tokenizer: Tokenizer | None, how: Cut, *, name: str, context: int) -> PromptSet:
    """Cut documents into texts of one length.

    Tokens left at the end of a document, too few for a text, are dropped.

    Args:
        documents: at least one document.
        tokenizer: the model's tokenizer, or None if it has none.
        how: length, limit and beginning-of-sequence policy.
        name: name of the prompt set.
        context: most tokens that the model takes.

    Returns:
        The texts as token ids; texts of one document form a group.

    Raises:
        PromptError: there is no tokenizer, or the length makes no sense.
        PromptTooLong: the length is beyond the model's context.
        EmptyPrompts: no document has that many tokens.
    """
    if tokenizer is None:
        raise PromptError("text cannot be cut into tokens, since the model has no tokenizer; give prompts of token ids")
    if how.length < 3:
        raise PromptError(f"texts of {how.length} tokens are too short to read anything in; take at least 3")
    if how.length > context:
        raise PromptTooLong(
            f"texts of {how.length} tokens were asked for, but the model's context holds {context}; take shorter ones"
        )
    if how.limit is not None and how.limit < 1:
        raise PromptError(f"{how.limit} texts are none; take at least 1")
    pieces = [prompt for document in documents for prompt in _texts(document, tokenizer, how)]
    if not pieces:
        raise EmptyPrompts(f"no document of '{name}' has {how.length} tokens; take shorter texts or longer documents")
    found = PromptSet(name, tuple(pieces), "text")
    return found if how.limit is None else found.spread(how.limit)


def _texts(document: Document, tokenizer: Tokenizer, how: Cut) -> Iterator[Prompt]:
    ids = bare_ids(tokenizer, document.text)
    front = _front(tokenizer, how.bos)
    step = how.length - len(front)
    for start in range(0, len(ids) - step + 1, step):
        yield Prompt(input_ids=(*front, *ids[start : start + step]), group=document.name)


def _front(tokenizer: Tokenizer, bos: Bos) -> tuple[int, ...]:
    """Ids that the policy puts in front of every text."""
    word = "a"
    return tuple(ids_with_policy(tokenizer, word, bos)[: -len(bare_ids(tokenizer, word)) or None])
