"""How much fits: prompts in a batch and variants in a push, from a memory budget."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from hydrascope.anatomy import Model
from hydrascope.errors import OutOfBudget, RunError

FREE_SHARE = 0.5
"""Share of the free memory used when no budget is given; the rest is left to the machine and the allocator."""

ROWS_AT_ONCE = 4096
"""More rows in one matrix product gain nothing."""

ACCOUNT_COPIES = 12
"""Sums by half, squares and null of every knock-out and writer, in float64, and what is made of them."""

COLUMN_BYTES = 64
"""Of one read-out while it is booked: as it was read, its change in float64, and the terms of that."""

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Budget:
    """Bytes that a run may use beside the weights."""

    bytes: int

    @classmethod
    def read(cls, text: str | None, *devices: torch.device) -> Budget:
        """A budget from `4GB`, `800M` ..., or a share of what is free now on the tightest of the devices.

        Raises:
            RunError: the text is no size.
        """
        if text is None:
            return cls(int(min(_free(device) for device in devices) * FREE_SHARE))
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
        if not match:
            raise RunError(f"'{text}' is no amount of memory; write for example 4GB or 800MB")
        return cls(int(float(match[1]) * _UNITS[match[2].upper()]))

    def halved(self) -> Budget:
        """Half of it, after the device ran out of memory."""
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
    """Estimated bytes of what a sweep keeps alive.

    Attributes:
        prompt: of one prompt's clean pass and prefix.
        row: of one row of a push.
    """

    prompt: int
    row: int

    @classmethod
    def of(cls, model: Model, tokens: int, copies_prefix: bool, columns: int = 0, attending: int = 0) -> Footprint:
        """Estimate for prompts of a length.

        Args:
            model: the model.
            tokens: length of the prompts.
            copies_prefix: every row has its own keys and values.
            columns: what is read of every row.
            attending: how many of these are split into moved weights and changed values.
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
        if attending:  # four products of weights and values, and the weights once more
            row += 4 * (4 * width + 2 * heads * tokens)
        return cls(prompt=2 * prefix + tokens * token + 4 * heads * tokens * tokens + logits, row=row)


def size_of(number: int) -> str:
    """Bytes in the largest unit of which there is at least one, with two significant digits or more."""
    unit = max((name for name, size in _UNITS.items() if number >= size), key=_UNITS.__getitem__, default="")
    amount = number / _UNITS[unit]
    return f"{amount:.{1 if unit and amount < 10 else 0}f} {unit}B" if unit else f"{number} bytes"


def prompts_at_once(budget: Budget, footprint: Footprint) -> int:
    """Prompts of one length that go through the model together; half the budget is theirs.

    Raises:
        OutOfBudget: not even one fits.
    """
    fitting = budget.bytes // 2 // (footprint.prompt + footprint.row)
    if fitting < 1:
        needed = 2 * (footprint.prompt + footprint.row)
        raise OutOfBudget(
            f"the memory budget of {size_of(budget.bytes)} does not hold a single prompt, which needs about "
            f"{size_of(needed)}; raise --memory or shorten the prompts"
        )
    return int(fitting)


def variants_at_once(budget: Budget, footprint: Footprint, prompts: int) -> int:
    """Variants of a batch of prompts that go through the model together, at least one."""
    rows = min(ROWS_AT_ONCE, budget.bytes // 2 // footprint.row)
    return max(1, rows // prompts - 1)


def prompts_in_account(budget: Budget, knockouts: int, entries: int) -> int:
    """Prompts whose account is held in memory until it is written, at least one; a quarter of the budget is theirs."""
    return max(1, budget.bytes // 4 // _account(knockouts, entries))


def room(folder: Path) -> int:
    """Bytes free in memory or on the disk of a folder, whichever is less: a ledger is written whole and read whole."""
    return min(int(psutil.virtual_memory().available), shutil.disk_usage(folder).free)


def require_account(budget: Budget, free: int, prompts: int, knockouts: int, entries: int, arrays: int) -> int:
    """Refuse a ledger that could be begun but not be finished, or not be read.

    Args:
        budget: memory budget.
        free: bytes free in memory or on disk, whichever is less.
        prompts: that the ledger is about.
        knockouts: of each prompt.
        entries: writers, units and biases that are kept apart.
        arrays: how many numbers are kept of each.

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
            f"{size_of(budget.bytes)}; raise --memory, {mend}"
        )
    if (whole := 4 * arrays * prompts * knockouts * entries) > free:
        raise OutOfBudget(
            f"the ledger {what} takes {size_of(whole)} for {prompts:,} prompts and {size_of(free)} is free; take fewer "
            f"prompts, {mend}"
        )
    return whole


def _account(knockouts: int, entries: int) -> int:
    return ACCOUNT_COPIES * 8 * knockouts * entries
