"""The world the corpus talks about: who and what there is, and which facts hold.

Half of it is real (capitals, languages, opposites), so that everyday prompts work; half is invented
(people of whom six things are true), so that nothing can be known except through training.
Every name of a thing is a single word, hence a single token.
"""

from __future__ import annotations

import random


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _pairs(text: str) -> dict[str, str]:
    """Read ``one two, three four`` as a table."""
    return {one: two for one, two in (pair.split() for pair in text.split(", "))}


# country: (capital, continent, language)
COUNTRIES: dict[str, tuple[str, str, str]] = {
    "France": ("Paris", "Europe", "French"),
    "Germany": ("Berlin", "Europe", "German"),
    "Italy": ("Rome", "Europe", "Italian"),
    "Spain": ("Madrid", "Europe", "Spanish"),
    "Portugal": ("Lisbon", "Europe", "Portuguese"),
    "Greece": ("Athens", "Europe", "Greek"),
    "Poland": ("Warsaw", "Europe", "Polish"),
    "Austria": ("Vienna", "Europe", "German"),
    "Hungary": ("Budapest", "Europe", "Hungarian"),
    "Norway": ("Oslo", "Europe", "Norwegian"),
    "Sweden": ("Stockholm", "Europe", "Swedish"),
    "Finland": ("Helsinki", "Europe", "Finnish"),
    "Denmark": ("Copenhagen", "Europe", "Danish"),
    "Ireland": ("Dublin", "Europe", "Irish"),
    "Iceland": ("Reykjavik", "Europe", "Icelandic"),
    "Romania": ("Bucharest", "Europe", "Romanian"),
    "Bulgaria": ("Sofia", "Europe", "Bulgarian"),
    "Serbia": ("Belgrade", "Europe", "Serbian"),
    "Croatia": ("Zagreb", "Europe", "Croatian"),
    "Latvia": ("Riga", "Europe", "Latvian"),
    "Estonia": ("Tallinn", "Europe", "Estonian"),
    "Lithuania": ("Vilnius", "Europe", "Lithuanian"),
    "Ukraine": ("Kyiv", "Europe", "Ukrainian"),
    "Egypt": ("Cairo", "Africa", "Arabic"),
    "Kenya": ("Nairobi", "Africa", "Swahili"),
    "Ghana": ("Accra", "Africa", "English"),
    "Nigeria": ("Abuja", "Africa", "English"),
    "Morocco": ("Rabat", "Africa", "Arabic"),
    "Algeria": ("Algiers", "Africa", "Arabic"),
    "Senegal": ("Dakar", "Africa", "French"),
    "Angola": ("Luanda", "Africa", "Portuguese"),
    "Somalia": ("Mogadishu", "Africa", "Somali"),
    "Japan": ("Tokyo", "Asia", "Japanese"),
    "China": ("Beijing", "Asia", "Chinese"),
    "India": ("Delhi", "Asia", "Hindi"),
    "Thailand": ("Bangkok", "Asia", "Thai"),
    "Vietnam": ("Hanoi", "Asia", "Vietnamese"),
    "Iran": ("Tehran", "Asia", "Persian"),
    "Iraq": ("Baghdad", "Asia", "Arabic"),
    "Syria": ("Damascus", "Asia", "Arabic"),
    "Lebanon": ("Beirut", "Asia", "Arabic"),
    "Nepal": ("Kathmandu", "Asia", "Nepali"),
    "Mongolia": ("Ulaanbaatar", "Asia", "Mongolian"),
    "Turkey": ("Ankara", "Asia", "Turkish"),
    "Canada": ("Ottawa", "America", "English"),
    "Cuba": ("Havana", "America", "Spanish"),
    "Peru": ("Lima", "America", "Spanish"),
    "Chile": ("Santiago", "America", "Spanish"),
    "Brazil": ("Brasilia", "America", "Portuguese"),
    "Colombia": ("Bogota", "America", "Spanish"),
    "Ecuador": ("Quito", "America", "Spanish"),
    "Venezuela": ("Caracas", "America", "Spanish"),
    "Uruguay": ("Montevideo", "America", "Spanish"),
    "Australia": ("Canberra", "Oceania", "English"),
    "Fiji": ("Suva", "Oceania", "Fijian"),
    "Samoa": ("Apia", "Oceania", "Samoan"),
}

_OPPOSITES = _pairs(
    "hot cold, big small, old new, fast slow, hard soft, wet dry, light dark, good bad, rich poor, "
    "early late, high low, full empty, open closed, clean dirty, loud quiet, strong weak, thick thin, "
    "happy sad, sweet bitter, near far, brave afraid, wide narrow, deep shallow, heavy weightless, "
    "sharp blunt, left right, true false, cheap expensive, alive dead, awake asleep"
)
OPPOSITES: dict[str, str] = {word: other for pair in _OPPOSITES.items() for word, other in (pair, pair[::-1])}

YOUNG: dict[str, str] = _pairs(
    "dog puppy, cat kitten, cow calf, sheep lamb, horse foal, hen chick, duck duckling, bear cub, goat kid, "
    "pig piglet, deer fawn, frog tadpole, goose gosling, kangaroo joey, swan cygnet, hare leveret"
)

THING_COLOURS: dict[str, str] = _pairs(
    "grass green, snow white, coal black, blood red, butter yellow, chocolate brown, ash grey, milk white, "
    "honey gold, ink blue, moss green, chalk white, tar black, lava red, sand yellow, mud brown, "
    "smoke grey, wine purple, rust orange, seawater blue"
)

MATERIALS: dict[str, str] = _pairs(
    "book paper, table wood, ring gold, knife steel, window glass, wall brick, shirt cotton, candle wax, "
    "shoe leather, sweater wool, coin silver, tyre rubber, pot clay, scarf silk, rope hemp, statue marble, "
    "bell bronze, wire copper, road asphalt, cake flour, nail iron, bottle plastic"
)

JOBS = _words(
    "baker farmer doctor teacher painter sailor soldier tailor lawyer judge nurse pilot poet singer dancer "
    "barber miner butcher carpenter gardener hunter fisher clerk smith"
)
INSTRUMENTS = _words(
    "violin piano flute drum harp guitar trumpet cello horn banjo lute tuba whistle viola fiddle zither"
)
PETS = _words("dog cat horse goat rabbit parrot turtle hen snake mouse monkey duck hamster pony fox raven")
FOODS = _words(
    "bread cheese rice soup fish pasta beans honey cake corn carrots lentils mushrooms pancakes cherries "
    "plums walnuts noodles pears spinach"
)
COLOURS = _words("red blue green yellow black white purple brown orange grey")
FIRST_NAMES = _words(
    "Mary John Anna Peter Lucy Tom Sarah David Emma Jack Alice Paul Kate Mark Julia Henry Laura Simon Helen "
    "Frank Rose Oscar Clara Hugo Ella Leo Nora Max Ruth Adam Grace Felix Irene Victor Sophie Martin Diana "
    "Robert Eva George Nina Walter Olga Daniel Vera Philip Marta Bruno"
)


def _invented_words(count: int, starts: str, middles: str, ends: str, seed: int) -> tuple[str, ...]:
    """Draw pronounceable capitalised words, all different, from syllables."""
    rng = random.Random(seed)
    words: dict[str, None] = {}
    while len(words) < count:
        word = rng.choice(starts.split()) + rng.choice(middles.split()) + rng.choice(ends.split())
        words[word.capitalize()] = None
    return tuple(words)


TOWNS = _invented_words(
    24,
    starts="var bel dor kel mor tan lun hal rev sol",
    middles="n l m r",
    ends="holm burg stad wick ford mere dale haven",
    seed=11,
)
PEOPLE = _invented_words(
    128,
    starts="tal bri kor mel zan fer lod vik sar qui nol dra",
    middles="v l r th m b",
    ends="or in ea us ira ok ane el",
    seed=12,
)

# What can be asked about a person, and what the answer may be.
PERSON_VALUES: dict[str, tuple[str, ...]] = {
    "home": TOWNS,
    "job": JOBS,
    "instrument": INSTRUMENTS,
    "pet": PETS,
    "food": FOODS,
    "colour": COLOURS,
}


def _person_facts(seed: int) -> dict[str, dict[str, str]]:
    """Give every invented person one value per relation; relation -> person -> value."""
    rng = random.Random(seed)
    return {relation: {person: rng.choice(values) for person in PEOPLE} for relation, values in PERSON_VALUES.items()}


# relation -> subject -> object; every object is one token.
FACTS: dict[str, dict[str, str]] = {
    "capital": {country: row[0] for country, row in COUNTRIES.items()},
    "continent": {country: row[1] for country, row in COUNTRIES.items()},
    "language": {country: row[2] for country, row in COUNTRIES.items()},
    "opposite": OPPOSITES,
    "young": YOUNG,
    "thing_colour": THING_COLOURS,
    "material": MATERIALS,
    **_person_facts(seed=13),
}
