"""How much a judge saves over forwards of every pruned model, by what it sweeps.

    python benchmarks/pruning.py

Random Llamas of 30 blocks, with a small vocabulary and with one that is a fifth of the model as in SmolLM2-135M. Every
block goes alone, and then every other one beside three that are gone. The other side runs each pruned model whole, its
removed blocks taken out of the list, and reads the same loss; for divergences it runs the whole model beside it, or,
in the last column, has kept all logits of the text. Processor seconds, the same work on both sides in turn.

Of single removals no more than half can be saved: the blocks before the removed one, on average, and none of the
unembedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from measure import Stopwatch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

import hydrascope as hs
from hydrascope.components import Component
from hydrascope.pruning import Judge, Store, Texts

DEPTH, WIDTH, TEXTS, TOKENS = 30, 192, 8, 128
GONE = tuple(Component("layer", layer) for layer in (9, 14, 20))


def opened(vocabulary: int) -> hs.Model:
    """A random model."""
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=WIDTH,
        intermediate_size=512,
        num_hidden_layers=DEPTH,
        num_attention_heads=3,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return hs.load(LlamaForCausalLM(config).eval())


def logits_without(model: hs.Model, ids: torch.Tensor, removed: Sequence[Component]) -> torch.Tensor:
    """Logits of a whole forward of the shorter model."""
    inner, gone = model.network.model, {part.layer for part in removed}
    blocks = inner.layers
    inner.layers = nn.ModuleList(block for i, block in enumerate(blocks) if i not in gone)
    try:
        with torch.no_grad():
            found: torch.Tensor = model.network(input_ids=ids, use_cache=False).logits
    finally:
        inner.layers = blocks
    return found


def plainly(model: hs.Model, texts: Texts, sets: Sequence[Sequence[Component]], compared: str) -> list[float]:
    """Loss, or divergence from the whole model, of every set by whole forwards."""
    ids = torch.tensor(texts.ids)
    kept = logits_without(model, ids, ()).log_softmax(-1) if compared == "kept" else None
    found = []
    for removed in sets:
        said = logits_without(model, ids, removed)[:, :-1].log_softmax(-1)
        if not compared:
            found.append(float(-said.gather(-1, ids[:, 1:, None]).mean()))
            continue
        whole = (logits_without(model, ids, ()).log_softmax(-1) if kept is None else kept)[:, :-1]
        found.append(float((whole.exp() * (whole - said)).sum(-1).mean()))
    return found


def judged(model: hs.Model, texts: Texts, sets: Sequence[Sequence[Component]], compared: str) -> list[float]:
    """The same by a judge, its clean streams and what it stands on included."""
    judge = Judge(model, texts, Store(None, "benchmark"))
    if len(sets[0]) > 1:
        judge.stand_on(GONE)
    return [judge.kl(removed) if compared else judge.loss(removed) for removed in sets]


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    parts = [Component("layer", layer) for layer in range(DEPTH)]
    sweeps = {
        "each block alone": [[part] for part in parts],
        "each beside three gone": [[*GONE, part] for part in parts if part not in GONE],
    }
    columns = {"loss": "", "divergence, whole model run again": "run", "divergence, logits kept": "kept"}
    print(f"| unembedding | sweep | {' | '.join(columns)} |\n|---|---|{'---|' * len(columns)}")
    for vocabulary in (1024, 20_000):
        model = opened(vocabulary)
        generator = torch.Generator().manual_seed(1)
        ids = torch.randint(vocabulary, (TEXTS, TOKENS), generator=generator).tolist()
        texts = Texts(tuple(map(tuple, ids)), tuple(map(str, range(TEXTS))))
        share = vocabulary * WIDTH / model.source.n_parameters
        for name, sets in sweeps.items():
            cells = []
            for compared in columns.values():
                watch = Stopwatch()
                plain = plainly(model, texts, sets, compared)
                theirs = watch.lap().cpu
                mine = judged(model, texts, sets, compared)
                ours = watch.lap().cpu
                torch.testing.assert_close(torch.tensor(mine), torch.tensor(plain), rtol=1e-3, atol=1e-5)
                cells.append(f"{theirs / ours:.1f} x")
            print(f"| {share:.0%} of the weights | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
