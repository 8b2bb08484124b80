"""Prompt sets in what the corpus holds back: phrasings, combinations, pairs of names, unread text.

Every set is a list of prompts whose answer is one token, with the template as group and, plain text
excepted, the same sentence about another subject as counterfactual.
"""

from __future__ import annotations

import json
import random
from dataclasses import asdict, dataclass
from pathlib import Path

from zoo.documents import Mixture, capitalise, document, draw_people, fill, finish, is_held_out
from zoo.phrasings import GIFTS, INDIRECT_HELD_OUT, PHRASINGS, PLACES
from zoo.world import FACTS, FIRST_NAMES, PERSON_VALUES

_SHORTEST_TEXT = 6


@dataclass(frozen=True)
class Prompt:
    """A text to be continued by one token.

    Attributes:
        prompt: The text, without the answer.
        target: The answer with the space in front.
        group: The template; prompts of one template are not independent.
        counterfactual: The same template about another subject, of the same length; plain text has none.
    """

    prompt: str
    target: str
    group: str
    counterfactual: str | None


def _cue(template: str, **slots: str) -> str:
    """Write a phrasing up to its answer."""
    cue, end = template.split(" {o}") if "{o}" in template else template.rsplit(" {a}", 1)
    assert not end
    return capitalise(fill(cue, None, **slots))


def fact_prompts(relation: str, template: str, number: int) -> list[Prompt]:
    """Ask for every fact of a relation in one phrasing."""
    table = FACTS[relation]
    subjects = list(table)
    group = f"{relation}-{number}"
    prompts = []
    for index, subject in enumerate(subjects):
        others = subjects[index + 1 :] + subjects[:index]
        other = next(entry for entry in others if table[entry] != table[subject])
        asked, counter = _cue(template, s=subject), _cue(template, s=other)
        prompts.append(Prompt(asked, f" {table[subject]}", group, counter))
    return prompts


def all_fact_prompts(*, held_out: bool = True) -> list[Prompt]:
    """Ask for every fact of the world in every held-out (or every taught) phrasing."""
    prompts: list[Prompt] = []
    for relation, phrasings in PHRASINGS.items():
        for number, template in enumerate(phrasings.held_out if held_out else phrasings.taught):
            bare = " ".join(word for word in template.split() if not word.startswith("<"))
            prompts += fact_prompts(relation, bare, number)
    return prompts


def spread(prompts: list[Prompt], per_group: int, seed: int) -> list[Prompt]:
    """Draw up to so many prompts of every group, as different in their targets as the group allows."""
    groups: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        groups.setdefault(prompt.group, []).append(prompt)
    rng = random.Random(seed)
    chosen: list[Prompt] = []
    for members in groups.values():
        rng.shuffle(members)
        seen: dict[str, int] = {}
        ranks = []
        for member in members:
            ranks.append(seen.setdefault(member.target, 0))
            seen[member.target] += 1
        order = sorted(range(len(members)), key=lambda index: ranks[index])
        chosen += [members[index] for index in order[:per_group]]
    return chosen


def retrieval_prompts(per_group: int, seed: int, *, held_out: bool = True) -> list[Prompt]:
    """Ask for something that the prompt itself said about one of two or three people.

    With ``held_out`` the question is in a phrasing, and about pairs of name and value, that the corpus
    never contains; without it both are of the taught kind.
    """
    rng = random.Random(seed)
    prompts: list[Prompt] = []
    for relation in sorted(PERSON_VALUES):
        phrasings = PHRASINGS[relation]
        for number, template in enumerate(phrasings.held_out if held_out else phrasings.taught):
            for index in range(per_group):
                people = draw_people(rng, relation, 2 + index % 2, held_out=held_out)
                stated = [fill(rng.choice(phrasings.taught), None, s=name, o=value) for name, value in people]
                (name, value), (other, _) = rng.sample(people, 2)
                bare = " ".join(word for word in template.split() if not word.startswith("<"))
                start = finish(stated)
                prompts.append(
                    Prompt(
                        f"{start} {_cue(bare, s=name)}",
                        f" {value}",
                        f"{relation}-{number}-of-{len(people)}",
                        f"{start} {_cue(bare, s=other)}",
                    )
                )
    return prompts


def indirect_prompts(per_group: int, seed: int) -> list[Prompt]:
    """Ask who received something, in held-out sentences about held-out pairs of names."""
    rng = random.Random(seed)
    pairs = [(one, two) for one in FIRST_NAMES for two in FIRST_NAMES if one != two and is_held_out(one, two)]
    prompts: list[Prompt] = []
    for number, template in enumerate(INDIRECT_HELD_OUT):
        for _ in range(per_group):
            taker, giver = rng.choice(pairs)
            scene = {"place": rng.choice(PLACES), "gift": rng.choice(GIFTS)}
            asked = _cue(template, a=taker, b=giver, **scene)
            counter = _cue(template, a=giver, b=taker, **scene)
            prompts.append(Prompt(asked, f" {taker}", f"indirect-{number}", counter))
    return prompts


def text_prompts(count: int, seed: int) -> list[Prompt]:
    """Cut plain text of the corpus at a random word and ask for the next one.

    The documents are drawn as in training, half of them stories, with a seed that no run has. Most next
    words cannot be known for sure; a run that keeps only what the model gets right measures the rest.
    """
    rng = random.Random(seed)
    mixture = Mixture(facts=0.2, retrieval=0.2, indirect=0.1, stories=0.5)
    prompts = []
    for number in range(count):
        words = document(rng, mixture, 1.0).split()
        cut = rng.randint(_SHORTEST_TEXT, len(words) - 1)
        prompts.append(Prompt(" ".join(words[:cut]), f" {words[cut]}", f"text-{number}", None))
    return prompts


def write_prompts(prompts: list[Prompt], path: Path) -> None:
    """Write a prompt set as JSON lines."""
    given = ({name: value for name, value in asdict(prompt).items() if value is not None} for prompt in prompts)
    path.write_text("".join(json.dumps(line) + "\n" for line in given))
