"""How a text becomes ids: with or without what the tokenizer adds around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from hydrascope.errors import PromptError


@runtime_checkable
class Tokenizer(Protocol):
    """What is asked of a tokenizer; those of transformers answer it, and this package need not import them."""

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def unk_token_id(self) -> int | None: ...

    @property
    def unk_token(self) -> str | None: ...

    def __call__(self, text: str, *, add_special_tokens: bool = True, verbose: bool = True) -> Any:
        """A mapping with the `input_ids` of a text."""

    def decode(self, token_ids: Sequence[int]) -> Any:
        """The text of some ids."""


def bare_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of the text alone, without special tokens around it."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def ids_with_policy(tokenizer: Tokenizer, text: str, bos: str) -> list[int]:
    """Ids of a text under a beginning-of-sequence policy.

    Args:
        tokenizer: a Hugging Face tokenizer.
        text: the text.
        bos: `auto` (what the tokenizer puts in front, nothing after the text), `always` (exactly
            one beginning-of-sequence token in front) or `never` (none).

    Returns:
        The ids.

    Raises:
        PromptError: `always`, but the tokenizer has no such token.
    """
    bare = bare_ids(tokenizer, text)
    if bos == "auto":
        full = list(tokenizer(text, verbose=False)["input_ids"])
        ends = range(len(full), len(bare) - 1, -1)
        end = next((end for end in ends if full[end - len(bare) : end] == bare), len(full))
        return full[:end]
    token = tokenizer.bos_token_id
    while bare and bare[0] == token:
        bare = bare[1:]
    if bos == "never":
        return bare
    if token is None:
        raise PromptError("the tokenizer has no beginning-of-sequence token; take the policy auto or never")
    return [token, *bare]
