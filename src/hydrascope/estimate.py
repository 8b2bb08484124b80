"""What a run will cost, before it is made: variants, tokens, memory, and a rough time."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from hydrascope.ablation import Optimal
from hydrascope.engine.budget import Budget, Footprint, prompts_at_once, require_account, room, variants_at_once
from hydrascope.engine.columns import columns
from hydrascope.engine.edges import blocks_to_receiver
from hydrascope.engine.optimal import CANDIDATES
from hydrascope.engine.passes import READ_A_STEP
from hydrascope.engine.text_batch import text_footprint, text_variants_at_once, texts_at_once
from hydrascope.engine.texts import Resumed
from hydrascope.ledger import numbers_kept, optional_variables
from hydrascope.task import Task

PROBE = 512
"""Side of the matrix product that measures the machine's speed."""


@dataclass(frozen=True)
class Estimate:
    """The plan of a run.

    Attributes:
        prompts: prompts in the set, before the filter.
        knockouts: what is ablated, one after the other.
        variants: ablated runs per prompt, over all draws, null included.
        prefill_tokens: tokens of the clean and extra runs.
        variant_tokens: tokens pushed through the upper part of the model for the variants; one a prompt, or all of it.
        budget_bytes: memory budget.
        needed_bytes: estimated peak beside the weights.
        ledger_bytes: what the ledger takes in memory, and at most on disk.
        flops: floating-point operations, counted from the weights.
        seconds: flops over the speed of a matrix product measured now; rough, a lower bound on a small model.
    """

    prompts: int
    knockouts: int
    variants: int
    prefill_tokens: int
    variant_tokens: int
    budget_bytes: int
    needed_bytes: int
    ledger_bytes: int
    flops: float
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def estimate(task: Task) -> Estimate:
    """Count what a task would do.

    Raises:
        OutOfBudget: a single prompt does not fit the memory budget, or the ledger what is free.
    """
    model, ablation = task.model, task.ablation
    lengths = [len(prompt.ids) for prompt in task.encoded.prompts]
    draws = ablation.draws + task.null_draws
    budget = Budget.read(task.options.memory, *model.devices)
    read = columns(model.anatomy, task.splits)
    entries = len(read) if task.options.detail == "full" else 3 + 2 * len({c.kind for c in read} - {"embed", "bias"})
    measured = task.options.measured
    arrays = numbers_kept(optional_variables(ablation.draws, task.null_draws, task.options.detail, measured=measured))
    variants = len(task.knockouts) * draws
    extra = ablation.draws if ablation.name in ("noise", "counterfactual") else 0
    prefill = sum(lengths) * (1 + extra)
    embedding = model.network.get_input_embeddings().weight.numel()
    body = model.source.n_parameters - embedding
    head = 2 * model.anatomy.n_vocab * model.anatomy.d_model
    # what one knock-out of every prompt takes: tokens that go through the model, and tokens that are unembedded
    pushed = len(lengths) if task.scope.is_last else sum(lengths)
    items = sum(len(task.scope.positions(length)) for length in lengths)
    unembedded = items if measured or task.scope.is_last else 0
    learned = 0.0
    if isinstance(ablation, Optimal):  # forwards, and backwards that cost as much as two
        seen = 1 if task.scope.is_last else 1 / max(1, items // READ_A_STEP)
        learned = len(task.knockouts) * (3 * ablation.steps * seen + CANDIDATES)
    passes = 2.0 * body * (prefill + (variants + learned) * pushed * _share(task))
    flops = passes + head * (variants * unembedded + learned * items + len(lengths) * extra + items)
    return Estimate(
        prompts=len(lengths),
        knockouts=len(task.knockouts),
        variants=variants,
        prefill_tokens=prefill,
        variant_tokens=variants * pushed,
        budget_bytes=budget.bytes,
        ledger_bytes=require_account(budget, room(Path()), items, len(task.knockouts), entries, arrays),
        needed_bytes=_needed(task, budget, max(lengths), len(lengths), variants, len(read)),
        flops=flops,
        seconds=flops / matmul_rate(model.device, model.dtype),
    )


def _share(task: Task) -> float:
    """How much of the model's blocks a push passes through, on average over the knock-outs."""
    layers, strategy = task.model.anatomy.n_layers, task.engine.strategy
    late = strategy.skips if isinstance(strategy, Resumed) else strategy.staircase
    blocks = sum(layers - knockout.first_layer if late else layers for knockout in task.knockouts)
    blocks += sum(blocks_to_receiver(knockout, strategy.staircase) for knockout in task.knockouts)
    return blocks / (layers * len(task.knockouts))


def _needed(task: Task, budget: Budget, longest: int, prompts: int, variants: int, read: int) -> int:
    """Bytes of a push and of the clean passes it starts from."""
    model = task.model
    footprint = Footprint.of(model, longest, copies_prefix=not task.engine.strategy.staircase, columns=read)
    if not task.scope.is_last:
        texts = min(texts_at_once(model.device, longest, variants), prompts)
        row = text_footprint(model, longest, len(task.scope.positions(longest)), read)
        at_once = min(variants, text_variants_at_once(budget, row, texts, longest, model.device))
        return texts * (footprint.prompt + at_once * row)
    together = min(prompts_at_once(budget, footprint), prompts)
    return together * (footprint.prompt + min(variants, variants_at_once(budget, footprint, together)) * footprint.row)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a square matrix product on this machine, now."""
    a = torch.randn(PROBE, PROBE, device=device).to(dtype)
    a @ a
    rounds, started = 0, time.perf_counter()
    while time.perf_counter() - started < 0.1:
        (a @ a).sum().item()
        rounds += 1
    return 2.0 * PROBE**3 * rounds / (time.perf_counter() - started)
