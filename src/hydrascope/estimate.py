"""What a run will cost, before it is made: variants, tokens, memory, and a rough time."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import cache, partial
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hydrascope.ablation import Ablation, Mean, Optimal, with_donors
from hydrascope.engine.budget import Budget, Footprint, prompts_at_once, require_account, room, variants_at_once
from hydrascope.engine.columns import columns
from hydrascope.engine.edges import blocks_to_receiver
from hydrascope.engine.optimal import CANDIDATES
from hydrascope.engine.passes import READ_A_STEP
from hydrascope.engine.plan import Plan
from hydrascope.engine.text_batch import text_footprint, text_variants_at_once, texts_at_once
from hydrascope.engine.text_values import blocks_of
from hydrascope.engine.texts import Resumed
from hydrascope.ledger import numbers_kept, optional_variables, split_variables
from hydrascope.run import Task

PROBE = 512
"""Side of the matrix product that measures the machine's speed."""


@dataclass(frozen=True)
class Estimate:
    """The plan of a run.

    Attributes:
        prompts: prompts in the set, before the filter; of whole texts those that have donors.
        left_out: texts that have none of their length.
        edited: positions at which parts are replaced, of all prompts together.
        read: positions at which effects are read: rows of the ledger.
        knockouts: what is ablated, one after the other.
        variants: ablated runs per prompt, over all draws, null included.
        prefill_tokens: tokens of the clean and extra runs.
        variant_tokens: tokens pushed through the upper part of the model; at the last token one a variant and prompt.
        pushes: how often whole texts are pushed; None at the last token, where it depends on who is kept.
        budget_bytes: memory budget.
        needed_bytes: estimated peak beside the weights.
        ledger_bytes: what the ledger takes in memory, and at most on disk.
        flops: floating-point operations, counted from the weights.
        seconds: flops over the speed of a matrix product measured now; rough, a lower bound on a small model.
    """

    prompts: int
    left_out: int
    edited: int
    read: int
    knockouts: int
    variants: int
    prefill_tokens: int
    variant_tokens: int
    pushes: int | None
    budget_bytes: int
    needed_bytes: int
    ledger_bytes: int
    flops: float
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The plan in words."""
        if self.pushes is None:
            done = [
                f"{self.prompts} prompts x {self.knockouts} knock-outs, {self.variants} variants a prompt",
                f"{self.prefill_tokens:,} tokens to prefill, {self.variant_tokens:,} single tokens for the variants",
            ]
        else:
            alone = f"; {self.left_out:,} more have too few others of their length" if self.left_out else ""
            done = [
                f"{self.prompts:,} texts x {self.knockouts} knock-outs, {self.variants} variants a text{alone}",
                f"replaced at {self.edited:,} positions, read at {self.read:,}",
                f"{self.prefill_tokens:,} tokens of clean and lending runs, {self.variant_tokens:,} tokens in "
                f"{self.pushes:,} pushes for the variants",
            ]
        return [
            *done,
            f"about {self.needed_bytes / 2**20:,.0f} MB beside the weights, of {self.budget_bytes / 2**20:,.0f} MB "
            f"allowed, and {self.ledger_bytes / 2**20:,.0f} MB of ledger",
            f"about {self.flops / 1e9:,.1f} GFLOP: at least {self.seconds:,.1f} s at the speed of a matrix product "
            "here",
        ]


def estimate(task: Task) -> Estimate:
    """Count what a task would do.

    Raises:
        OutOfBudget: a single prompt does not fit the memory budget, or the ledger what is free.
        TooFewDonors: no text has donors of its length.
    """
    return _at_the_last_token(task) if task.scope.is_last else _of_texts(task)


def _at_the_last_token(task: Task) -> Estimate:
    model, ablation = task.model, task.ablation
    lengths = [len(prompt.ids) for prompt in task.encoded.prompts]
    draws = ablation.draws + task.null_draws
    budget = Budget.read(task.options.memory, *model.devices)
    plan = task.plan(np.zeros((ablation.draws, 0), dtype=np.int64))
    footprint = Footprint.of(
        model,
        max(lengths),
        copies_prefix=not task.engine.strategy.staircase,
        columns=len(plan.columns),
        attending=len(plan.attending),
    )
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
    rows += ceil(_learning(ablation, 1.0) * len(task.knockouts) * len(lengths))
    flops = 2.0 * body * (prefill + rows * share) + head * (rows + len(lengths) * (1 + extra))
    return Estimate(
        prompts=len(lengths),
        left_out=0,
        edited=len(lengths),
        read=len(lengths),
        knockouts=len(task.knockouts),
        variants=variants,
        prefill_tokens=prefill,
        variant_tokens=variants * len(lengths),
        pushes=None,
        budget_bytes=budget.bytes,
        ledger_bytes=_ledger_bytes(task, budget, len(lengths)),
        needed_bytes=together * footprint.prompt + pushed * footprint.row,
        flops=flops,
        seconds=flops / matmul_rate(model.device, model.dtype),
    )


def _of_texts(task: Task) -> Estimate:
    """Push by push, as the engine cuts them."""
    model, ablation, scope, strategy = task.model, task.ablation, task.scope, task.engine.strategy
    assert isinstance(strategy, Resumed)
    plan = task.plan(np.zeros((ablation.draws, 0), dtype=np.int64))
    budget, layers = Budget.read(task.options.memory, *model.devices), model.anatomy.n_layers
    texts = with_donors(task.encoded.prompts, ablation) if scope.read == "each" else task.encoded.prompts
    lent = ablation.draws if ablation.name in ("noise", "counterfactual") else 0
    cost = cache(partial(_pushes, plan, strategy))
    pushes = needed = edited = read = 0
    blocks = 0.0  # passed by the tokens of all variants
    for tokens, count in Counter(len(text.ids) for text in texts).items():
        places, rows = len(scope.edited(tokens)), len(scope.positions(tokens))
        edited, read = edited + count * places, read + count * rows
        at_once = texts_at_once(model.device, tokens, plan.variants)
        row = text_footprint(model, tokens, rows, len(plan.columns), len(plan.attending))
        for lenders in blocks_of(count, ablation.draws + 1):
            kept = len(lenders) * _kept_bytes(task, tokens, places * (1 + lent), rows)
            for start in range(0, len(lenders), at_once):
                some = min(at_once, len(lenders) - start)
                size = text_variants_at_once(budget, row, some, tokens, model.device)
                found = cost(size)
                pushes, blocks = pushes + found.pushes, blocks + some * tokens * found.blocks
                needed = max(needed, kept + row * some * (1 + min(size, plan.variants)))
    whole = sum(len(text.ids) for text in texts)
    learning = _learning(ablation, 1 / max(1, read // READ_A_STEP))
    blocks += learning * whole * sum(layers - strategy.at(k.first_layer).first_block for k in plan.knockouts)
    # a clean pass, its logits once more from the engine, and what the ablation or the filter needs beside them
    passes = 2 + lent + isinstance(ablation, Mean) + (scope.read == "last")
    body = model.source.n_parameters - model.network.get_input_embeddings().weight.numel()
    meets_vocabulary = whole * (passes - 1) + read * (1 + plan.variants * task.options.distribution)
    meets_vocabulary += ceil(learning * read * len(plan.knockouts))
    flops = 2.0 * body * (whole * passes + blocks / layers)
    flops += 2.0 * model.anatomy.n_vocab * model.anatomy.d_model * meets_vocabulary
    return Estimate(
        prompts=len(texts),
        left_out=len(task.encoded.prompts) - len(texts),
        edited=edited,
        read=read,
        knockouts=len(task.knockouts),
        variants=plan.variants,
        prefill_tokens=whole * passes,
        variant_tokens=whole * plan.variants,
        pushes=pushes,
        budget_bytes=budget.bytes,
        needed_bytes=needed,
        ledger_bytes=_ledger_bytes(task, budget, read),
        flops=flops,
        seconds=flops / matmul_rate(model.device, model.dtype),
    )


def _learning(ablation: Ablation, seen: float) -> float:
    """How often a knock-out passes everything while constants are learned, a step seeing so much of it."""
    if not isinstance(ablation, Optimal):
        return 0.0
    return 3 * ablation.steps * seen + CANDIDATES  # forwards, and backwards that cost as much as two


class _Pushes(NamedTuple):
    """What all variants of a batch of texts take.

    Attributes:
        pushes: how often the batch is pushed.
        blocks: blocks that its variants pass, all together.
    """

    pushes: int
    blocks: int


def _pushes(plan: Plan, strategy: Resumed, size: int) -> _Pushes:
    layers, pushes, blocks = plan.anatomy.n_layers, 0, 0
    for jobs in plan.pushes_by_block(size):
        first = min(plan.knockouts[job.knockout].first_layer for job in jobs)
        pushes, blocks = pushes + 1, blocks + len(jobs) * (layers - strategy.at(first).first_block)
    draws = plan.variants // len(plan.knockouts)
    return _Pushes(pushes, blocks + draws * sum(blocks_to_receiver(k, staircase=False) for k in plan.knockouts))


def _kept_bytes(task: Task, tokens: int, values: int, read: int) -> int:
    """Of one text until its knock-outs are done: where pushes can begin, logits that are read, and values."""
    anatomy, widths = task.model.anatomy, sum(site.width for site in task.sites)
    begins = (anatomy.n_layers - 1) * anatomy.d_model
    begins += sum(head.n_heads * head.head_dim + anatomy.d_model for head in anatomy.heads)
    return task.model.dtype.itemsize * (tokens * begins + read * anatomy.n_vocab + values * widths)


def _ledger_bytes(task: Task, budget: Budget, rows: int) -> int:
    options, found = task.options, columns(task.model.anatomy, task.splits)
    entries = len(found) if options.detail == "full" else 3 + 2 * len({c.kind for c in found} - {"embed", "bias"})
    kept = optional_variables(task.ablation.draws, task.null_draws, options.detail, measured=options.distribution)
    kept |= split_variables(options.detail) if task.heads else set()
    return require_account(budget, room(Path()), rows, len(task.knockouts), entries, numbers_kept(kept))


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a square matrix product on this machine, now."""
    a = torch.randn(PROBE, PROBE, device=device).to(dtype)
    a @ a
    rounds, started = 0, time.perf_counter()
    while time.perf_counter() - started < 0.1:
        (a @ a).sum().item()
        rounds += 1
    return 2.0 * PROBE**3 * rounds / (time.perf_counter() - started)
