"""How much fits: every size and budget of the engine.

Estimates are of what is alive at once beside the weights. Where they are too low, `ran_out` recognises the error, and
forwards are made smaller.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from hydrascope.anatomy import Model
from hydrascope.engine._strategies import Strategy
from hydrascope.errors import OutOfBudget, RunError

FREE_SHARE = 0.5
"""Share of the free memory that is used when no budget is given."""

ROWS_AT_ONCE = 4096
"""Rows of a matrix product beyond which more gain nothing."""

ACCOUNT_COPIES = 12
"""Float64 numbers per knock-out and writer: sums by half, squares, control, and what is made of them."""

COLUMN_BYTES = 64
"""Bytes of one read-out while it is booked: as read, its change in float64, and the terms of that."""

CLEAN_SHARE = 4
"""Clean runs take one part in so many of the budget, and steps kept for a gradient another."""

STORED_TOGETHER = 32
"""Runs whose values are written to disk together."""

TOKENS_AT_ONCE = {"cpu": 1024}
"""Tokens in a forward of whole texts: worth reading the weights for, and few enough for the cache."""

TOKENS_AT_ONCE_ELSEWHERE = 65536

LEAST_INTERVENTIONS = 16
"""Interventions that should share a forward before several texts do."""

TEXTS_IN_BLOCK = 16
"""Texts of one length that are each other's donors: the paper's 15 donors and the text itself."""

LEARNED_PROMPTS = 64
"""Largest number of prompts that constants are learned from together."""

LEARNED_ROWS = 1024
"""Largest number of single-token rows whose steps are kept for a gradient."""

READ_A_STEP = 1024
"""Read positions of texts that one step of gradient descent sees, about."""

GRADED_LOGIT_BYTES = 64 * 2**20
"""Bytes of float32 logits alive at once where a gradient is taken; they are made again for it."""

LOGIT_BYTES = {"cpu": 2 * 2**20}
"""Bytes of float32 logits alive at once: what stays in the cache of a processor's core."""

LOGIT_BYTES_ELSEWHERE = 64 * 2**20
"""Bytes on other devices, where each step has a fixed cost and no cache is worth staying in."""

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def logit_bytes(device: torch.device) -> int:
    """Bytes of float32 logits that should be alive at once on a device."""
    return LOGIT_BYTES.get(device.type, LOGIT_BYTES_ELSEWHERE)


@dataclass(frozen=True)
class Budget:
    """Bytes that a run may use beside the weights."""

    bytes: int

    @classmethod
    def read(cls, text: str | None, *devices: torch.device) -> Budget:
        """A budget such as `4GB` or `800M`; by default a share of what is free on the tightest device.

        Raises:
            RunError: the text is no size.
        """
        if text is None:
            return cls(int(min(_free(device) for device in devices) * FREE_SHARE))
        if re.fullmatch(r"[0-9.]+", text.strip()):
            raise RunError(f"memory of '{text}' has no unit; write for example {text.strip()}GB")
        match = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
        if not match:
            raise RunError(f"'{text}' is no amount of memory; write for example 4GB or 800MB")
        return cls(int(float(match[1]) * _UNITS[match[2].upper()]))

    def halved(self) -> Budget:
        """Half the budget, after the device ran out of memory."""
        return Budget(self.bytes // 2)


def ran_out(error: BaseException) -> bool:
    """Whether a device had no room for what was tried."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error)


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


@dataclass(frozen=True)
class Footprint:
    """Estimated bytes that a forward keeps alive.

    Attributes:
        prompt: bytes of one prompt's clean run and prefix.
        row: bytes of one row of a forward.
    """

    prompt: int
    row: int

    @classmethod
    def of(cls, model: Model, tokens: int, copies_prefix: bool, columns: int = 0, attending: int = 0) -> Footprint:
        """Estimate for prompts of one length.

        Args:
            model: the model.
            tokens: length of the prompts.
            copies_prefix: every row has its own keys and values.
            columns: read-outs of every row.
            attending: read-outs that are split into pattern and value effects.
        """
        config = model.network.config.get_text_config()
        width, size = model.anatomy.d_model, model.dtype.itemsize
        inner = int(getattr(config, "intermediate_size", 0) or 4 * width)
        heads = max((site.n_heads for site in model.anatomy.heads), default=1)
        kv = sum(site.n_kv * site.head_dim for site in model.anatomy.heads) or width * model.anatomy.n_layers
        prefix = 2 * kv * tokens * size
        logits = 4 * 4 * model.anatomy.n_vocab
        token = size * (8 * width + 3 * inner)
        row = token + 4 * (4 * width + 3 * heads * tokens) + (prefix if copies_prefix else 0)
        row += COLUMN_BYTES * (columns + 2 * attending)
        if attending:  # four products, and the weights once more
            row += 4 * (4 * width + 2 * heads * tokens)
        return cls(prompt=2 * prefix + tokens * token + 4 * heads * tokens * tokens + logits, row=row)


def size_of(number: int) -> str:
    """Bytes in the largest unit of which there is at least one, with two significant digits or more."""
    unit = max((name for name, size in _UNITS.items() if number >= size), key=_UNITS.__getitem__, default="")
    amount = number / _UNITS[unit]
    return f"{amount:.{1 if unit and amount < 10 else 0}f} {unit}B" if unit else f"{number} bytes"


def prompts_at_once(model: Model, tokens: int, budget: Budget) -> int:
    """Prompts of one length that go through the model together in half the budget.

    Raises:
        OutOfBudget: not even one fits.
    """
    footprint = Footprint.of(model, tokens, copies_prefix=False)
    fitting = budget.bytes // 2 // (footprint.prompt + footprint.row)
    if fitting < 1:
        needed = 2 * (footprint.prompt + footprint.row)
        raise OutOfBudget(
            f"the memory budget of {size_of(budget.bytes)} does not hold a single prompt, which needs about "
            f"{size_of(needed)}; raise the budget (--memory) or shorten the prompts"
        )
    return int(fitting)


def interventions_at_once(budget: Budget, footprint: Footprint, prompts: int) -> int:
    """Interventions of a batch of prompts that share a forward, at least one."""
    rows = min(ROWS_AT_ONCE, budget.bytes // 2 // footprint.row)
    return max(1, rows // prompts - 1)


def prompts_in_account(budget: Budget, knockouts: int, entries: int) -> int:
    """Prompts whose account fits a quarter of the budget, at least one."""
    return max(1, budget.bytes // 4 // _account(knockouts, entries))


def room(folder: Path) -> int:
    """Bytes free in memory or on a folder's disk, whichever is less: a ledger is written and read whole."""
    return min(int(psutil.virtual_memory().available), shutil.disk_usage(folder).free)


def require_account(budget: Budget, free: int, prompts: int, knockouts: int, entries: int, arrays: int) -> int:
    """Refuse a ledger that could be begun but not be finished, or not be read.

    Args:
        budget: memory budget.
        free: bytes free in memory or on disk, whichever is less.
        prompts: rows of the ledger.
        knockouts: knock-outs of each prompt.
        entries: writers, units and biases that are kept apart.
        arrays: numbers kept of each entry.

    Returns:
        Bytes of the ledger.

    Raises:
        OutOfBudget: one prompt's account does not fit the budget, or the whole ledger what is free.
    """
    mend = "knock out fewer parts, split fewer writers (--writers neuron.11) or keep sums only (--detail kinds)"
    what = f"of {knockouts:,} knock-outs and {entries:,} writers"
    if (one := _account(knockouts, entries)) > budget.bytes:
        raise OutOfBudget(
            f"the account {what} takes {size_of(one)} for a single prompt and the memory budget is "
            f"{size_of(budget.bytes)}; raise the budget (--memory), {mend}"
        )
    if (whole := 4 * arrays * prompts * knockouts * entries) > free:
        raise OutOfBudget(
            f"the ledger {what} takes {size_of(whole)} for {prompts:,} prompts and {size_of(free)} is free; take fewer "
            f"prompts, {mend}"
        )
    return whole


def _account(knockouts: int, entries: int) -> int:
    return ACCOUNT_COPIES * 8 * knockouts * entries


def same_length_batches(prompts: Sequence[Sequence[int]], size: Callable[[int], int]) -> list[list[int]]:
    """Indices of prompts of one length each, shortest first; nothing is ever padded.

    Args:
        prompts: token ids.
        size: gives the largest batch of prompts of a length.
    """
    lengths: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        lengths.setdefault(len(prompt), []).append(i)
    batches = []
    for tokens, members in sorted(lengths.items()):
        together = size(tokens)
        batches += [members[i : i + together] for i in range(0, len(members), together)]
    return batches


def blocks_of(count: int, least: int) -> list[range]:
    """Cut a number of texts of one length into nearly equal blocks of at least `least`."""
    pieces = max(1, count // max(TEXTS_IN_BLOCK, least))
    edges = [round(count * i / pieces) for i in range(pieces + 1)]
    return [range(a, b) for a, b in pairwise(edges)]


def texts_at_once(device: torch.device, tokens: int, interventions: int) -> int:
    """Texts of one length in a batch, few enough for many interventions to share a forward."""
    return max(1, tokens_at_once(device) // (tokens * min(interventions, LEAST_INTERVENTIONS)))


def text_interventions_at_once(budget: Budget, footprint: int, texts: int, tokens: int, device: torch.device) -> int:
    """Interventions on whole texts that share a forward, at least one; half the budget is for their rows."""
    row = texts * tokens
    return max(1, min(tokens_at_once(device) // row, budget.bytes // 2 // (footprint * texts) - 1))


def text_footprint(model: Model, tokens: int, read: int, columns: int, attending: int = 0) -> int:
    """Estimated bytes of one row of a forward, a whole text under one knock-out."""
    heads = max((site.n_heads for site in model.anatomy.heads), default=1)
    token = Footprint.of(model, 1, copies_prefix=False).row
    row = tokens * (token + 4 * 2 * heads * tokens) + read * 4 * (2 * model.anatomy.d_model + columns)
    if attending:  # weights and scores at all positions, copies and differences at read ones; four products
        row += 4 * heads * tokens * (2 * tokens + 3 * read) + read * 4 * (4 * model.anatomy.d_model + 3 * attending)
    return row


class ForwardSize(NamedTuple):
    """How a batch is cut into forwards.

    Attributes:
        row: estimated bytes of one row.
        interventions: interventions that share a forward, at least one.
    """

    row: int
    interventions: int


def forward_size(
    model: Model,
    strategy: Strategy,
    budget: Budget,
    *,
    prompts: int,
    tokens: int,
    read: int,
    columns: int,
    attending: int,
) -> ForwardSize:
    """Decide how many interventions of a batch share a forward.

    Args:
        model: the model.
        strategy: how interventions are run.
        budget: memory budget.
        prompts: prompts in the batch.
        tokens: length of each prompt.
        read: read positions of each prompt.
        columns: read-outs of every row.
        attending: read-outs that are split into pattern and value effects.
    """
    if strategy.by_block:
        row = text_footprint(model, tokens, read, columns, attending)
        return ForwardSize(row, text_interventions_at_once(budget, row, prompts, tokens, model.device))
    footprint = Footprint.of(model, tokens, not strategy.staircase, columns, attending)
    return ForwardSize(footprint.row, interventions_at_once(budget, footprint, prompts))


def tokens_at_once(device: torch.device) -> int:
    """Largest number of tokens in a forward of whole texts, over all rows."""
    return TOKENS_AT_ONCE.get(device.type, TOKENS_AT_ONCE_ELSEWHERE)


def graded_text_footprint(model: Model, tokens: int, read: int) -> int:
    """Estimated bytes kept of one row, a whole text under one knock-out, until its gradient is taken."""
    return model.anatomy.n_layers * text_footprint(model, tokens, read, 0)
