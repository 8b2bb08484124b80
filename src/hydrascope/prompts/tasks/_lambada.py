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


def passages(path: Path) -> Iterator[Record]:
    """Rows with a `text`, or a text file with a passage a line."""
    if path.suffix.lower() != ".txt":
        yield from records(path)
        return
    for number, line in enumerate(read_text(path, (".txt", *ENDINGS)).splitlines(), start=1):
        if line.strip():
            yield Record(f"{path}, line {number}", {"text": line})


def last_words(rows: Iterable[Record], tokenizer: Tokenizer | None = None) -> TaskPrompts:
    """A passage without its last word, which is the target; what closes the sentence is left out.

    Raises:
        MalformedPrompt: a passage of less than two words.
    """
    for row in rows:
        words = row.text("text").rstrip().rstrip(_AFTER).rsplit(None, 1)
        if len(words) < 2:
            raise MalformedPrompt(f"{row.where}: the passage has no last word to leave out; give two words or more")
        yield Prompt(words[0], target=words[1])


LAMBADA = PromptTask(
    name="lambada",
    asks="the last word of a passage",
    takes="FILE, rows with a text, or a text file with a passage a line",
    read=last_words,
    rows=passages,
    hub=HubTable("EleutherAI/lambada_openai", "test", "default", rows=5153),
)
