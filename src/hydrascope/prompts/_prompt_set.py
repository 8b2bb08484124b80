"""Prompts as a user gives them, before any model has seen them."""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import overload

from hydrascope._card import card
from hydrascope.errors import EmptyPrompts, MalformedPrompt, PromptError, shown

Message = Mapping[str, str]
"""One turn of a conversation: who speaks, under `role`, and what, under `content`."""
_SHOWN = 120
"""Most characters of a prompt in a notebook's view."""


@dataclass(frozen=True)
class Prompt:
    """A prompt, and optionally what should and what should not follow it.

    Attributes:
        text: text up to the answer.
        input_ids: token ids to run as they are; `text`, if given too, is only shown.
        target: text that should follow; its first token is the target.
        target_id: id of the target token; goes before `target`.
        accepted: other texts that are right too; of all, the one that the model says is the target.
        foil: text that should not follow; its first token's logit is subtracted in a logit difference.
        foil_id: id of the foil token; goes before `foil`.
        counterfactual: text of the counterfactual prompt.
        counterfactual_input_ids: token ids of the counterfactual prompt; go before its text.
        group: name of the group, say of a template; the bootstrap resamples whole groups.
        delimiter: what stands between prompt and answer: `auto`, `none` or a text; None leaves it to the run.
        messages: a conversation in place of a text, each message with `role` and `content`; the model's chat template
            writes it out up to the assistant's turn.

    Raises:
        MalformedPrompt: there is neither text nor ids nor messages, a value is empty, or one has the wrong type.
    """

    text: str | None = None
    input_ids: tuple[int, ...] | None = None
    target: str | None = None
    target_id: int | None = None
    foil: str | None = None
    foil_id: int | None = None
    counterfactual: str | None = None
    counterfactual_input_ids: tuple[int, ...] | None = None
    group: str | None = None
    accepted: tuple[str, ...] | None = None
    delimiter: str | None = None
    messages: tuple[Message, ...] | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("prompt", self.text),
            ("target", self.target),
            ("foil", self.foil),
            ("counterfactual", self.counterfactual),
            ("group", self.group),
            ("delimiter", self.delimiter),
            *(("accepted", one) for one in self.accepted or ()),
        ):
            _check_text(name, value)
        for name in ("input_ids", "counterfactual_input_ids"):
            ids = getattr(self, name)
            if ids is not None:
                object.__setattr__(self, name, _token_ids(name, ids))
        for name in ("target_id", "foil_id"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _token_id(name, getattr(self, name)))
        if self.messages is not None:
            object.__setattr__(self, "messages", _conversation(self.messages))
            if self.text is not None or self.input_ids is not None:
                raise MalformedPrompt("there are 'messages' beside another prompt; give one of them")
        elif self.input_ids is None and not self.text:
            raise MalformedPrompt("the prompt is empty; give it a text or input_ids")


@dataclass(frozen=True)
class PromptSet:
    """A named set of at least one prompt.

    Attributes:
        name: short name, shown in reports.
        prompts: the prompts in order; elsewhere, a prompt's index is its position here.
        source: where the prompts came from: a path, `bundled`, `generated`, `hub:...` or `memory`.
        unfit: number of prompts left out because the model's tokenizer does not write them as their task needs.
        spread_over: number of prompts that these were taken from; None if they are all.

    Raises:
        EmptyPrompts: there is no prompt.
    """

    name: str
    prompts: tuple[Prompt, ...]
    source: str = "memory"
    unfit: int = 0
    spread_over: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise MalformedPrompt(f"the name of a prompt set cannot be {self.name!r}; give it as text")
        try:
            object.__setattr__(self, "prompts", tuple(self.prompts))
        except TypeError:
            raise MalformedPrompt(f"'{self.name}' cannot hold {self.prompts!r}; give a list of prompts") from None
        if not self.prompts:
            raise EmptyPrompts(f"prompt set '{self.name}' ({self.source}) holds no prompt; give at least one")
        for number, one in enumerate(self.prompts):
            if not isinstance(one, Prompt):
                raise MalformedPrompt(f"prompt {number} of '{self.name}' is {one!r}, no Prompt; use load_prompts")

    @property
    def digest(self) -> str:
        """SHA-256 of the prompts alone, in canonical JSON."""
        rows = [{k: v for k, v in asdict(prompt).items() if v is not None} for prompt in self.prompts]
        canonical = json.dumps(rows, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    def spread(self, n: int) -> PromptSet:
        """Take `n` prompts evenly from all, or all of them if there are fewer.

        Raises:
            EmptyPrompts: `n` is below 1.
        """
        if n < 1:
            raise EmptyPrompts(f"{n} of '{self.name}' are no prompts; take at least 1")
        if n >= len(self):
            return self
        return replace(self, prompts=tuple(self.prompts[i * len(self) // n] for i in range(n)), spread_over=len(self))

    def _repr_html_(self) -> str:
        first, groups = self.prompts[0], {prompt.group for prompt in self.prompts}
        text = first.text or " ".join(map(str, first.input_ids or ()))
        facts = {
            "prompts": f"{len(self):,}" + (f" in {len(groups):,} groups" if len(groups) > 1 else ""),
            "from": self.source,
            "left out": f"{self.unfit:,}" if self.unfit else "",
            "the first": text if len(text) <= _SHOWN else f"… {text[-_SHOWN:]}",
            "its target": first.target or ("" if first.target_id is None else first.target_id),
        }
        return card(self.name, facts)

    def __len__(self) -> int:
        return len(self.prompts)

    def __iter__(self) -> Iterator[Prompt]:
        return iter(self.prompts)

    @overload
    def __getitem__(self, key: int) -> Prompt: ...
    @overload
    def __getitem__(self, key: slice) -> PromptSet: ...
    def __getitem__(self, key: int | slice) -> Prompt | PromptSet:
        if isinstance(key, slice):
            return replace(self, prompts=self.prompts[key])
        try:
            return self.prompts[key]
        except TypeError:
            raise PromptError(f"{shown(key)} is no place in '{self.name}'; prompts are counted from 0") from None


def _check_text(name: str, value: object) -> None:
    if value is None:
        return
    if not isinstance(value, str):
        raise MalformedPrompt(f"'{name}' is {value!r}; write it as text in quotes")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MalformedPrompt(f"'{name}' holds half of a Unicode surrogate pair; remove it") from None


def _conversation(messages: object) -> tuple[Message, ...]:
    """Messages with role and content alone, both of them texts."""
    found = []
    for message in messages if isinstance(messages, list | tuple) else [messages]:
        role, content = (message.get(key) if isinstance(message, Mapping) else None for key in ("role", "content"))
        if not isinstance(role, str) or not isinstance(content, str):
            raise MalformedPrompt(
                "'messages' must be a list of objects with the texts 'role' and 'content', such as "
                '[{"role": "user", "content": "..."}]'
            )
        _check_text("messages", content)
        found.append({"role": role, "content": content})
    if not found:
        raise MalformedPrompt("'messages' is empty; give at least one message")
    return tuple(found)


def _token_ids(name: str, value: Sequence[object]) -> tuple[int, ...]:
    if isinstance(value, str | bytes):
        raise MalformedPrompt(f"'{name}' is {value!r}; write it as a list of whole numbers")
    try:
        ids = tuple(_token_id(name, item) for item in value)
    except TypeError:
        raise MalformedPrompt(f"'{name}' is {value!r}; write it as a list of whole numbers") from None
    if not ids:
        raise MalformedPrompt(f"'{name}' is empty; give at least one token id")
    return ids


def _token_id(name: str, value: object) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)  # type: ignore[arg-type]  # the TypeError is the check
    except TypeError:
        pass
    raise MalformedPrompt(f"'{name}' holds {value!r}, no token id; write whole numbers")
