"""Tokenises prompts and targets for one model.

Prompts are never padded; `Encoded.by_length` groups those that can be run together.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from hydrascope.errors import MalformedPrompt, PromptError, PromptTooLong, TargetError
from hydrascope.prompts._prompt_set import Prompt, PromptSet
from hydrascope.prompts._targets import target_tokens
from hydrascope.prompts._tokenizer import Tokenizer, bare_ids, ids_with_policy

Bos = Literal["auto", "always", "never"]
"""Policy for the beginning-of-sequence token; see `encode`."""

SingleToken = Literal["first", "require"]
"""Policy for targets of several tokens; see `encode`."""


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt in the tokens of one model.

    Attributes:
        index: position in the prompt set, from 0.
        ids: token ids, with the beginning-of-sequence token if there is one.
        text: the prompt's text; for ids without text, the decoded ids (without a tokenizer, the ids as numbers).
        target_id: id of the target token, or None if the prompt names no target.
        target_text: the target as given, or the decoded `target_id`.
        target_truncated: whether target or foil has more tokens than the first, which alone is used.
        foil_id: id of the foil token, or None if the prompt names no foil.
        counterfactual_ids: token ids of the counterfactual prompt, or None if there is none.
        group: the group as given, or a name that no other prompt has.
    """

    index: int
    ids: tuple[int, ...]
    text: str
    target_id: int | None
    target_text: str | None
    target_truncated: bool
    foil_id: int | None
    counterfactual_ids: tuple[int, ...] | None
    group: str

    @cached_property
    def content(self) -> tuple[str, int, int]:
        """A digest of its tokens, then target and foil, by which prompts have an order that no file gives them."""
        target, foil = (-1 if token is None else token for token in (self.target_id, self.foil_id))
        return hashlib.sha256(repr(self.ids).encode()).hexdigest(), target, foil

    @property
    def pair(self) -> tuple[int, int] | None:
        """Target and foil, or None if the prompt lacks one."""
        return None if self.target_id is None or self.foil_id is None else (self.target_id, self.foil_id)


@dataclass(frozen=True)
class Encoded:
    """Prompts in the tokens of one model.

    Attributes:
        prompts: the prompts in the order of the set.
        bos: policy for the beginning-of-sequence token.
    """

    prompts: tuple[EncodedPrompt, ...]
    bos: Bos

    @property
    def n_truncated_targets(self) -> int:
        """Number of prompts with a target or foil of several tokens."""
        return sum(prompt.target_truncated for prompt in self.prompts)

    def by_length(self) -> dict[int, tuple[EncodedPrompt, ...]]:
        """Prompts by number of tokens, shortest first, each length in order."""
        groups: dict[int, list[EncodedPrompt]] = defaultdict(list)
        for prompt in self.prompts:
            groups[len(prompt.ids)].append(prompt)
        return {length: tuple(groups[length]) for length in sorted(groups)}


def encode(
    prompt_set: PromptSet,
    tokenizer: Tokenizer | None,
    *,
    vocabulary: int,
    context: int,
    bos: Bos = "auto",
    single_token_targets: SingleToken = "first",
) -> Encoded:
    """Tokenise prompts and targets for one model.

    Given ids are taken as they are. For texts, `bos` decides about the beginning-of-sequence token: `auto` leaves it to
    the tokenizer, but drops what that appends after the text, such as an end-of-sequence token, since the model is to
    predict what follows the text; `always` puts exactly one in front; `never` puts none.

    `target_tokens` says how the tokens of targets and foils are found.

    Args:
        prompt_set: the prompts.
        tokenizer: the model's tokenizer; None if every prompt is given as ids.
        vocabulary: number of token ids of the model.
        context: most tokens that the model takes.
        bos: `auto`, `always` or `never`.
        single_token_targets: `first` uses the first token of a longer target or foil and sets `target_truncated`;
            `require` refuses it.

    Returns:
        The encoded prompts, in order.

    Raises:
        MalformedPrompt: a text has no tokens, or an id is outside the vocabulary.
        PromptTooLong: a prompt or counterfactual has more than `context` tokens.
        TargetError: a target or foil is empty, unknown to the tokenizer, outside the vocabulary, or of several tokens
            although one is required.
        PromptError: there is text but no tokenizer, `always` but no such token, or a policy is unknown.
    """
    for value, policies in ((bos, get_args(Bos)), (single_token_targets, get_args(SingleToken))):
        if value not in policies:
            raise PromptError(f"there is no policy '{value}'; choose from {', '.join(policies)}")
    encoder = _Encoder(tokenizer, vocabulary, context, bos, single_token_targets)
    names = {prompt.group for prompt in prompt_set if prompt.group is not None}
    return Encoded(tuple(encoder.prompt(i, prompt, _own_group(i, names)) for i, prompt in enumerate(prompt_set)), bos)


def _own_group(index: int, taken: set[str]) -> str:
    name = str(index)
    while name in taken:
        name = "#" + name
    return name


@dataclass(frozen=True)
class _Encoder:
    """Encodes one prompt after another under fixed policies."""

    tokenizer: Tokenizer | None
    vocabulary: int
    context: int
    bos: Bos
    single_token_targets: SingleToken

    def prompt(self, index: int, prompt: Prompt, own_group: str) -> EncodedPrompt:
        where = _where(index, prompt)
        ids = self._ids(where, "prompt", prompt.text, prompt.input_ids)
        counterfactual = prompt.counterfactual is not None or prompt.counterfactual_input_ids is not None
        target_id, cut = self._follower(where, "target", prompt.text, ids, prompt.target, prompt.target_id)
        foil_id, foil_cut = self._follower(where, "foil", prompt.text, ids, prompt.foil, prompt.foil_id)
        return EncodedPrompt(
            index=index,
            ids=ids,
            text=self._shown(ids) if prompt.text is None else prompt.text,
            target_id=target_id,
            target_text=self._target_text(prompt),
            target_truncated=cut or foil_cut,
            foil_id=foil_id,
            counterfactual_ids=self._ids(
                where, "counterfactual", prompt.counterfactual, prompt.counterfactual_input_ids
            )
            if counterfactual
            else None,
            group=own_group if prompt.group is None else prompt.group,
        )

    def _ids(self, where: str, what: str, text: str | None, given: tuple[int, ...] | None) -> tuple[int, ...]:
        ids = self._tokenised(where, what, text or "") if given is None else given
        if strange := [token for token in ids if not 0 <= token < self.vocabulary]:
            raise MalformedPrompt(
                f"{where}: the {what} holds token id {strange[0]}, but the model has ids 0 to "
                f"{self.vocabulary - 1}; check that ids and tokenizer belong to this model"
            )
        if len(ids) > self.context:
            raise PromptTooLong(
                f"{where}: the {what} has {len(ids)} tokens, but the model's context holds {self.context}; "
                "shorten it or leave it out"
            )
        return ids

    def _tokenised(self, where: str, what: str, text: str) -> tuple[int, ...]:
        if self.tokenizer is None:
            raise PromptError(f"{where}: the {what} is text, but the model has no tokenizer; give token ids")
        ids = ids_with_policy(self.tokenizer, text, self.bos)
        # A lone token that the tokenizer itself put there is no prompt.
        if not ids or not bare_ids(self.tokenizer, text):
            raise MalformedPrompt(f"{where}: the {what} has no tokens; give it a text that has some")
        return tuple(ids)

    def _follower(
        self, where: str, what: str, text: str | None, ids: Sequence[int], given: str | None, given_id: int | None
    ) -> tuple[int | None, bool]:
        """First token of target or foil, and whether there are more."""
        if given_id is not None:
            return self._in_vocabulary(where, what, given_id), False
        if given is None:
            return None, False
        if not given:
            raise TargetError(f"{where}: the {what} is empty; give it a text or leave it out")
        if self.tokenizer is None:
            raise TargetError(f"{where}: the {what} is text, but there is no tokenizer; give '{what}_id'")
        tokens = target_tokens(self.tokenizer, text, ids, given)
        if not tokens:
            raise TargetError(f"{where}: {what} '{given}' has no tokens; leave it out")
        first, unknown = tokens[0], self.tokenizer.unk_token_id
        if first == unknown and given.strip() != self.tokenizer.unk_token:
            raise TargetError(
                f"{where}: {what} '{given}' starts with a token unknown to the tokenizer; "
                f"give a {what} that it can write"
            )
        if len(tokens) > 1 and self.single_token_targets == "require":
            pieces = ", ".join(repr(self.tokenizer.decode([token])) for token in tokens)
            raise TargetError(
                f"{where}: {what} '{given}' is {len(tokens)} tokens ({pieces}); "
                f"give a {what} of one token, or allow that its first token is used"
            )
        return self._in_vocabulary(where, what, first), len(tokens) > 1

    def _in_vocabulary(self, where: str, what: str, token: int) -> int:
        if not 0 <= token < self.vocabulary:
            raise TargetError(
                f"{where}: the {what} has token id {token}, but the model has ids 0 to "
                f"{self.vocabulary - 1}; check that ids and tokenizer belong to this model"
            )
        return token

    def _target_text(self, prompt: Prompt) -> str | None:
        if prompt.target is not None or prompt.target_id is None:
            return prompt.target
        return self._shown([prompt.target_id])

    def _shown(self, ids: Sequence[int]) -> str:
        if self.tokenizer is None:
            return " ".join(map(str, ids))
        return str(self.tokenizer.decode(list(ids)))


def _where(index: int, prompt: Prompt) -> str:
    if prompt.text is None:
        return f"prompt {index} (counted from 0, given as ids)"
    text = prompt.text if len(prompt.text) <= 40 else prompt.text[:39] + "…"
    return f"prompt {index} (counted from 0, {text!r})"
