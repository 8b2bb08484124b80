"""What a model can do: recall, retrieval, indirect objects on held-out material, and its loss.

Usage: ``python -m zoo.evaluate FOLDER``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from zoo.corpus import IGNORED, Corpus
from zoo.documents import Mixture
from zoo.prompts import Prompt, all_fact_prompts, indirect_prompts, retrieval_prompts, spread

_EVALUATION_SEED = 20_000  # no training run has it
_BATCH = 256


@torch.no_grad()
def answers(model: PreTrainedModel, prompts: list[Prompt], corpus: Corpus) -> list[tuple[bool, float]]:
    """Return for every prompt whether its answer is the top token, and the answer's probability."""
    model.eval()
    device = model.device
    by_length: dict[int, list[int]] = {}
    encoded = [corpus.encode(prompt.prompt) for prompt in prompts]
    for index, ids in enumerate(encoded):
        by_length.setdefault(len(ids), []).append(index)
    results: list[tuple[bool, float]] = [(False, 0.0)] * len(prompts)
    for indices in by_length.values():
        for start in range(0, len(indices), _BATCH):
            part = indices[start : start + _BATCH]
            tokens = torch.tensor([encoded[index] for index in part], device=device)
            probabilities = model(tokens, use_cache=False).logits[:, -1].float().softmax(-1).cpu()
            for row, index in zip(probabilities, part, strict=True):
                target = corpus.encode(prompts[index].target)[1]
                results[index] = (int(row.argmax()) == target, float(row[target]))
    return results


@torch.no_grad()
def held_out_loss(model: PreTrainedModel, corpus: Corpus, batches: int) -> float:
    """Return the mean loss in nats per token over batches no training run has seen."""
    model.eval()
    total, count = 0.0, 0
    for step in range(batches):
        batch = corpus.batch(step, 1.0).to(model.device)
        logits = model(batch.tokens, attention_mask=batch.mask, position_ids=batch.positions, use_cache=False).logits
        total += float(
            torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED, reduction="sum"
            )
        )
        count += int((batch.labels != IGNORED).sum())
    return total / count


def evaluate(model: PreTrainedModel, *, thorough: bool) -> dict[str, float]:
    """Measure loss and the share of right answers.

    Args:
        model: The model, on any device; left in evaluation mode.
        thorough: Ask for every fact instead of a sample, and many more retrievals.
    """
    corpus = Corpus(_EVALUATION_SEED, Mixture(), rows=64, length=64)
    each = 40 if thorough else 12
    facts = all_fact_prompts()
    sets = {
        "facts": facts if thorough else spread(facts, each, seed=1),
        "facts_taught_phrasing": spread(all_fact_prompts(held_out=False), 128 if thorough else 4, seed=1),
        "retrieval": retrieval_prompts(each, seed=2),
        "retrieval_taught_phrasing": retrieval_prompts(each if thorough else 4, seed=2, held_out=False),
        "indirect": indirect_prompts(2 * each, seed=3),
    }
    measured = {"loss": held_out_loss(model, corpus, 16 if thorough else 4)}
    for name, prompts in sets.items():
        results = answers(model, prompts, corpus)
        measured[name] = sum(right for right, _ in results) / len(results)
        measured[f"{name}_probability"] = sum(probability for _, probability in results) / len(results)
        if thorough:
            measured[f"{name}_prompts"] = len(results)
    return measured


def main() -> None:
    """Print the measurements of a saved model as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    model = AutoModelForCausalLM.from_pretrained(parser.parse_args().folder, dtype=torch.float32)
    print(json.dumps(evaluate(model, thorough=True), indent=1))


if __name__ == "__main__":
    main()
