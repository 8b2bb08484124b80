"""All heads at every position of a text: the engine for whole texts against plain loops of forwards.

    python benchmarks/texts.py --write docs/texts.md

All replace a head by zeros at all positions and read the logit of the token that follows at every position. A loop runs
the whole model for each head, from the first block to the unembedding of all positions, one text at a time or all texts
in a batch; it is timed on a sample of heads, one of every block, in the same process and in turns, and scaled to all.
Total effects of the sample must agree.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from measure import Stopwatch, machine
from question import open_model, write_model
from torch import Tensor
from transformers import GPT2Config

import hydrascope as hs
from hydrascope.anatomy import hooked
from hydrascope.components import Component

SEED = 7


SHAPES = {"GPT-2 small": 12, "DistilGPT2": 6}
"""Number of blocks; all else is GPT-2 small's."""


@dataclass(frozen=True)
class Round:
    """Processor seconds of one round, the loops' scaled to all heads, and what the numbers differ by.

    Attributes:
        ours: the whole run.
        one: the loop that takes one text at a time.
        together: the loop that takes all texts in a batch.
        difference: largest difference of a total effect over the sample.
        closing: the accounts' largest error.
    """

    ours: float
    one: float
    together: float
    difference: float
    closing: float


def texts(model: hs.Model, count: int, tokens: int) -> Tensor:
    """Random texts, [count, tokens]."""
    generator = torch.Generator().manual_seed(SEED)
    return torch.randint(0, model.anatomy.n_vocab, (count, tokens), generator=generator)


def loop(model: hs.Model, ids: Tensor, heads: list[Component]) -> np.ndarray:
    """Logit of the next token less the mean, [heads + 1, texts, positions], the clean run first."""
    found = []
    for part in [None, *heads]:
        with hooked() as hooks, torch.no_grad():
            if part is not None:
                (place,) = model.anatomy.places(part)

                def put(tensor: Tensor, span: slice = place.span) -> Tensor:
                    tensor = tensor.clone()
                    tensor[..., span] = 0
                    return tensor

                hooks.on_input(model.network.get_submodule(place.site.module), str(part), put)
            logits = model.network(input_ids=ids, use_cache=False).logits[:, :-1]
        target = logits.gather(2, ids[:, 1:, None])[..., 0]
        found.append((target - logits.mean(-1)).numpy())
    return np.stack(found)


def measure(model: hs.Model, count: int, tokens: int) -> Round:
    """One round: all heads by the engine, a sample by the loop."""
    ids = texts(model, count, tokens)
    heads = [Component("head", layer, layer % units) for layer, units in model.anatomy.inventory.units["head"].items()]
    prompts = hs.PromptSet("random", tuple(hs.Prompt(input_ids=tuple(text)) for text in ids.tolist()))
    options = hs.Options(
        components="head",
        target="top",
        null_draws=0,
        detail="kinds",
        positions="all",
        read="each",
        skip=0,
        distribution=False,
    )
    clock = Stopwatch()
    ledger = hs.knock_out(model, prompts, ablation=hs.Zero(), options=options)
    ours = clock.lap().cpu
    slow = np.concatenate([loop(model, text[None], heads) for text in ids], axis=1)
    one = clock.lap().cpu
    loop(model, ids, heads)
    together = clock.lap().cpu
    scaled = (sum(model.anatomy.inventory.units["head"].values()) + 1) / (len(heads) + 1)
    shape = (count, tokens - 1)
    total = np.stack([ledger.dataset["total_effect"].sel(ablated=str(h)).values.reshape(shape) for h in heads])
    difference = float(np.abs(total - (slow[1:] - slow[:1])).max())
    return Round(ours, one * scaled, together * scaled, difference, float(ledger.dataset.attrs["closing_error"]))


def saved(layers: int) -> float:
    """How many times the multiplications by weights a loop takes for all heads, from the model's sizes."""
    config = GPT2Config()
    block, before = 12 * config.n_embd**2, 3 * config.n_embd**2
    passed = sum((layers - layer) * block - before for layer in range(layers))
    return float(layers * (layers * block + config.vocab_size * config.n_embd) / passed)


def rows(name: str, layers: int, asked: argparse.Namespace) -> list[str]:
    """The table's rows of one shape."""
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), layers=layers)
        model = open_model(Path(folder))
        rounds = [measure(model, asked.texts, asked.tokens) for _ in range(asked.rounds)]
    return [
        f"| {name} | {one.ours:.1f} | {one.one:.1f} | {one.together:.1f} | {one.one / one.ours:.1f} "
        f"| {one.together / one.ours:.1f} | {one.difference:.1e} | {one.closing:.1e} |"
        for one in rounds
    ]


def main() -> None:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="file that takes the table")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--texts", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=128)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    table = [row for name, layers in SHAPES.items() for row in rows(name, layers, asked)]
    lines = [
        "# Whole texts",
        "",
        f"Printed by `benchmarks/texts.py`: {asked.texts} texts of {asked.tokens} tokens, all heads of random models "
        "in the shape of GPT-2 small, with 12 blocks or 6, knocked out by zeros at every position and read at every "
        "position.",
        "",
        f"- Machine: {machine()}; 1 thread",
        f"- Date: {datetime.now(UTC):%Y-%m-%d}; torch {version('torch')}, transformers {version('transformers')}",
        "- Processor seconds, one row for each round. The loops run the clean texts and one head of every block, and "
        "are scaled to all heads; they give total effects alone.",
        "- hydrascope's time holds everything from opening the run's folder, proving the engine on this model and "
        "recording the clean pass to the ledger on disk, with the account of every kind of writer.",
        "- What is saved: blocks before the knock-out, its own block up to the output projection of attention, and the "
        "unembedding. Of the multiplications by weights that leaves "
        + " and ".join(f"1/{saved(layers):.1f} for {name}" for name, layers in SHAPES.items())
        + "; the rest of the ratio is what larger batches gain and bookkeeping takes.",
        "",
        "| shape | hydrascope | loop, text by text | loop, texts in a batch | ratio | ratio to the batch "
        "| largest difference of the sample | closing error |",
        "|---|---|---|---|---|---|---|---|",
        *table,
    ]
    text = "\n".join(lines) + "\n"
    print(text) if asked.write is None else asked.write.write_text(text)


if __name__ == "__main__":
    main()
