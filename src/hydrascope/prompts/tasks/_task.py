"""What a task is: how its rows become prompts, and where the rows come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hydrascope.prompts._hub import HubTable
from hydrascope.prompts._prompt_set import Prompt
from hydrascope.prompts._records import Record, records
from hydrascope.prompts._tokenizer import Tokenizer

MADE = 240
"""Prompts that a task makes by itself."""

TaskPrompts = Iterator[Prompt | None]
"""Prompts in order; None for one that the model's tokenizer does not write as the task needs."""


@dataclass(frozen=True)
class PromptTask:
    """A kind of prompt that can be asked for by name.

    Attributes:
        name: what to type.
        asks: what its prompts ask, in a few words.
        takes: what it reads after `NAME:`.
        read: rows to prompts.
        rows: rows of a file or folder.
        generate: makes prompts where no file is given.
        hub: the table that is read where no file is given and nothing is made.
    """

    name: str
    asks: str
    takes: str
    read: Callable[[Iterable[Record], Tokenizer | None], TaskPrompts]
    rows: Callable[[Path], Iterator[Record]] = records
    generate: Callable[[Tokenizer | None], TaskPrompts] | None = None
    hub: HubTable | None = None
