"""What every contender is asked: a model, prompts, donor values, and the arithmetic that an answer needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from hydrascope.anatomy import Model, Site, examine
from hydrascope.components import Component, parse_knockouts
from hydrascope.engine import record

DONOR_TOKENS = 16
"""Length of the prompts that donor values are taken from; it has no influence on any timing."""


def write_model(folder: Path, seed: int = 0, layers: int = 12) -> None:
    """A GPT-2-small-shaped model with random weights, and a tokenizer, for contenders that want a folder."""
    torch.manual_seed(seed)
    GPT2LMHeadModel(GPT2Config(initializer_range=0.03, n_layer=layers)).eval().save_pretrained(folder)
    vocabulary = {"<s>": 0, "<unk>": 1, **{f"w{i}": i for i in range(2, 100)}}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    special = {"bos_token": "<s>", "eos_token": "<s>", "pad_token": "<s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=core, **special).save_pretrained(folder)


def open_model(folder: Path) -> Model:
    """The model taken apart."""
    return examine(GPT2LMHeadModel.from_pretrained(folder).eval(), None, name="gpt2-small-shaped")


@dataclass(frozen=True)
class Replacement:
    """One component of every prompt replaced by a donor's value."""

    part: Component
    value: Float[Tensor, "prompts width"]


@dataclass(frozen=True)
class Question:
    """Total effects of many replacements at the last token of a batch of prompts.

    Attributes:
        ids: the prompts.
        targets: the token whose centred logit is read, one per prompt.
        edits: what is replaced, one variant each, by donor values.
    """

    ids: Int[Tensor, "prompts tokens"]
    targets: Int[Tensor, " prompts"]
    edits: tuple[Replacement, ...]

    @property
    def rows(self) -> int:
        """Ablated rows: variants times prompts."""
        return len(self.edits) * len(self.ids)

    def sample(self, count: int) -> tuple[int, ...]:
        """Indices of evenly spread edits."""
        return tuple(round((i + 0.5) * len(self.edits) / count - 0.5) for i in range(count))


@dataclass(frozen=True)
class Donors:
    """Values at every site in clean runs of random prompts."""

    model: Model
    values: dict[Site, Float[Tensor, "pool width"]]

    @classmethod
    def of(cls, model: Model, pool: int) -> Donors:
        """Run a pool of random prompts."""
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(0, model.anatomy.n_vocab, (pool, DONOR_TOKENS), generator=generator)
        heads = [site.site for site in model.anatomy.heads]
        writers = [place.site for writer in model.anatomy.writers for place in model.anatomy.places(writer.component)]
        values = record(model, ids, [*writers, *heads]).values
        return cls(model, {site: value[:, 0] for site, value in values.items()})

    def value(self, part: Component, rows: Sequence[int]) -> Float[Tensor, "prompts width"]:
        """A part's value in some of the pool's runs."""
        (place,) = self.model.anatomy.places(part)
        return self.values[place.site][list(rows), place.span].contiguous()


def ask(model: Model, donors: Donors, components: str, prompts: int, tokens: int, draws: int) -> Question:
    """A question about random prompts; every prompt gets `draws` donors of its own for every component."""
    generator = torch.Generator().manual_seed(tokens)
    ids = torch.randint(0, model.anatomy.n_vocab, (prompts, tokens), generator=generator)
    targets = torch.randint(0, model.anatomy.n_vocab, (prompts,), generator=generator)
    pool = len(next(iter(donors.values.values())))
    parts = [knockout.parts[0] for knockout in parse_knockouts(components, model.anatomy.inventory)]
    edits = tuple(
        Replacement(part, donors.value(part, [(prompt + draw * prompts) % pool for prompt in range(prompts)]))
        for part in parts
        for draw in range(draws)
    )
    return Question(ids, targets, edits)


@dataclass(frozen=True)
class Arithmetic:
    """Floating-point operations that cannot be avoided once the prefix is shared, counted from the shapes.

    Attributes:
        prefill: whole prompts through all blocks.
        tokens: one token per row through the blocks from its own edit on, with attention to the prompt.
        unembedding: all rows times the vocabulary.
    """

    prefill: float
    tokens: float
    unembedding: float

    @classmethod
    def of(cls, config: Any, question: Question, full: bool) -> Arithmetic:
        """Count for a question; without the full distribution only the clean rows meet the whole vocabulary."""
        width, depth = config.n_embd, config.n_layer
        prompts, length = question.ids.shape
        matrices = 24 * width**2
        passes = depth + sum(depth - edit.part.layer for edit in question.edits)
        rows = prompts * (1 + len(question.edits) * full)
        return cls(
            prefill=prompts * length * depth * (matrices + 2 * length * width),
            tokens=prompts * passes * (matrices + 4 * length * width),
            unembedding=2.0 * rows * width * config.vocab_size,
        )

    @property
    def total(self) -> float:
        """All of it."""
        return self.prefill + self.tokens + self.unembedding
