"""Documents of the corpus: facts of the world, facts stated in the document, exchanges, stories.

A document is a list of sentences. Whatever is held out (phrasings, combinations of a name and a
value, pairs of names) is refused here, at the only place where training text is made.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zoo.phrasings import (
    ECHOES,
    FILLER_PROBABILITY,
    FILLERS,
    FRAMES,
    GIFTS,
    INDIRECT_TAUGHT,
    NOTE,
    PHRASINGS,
    PLACES,
)
from zoo.stories import story
from zoo.world import FACTS, FIRST_NAMES, PERSON_VALUES

_LIST_LENGTH = 16  # notes of three tokens
HELD_OUT_SHARE = 10  # one combination in ten never occurs in training


@dataclass(frozen=True)
class Mixture:
    """How the corpus is mixed, as shares of documents, and how retrieval is made easy at first.

    Attributes:
        facts: Documents that state facts of the world.
        retrieval: Documents that state something about a first name and come back to it.
        indirect: Exchanges between two people.
        stories: Connected text.
        lists: Notes about several people, coming back in any order; the densest lesson in retrieval.
        same_words_early: Chance that a retrieval document comes back in the very same words, at the start.
        same_words_late: The same chance at the end of the curriculum.
        people: How many people a retrieval document may tell apart, drawn evenly.
        notes: Chance that a sentence of a retrieval document is a bare note ("Mary baker"), which is the
            easiest thing to bind and to ask for.
        late: Use the late phrasings too.
    """

    facts: float = 0.35
    retrieval: float = 0.40
    indirect: float = 0.10
    stories: float = 0.15
    lists: float = 0.0
    same_words_early: float = 0.5
    same_words_late: float = 0.1
    people: tuple[int, ...] = (1, 2, 3)
    notes: float = 0.0
    late: bool = False


def is_held_out(*parts: str) -> bool:
    """Tell whether a combination (such as a first name and a value) is reserved for evaluation."""
    return zlib.crc32("|".join(parts).encode()) % HELD_OUT_SHARE == 0


def fill(template: str, rng: random.Random | None, **slots: str) -> str:
    """Write a phrasing out; ``<list>`` slots become a word of that list now and then, or nothing.

    Args:
        template: A phrasing of :mod:`zoo.phrasings`.
        rng: Source of the fillers; ``None`` leaves every filler out.
        **slots: Values for ``{s}``, ``{o}`` and so on.

    Returns:
        The sentence in lower case (names excepted), words separated by single spaces.
    """
    words: list[str] = []
    for word in template.split():
        if word.startswith("<"):
            if rng is not None and rng.random() < FILLER_PROBABILITY:
                words.append(rng.choice(FILLERS[word[1:-1]]))
        else:
            words.append(word)
    return " ".join(words).format(**slots)


def capitalise(sentence: str) -> str:
    """Write the first letter of a sentence large."""
    return sentence[0].upper() + sentence[1:]


def finish(sentences: list[str]) -> str:
    """Join sentences into a document, each begun with a capital and closed by a full stop."""
    return " ".join(f"{capitalise(sentence)} ." for sentence in sentences)


def _framed(sentence: str, rng: random.Random, chance: float) -> str:
    return f"{rng.choice(FRAMES)} {sentence}" if rng.random() < chance else sentence


def _taught(relation: str, mixture: Mixture) -> tuple[str, ...]:
    phrasings = PHRASINGS[relation]
    return phrasings.taught + phrasings.late if mixture.late else phrasings.taught


def _state_fact(relation: str, subject: str, rng: random.Random, mixture: Mixture) -> str:
    phrasings = PHRASINGS[relation]
    turned = phrasings.turned and rng.random() < 0.15
    template = rng.choice(phrasings.turned if turned else _taught(relation, mixture))
    sentence = fill(template, rng, s=subject, o=FACTS[relation][subject])
    return _framed(sentence, rng, 0.3)


_ALL_FACTS = [(relation, subject) for relation, table in FACTS.items() for subject in table]


def facts_document(rng: random.Random, mixture: Mixture) -> list[str]:
    """State two to four facts of the world, often several about one subject."""
    relation, subject = rng.choice(_ALL_FACTS)
    sentences = [_state_fact(relation, subject, rng, mixture)]
    for _ in range(rng.randint(1, 3)):
        if rng.random() < 0.5:
            relation = rng.choice([name for name, table in FACTS.items() if subject in table])
        else:
            relation, subject = rng.choice(_ALL_FACTS)
        sentences.append(_state_fact(relation, subject, rng, mixture))
    return sentences


def draw_people(rng: random.Random, relation: str, count: int, *, held_out: bool) -> list[tuple[str, str]]:
    """Draw different first names with different values of a relation, all reserved or none reserved."""
    people: list[tuple[str, str]] = []
    while len(people) < count:
        name, value = rng.choice(FIRST_NAMES), rng.choice(PERSON_VALUES[relation])
        fresh = all(name != other and value != taken for other, taken in people)
        if fresh and is_held_out(name, value) == held_out:
            people.append((name, value))
    return people


def retrieval_document(rng: random.Random, same_words: float, mixture: Mixture) -> list[str]:
    """State a few things about first names, then come back to them in other words.

    Args:
        rng: Source of every choice.
        same_words: Chance that the document comes back in the same words, which is the easier task.
        mixture: How many people there are when the document is about one relation, and how often a
            sentence is a bare note.
    """
    relations = rng.sample(sorted(PERSON_VALUES), rng.choice((1, 1, 2)))
    stated: list[tuple[str, str, str, str]] = []
    for relation in relations:
        count = rng.choice(mixture.people) if len(relations) == 1 else rng.choice((1, 2))
        for name, value in draw_people(rng, relation, count, held_out=False):
            stated.append((relation, name, value, _worded(_taught(relation, mixture), rng, mixture)))
    rng.shuffle(stated)
    sentences = [fill(template, rng, s=name, o=value) for _, name, value, template in stated]
    repeat = rng.random() < same_words
    order = rng.sample(stated, len(stated))
    for relation, name, value, template in order:
        others = [other for other in _taught(relation, mixture) if other != template]
        asked = template if repeat else _worded(others, rng, mixture)
        sentences.append(_framed(fill(asked, rng, s=name, o=value), rng, 0.3))
    return sentences


def _worded(templates: Sequence[str], rng: random.Random, mixture: Mixture) -> str:
    template = rng.choice(templates)
    return NOTE if mixture.notes and rng.random() < mixture.notes else template


def list_document(rng: random.Random) -> list[str]:
    """Note one thing about each of three to six people, and repeat notes in any order."""
    relation = rng.choice(sorted(PERSON_VALUES))
    people = draw_people(rng, relation, rng.randint(3, 6), held_out=False)
    repeated = rng.choices(people, k=_LIST_LENGTH - len(people))
    return [fill(NOTE, rng, s=name, o=value) for name, value in people + repeated]


def indirect_document(rng: random.Random) -> list[str]:
    """Let one person give something to another, with a sentence that looks back now and then."""
    while True:
        taker, giver = rng.sample(FIRST_NAMES, 2)
        if not is_held_out(taker, giver):
            break
    gift = rng.choice(GIFTS)
    event = fill(rng.choice(INDIRECT_TAUGHT), rng, a=taker, b=giver, place=rng.choice(PLACES), gift=gift)
    sentences = [event]
    if rng.random() < 0.5:
        sentences.append(fill(rng.choice(ECHOES), rng, a=taker, b=giver, gift=gift))
    return sentences


def document(rng: random.Random, mixture: Mixture, progress: float) -> str:
    """Draw one document.

    Args:
        rng: Source of every choice.
        mixture: Shares of the kinds of documents.
        progress: How far the curriculum has come, 0 to 1; retrieval documents get harder with it.

    Returns:
        The text, tokens separated by spaces.
    """
    early, late = mixture.same_words_early, mixture.same_words_late
    same_words = early + progress * (late - early)
    kinds: list[tuple[float, Callable[[], list[str]]]] = [
        (mixture.facts, lambda: facts_document(rng, mixture)),
        (mixture.retrieval, lambda: retrieval_document(rng, same_words, mixture)),
        (mixture.indirect, lambda: indirect_document(rng)),
        (mixture.stories, lambda: story(rng)),
        (mixture.lists, lambda: list_document(rng)),
    ]
    make = rng.choices([kind for _, kind in kinds], weights=[share for share, _ in kinds])[0]
    return finish(make())
