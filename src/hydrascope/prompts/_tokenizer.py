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
        bos: `auto` (what the tokenizer puts in front, once even if the text names it, and nothing after the text),
            `always` (exactly one beginning-of-sequence token in front) or `never` (none).

    Returns:
        The token ids.

    Raises:
        PromptError: `bos` is `always`, but the tokenizer has no such token.
    """
    bare, token = bare_ids(tokenizer, text), tokenizer.bos_token_id
    if bos == "auto":
        full = list(tokenizer(text, verbose=False)["input_ids"])
        ends = range(len(full), len(bare) - 1, -1)
        end = next((end for end in ends if full[end - len(bare) : end] == bare), len(full))
        front = full[: max(0, end - len(bare))]
        return [*front, *_without(bare, token)] if token in front else full[:end]
    bare = _without(bare, token)
    if bos == "never":
        return bare
    if token is None:
        raise PromptError("the tokenizer has no beginning-of-sequence token; take the policy auto or never")
    return [token, *bare]


def names_bos(tokenizer: Tokenizer, text: str) -> bool:
    """Whether a text begins with the beginning-of-sequence token that the tokenizer puts in front anyway."""
    token = tokenizer.bos_token_id
    return token is not None and list(tokenizer(text, verbose=False)["input_ids"])[:2] == [token, token]


def _without(ids: list[int], token: int | None) -> list[int]:
    """The ids without the token at their beginning."""
    return ids[next((i for i, one in enumerate(ids) if one != token), len(ids)) :]
