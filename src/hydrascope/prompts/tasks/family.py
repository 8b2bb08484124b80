"""What a task is: how its rows become prompts, and where the rows come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hydrascope.prompts.records import Record, records
from hydrascope.prompts.sets import Prompt
from hydrascope.prompts.tokens import Tokenizer

MADE = 240
"""Prompts that a task makes by itself."""

Found = Iterator[Prompt | None]
"""Prompts in order; None for one that the model's tokenizer does not write as the task needs."""


@dataclass(frozen=True)
class HubTable:
    """A table on the Hugging Face hub.

    Attributes:
        dataset: `OWNER/NAME`.
        split: its part.
        config: its configuration; None for the only one.
        rows: how many it has; 0 if unknown.
    """

    dataset: str
    split: str
    config: str | None = None
    rows: int = 0


@dataclass(frozen=True)
class Family:
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
    read: Callable[[Iterable[Record], Tokenizer | None], Found]
    rows: Callable[[Path], Iterator[Record]] = records
    generate: Callable[[Tokenizer | None], Found] | None = None
    hub: HubTable | None = None
