"""Time the random sets of a stress test: this package against a plain loop of full forward passes over the same sets.

    python benchmarks/stress.py lerna /path/to/SmolLM2-135M

Sub-layers of Llama-like models fail at each of five rates, zeroed at the last token of prompts of random tokens. The
loop runs the Hugging Face model once for each set, all prompts in a batch, and unembeds the last position only; it is
timed on a sample of the sets. Both in one process, in turn; their total effects are compared.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from measure import Seconds, Stopwatch, Timing
from torch import Tensor

import hydrascope as hs
from hydrascope.resilience import Faults, addresses, members

RATES = (0.1, 0.3, 0.5, 0.7, 0.9)


def prompts(count: int, length: int, vocabulary: int) -> hs.PromptSet:
    """Prompts of random tokens, all of one length."""
    ids = torch.randint(4, vocabulary, (count, length), generator=torch.Generator().manual_seed(0))
    return hs.PromptSet("random", tuple(hs.Prompt(input_ids=tuple(row)) for row in ids.tolist()))


def engine(model: hs.Model, asked: hs.PromptSet, sets: list[str]) -> tuple[Seconds, hs.Ledger]:
    """All sets as joint knock-outs, from prompts to a closed account by kind of writer."""
    options = hs.Options(target="top", detail="kinds", distribution=False, null_draws=0)
    watch = Stopwatch()
    found = hs.knock_out(model, asked, ",".join(sets), hs.Zero(), options=options, freeze=False)
    return watch.lap(), found


def loop(
    network: Any, ids: Int[Tensor, "prompts tokens"], parts: tuple[str, ...], failed: Bool[np.ndarray, " parts"]
) -> Float[Tensor, "prompts vocabulary"]:
    """One full forward pass without some parts."""

    def zero(module: Any, inputs: Any, output: Any) -> None:
        (output[0] if isinstance(output, tuple) else output)[:, -1] = 0

    with torch.no_grad(), ExitStack() as hooks:
        for part in np.array(parts)[failed]:
            kind, layer = part.split(".")
            block = network.model.layers[int(layer)]
            hooks.callback((block.self_attn if kind == "attn" else block.mlp).register_forward_hook(zero).remove)
        logits: Tensor = network(ids, use_cache=False, logits_to_keep=1).logits[:, -1]
    return logits


def lines(name: str, masks: int, sample: int, count: int, length: int, rounds: int) -> Iterator[str]:
    """The row of one model.

    Args:
        name: a bundled model, or a folder.
        masks: random sets at each rate.
        sample: sets that the loop is timed on in each round.
        count: prompts.
        length: tokens of each.
        rounds: how often both are timed, in turn.
    """
    model = hs.load(name, device="cpu")
    parts = tuple(f"{kind}.{layer}" for layer in range(model.anatomy.n_layers) for kind in ("attn", "mlp"))
    faults = Faults.draw(parts, RATES, masks, seed=0)
    sets = addresses(faults.failed.reshape(-1, len(parts)), parts)
    asked = prompts(count, length, model.anatomy.n_vocab)
    ids = torch.tensor([one.input_ids for one in asked.prompts])
    ours: list[float] = []
    theirs: list[float] = []
    error = 0.0
    for turn in range(rounds):
        seconds, found = engine(model, asked, sets)
        ours.append(seconds.wall / len(sets))
        clean = loop(model.network, ids, parts, np.zeros(len(parts), bool))
        target = clean.argmax(-1, keepdim=True)
        chosen = np.random.default_rng(turn).choice(len(sets), sample, replace=False)
        watch = Stopwatch()
        left = [loop(model.network, ids, parts, members(sets[one], parts)) for one in chosen]
        theirs.append(watch.lap().wall / sample)
        for one, logits in zip(chosen, left, strict=True):
            moved = [(x.gather(1, target)[:, 0] - x.mean(-1)).numpy() for x in (clean, logits)]
            told = found.dataset["total_effect"].sel(ablated=sets[one]).values
            error = max(error, float(np.abs(told - (moved[1] - moved[0])).max()))
    ratio = Timing.of([b / a for a, b in zip(ours, theirs, strict=True)])
    yield (
        f"| {model.source.label} | {length} | {len(parts)} | {len(sets)} | {1000 * np.median(ours):.0f} ms | "
        f"{1000 * np.median(theirs):.0f} ms | {ratio} × | {error:.0e} |"
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--masks", type=int, default=20)
    parser.add_argument("--sample", type=int, default=5)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | tokens | parts | sets | a set, hydrascope | a set, plain loop | ratio | largest difference |")
    print("|---|---|---|---|---|---|---|---|")
    for name in asked.models:
        for line in lines(name, asked.masks, asked.sample, asked.prompts, asked.tokens, asked.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
