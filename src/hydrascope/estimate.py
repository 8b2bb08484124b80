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
        variant_tokens: single tokens pushed through the upper part of the model.
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
    footprint = Footprint.of(model, max(lengths), copies_prefix=not task.engine.strategy.staircase, columns=len(read))
    entries = len(read) if task.options.detail == "full" else 3 + 2 * len({c.kind for c in read} - {"embed", "bias"})
    arrays = numbers_kept(optional_variables(ablation.draws, task.null_draws, task.options.detail))
    together = min(prompts_at_once(budget, footprint), len(lengths))
    variants = len(task.knockouts) * draws
    pushed = min(variants, variants_at_once(budget, footprint, together)) * together
    extra = ablation.draws if ablation.name in ("noise", "counterfactual") else 0
    prefill = sum(lengths) * (1 + extra)
    embedding = model.network.get_input_embeddings().weight.numel()
    body = model.source.n_parameters - embedding
    layers = model.anatomy.n_layers
    staircase = task.engine.strategy.staircase
    blocks = sum(layers - knockout.first_layer if staircase else layers for knockout in task.knockouts)
    blocks += sum(blocks_to_receiver(knockout, staircase) for knockout in task.knockouts)
    share = blocks / (layers * len(task.knockouts))
    head = 2 * model.anatomy.n_vocab * model.anatomy.d_model
    rows = variants * len(lengths)
    if isinstance(ablation, Optimal):  # forwards, and backwards that cost as much as two
        rows += 3 * ablation.steps * len(task.knockouts) * len(lengths)
    flops = 2.0 * body * (prefill + rows * share) + head * (rows + len(lengths) * (1 + extra))
    return Estimate(
        prompts=len(lengths),
        knockouts=len(task.knockouts),
        variants=variants,
        prefill_tokens=prefill,
        variant_tokens=variants * len(lengths),
        budget_bytes=budget.bytes,
        ledger_bytes=require_account(budget, room(Path()), len(lengths), len(task.knockouts), entries, arrays),
        needed_bytes=together * footprint.prompt + pushed * footprint.row,
        flops=flops,
        seconds=flops / matmul_rate(model.device, model.dtype),
    )


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a square matrix product on this machine, now."""
    a = torch.randn(PROBE, PROBE, device=device).to(dtype)
    a @ a
    rounds, started = 0, time.perf_counter()
    while time.perf_counter() - started < 0.1:
        (a @ a).sum().item()
        rounds += 1
    return 2.0 * PROBE**3 * rounds / (time.perf_counter() - started)
