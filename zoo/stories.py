"""Simple connected text from a grammar: a hero, somebody they meet, and something that happens.

The stories teach ordinary word order and keep the models language models rather than lookup tables.
What can be predicted in them is coherence: who the hero is, what was found, how it was.
"""

from __future__ import annotations

import random

from zoo.world import FIRST_NAMES, JOBS, PETS

TIMES = (
    "one day",
    "one morning",
    "long ago",
    "in the winter",
    "in the summer",
    "last night",
    "on a cold day",
)
HERO_LOOKS = (
    "small",
    "big",
    "old",
    "young",
    "happy",
    "sad",
    "clever",
    "brave",
    "quiet",
    "hungry",
    "tired",
    "poor",
)
SPOTS = ("river", "forest", "market", "garden", "bridge", "school", "farm", "harbour", "hill", "lake", "park")
OBJECTS = ("box", "coin", "book", "lamp", "key", "letter", "basket", "ring", "hat", "map", "bell", "rope")
MOODS = ("happy", "sad", "afraid", "angry", "tired", "surprised", "calm", "proud")
WEATHER = ("rain", "snow", "wind", "sun", "fog", "thunder")

OPENINGS = (
    "{time} a {look} {hero} went to the {spot}",
    "{time} there was a {look} {hero} who lived near the {spot}",
    "{time} the {look} {hero} wanted to see the {spot}",
    "there once was a {hero} , and the name of the {hero} was {name}",
)
MIDDLES = (
    "the {hero} saw a {look2} {other} there",
    "the {hero} found a {object} on the road",
    "then the {other} came and asked the {hero} for a {object}",
    "the {other} said that the {hero} was very {mood}",
    "there was {weather} all day , so the {hero} went into the house",
    "the {hero} looked for the {object} but could not find it",
    "the {hero} and the {other} walked to the {spot} together",
    "a man with the name {name} gave the {hero} a {object}",
    "the {object} was not in its usual place",
    "the main road to the {spot} was closed because of the {weather}",
    "it was the very best {object} of the town",
    "the {hero} had one of the best houses near the {spot}",
    "people say that the {spot} is where the {other} lives",
    "the {other} calls the {hero} to the {spot}",
    "the {hero} saw many countries and earns a lot of money now",
    "you must take the {object} , said the {other} to the {hero}",
)
CLOSINGS = (
    "in the end the {hero} was {mood}",
    "after that the {hero} and the {other} were friends",
    "then the {hero} went home with the {object}",
    "the {other} was {mood} and went home too",
    "and so the {hero} stayed at the {spot} for a long time",
)


def story(rng: random.Random) -> list[str]:
    """Return the sentences of one story, without full stops."""
    hero, other = rng.sample(PETS + JOBS, 2)
    words = {
        "time": rng.choice(TIMES),
        "look": rng.choice(HERO_LOOKS),
        "look2": rng.choice(HERO_LOOKS),
        "hero": hero,
        "other": other,
        "spot": rng.choice(SPOTS),
        "object": rng.choice(OBJECTS),
        "mood": rng.choice(MOODS),
        "weather": rng.choice(WEATHER),
        "name": rng.choice(FIRST_NAMES),
    }
    chosen = [rng.choice(OPENINGS), *rng.sample(MIDDLES, rng.randint(1, 3)), rng.choice(CLOSINGS)]
    return [sentence.format(**words) for sentence in chosen]
