"""Reads ordinary text as documents, and cuts them into texts of one length, none of which spans two.

The bootstrap resamples whole documents. For prompts that end where a token is to be predicted, use `load`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsIndex, get_args

from hydrascope.errors import EmptyPrompts, MalformedPrompt, PromptError, PromptTooLong, shown
from hydrascope.prompts._columns import PROMPT_COLUMNS
from hydrascope.prompts._encode import Bos
from hydrascope.prompts._files import Table, rows_of
from hydrascope.prompts._folders import files_below
from hydrascope.prompts._hub import HubTable, hub_records
from hydrascope.prompts._prompt_set import Prompt, PromptSet
from hydrascope.prompts._records import ENDINGS, Record, read_text, records
from hydrascope.prompts._tokenizer import Tokenizer, bare_ids, ids_with_policy

_TEXT = (".txt", ".text", ".md")
_END_OF_TEXT = "<|endoftext|>"
_HEADING = re.compile(r"^ = [^=\n].* = $", re.MULTILINE)
"""The title of a WikiText article; headings inside an article have more equals signs."""


USUAL_LENGTH = 128
"""Tokens of a text where nothing else is asked for, as in the code of the Hydra effect's paper."""


@dataclass(frozen=True)
class Document:
    """A document.

    Attributes:
        name: file, or row of a file or table, that it was read from.
        text: the whole text, with at least one character that is not white space.
    """

    name: str
    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise MalformedPrompt(f"the text of document '{self.name}' is {shown(self.text)}; give it as text")


def documents(source: str | os.PathLike[str]) -> tuple[Document, ...]:
    """Read documents from a file, a folder or the Hugging Face hub.

    A text file is one document, or several separated by `<|endoftext|>` or by the article titles of WikiText. In JSON,
    JSON lines and CSV, the column `text` of each row is one document.

    Args:
        source: a file, a folder (read with its subfolders, sorted by path), or `hub:OWNER/NAME` with an optional
            `:SPLIT`.

    Returns:
        At least one document, in the order of the source.

    Raises:
        EmptyPrompts: there is no text.
        PromptError: the source cannot be read.
        MalformedPrompt: a file is not UTF-8, or a row has no text.
    """
    if not isinstance(source, str | os.PathLike):
        raise PromptError(f"{shown(source)} is no source of text; give a file, a folder, or hub:OWNER/NAME")
    name = os.fspath(source)
    if name.startswith("hub:"):
        found = tuple(_rows(hub_records(HubTable.parse(name.removeprefix("hub:")))))
    else:
        found = tuple(document for path in _files(Path(name)) for document in _in_file(path))
    if not found:
        raise EmptyPrompts(f"'{name}' holds no text; give a file that has some")
    return found


def is_text(source: str) -> bool:
    """Whether a source holds ordinary text rather than prompts.

    Args:
        source: as of `documents`; text files, folders, hub tables and rows with `text` but no `prompt` are text.
    """
    path = Path(source)
    if source.startswith("hub:") or os.path.isdir(path) or path.suffix.lower() in _TEXT:
        return True
    if path.suffix.lower() not in ENDINGS or not os.path.exists(path):
        return False
    first = next(iter(records(path)), None)
    return first is not None and "text" in first.values and not {*PROMPT_COLUMNS} & set(first.values)


def given_documents(given: object) -> tuple[Document, ...]:
    """Documents that are handed over in Python: what `documents` returned, or rows with `text` but no `prompt`.

    Args:
        given: anything that may be a set of prompts; a list of dictionaries or a pandas table holds rows.

    Returns:
        No document where this is something else.
    """
    rows = rows_of(given) if isinstance(given, Table) else given
    if not isinstance(rows, list | tuple):
        return ()
    found: list[Document] = []
    for number, row in enumerate(rows):
        if isinstance(row, Document):
            found.append(row)
        elif isinstance(row, Mapping) and "text" in row and not {*PROMPT_COLUMNS} & set(row):
            if row["text"] not in ("", None):
                found.append(Document(f"row {number}", row["text"]))
        else:
            return ()
    return tuple(found)


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return files_below(path, (*_TEXT, *ENDINGS))


def _in_file(path: Path) -> Iterator[Document]:
    if path.suffix.lower() in ENDINGS:
        yield from _rows(records(path))
        return
    if path.suffix.lower() not in _TEXT:
        raise PromptError(f"'{path}' is no text; give a file that ends in {', '.join((*_TEXT, *ENDINGS))}")
    pieces = [piece for piece in _pieces(read_text(path, _TEXT)) if piece.strip()]
    for number, piece in enumerate(pieces):
        yield Document(f"{path}, document {number}" if len(pieces) > 1 else str(path), piece)


def _pieces(text: str) -> list[str]:
    if _END_OF_TEXT in text:
        return text.split(_END_OF_TEXT)
    starts = [found.start() for found in _HEADING.finditer(text)]
    return [text[start:end] for start, end in zip([0, *starts], [*starts, None], strict=True)]


def _rows(rows: Iterator[Record]) -> Iterator[Document]:
    for row in rows:
        if row.values.get("text", row) not in ("", None):  # tables of lines have empty ones
            yield Document(row.where, row.text("text"))


@dataclass(frozen=True)
class Cut:
    """How documents are cut into texts.

    Attributes:
        length: tokens of every text, with the beginning-of-sequence token if there is one; None for 128,
            or for the whole context where that is shorter.
        limit: largest number of texts, taken evenly from all that the documents give; None for all.
        bos: policy for the beginning-of-sequence token, as of `encode`.
    """

    length: int | None = None
    limit: int | None = None
    bos: Bos = "auto"

    def __post_init__(self) -> None:
        for name, value in (("length", self.length), ("limit", self.limit)):
            if not isinstance(value, SupportsIndex) and value is not None:
                raise PromptError(f"{name} cannot be {shown(value)}; give a whole number of tokens or texts")
        if not isinstance(self.bos, str) or self.bos not in get_args(Bos):
            raise PromptError(f"bos cannot be {shown(self.bos)}; choose {', '.join(get_args(Bos))}")


def cut(documents: Sequence[Document], tokenizer: Tokenizer | None, how: Cut, *, name: str, context: int) -> PromptSet:
    """Cut documents into texts of one length.

    Tokens left at the end of a document, too few for a text, are dropped.

    Args:
        documents: at least one document.
        tokenizer: the model's tokenizer, or None if it has none.
        how: length, limit and beginning-of-sequence policy.
        name: name of the prompt set.
        context: most tokens that the model takes.

    Returns:
        The texts as token ids; texts of one document form a group.

    Raises:
        PromptError: there is no tokenizer, or the length makes no sense.
        PromptTooLong: the length is beyond the model's context.
        EmptyPrompts: no document has that many tokens.
    """
    if not isinstance(how, Cut):
        raise PromptError(f"texts cannot be cut by {shown(how)}; give hydrascope.Cut(length=...)")
    if isinstance(documents, str) or not all(isinstance(one, Document) for one in documents):
        raise PromptError("only documents can be cut; give what hydrascope.documents returned")
    if tokenizer is None:
        raise PromptError("text cannot be cut into tokens, since the model has no tokenizer; give prompts of token ids")
    length = min(USUAL_LENGTH, context) if how.length is None else how.length
    if length < 3:
        raise PromptError(f"texts of {length} tokens are too short to read anything in; take at least 3")
    if length > context:
        raise PromptTooLong(
            f"texts of {length} tokens were asked for, but the model's context holds {context}; take shorter ones"
        )
    if how.limit is not None and how.limit < 1:
        raise PromptError(f"{how.limit} texts are none; take at least 1")
    pieces = [prompt for document in documents for prompt in _texts(document, tokenizer, length, how.bos)]
    if not pieces:
        raise EmptyPrompts(f"no document of '{name}' has {length} tokens; take shorter texts or longer documents")
    found = PromptSet(name, tuple(pieces), "text")
    return found if how.limit is None else found.spread(how.limit)


def _texts(document: Document, tokenizer: Tokenizer, length: int, bos: Bos) -> Iterator[Prompt]:
    front = _front(tokenizer, bos)
    ids = ids_with_policy(tokenizer, document.text, bos)[len(front) :]
    step = length - len(front)
    for start in range(0, len(ids) - step + 1, step):
        yield Prompt(input_ids=(*front, *ids[start : start + step]), group=document.name)


def _front(tokenizer: Tokenizer, bos: Bos) -> tuple[int, ...]:
    """Ids that the policy puts in front of every text."""
    word = "a"
    return tuple(ids_with_policy(tokenizer, word, bos)[: -len(bare_ids(tokenizer, word)) or None])
