"""The last word of a passage (LAMBADA; Paperno et al. 2016, arXiv 1606.06031)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from hydrascope.errors import MalformedPrompt
from hydrascope.prompts._hub import HubTable
from hydrascope.prompts._prompt_set import Prompt
from hydrascope.prompts._records import ENDINGS, Record, read_text, records
from hydrascope.prompts._tokenizer import Tokenizer
from hydrascope.prompts.tasks._task import PromptTask, TaskPrompts

_AFTER = ".,;:!?\"'’”)"
"""Punctuation that can follow the last word."""


def passages(path: Path) -> Iterator[Record]:
    """Read rows with a `text`, or a text file with a passage on each line."""
    if path.suffix.lower() != ".txt":
        yield from records(path)
        return
    for number, line in enumerate(read_text(path, (".txt", *ENDINGS)).splitlines(), start=1):
        if line.strip():
            yield Record(f"{path}, line {number}", {"text": line})


def last_words(rows: Iterable[Record], tokenizer: Tokenizer | None = None) -> TaskPrompts:
    """Split each passage into a prompt and its last word, the target.

    Punctuation after the last word is dropped.

    Raises:
        MalformedPrompt: a passage has fewer than two words.
    """
    for row in rows:
        words = row.text("text").rstrip().rstrip(_AFTER).rsplit(None, 1)
        if len(words) < 2:
            raise MalformedPrompt(f"{row.where}: the passage has no last word to leave out; give two words or more")
        yield Prompt(words[0], target=words[1])


LAMBADA = PromptTask(
    name="lambada",
    description="the last word of a passage",
    input_format="FILE, rows with a text, or a text file with a passage a line",
    read=last_words,
    rows=passages,
    hub=HubTable("EleutherAI/lambada_openai", "test", "default", rows=5153),
)
