"""Token ids of a text, with or without special tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from hydrascope.errors import PromptError


@runtime_checkable
class Tokenizer(Protocol):
    """What a tokenizer has to offer, so that transformers need not be imported."""

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def unk_token_id(self) -> int | None: ...

    @property
    def unk_token(self) -> str | None: ...

    def __call__(self, text: str, *, add_special_tokens: bool = True, verbose: bool = True) -> Any:
        """Tokenise a text; the result has its `input_ids`."""

    def decode(self, token_ids: Sequence[int]) -> Any:
        """The text of token ids."""


def bare_ids(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text without special tokens."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def ids_with_policy(tokenizer: Tokenizer, text: str, bos: str) -> list[int]:
    """Token ids of a text under a beginning-of-sequence policy.

    Args:
        tokenizer: the model's tokenizer.
        text: the text to tokenise.
        bos: `auto` (what the tokenizer puts in front, and nothing after the text), `always` (exactly one
            beginning-of-sequence token in front) or `never` (none).

    Returns:
        The token ids.

    Raises:
        PromptError: `bos` is `always`, but the tokenizer has no such token.
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
