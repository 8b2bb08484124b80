"""What a task is, and what tasks share: partners for counterfactuals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydrascope.prompts._hub import HubTable
from hydrascope.prompts._prompt_set import Prompt
from hydrascope.prompts._records import Record, records
from hydrascope.prompts._tokenizer import Tokenizer

N_GENERATED = 240
"""Number of prompts that a task generates."""

TaskPrompts = Iterator[Prompt | None]
"""Prompts of a task, with None for one that the tokenizer does not write as the task needs."""


@dataclass(frozen=True)
class PromptTask:
    """A kind of prompt that can be loaded by name.

    Attributes:
        name: name of the task, as of `--prompts NAME`.
        description: what its prompts ask, in a few words.
        input_format: what can be given after `NAME:`, for the list of tasks and for errors.
        read: turns rows into prompts.
        rows: reads the rows of a file or folder.
        generate: makes prompts if no file is given; None if the task cannot.
        hub: table that is read if no file is given and the task cannot generate; None if there is none.
    """

    name: str
    description: str
    input_format: str
    read: Callable[[Iterable[Record], Tokenizer | None], TaskPrompts]
    rows: Callable[[Path], Iterator[Record]] = records
    generate: Callable[[Tokenizer | None], TaskPrompts] | None = None
    hub: HubTable | None = None


def partners(
    answers: Sequence[str], *kinds: Sequence[Hashable], alike: Callable[[int, int], bool] = lambda i, j: True
) -> list[int | None]:
    """For each prompt, find the next of the same kind with another answer.

    Args:
        answers: answer of each prompt.
        kinds: kind of each prompt, once for each way to group prompts, from the narrowest to the widest; the narrowest
            kind with a partner decides.
        alike: whether two prompts, given by their positions, are of one length; such partners go before others of the
            same kind.

    Returns:
        Position of each prompt's partner; None if even the widest kind has no other answer.
    """
    found: list[int | None] = [None] * len(answers)
    for kind in kinds:
        members: dict[Hashable, list[int]] = defaultdict(list)
        for i, key in enumerate(kind):
            members[key].append(i)
        for rows in members.values():
            if len({answers[i] for i in rows}) < 2:
                continue
            for place, i in enumerate(rows):
                if found[i] is None:
                    others = [j for j in rows[place + 1 :] + rows[:place] if answers[j] != answers[i]]
                    found[i] = next((j for j in others if alike(i, j)), others[0])
    return found
