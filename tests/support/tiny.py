"""Tiny models with a tokenizer, as folders on disk, and prompts that they complete 'correctly'."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

WORDS = 60
CONTEXT = 16


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word: `w4` to `w59`, with `<s>` in front of every text."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, **{f"w{i}": i for i in range(4, WORDS)}}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def network(seed: int = 0, n_layer: int = 3, width: int = 16) -> GPT2LMHeadModel:
    """A GPT-2 whose random weights are large enough that every part matters."""
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    config = GPT2Config(
        n_layer=n_layer,
        n_head=2,
        n_embd=width,
        vocab_size=WORDS,
        n_positions=CONTEXT,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    model = GPT2LMHeadModel(config).eval()
    torch.random.set_rng_state(state)
    return model


def save(folder: Path, model: Any, *, with_tokenizer: bool = True) -> Path:
    """Write a model as a user would have it."""
    model.save_pretrained(folder)
    if with_tokenizer:
        tokenizer().save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class Row:
    """A prompt of one word a token, and what the model says next."""

    text: str
    top: int


def completed(model: GPT2LMHeadModel, count: int, seed: int = 0, lengths: tuple[int, ...] = (3, 4, 5)) -> list[Row]:
    """Random prompts of mixed lengths with the model's own top token, which is a word."""
    generator = torch.Generator().manual_seed(seed)
    rows: list[Row] = []
    while len(rows) < count:
        length = lengths[len(rows) % len(lengths)]
        ids = torch.randint(4, WORDS, (length,), generator=generator)
        with torch.no_grad():
            top = int(model(torch.cat([torch.tensor([1]), ids])[None]).logits[0, -1].argmax())
        if top >= 4:
            rows.append(Row(" ".join(f"w{i}" for i in ids.tolist()), top))
    return rows


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """A JSON lines file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def prompt_file(path: Path, rows: Iterable[Row], **more: Any) -> Path:
    """A prompt file with the model's own answers as targets, so that the filter keeps all."""
    return write_lines(path, ({"prompt": row.text, "target": f"w{row.top}", **more} for row in rows))
