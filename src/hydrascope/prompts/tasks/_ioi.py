"""Indirect object identification (IOI; Wang et al. 2022, arXiv 2211.00593).

Two people are named, one of them twice. The target is the one named once, the indirect object (IO); the foil is the one
named twice, the subject (S). In the counterfactual the two names are exchanged everywhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from hydrascope.errors import MalformedPrompt, PromptError
from hydrascope.prompts._prompt_set import Prompt
from hydrascope.prompts._records import Record
from hydrascope.prompts._targets import continued
from hydrascope.prompts._tokenizer import Tokenizer, bare_ids
from hydrascope.prompts.tasks._task import N_GENERATED, PromptTask, TaskPrompts

_ENOUGH = 12
"""Number of single-token names that suffice; with fewer, names of the most common length are used."""

_NAMES = (
    "Mary", "John", "Tom", "James", "Paul", "Mark", "Peter", "David", "Anna", "Sarah", "Laura", "Kate", "Jack",
    "Adam", "Alice", "Emma", "Helen", "Simon", "George", "Henry", "Robert", "Michael", "Daniel", "Thomas", "Martin",
    "Frank", "Susan", "Linda", "Julia", "Maria", "Rachel", "Kevin", "Brian", "Scott", "Eric", "Jason", "Ryan", "Lisa",
    "Ruth", "Oliver", "Lucy", "Harry", "Charles", "Edward", "Andrew", "Luke", "Victoria", "Diana", "Claire", "Emily",
    "Jane", "Nick",
)  # fmt: skip
_SENTENCES = (
    "When {A} and {B} met at the {place}, {S} handed a {thing} to",
    "On Sunday {A} and {B} walked through the {place}, and {S} showed a {thing} to",
    "While {A} and {B} were waiting near the {place}, {S} lent a {thing} to",
    "Since {A} and {B} both liked the {place}, {S} brought a {thing} there for",
    "Before {A} and {B} left the {place}, {S} returned a {thing} to",
    "As soon as {A} and {B} reached the {place}, {S} threw a {thing} to",
    "One day {A} and {B} had a long talk at the {place}, and {S} sold a {thing} to",
    "Today {A} and {B} shared a bench by the {place}, where {S} passed a {thing} to",
    "It rained when {A} and {B} came out of the {place}, so {S} offered a {thing} to",
    "Years ago {A} and {B} worked in the same {place}, where {S} once gave a {thing} to",
    "Everyone at the {place} knew {A} and {B}, and everyone saw {S} give a {thing} to",
    "After {A} and {B} had cleaned the {place}, {S} promised a {thing} to",
)
_PLACES = ("station", "library", "garden", "museum", "theater", "bakery", "park", "market", "harbor", "church")
_THINGS = ("letter", "ticket", "map", "lamp", "basket", "key", "coin", "photo", "scarf", "book", "ring", "cup")


class _Names(NamedTuple):
    """Names of one length in tokens, and the first token of each in a prompt."""

    names: tuple[str, ...]
    first: tuple[int, ...]


def generate(tokenizer: Tokenizer | None = None) -> TaskPrompts:
    """Generate prompts with names of one length in tokens.

    Raises:
        PromptError: the tokenizer does not know the words, or begins all names alike.
    """
    rng = np.random.default_rng(0)
    names = _writable(tokenizer)
    words = re.sub(r"[{}]", "", " ".join((*_SENTENCES, *_PLACES, *_THINGS)))
    if tokenizer is not None and _unknown(tokenizer, words):
        raise PromptError("the tokenizer does not know the words of the generated sentences; give a file, ioi:FILE")
    seen: set[str] = set()
    while len(seen) < N_GENERATED:
        number, (place, thing) = len(seen) % len(_SENTENCES), (rng.choice(_PLACES), rng.choice(_THINGS))
        one, two = rng.choice(len(names.names), 2, replace=False)
        if names.first[one] == names.first[two]:
            continue
        io, s = names.names[one], names.names[two]
        order = (io, s) if rng.random() < 0.5 else (s, io)
        text = _SENTENCES[number].format(A=order[0], B=order[1], S=s, place=place, thing=thing)
        if text not in seen:
            seen.add(text)
            yield _prompt(text, io, s, group=f"sentence {number}")


def read(rows: Iterable[Record], tokenizer: Tokenizer | None = None) -> TaskPrompts:
    """Read rows with `prompt` or `clean`, and optionally `answer` or `target`.

    Of two capitalised words joined by "and", the one that occurs again is S and the other IO. A text under `corrupted`
    or `counterfactual` is the counterfactual. Token ids in such files belong to another model and are ignored.

    Raises:
        MalformedPrompt: nobody in a text is named twice, or the answer is not IO.
    """
    for row in rows:
        text = row.text("prompt" if "prompt" in row.values else "clean")
        io, s = _people(row, text)
        given = row.values.get("answer") or row.values.get("target")
        if given is not None and str(given).strip() != io:
            raise MalformedPrompt(
                f"{row.where}: the answer is '{str(given).strip()}', but '{io}' is the one named once beside '{s}'; "
                "correct it"
            )
        group = row.values.get("group")
        other = row.values.get("corrupted") or row.values.get("counterfactual")
        yield _prompt(text, io, s, None if group is None else str(group), None if other is None else str(other))


def _prompt(text: str, io: str, s: str, group: str | None, counterfactual: str | None = None) -> Prompt:
    return Prompt(
        text, target=io, foil=s, counterfactual=counterfactual or _exchanged(text, {io: s, s: io}), group=group
    )


def _people(row: Record, text: str) -> tuple[str, str]:
    counts = Counter(re.findall(r"\b[A-Z]\w*", text))
    for one, two in re.findall(r"\b([A-Z]\w*) and ([A-Z]\w*)", text):
        for io, s in ((one, two), (two, one)):
            if counts[io] == 1 and counts[s] > 1:
                return io, s
    raise MalformedPrompt(f"{row.where}: no two people joined by 'and' of whom one is named again; correct it")


def _exchanged(text: str, names: dict[str, str]) -> str:
    return re.sub(r"\b(" + "|".join(map(re.escape, names)) + r")\b", lambda found: names[found[0]], text)


def _writable(tokenizer: Tokenizer | None) -> _Names:
    if tokenizer is None:
        return _Names(_NAMES, tuple(range(len(_NAMES))))
    written = {name: bare_ids(tokenizer, " " + name) for name in _NAMES if not _unknown(tokenizer, name)}
    lengths = Counter(len(ids) for ids in written.values())
    if not lengths:
        raise PromptError("the tokenizer does not know the names of the generated sentences; give a file, ioi:FILE")
    length = 1 if lengths[1] >= _ENOUGH else max(lengths, key=lambda tokens: (lengths[tokens], -tokens))
    names = tuple(name for name, ids in written.items() if len(ids) == length)
    first = tuple(_first_token(tokenizer, name) for name in names)
    if len(set(first)) == 1:
        raise PromptError("the tokenizer begins all names alike, so that none can be told from another; give a file")
    return _Names(names, first)


def _first_token(tokenizer: Tokenizer, name: str) -> int:
    found = continued(tokenizer, "gave it to", name)
    return found.answer[0] if found and found.answer else -1


def _unknown(tokenizer: Tokenizer, text: str) -> bool:
    return tokenizer.unk_token_id is not None and tokenizer.unk_token_id in bare_ids(tokenizer, text)


IOI = PromptTask(
    name="ioi",
    description="who is given something, the giver as foil",
    input_format="FILE, JSON or CSV with prompt or clean, and optionally answer and corrupted",
    read=read,
    generate=generate,
)
