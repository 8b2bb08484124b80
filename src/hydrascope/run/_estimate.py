"""What a run will cost, before it is made: interventions, tokens, memory, and a rough time.

It reads the schedule and the list of ledger variables that the run itself reads.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from hydrascope.ablations import with_donors
from hydrascope.engine import (
    CANDIDATES,
    READ_A_STEP,
    Budget,
    Footprint,
    ForwardSize,
    Plan,
    blocks_of,
    blocks_to_receiver,
    forward_size,
    prompts_at_once,
    require_account,
    room,
    texts_at_once,
)
from hydrascope.ledger import numbers_kept
from hydrascope.prompts import EncodedPrompt
from hydrascope.run._description import ledger_variables
from hydrascope.run._operations import Operations
from hydrascope.run._prompt_run import prompts_together
from hydrascope.run._shard import WHOLE, Shard
from hydrascope.run._task import Task
from hydrascope.run._text_run import donor_blocks, shape

PROBE = 512
"""Side of the matrix product that measures the machine's speed."""


@dataclass(frozen=True)
class Estimate:
    """What a run will cost.

    Attributes:
        prompts: prompts before the filter; of whole texts those that have donors.
        left_out: texts that have too few others of their length.
        edited: positions at which parts are replaced, of all prompts together.
        read: positions at which effects are read: rows of the ledger.
        knockouts: number of knock-outs.
        interventions: ablated runs per prompt, over all draws, controls included.
        prefill_tokens: tokens of the clean and extra runs.
        intervention_tokens: tokens of all interventions; one of each prompt at the last token.
        forwards: forwards of whole texts; None at the last token, where it depends on the filter.
        budget_bytes: memory budget.
        needed_bytes: estimated peak beside the weights.
        ledger_bytes: size of the ledger in memory, and at most on disk.
        passes: blocks that tokens pass, over all tokens.
        pairs: keys that tokens attend to, over all blocks that they pass.
        meets_vocabulary: positions that meet the vocabulary.
        flops: floating-point operations, counted from these and the model's shapes.
        seconds: flops over the speed of a matrix product measured now; rough, a lower bound on a small model.
        caution: what the run cannot tell, whatever it finds; empty where nothing is.
    """

    prompts: int
    left_out: int
    edited: int
    read: int
    knockouts: int
    interventions: int
    prefill_tokens: int
    intervention_tokens: int
    forwards: int | None
    budget_bytes: int
    needed_bytes: int
    ledger_bytes: int
    passes: float
    pairs: float
    meets_vocabulary: int
    flops: float
    seconds: float
    caution: str

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)

    def lines(self) -> list[str]:
        """The estimate in words."""
        if self.forwards is None:
            done = [
                f"{self.prompts} prompts x {self.knockouts} knock-outs, {self.interventions} interventions a prompt",
                f"{self.prefill_tokens:,} tokens to prefill, {self.intervention_tokens:,} single tokens for the "
                "interventions",
            ]
        else:
            others = f"; {self.left_out:,} more have too few others of their length, or repeat one"
            alone = others if self.left_out else ""
            done = [
                f"{self.prompts:,} texts x {self.knockouts} knock-outs, {self.interventions} interventions a "
                f"text{alone}",
                f"replaced at {self.edited:,} positions, read at {self.read:,}",
                f"{self.prefill_tokens:,} tokens of clean and lending runs, {self.intervention_tokens:,} tokens in "
                f"{self.forwards:,} forwards for the interventions",
            ]
        return [
            *done,
            f"about {self.needed_bytes / 2**20:,.0f} MB beside the weights, of {self.budget_bytes / 2**20:,.0f} MB "
            f"allowed, and {self.ledger_bytes / 2**20:,.0f} MB of ledger",
            f"about {self.flops / 1e9:,.1f} GFLOP: at least {self.seconds:,.1f} s at the speed of a matrix product "
            "here",
            *([self.caution] if self.caution else []),
        ]


def estimate(task: Task, shard: Shard = WHOLE) -> Estimate:
    """Count what a task would do.

    Args:
        task: the whole task.
        shard: share of it that is meant; clean runs of all prompts are part of each where donors or a filter need them.

    Raises:
        OutOfBudget: a single prompt does not fit the memory budget, or the ledger what is free.
        TooFewDonors: no text has donors of its length.
    """
    model, ablation, positions = task.model, task.ablation, task.positions
    plan = task.plan(np.zeros((ablation.draws, 0), dtype=np.int64))
    budget, layers = Budget.read(task.options.memory, *model.devices), model.anatomy.n_layers
    prompts = with_donors(task.encoded.prompts, ablation) if positions.read == "each" else task.encoded.prompts
    own = _share(task, plan, budget, prompts, shard)
    edited = sum(len(task.positions_of(prompt).ablated_in(len(prompt.ids))) for prompt in own)
    all_read, read = (sum(_read_of(task, prompt) for prompt in some) for some in (prompts, own))
    counts = (_at_the_last_token if positions.is_last else _of_texts)(task, plan, budget, prompts, own)
    seen = 1.0 if positions.is_last else 1 / max(1, all_read // READ_A_STEP)
    learning = 0.0
    if ablation.learning is not None:  # a backward pass costs two forwards
        learning = 3 * ablation.learning.steps * seen + CANDIDATES
    lengths = [len(prompt.ids) for prompt in prompts]
    passed = learning * sum(_blocks(task, k.first_layer) for k in plan.knockouts)
    passes = layers * counts.prefill + counts.blocks
    passes += passed * (len(lengths) if positions.is_last else sum(lengths))
    pairs = counts.pairs + passed * sum(length if positions.is_last else length**2 for length in lengths)
    # of the control no distribution is taken
    meets_vocabulary = counts.clean_reads + read * ablation.draws * len(plan.knockouts) * task.options.distribution
    meets_vocabulary += ceil(learning * all_read * len(plan.knockouts))
    flops = Operations.of(model).total(passes, pairs, meets_vocabulary)
    rows = len(prompts) if positions.span > 1 else all_read
    kept = numbers_kept(ledger_variables(plan, task.options.distribution))
    ledger = require_account(budget, room(Path()), rows, len(plan.knockouts), len(plan.aggregation.entries), kept)
    return Estimate(
        prompts=len(own),
        left_out=len(task.encoded.prompts) - len(prompts),
        edited=edited,
        read=read,
        knockouts=len(plan.knockouts),
        interventions=plan.interventions,
        prefill_tokens=counts.prefill,
        intervention_tokens=counts.tokens * plan.interventions,
        forwards=counts.forwards,
        budget_bytes=budget.bytes,
        needed_bytes=counts.needed,
        ledger_bytes=ledger * read // all_read,
        passes=passes,
        pairs=pairs,
        meets_vocabulary=meets_vocabulary,
        flops=flops,
        seconds=flops / matmul_rate(model.device, model.dtype),
        caution=task.caution,
    )


def _share(
    task: Task, plan: Plan, budget: Budget, prompts: Sequence[EncodedPrompt], shard: Shard
) -> Sequence[EncodedPrompt]:
    """Prompts of a shard, had the filter left none out."""
    if task.positions.is_last:
        step, count = prompts_together(plan, budget), len(prompts)
        together = [range(first, min(first + step, count)) for first in range(0, count, step)]
        rows = np.ones(count, dtype=np.int64)
    else:
        prompts = sorted(prompts, key=shape)
        together = [block for _, blocks in donor_blocks(prompts, plan.ablation.draws + 1) for block in blocks]
        rows = np.array([1 if task.positions.span > 1 else _read_of(task, prompt) for prompt in prompts])
    first = np.concatenate([[0], np.cumsum(rows)]).tolist()
    mine = shard.share((range(first[some.start], first[some.stop]) for some in together), first[-1])
    return [prompt for prompt, row in zip(prompts, first, strict=False) if mine[row]]


def _read_of(task: Task, prompt: EncodedPrompt) -> int:
    """Read positions of a prompt."""
    return len(task.positions_of(prompt).read_in(len(prompt.ids)))


class _Counts(NamedTuple):
    """What differs between runs at the last token and runs of whole texts.

    Attributes:
        tokens: tokens that one intervention on every prompt takes.
        blocks: blocks that the tokens of all interventions pass.
        pairs: keys that tokens attend to, over all blocks of all runs.
        forwards: forwards of texts; None at the last token.
        prefill: tokens of runs without interventions.
        clean_reads: positions of clean runs that meet the vocabulary.
        needed: estimated peak beside the weights, in bytes.
    """

    tokens: int
    blocks: float
    pairs: float
    forwards: int | None
    prefill: int
    clean_reads: int
    needed: int


def _at_the_last_token(
    task: Task, plan: Plan, budget: Budget, prompts: Sequence[EncodedPrompt], own: Sequence[EncodedPrompt]
) -> _Counts:
    lengths = [len(prompt.ids) for prompt in prompts]
    longest = max(lengths)
    together = min(prompts_at_once(task.model, longest, budget), max(1, len(own)))
    size = _size(task, plan, budget, together, longest, 1)
    rows = together * min(plan.interventions, size.interventions)
    needed = together * Footprint.of(task.model, longest, copies_prefix=False).prompt + rows * size.row
    each = plan.interventions // len(plan.knockouts) * len(own)
    staircase = task.engine.strategy.staircase
    blocks: float = each * sum(_blocks(task, k.first_layer) + blocks_to_receiver(k, staircase) for k in plan.knockouts)
    clean_runs, layers = 1 + plan.ablation.extra_runs, task.model.anatomy.n_layers
    at_once = _size(task, plan, budget, min(together, prompts_together(plan, budget)), longest, 1).interventions
    firsts = [
        min(plan.knockouts[job.knockout].first_layer for job in jobs) for jobs in plan.schedule(at_once, by_block=False)
    ]
    blocks += len(own) * sum(_blocks(task, first) for first in firsts)  # each forward has clean rows of its own
    own_mean = sum(len(prompt.ids) for prompt in own) / max(1, len(own))
    pairs = layers * clean_runs * sum(length**2 for length in lengths) + blocks * own_mean
    clean_reads = len(lengths) * clean_runs + len(own) * len(firsts)
    return _Counts(len(own), blocks, pairs, None, sum(lengths) * clean_runs, clean_reads, needed)


def _of_texts(
    task: Task, plan: Plan, budget: Budget, prompts: Sequence[EncodedPrompt], own: Sequence[EncodedPrompt]
) -> _Counts:
    """Count forward by forward, as the engine cuts them."""
    positions, lent = task.positions, plan.ablation.extra_runs
    forwards = needed = read = 0
    blocks = 0.0
    pairs: float = 0.0
    cost = cache(partial(_forwards, task, plan))
    for (tokens, span), count in Counter(map(shape, own)).items():
        where = replace(positions, span=span)
        places, rows = len(where.ablated_in(tokens)), len(where.read_in(tokens))
        read += count * rows
        at_once = texts_at_once(task.model.device, tokens, plan.interventions)
        for lenders in blocks_of(count, plan.ablation.draws + 1):
            kept = len(lenders) * _kept_bytes(task, tokens, places * (1 + lent), rows)
            for start in range(0, len(lenders), at_once):
                some = min(at_once, len(lenders) - start)
                size = _size(task, plan, budget, some, tokens, rows)
                found, passed = cost(size.interventions)
                forwards, blocks = forwards + found, blocks + some * tokens * passed
                pairs += some * tokens**2 * passed
                needed = max(needed, kept + size.row * some * (1 + min(size.interventions, plan.interventions)))
    # a clean run, one more by the engine, and those of all texts that the ablation or the filter needs
    each, of_all = 2 + lent, (plan.ablation.basis != "runs") + (positions.read == "last")
    lengths = [len(text.ids) for text in own] * each + [len(text.ids) for text in prompts] * of_all
    whole, prefill = sum(len(text.ids) for text in own), sum(lengths)
    pairs += task.model.anatomy.n_layers * sum(length**2 for length in lengths)
    return _Counts(whole, blocks, pairs, forwards, prefill, prefill - whole + read, needed)


def _size(task: Task, plan: Plan, budget: Budget, prompts: int, tokens: int, read: int) -> ForwardSize:
    return forward_size(
        task.model,
        task.engine.strategy,
        budget,
        prompts=prompts,
        tokens=tokens,
        read=read,
        columns=len(plan.columns),
        attending=len(plan.attending),
    )


def _blocks(task: Task, first_layer: int) -> int:
    """Blocks that an intervention passes whose first edited block is given."""
    strategy, layers = task.engine.strategy, task.model.anatomy.n_layers
    return layers - (first_layer if strategy.staircase else strategy.at(first_layer).first_block)


def _forwards(task: Task, plan: Plan, size: int) -> tuple[int, int]:
    """Forwards of a batch of texts, and blocks that its interventions pass."""
    forwards = blocks = 0
    for jobs in plan.schedule(size, by_block=True):
        first = min(plan.knockouts[job.knockout].first_layer for job in jobs)
        forwards, blocks = forwards + 1, blocks + len(jobs) * _blocks(task, first)
    draws = plan.interventions // len(plan.knockouts)
    return forwards, blocks + draws * sum(blocks_to_receiver(k, staircase=False) for k in plan.knockouts)


def _kept_bytes(task: Task, tokens: int, values: int, read: int) -> int:
    """Bytes kept of one text until its knock-outs are done: streams, logits that are read, and values."""
    anatomy, widths = task.model.anatomy, sum(site.width for site in task.sites)
    begins = (anatomy.n_layers - 1) * anatomy.d_model
    begins += sum(head.n_heads * head.head_dim + anatomy.d_model for head in anatomy.heads)
    return task.model.dtype.itemsize * (tokens * begins + read * anatomy.n_vocab + values * widths)


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a square matrix product, measured now."""
    a = torch.randn(PROBE, PROBE, device=device).to(dtype)
    a @ a
    rounds, started = 0, time.perf_counter()
    while time.perf_counter() - started < 0.1:
        (a @ a).sum().item()
        rounds += 1
    return 2.0 * PROBE**3 * rounds / (time.perf_counter() - started)
