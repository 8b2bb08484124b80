"""How much a judge saves over whole forwards of every pruned model, ranking by ranking.

    python benchmarks/pruning.py

Random Llamas of 30 blocks, with a small vocabulary and with one that is a fifth of the model as in SmolLM2-135M, of
which 3 blocks go. The other side runs every pruned model whole, its removed blocks taken out of the list, each set once
in a ranking, and reads the same numbers with the same code; for divergences it runs the whole model beside each set,
or, in the last column, has kept all logits of the text. Processor seconds, the same work on both sides in turn; ours
has its clean streams and all that it stands on included. The last row is one pruning by several rankings, in which no
set is run twice, over the sum of the other sides.

Of single removals no more than half of the blocks can be spared: those before the removed one, on average, and none of
the unembedding. Of pairs two thirds can.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from measure import Seconds, Stopwatch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import hydrascope as hs
from hydrascope.components import Component
from hydrascope.engine import Trunk
from hydrascope.engine._clean import Streams
from hydrascope.pruning import Judge, Store, Texts
from hydrascope.pruning.rankings import RANKINGS

DEPTH, WIDTH, TEXTS, TOKENS, GONE = 30, 128, 2, 128, 3

TOGETHER = ("kl", "loss", "greedy", "pairs")
"""Rankings of one pruning, in which no set is run twice."""

Work = Callable[[Judge], object]


class Whole(Trunk):
    """A trunk that a forward never begins at: it runs the shorter model whole."""

    def logits(self, model: hs.Model, *more: Component) -> torch.Tensor:
        """Logits of a whole forward of the shorter model."""
        inner, gone = model.network.model, {part.layer for part in self.missing | set(more)}
        blocks = inner.layers
        inner.layers = nn.ModuleList(block for i, block in enumerate(blocks) if i not in gone)
        try:
            with torch.no_grad():
                found: torch.Tensor = model.network(input_ids=self.ids, use_cache=False).logits
        finally:
            inner.layers = blocks
        return found


class Plainly(Judge):
    """A judge that shares nothing between sets, but for what is kept of the whole model."""

    @property
    def trunks(self) -> list[Trunk]:
        """The texts alone."""
        nothing = Streams((), (), {})
        return [Whole(self.ids(batch), frozenset(), nothing) for batch in self.batches]

    def stand_on(self, removed: object) -> None:
        """Stand on nothing."""


def opened(vocabulary: int) -> hs.Model:
    """A random model."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return hs.load(LlamaForCausalLM(config).eval())


def ranked(name: str) -> Work:
    """A ranking's whole choice."""
    parts = [Component("layer", layer) for layer in range(DEPTH)]
    return lambda judge: RANKINGS[name]().choose(judge, parts, [GONE]).sets[GONE]


def exhaustive(judge: Judge) -> list[float]:
    """The loss of all sets of two of the first 15 even blocks."""
    parts = [Component("layer", layer) for layer in range(0, DEPTH, 2)]
    return [float(cost.loss.sum()) for cost in judge.costs(combinations(parts, 2))]


def seconds(kind: type[Judge], model: hs.Model, texts: Texts, work: Work, kept: int) -> tuple[object, Seconds, int]:
    """What some work finds, its time, and how many sets it ran."""
    judge, watch = kind(model, texts, Store(None, "benchmark"), kept=kept), Stopwatch()
    return work(judge), watch.lap(), judge.ran


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    works: dict[str, Work] = {name: ranked(name) for name in ("loss", "kl", "greedy", "elimination", "pairs")}
    works["all sets of two"] = exhaustive
    print("| unembedding | ranking | sets | speed-up | where the other side has not kept the whole model's logits |")
    print("|---|---|---|---|---|")
    for vocabulary in (512, 8192):
        model = opened(vocabulary)
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(vocabulary, (TEXTS, TOKENS), generator=generator).tolist()
        texts = Texts(tuple(map(tuple, ids)), tuple(map(str, range(TEXTS))))
        share = vocabulary * WIDTH / model.source.n_parameters
        total = Seconds(0, 0)
        for name, work in works.items():
            mine, ours, ran = seconds(Judge, model, texts, work, 2**30)
            plain, theirs, _ = seconds(Plainly, model, texts, work, 2**30)
            assert str(mine) == str(plain) or name == "all sets of two"
            total += theirs if name in TOGETHER else Seconds(0, 0)
            said = "-"
            if name in ("kl", "elimination"):
                said = f"{seconds(Plainly, model, texts, work, 0)[1].cpu / ours.cpu:.1f} x"
            print(
                f"| {share:.0%} of the weights | {name} | {ran} | {theirs.cpu / ours.cpu:.1f} x | {said} |", flush=True
            )
        _, ours, ran = seconds(Judge, model, texts, lambda judge: [works[name](judge) for name in TOGETHER], 2**30)
        together, gain = ", ".join(TOGETHER), total.cpu / ours.cpu
        print(f"| {share:.0%} of the weights | {together} in one pruning | {ran} | {gain:.1f} x | - |", flush=True)


if __name__ == "__main__":
    main()
