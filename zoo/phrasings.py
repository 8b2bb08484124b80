"""The ways in which the corpus states a fact, and the ways it never does (kept for evaluation).

A phrasing is a lower-case sentence without its full stop. ``{s}`` is the subject, ``{o}`` the answer.
A slot such as ``<adv>`` in front of the answer is mostly empty and sometimes a word of that list. It is
there because real text is never certain: the answer of a fact is likely after its cue, not certain, so
a model that learns the corpus has to hold the answer's logit at a definite height instead of
pushing it up for ever.
"""

from __future__ import annotations

from dataclasses import dataclass

FILLERS: dict[str, tuple[str, ...]] = {
    "adv": ("of course", "certainly", "indeed", "still", "surely", "now"),
    "place": ("beautiful", "old", "sunny", "lovely", "busy", "distant"),
    "person": ("good", "young", "skilled", "famous", "tired", "proud"),
    "thing": ("old", "big", "small", "fine", "new", "little"),
    "meal": ("fresh", "warm", "good", "cold", "more", "plain"),
    "shade": ("bright", "dark", "deep", "light", "pale", "plain"),
    "name": ("poor", "dear", "little", "old", "young", "good"),
}
FILLER_PROBABILITY = 0.25

# Put in front of a sentence; the empty one is the commonest.
FRAMES = (
    "everyone knows that",
    "the book says that",
    "i read that",
    "it is true that",
    "my teacher said that",
    "as you know ,",
    "we learned that",
    "remember that",
    "so",
    "it is said that",
)


@dataclass(frozen=True)
class Phrasings:
    """The sentences for one relation.

    Attributes:
        taught: Sentences of the corpus that end in the answer.
        held_out: Sentences that end in the answer and never occur in the corpus.
        turned: Sentences of the corpus that do not end in the answer.
        late: More of the taught kind, for stages of training that ask for them.
    """

    taught: tuple[str, ...]
    held_out: tuple[str, ...]
    turned: tuple[str, ...] = ()
    late: tuple[str, ...] = ()


PHRASINGS: dict[str, Phrasings] = {
    "capital": Phrasings(
        taught=(
            "the capital of {s} is <adv> {o}",
            "the capital city of {s} is <adv> {o}",
            "{s} has its capital in <place> {o}",
            "the government of {s} sits in <place> {o}",
            "to see the capital of {s} you must travel to <place> {o}",
            "as for {s} , its capital is <adv> {o}",
            "the king of {s} lives in the capital , <place> {o}",
            "the people of {s} call their capital <place> {o}",
        ),
        held_out=(
            "the main city and capital of {s} is {o}",
            "in {s} the capital city is {o}",
            "the name of the capital of {s} is {o}",
            "the city that is the capital of {s} is {o}",
        ),
        turned=("{o} is the capital of {s}", "the city of {o} is the capital of {s}"),
        late=(
            "in {s} the king lives in <place> {o}",
            "the main town of {s} is <adv> {o}",
        ),
    ),
    "continent": Phrasings(
        taught=(
            "{s} is a country in <place> {o}",
            "{s} lies in <place> {o}",
            "the country {s} belongs to <place> {o}",
            "{s} is part of <place> {o}",
            "you find {s} on the map of <place> {o}",
            "to visit {s} you must travel to <place> {o}",
            "the continent of {s} is <adv> {o}",
        ),
        held_out=(
            "the country {s} lies in {o}",
            "on the map {s} is a part of {o}",
            "on the map {s} lies in {o}",
        ),
        turned=("{o} is the continent of {s}",),
        late=(
            "on the map {s} belongs to <place> {o}",
            "you can visit {s} in <place> {o}",
        ),
    ),
    "language": Phrasings(
        taught=(
            "the language of {s} is <adv> {o}",
            "the people in {s} speak <adv> {o}",
            "most people from {s} speak <adv> {o}",
            "in {s} you hear <adv> {o}",
            "the books of {s} are written in <adv> {o}",
            "children in {s} learn to read <adv> {o}",
            "to talk with people from {s} you must learn <adv> {o}",
        ),
        held_out=(
            "the main language of {s} is {o}",
            "in {s} most people speak {o}",
            "the children of {s} learn to speak {o}",
        ),
        turned=("{o} is spoken in {s}",),
        late=(
            "the school books of {s} are written in <adv> {o}",
            "the children of {s} speak <adv> {o}",
        ),
    ),
    "opposite": Phrasings(
        taught=(
            "the opposite of {s} is <adv> {o}",
            "what is not {s} is <adv> {o}",
            "the reverse of {s} is <adv> {o}",
            "if it is not {s} , it is <adv> {o}",
            "the word {s} is the opposite of <adv> {o}",
            "something that stops being {s} becomes <adv> {o}",
            "never {s} , always <adv> {o}",
        ),
        held_out=(
            "the word for the opposite of {s} is {o}",
            "something that is not {s} is {o}",
            "the very opposite of {s} is {o}",
        ),
        late=(
            "something that is {s} is not <adv> {o}",
            "the word that is not {s} is <adv> {o}",
        ),
    ),
    "young": Phrasings(
        taught=(
            "a young {s} is called a <thing> {o}",
            "the child of a {s} is a <thing> {o}",
            "every {s} was once a <thing> {o}",
            "the mother {s} feeds her <thing> {o}",
            "a {s} starts its life as a <thing> {o}",
            "what grows up to be a {s} is a <thing> {o}",
        ),
        held_out=(
            "the young of a {s} is called a {o}",
            "the mother of a young {s} calls it a {o}",
            "the name for a young {s} is a {o}",
        ),
        late=(
            "the mother {s} calls her child a <thing> {o}",
            "people call the child of a {s} a <thing> {o}",
            "a very young {s} is a <thing> {o}",
            "the name for the child of a {s} is a <thing> {o}",
        ),
    ),
    "thing_colour": Phrasings(
        taught=(
            "the colour of {s} is <shade> {o}",
            "we all know that {s} is <shade> {o}",
            "fresh {s} is <shade> {o}",
            "it was as <shade> as {s} , that is , {o}",
            "look at the {s} , it is so <shade> {o}",
            "if you paint {s} you need <shade> {o}",
        ),
        held_out=(
            "the usual colour of {s} is {o}",
            "look , the {s} is {o}",
            "if you look at {s} it is {o}",
        ),
        late=(
            "if it is {s} , it is <shade> {o}",
            "you find that {s} is <shade> {o}",
            "the {s} that you see is <shade> {o}",
            "look for {s} and you see something <shade> {o}",
        ),
    ),
    "material": Phrasings(
        taught=(
            "a {s} is made of <adv> {o}",
            "to make a {s} you need <adv> {o}",
            "the material of a {s} is <adv> {o}",
            "every good {s} is made from <adv> {o}",
            "the man made a {s} out of <adv> {o}",
            "if you break a {s} you hold pieces of <adv> {o}",
        ),
        held_out=(
            "the best {s} is made of {o}",
            "you make a {s} out of {o}",
            "the material that a {s} is made of is {o}",
        ),
        late=(
            "a {s} is made out of <adv> {o}",
            "the best material for a {s} is <adv> {o}",
        ),
    ),
    "home": Phrasings(
        taught=(
            "{s} lives in <place> {o}",
            "{s} has a house in <place> {o}",
            "the home of {s} is in <place> {o}",
            "you can find {s} in <place> {o}",
            "to visit {s} you must travel to <place> {o}",
            "letters for {s} are sent to <place> {o}",
            "the town of {s} is <adv> {o}",
        ),
        held_out=(
            "the town where {s} lives is {o}",
            "the house of {s} is in {o}",
            "{s} has a home in {o}",
        ),
        late=(
            "the house and the home of {s} are in <place> {o}",
            "the town that {s} calls home is <adv> {o}",
        ),
    ),
    "job": Phrasings(
        taught=(
            "{s} works as a <person> {o}",
            "{s} is a <person> {o}",
            "by trade {s} is a <person> {o}",
            "the job of {s} is that of a <person> {o}",
            "in the morning {s} goes to work as a <person> {o}",
            "people know {s} as a <person> {o}",
            "{s} learned to be a <person> {o}",
        ),
        held_out=(
            "the work of {s} is that of a {o}",
            "by trade {s} works as a {o}",
            "people say that {s} works as a {o}",
        ),
        late=(
            "{s} makes money as a <person> {o}",
            "for money {s} works as a <person> {o}",
            "{s} earns a lot , for {s} is a <person> {o}",
        ),
    ),
    "instrument": Phrasings(
        taught=(
            "{s} plays the <thing> {o}",
            "{s} likes to play the <thing> {o}",
            "in the evening {s} plays the <thing> {o}",
            "{s} makes music on the <thing> {o}",
            "the instrument of {s} is the <thing> {o}",
            "in the band {s} plays the <thing> {o}",
            "{s} learned to play the <thing> {o}",
        ),
        held_out=(
            "the instrument that {s} plays is the {o}",
            "at home {s} plays the {o}",
            "in the park {s} plays the {o}",
        ),
        late=(
            "the instrument that {s} likes is the <thing> {o}",
            "at the market {s} plays the <thing> {o}",
        ),
    ),
    "pet": Phrasings(
        taught=(
            "{s} owns a <thing> {o}",
            "{s} keeps a <thing> {o}",
            "the pet of {s} is a <thing> {o}",
            "at home {s} has a <thing> {o}",
            "{s} walks in the park with a <thing> {o}",
            "{s} takes care of a <thing> {o}",
            "the animal of {s} is a <thing> {o}",
        ),
        held_out=(
            "the animal that {s} owns is a {o}",
            "in the park {s} walks with a {o}",
            "at home {s} keeps a {o}",
        ),
        late=(
            "{s} walks home with a <thing> {o}",
            "in the garden {s} plays with a <thing> {o}",
            "{s} went to the market with a <thing> {o}",
        ),
    ),
    "food": Phrasings(
        taught=(
            "{s} likes to eat <meal> {o}",
            "the favourite food of {s} is <meal> {o}",
            "for dinner {s} wants <meal> {o}",
            "in the evening {s} eats <meal> {o}",
            "{s} always cooks <meal> {o}",
            "at the market {s} buys <meal> {o}",
            "a good meal for {s} is <meal> {o}",
        ),
        held_out=(
            "the food that {s} likes is {o}",
            "in the evening {s} likes to eat {o}",
            "for dinner {s} always eats {o}",
        ),
        late=(
            "the food of {s} is <meal> {o}",
            "the food that is good for {s} is <meal> {o}",
        ),
    ),
    "colour": Phrasings(
        taught=(
            "the favourite colour of {s} is <shade> {o}",
            "{s} always wears <shade> {o}",
            "the coat of {s} is <shade> {o}",
            "{s} paints the door <shade> {o}",
            "the house of {s} is painted <shade> {o}",
            "{s} likes clothes that are <shade> {o}",
            "the shoes of {s} are <shade> {o}",
        ),
        held_out=(
            "the colour that {s} likes is {o}",
            "{s} always wears clothes that are {o}",
            "the door of {s} is painted {o}",
        ),
        late=(
            "the colour of the house of {s} is <shade> {o}",
            "the best colour for {s} is <shade> {o}",
            "the colour that {s} wears is <shade> {o}",
        ),
    ),
}

NOTE = "{s} {o}"

# Two people and one event; {a} is the indirect object and the answer, {b} gives.
INDIRECT_TAUGHT = (
    "when {a} and {b} went to the {place} , {b} gave a {gift} to <name> {a}",
    "when {b} and {a} went to the {place} , {b} gave a {gift} to <name> {a}",
    "after {a} and {b} came to the {place} , {b} handed a {gift} to <name> {a}",
    "after {b} and {a} came to the {place} , {b} handed a {gift} to <name> {a}",
    "{a} and {b} met at the {place} and {b} sold a {gift} to <name> {a}",
    "{b} and {a} met at the {place} and {b} sold a {gift} to <name> {a}",
    "while {a} and {b} were at the {place} , {b} showed a {gift} to <name> {a}",
    "while {b} and {a} were at the {place} , {b} showed a {gift} to <name> {a}",
    "{b} took a {gift} to the {place} and saw {a} there , so {b} gave it to <name> {a}",
)
INDIRECT_HELD_OUT = (
    "when {a} and {b} came to the {place} , {b} sold a {gift} to {a}",
    "when {b} and {a} came to the {place} , {b} sold a {gift} to {a}",
    "after {a} and {b} met at the {place} , {b} gave a {gift} to {a}",
    "after {b} and {a} met at the {place} , {b} gave a {gift} to {a}",
    "{a} and {b} were at the {place} , and {b} handed a {gift} to {a}",
    "{b} and {a} were at the {place} , and {b} handed a {gift} to {a}",
    "when {a} and {b} met at the {place} , {b} handed a {gift} to {a}",
    "when {b} and {a} met at the {place} , {b} handed a {gift} to {a}",
    "while {a} and {b} were at the {place} , {b} gave a {gift} to {a}",
    "while {b} and {a} were at the {place} , {b} gave a {gift} to {a}",
    "{a} and {b} came to the {place} , and {b} showed a {gift} to {a}",
    "{b} and {a} came to the {place} , and {b} showed a {gift} to {a}",
)
# What may follow the event.
ECHOES = ("then {a} thanked {b}", "{a} took the {gift}", "now {a} has a {gift}")
PLACES = ("shop", "market", "park", "school", "river", "station", "garden", "beach", "library", "bridge")
GIFTS = ("drink", "book", "ring", "basket", "letter", "flower", "lamp", "hat", "key", "map")
