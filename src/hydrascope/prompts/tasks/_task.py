"""What a task is: how its rows become prompts, and where the rows come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
