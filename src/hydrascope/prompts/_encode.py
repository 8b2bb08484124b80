"""Tokenises prompts and targets for one model.

Prompts are never padded; `Encoded.by_length` groups those that can be run together.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from hydrascope.errors import MalformedPrompt, PromptError, PromptTooLong, TargetError
from hydrascope.prompts._chat import written_out
from hydrascope.prompts._prompt_set import Prompt, PromptSet
from hydrascope.prompts._targets import Continuation, Start, continued, continued_ids
from hydrascope.prompts._tokenizer import Tokenizer, bare_ids, ids_with_policy, names_bos

Bos = Literal["auto", "always", "never"]
"""Policy for the beginning-of-sequence token; see `encode`."""

Answers = Literal["first", "whole"]
"""How much of an answer is read; see `encode`."""

SingleToken = Literal["first", "require"]
"""Policy for targets of several tokens; see `encode`."""


@dataclass(frozen=True)
class EncodedPrompt:
    """One prompt in the tokens of one model.

    Attributes:
        index: position in the prompt set, from 0.
        ids: token ids up to the answer, with the beginning-of-sequence token if there is one; behind them those of a
            whole answer but its last, which the model is given as it predicts the next.
        text: the prompt's text; for ids without text, the decoded ids (without a tokenizer, the ids as numbers).
        target_id: id of the target token, or None if the prompt names no target.
        target_text: the target as given, or the decoded `target_id`.
        target_truncated: whether target or foil has more tokens than the first, which alone is used.
        foil_id: id of the foil token, or None if the prompt names no foil.
        counterfactual_ids: token ids of the counterfactual prompt, or None if there is none.
        group: the group as given, or a name that no other prompt has.
        accepted: ids of the first tokens of other answers that are right too.
        moved: number of tokens at the end of `ids` that come from between prompt and answer.
        trimmed: whether the prompt's final space is read with the answer.
        named_bos: whether the text names a beginning-of-sequence token beside the tokenizer's own.
        answer: tokens that are read, one after the other: the target, or all tokens of a whole answer.
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
    accepted: tuple[int, ...] = ()
    moved: int = 0
    trimmed: bool = False
    named_bos: bool = False
    answer: tuple[int, ...] = ()

    @cached_property
    def content(self) -> tuple[str, int, int]:
        """A digest of its tokens, then target and foil, by which prompts have an order that no file gives them."""
        target, foil = (-1 if token is None else token for token in (self.target_id, self.foil_id))
        return self._digest, target, foil

    @cached_property
    def key(self) -> int:
        """A number of 64 bits from its tokens alone, to seed what is random about it wherever it stands in a file."""
        return int(self._digest[:16], 16)

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(repr(self.ids).encode()).hexdigest()

    @property
    def span(self) -> int:
        """Number of positions at the end of `ids` that predict the answer, at least 1."""
        return max(1, len(self.answer))

    @property
    def pair(self) -> tuple[int, int] | None:
        """Target and foil, or None if the prompt lacks one."""
        return None if self.target_id is None or self.foil_id is None else (self.target_id, self.foil_id)


@dataclass(frozen=True)
class LeftOut:
    """A prompt that is not run.

    Attributes:
        index: position in the prompt set, from 0.
        text: its text.
        target: what should follow; None if it does not say.
        why: why it is left out, in a few words.
        said: id of the token that the model puts first; None if it was not asked.
    """

    index: int
    text: str
    target: str | None
    why: str
    said: int | None = None


@dataclass(frozen=True)
class Encoded:
    """Prompts in the tokens of one model.

    Attributes:
        prompts: the prompts in the order of the set.
        bos: policy for the beginning-of-sequence token.
        left_out: prompts whose answers the tokenizer cannot write, or begins at no border of tokens.
    """

    prompts: tuple[EncodedPrompt, ...]
    bos: Bos
    left_out: tuple[LeftOut, ...] = ()

    @cached_property
    def rows(self) -> dict[int, int]:
        """Place of each prompt among `prompts`, by its index."""
        return {prompt.index: row for row, prompt in enumerate(self.prompts)}

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
    delimiter: str = "auto",
    answers: Answers = "first",
    needed: Collection[str] = ("target", "foil"),
) -> Encoded:
    """Tokenise prompts and targets for one model.

    Given ids are taken as they are. For texts, `bos` decides about the beginning-of-sequence token: `auto` leaves it to
    the tokenizer, but drops what that appends after the text, such as an end-of-sequence token, since the model is to
    predict what follows the text, and a second one that the text names; `always` puts exactly one in front; `never`
    puts none.

    Targets and foils are what the tokenizer makes of prompt and answer beyond the prompt; tokens of nothing but the
    delimiter end the prompt, and its counterfactual. A prompt is left out where an answer that is needed has no token,
    or one unknown to the tokenizer first; where one token holds the prompt's end and its beginning; or where the
    answers that are needed do not begin behind the same tokens.

    Args:
        prompt_set: the prompts.
        tokenizer: the model's tokenizer; None if every prompt is given as ids.
        vocabulary: number of token ids of the model.
        context: most tokens that the model takes.
        bos: `auto`, `always` or `never`.
        single_token_targets: `first` uses the first token of a longer target or foil and sets `target_truncated`;
            `require` refuses it.
        delimiter: what stands between prompt and answer where a prompt does not say: `auto` (a space where prose has
            one), `none`, or a text.
        answers: `first` reads the first token of each answer; `whole` gives the model all but the last (teacher
            forcing), which counterfactuals get too.
        needed: which of `target` and `foil` a prompt is left out without; others are forgotten where they cannot be
            written, or begin behind another token than the target.

    Returns:
        The encoded prompts, in order, and those left out.

    Raises:
        MalformedPrompt: a text has no tokens, or an id is outside the vocabulary.
        PromptTooLong: a prompt or counterfactual has more than `context` tokens.
        TargetError: a target or foil is empty, outside the vocabulary, or of several tokens although one is required;
            or all prompts are left out.
        PromptError: there is text but no tokenizer, `always` but no such token, or a policy is unknown.
    """
    given = ((bos, Bos), (single_token_targets, SingleToken), (answers, Answers))
    for value, policies in ((value, get_args(kind)) for value, kind in given):
        if value not in policies:
            raise PromptError(f"there is no policy '{value}'; choose from {', '.join(policies)}")
    encoder = _Encoder(tokenizer, vocabulary, context, bos, single_token_targets, delimiter, answers == "whole", needed)
    names = {prompt.group for prompt in prompt_set if prompt.group is not None}
    found = [encoder.prompt(i, prompt, _own_group(i, names)) for i, prompt in enumerate(prompt_set)]
    prompts = tuple(one for one in found if isinstance(one, EncodedPrompt))
    left_out = tuple(one for one in found if isinstance(one, LeftOut))
    if left_out and not prompts:
        raise TargetError(
            f"no prompt is left of {len(found)}: of {_named(0, left_out[0].text)}, {left_out[0].why}; give answers "
            "that the tokenizer writes, behind prompts that end where their token begins (--delimiter: what is between)"
        )
    return Encoded(prompts, bos, left_out)


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
    delimiter: str
    whole: bool
    needed: Collection[str]

    def prompt(self, index: int, prompt: Prompt, own_group: str) -> EncodedPrompt | LeftOut:
        text, where = prompt.text, _where(index, prompt)
        if prompt.messages is not None:
            text = self._written_out(where, prompt)
        plain = self._ids(where, "prompt", text, prompt.input_ids)
        before = None if prompt.input_ids is not None else text
        shown = self._shown(plain) if text is None else text
        given = None if prompt.input_ids is None else plain
        delimiter = self.delimiter if prompt.delimiter is None else prompt.delimiter
        answers: dict[str, tuple[int, ...]] = {}
        start: Start | None = None
        for what, words, token in (
            ("target", prompt.target, prompt.target_id),
            ("foil", prompt.foil, prompt.foil_id),
            *((f"accepted answer {number}", one, None) for number, one in enumerate(prompt.accepted or ())),
        ):
            if token is not None:
                found: Continuation | None = Continuation(Start(before), (self._in_vocabulary(where, what, token),))
            elif words is not None:
                found = self._continued(where, what, shown, given, words, delimiter)
            else:
                continue
            why = self._unreadable(what, words, token, found)
            start = found.start if found is not None and not why and start is None else start
            if found is not None and not why and found.start == start:
                answers[what] = found.answer
            elif what in self.needed:
                return LeftOut(index, shown, prompt.target, why or "its answers do not begin behind the same token")
        start = start or Start(before)
        target, foil = (answers.get(what, ()) for what in ("target", "foil"))
        forced = tuple(self._in_vocabulary(where, "target", one) for one in target[:-1]) if self.whole else ()
        behind = (*start.moved, *forced)
        return EncodedPrompt(
            index=index,
            ids=self._begun(where, "prompt", behind, start.text, prompt.input_ids),
            text=shown,
            target_id=target[0] if target else None,
            target_text=self._target_text(prompt),
            target_truncated=(len(target) > 1 and not self.whole) or len(foil) > 1,
            foil_id=foil[0] if foil else None,
            counterfactual_ids=self._counterfactual(where, prompt, behind, trimmed=start.text != before),
            group=own_group if prompt.group is None else prompt.group,
            accepted=tuple(tokens[0] for what, tokens in answers.items() if what not in ("target", "foil")),
            moved=len(start.moved),
            trimmed=start.text != before,
            named_bos=self._names_bos(before),
            answer=target if self.whole else target[:1],
        )

    def _counterfactual(
        self, where: str, prompt: Prompt, behind: tuple[int, ...], *, trimmed: bool
    ) -> tuple[int, ...] | None:
        """The counterfactual, with the tokens that the prompt has behind its text."""
        text, ids = prompt.counterfactual, prompt.counterfactual_input_ids
        if text is None and ids is None:
            return None
        return self._begun(where, "counterfactual", behind, text.rstrip(" ") if text and trimmed else text, ids)

    def _begun(
        self, where: str, what: str, behind: tuple[int, ...], text: str | None, given: tuple[int, ...] | None
    ) -> tuple[int, ...]:
        return self._within(where, what, (*self._ids(where, what, text, given), *behind))

    def _written_out(self, where: str, prompt: Prompt) -> str:
        if self.tokenizer is None:
            raise PromptError(f"{where}: 'messages' need a tokenizer, which the model lacks; give token ids")
        try:
            return written_out(self.tokenizer, prompt.messages or ())
        except PromptError as error:
            raise PromptError(f"{where}: {error}") from error

    def _names_bos(self, text: str | None) -> bool:
        return (
            self.bos == "auto" and text is not None and self.tokenizer is not None and names_bos(self.tokenizer, text)
        )

    def _ids(self, where: str, what: str, text: str | None, given: tuple[int, ...] | None) -> tuple[int, ...]:
        ids = self._tokenised(where, what, text or "") if given is None else given
        if strange := [token for token in ids if not 0 <= token < self.vocabulary]:
            raise MalformedPrompt(
                f"{where}: the {what} holds token id {strange[0]}, but the model has ids 0 to "
                f"{self.vocabulary - 1}; check that ids and tokenizer belong to this model"
            )
        return self._within(where, what, ids)

    def _within(self, where: str, what: str, ids: tuple[int, ...]) -> tuple[int, ...]:
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

    def _continued(
        self, where: str, what: str, text: str, ids: Sequence[int] | None, answer: str, delimiter: str
    ) -> Continuation | None:
        if not answer:
            raise TargetError(f"{where}: the {what} is empty; give it a text or leave it out")
        if self.tokenizer is None:
            raise TargetError(f"{where}: the {what} is text, but there is no tokenizer; give '{what}_id'")
        if ids is None:
            found = continued(self.tokenizer, text, answer, delimiter)
        else:
            found = continued_ids(self.tokenizer, ids, text, answer, delimiter)
        if found is not None and found.answer:
            self._check(where, what, answer, found.answer)
        return found

    def _unreadable(self, what: str, words: str | None, token: int | None, found: Continuation | None) -> str:
        """Why the first token of an answer cannot be read; empty where it can."""
        if found is None:
            return f"one token holds the end of the prompt and the beginning of {what} '{words}'"
        if not found.answer:
            return f"the tokenizer has no token for {what} '{words}'"
        if self.tokenizer is None or token is not None or words is None:
            return ""
        unknown = found.answer[0] == self.tokenizer.unk_token_id and words.strip() != self.tokenizer.unk_token
        return f"the tokenizer does not know the first token of {what} '{words}'" if unknown else ""

    def _check(self, where: str, what: str, given: str, tokens: tuple[int, ...]) -> None:
        """Refuse an answer of several tokens where one is required, or of none of the model's."""
        assert self.tokenizer is not None
        first = tokens[0]
        if len(tokens) > 1 and self.single_token_targets == "require":
            pieces = ", ".join(repr(self.tokenizer.decode([token])) for token in tokens)
            raise TargetError(
                f"{where}: {what} '{given}' is {len(tokens)} tokens ({pieces}); "
                f"give a {what} of one token, or allow that its first token is used"
            )
        self._in_vocabulary(where, what, first)

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
        how = "as ids" if prompt.messages is None else "as messages"
        return f"prompt {index} (counted from 0, given {how})"
    return _named(index, prompt.text)


def _named(index: int, text: str) -> str:
    return f"prompt {index} (counted from 0, {text if len(text) <= 40 else text[:39] + '…'!r})"
