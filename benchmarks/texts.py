"""All heads at every position of a text: the engine for whole texts against a plain loop of forwards.

    python benchmarks/texts.py --write docs/texts.md

Both replace a head by zeros at all positions and read the logit of the token that follows at every position. The loop
runs the whole model for each head, from the first block to the unembedding of all positions; it is timed on a sample of
heads, one of every block, in the same process and in turns, and scaled to all. Total effects of the sample must agree.
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
from measure import Seconds, Stopwatch, machine
from question import open_model, write_model
from torch import Tensor

import hydrascope as hs
from hydrascope.anatomy.hooks import hooked
from hydrascope.components import Component
from hydrascope.engine.scope import Scope

SEED = 7


@dataclass(frozen=True)
class Round:
    """Seconds of one round, the sample's largest difference, and the accounts' largest error."""

    ours: Seconds
    loop: Seconds
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
        components="head", target="top", null_draws=0, detail="kinds", scope=Scope("all", "each", 0), measured=False
    )
    clock = Stopwatch()
    ledger = hs.knock_out(model, prompts, ablation=hs.Zero(), options=options)
    ours = clock.lap()
    slow = loop(model, ids, heads)
    taken = clock.lap()
    shape = (count, tokens - 1)
    total = np.stack([ledger.dataset["total_effect"].sel(ablated=str(h)).values.reshape(shape) for h in heads])
    difference = float(np.abs(total - (slow[1:] - slow[:1])).max())
    return Round(ours, taken, difference, float(ledger.dataset.attrs["closing_error"]))


def main() -> None:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="file that takes the table")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=2)
    parser.add_argument("--tokens", type=int, default=128)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder))
        model = open_model(Path(folder))
        rounds = [measure(model, asked.texts, asked.tokens) for _ in range(asked.rounds)]
    units = model.anatomy.inventory.units["head"]
    heads, sampled = sum(units.values()), len(units)
    lines = [
        "# Whole texts",
        "",
        f"Printed by `benchmarks/texts.py`: {asked.texts} texts of {asked.tokens} tokens, all {heads} heads of a "
        "random model in the shape of GPT-2 small, knocked out by zeros at every position and read at every position.",
        "",
        f"- Machine: {machine()}; 1 thread",
        f"- Date: {datetime.now(UTC):%Y-%m-%d}; torch {version('torch')}, transformers {version('transformers')}",
        f"- Processor seconds. The loop was timed on {sampled} heads and the clean run, and scaled to all.",
        "- hydrascope's time holds everything from opening the run's folder, proving the engine on this model and "
        "recording the clean pass to the ledger on disk, with the account of every kind of writer.",
        "",
        "| round | hydrascope | plain loop | ratio | largest difference of the sample | closing error |",
        "|---|---|---|---|---|---|",
    ]
    for number, one in enumerate(rounds, start=1):
        slow = one.loop.cpu * (heads + 1) / (sampled + 1)
        lines.append(
            f"| {number} | {one.ours.cpu:.1f} | {slow:.1f} | {slow / one.ours.cpu:.1f} | {one.difference:.1e} "
            f"| {one.closing:.1e} |"
        )
    text = "\n".join(lines) + "\n"
    print(text) if asked.write is None else asked.write.write_text(text)


if __name__ == "__main__":
    main()
