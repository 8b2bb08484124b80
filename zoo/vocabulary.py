"""The tokenizer: one token per word, closed vocabulary, begin-of-text put in front."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from zoo.documents import capitalise
from zoo.phrasings import (
    ECHOES,
    FILLERS,
    FRAMES,
    GIFTS,
    INDIRECT_HELD_OUT,
    INDIRECT_TAUGHT,
    PHRASINGS,
    PLACES,
)
from zoo.stories import CLOSINGS, HERO_LOOKS, MIDDLES, MOODS, OBJECTS, OPENINGS, SPOTS, TIMES, WEATHER
from zoo.world import FACTS, FIRST_NAMES, JOBS, PERSON_VALUES, PETS

BEGIN, PADDING, UNKNOWN = "<s>", "<pad>", "<unk>"
SPECIAL = (BEGIN, PADDING, UNKNOWN)


def words() -> list[str]:
    """List every word of the corpus in a fixed order, sentence openers in both spellings."""
    templates = [
        *FRAMES,
        *INDIRECT_TAUGHT,
        *INDIRECT_HELD_OUT,
        *ECHOES,
        *TIMES,
        *OPENINGS,
        *MIDDLES,
        *CLOSINGS,
    ]
    for phrasings in PHRASINGS.values():
        templates += [*phrasings.taught, *phrasings.held_out, *phrasings.turned]
    openers = {capitalise(template.split()[0]) for template in templates if template[0] not in "{<"}
    lists = (HERO_LOOKS, SPOTS, OBJECTS, MOODS, WEATHER, PLACES, GIFTS, FIRST_NAMES, JOBS, PETS)
    plain = {".", *(word for entries in lists for word in entries)}
    for template in [*templates, *(filler for fillers in FILLERS.values() for filler in fillers)]:
        plain |= {word for word in template.split() if word[0] not in "{<"}
    for facts in FACTS.values():
        plain |= {*facts.keys(), *facts.values()}
    for values in PERSON_VALUES.values():
        plain |= set(values)
    return sorted(plain | openers)


def build_tokenizer(max_length: int) -> PreTrainedTokenizerFast:
    """Build the tokenizer of the corpus; it needs no training, since the vocabulary is closed."""
    table = {word: number for number, word in enumerate((*SPECIAL, *words()))}
    inner = Tokenizer(models.WordLevel(table, unk_token=UNKNOWN))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A", special_tokens=[(BEGIN, table[BEGIN])])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=BEGIN,
        pad_token=PADDING,
        unk_token=UNKNOWN,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(folder: Path, max_length: int) -> None:
    """Write the tokenizer files into a model folder."""
    build_tokenizer(max_length).save_pretrained(folder)
