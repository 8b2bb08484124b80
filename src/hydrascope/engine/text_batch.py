"""Knock-outs of whole texts: replaced at many positions, read at many."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from hydrascope.anatomy import Model, directions
from hydrascope.engine.account import Account, Arrays
from hydrascope.engine.batch import Work, variant
from hydrascope.engine.budget import Budget, Footprint
from hydrascope.engine.last_token import sweep
from hydrascope.engine.pattern import head_aims
from hydrascope.engine.splits import aims
from hydrascope.engine.texts import Recorded, Resumed

TOKENS_AT_ONCE = {"cpu": 1024}
"""Tokens of all rows of a push: enough to be worth the reading of the weights, few enough to stay in the cache."""

TOKENS_AT_ONCE_ELSEWHERE = 65536

LEAST_VARIANTS = 16
"""Variants that should share a push, where several texts could go through the model together."""


def texts_at_once(device: torch.device, tokens: int, variants: int) -> int:
    """Texts of one length that go through the model together, so that there is room for many variants of each."""
    return max(1, tokens_at_once(device) // (tokens * min(variants, LEAST_VARIANTS)))


def text_variants_at_once(budget: Budget, footprint: int, texts: int, tokens: int, device: torch.device) -> int:
    """Variants that share a push, at least one.

    Args:
        budget: memory budget; half of it is for the rows of a push, with one for the clean run.
        footprint: estimated bytes of one row, with all its tokens.
        texts: texts in the batch.
        tokens: their length.
        device: where they run.
    """
    row = texts * tokens
    return max(1, min(tokens_at_once(device) // row, budget.bytes // 2 // (footprint * texts) - 1))


def text_footprint(model: Model, tokens: int, read: int, columns: int, attending: int = 0) -> int:
    """Estimated bytes of one row of a push: a whole text under one knock-out.

    Args:
        model: the model.
        tokens: length of the text.
        read: positions that are read.
        columns: read-outs kept of each.
        attending: how many of these are split into moved weights and changed values.
    """
    heads = max((site.n_heads for site in model.anatomy.heads), default=1)
    token = Footprint.of(model, 1, copies_prefix=False).row
    row = tokens * (token + 4 * 2 * heads * tokens) + read * 4 * (2 * model.anatomy.d_model + columns)
    if attending:  # scores and weights at all positions, copies and differences at those that are read; four products
        row += 4 * heads * tokens * (2 * tokens + 3 * read) + read * 4 * (4 * model.anatomy.d_model + 3 * attending)
    return row


def run_texts(
    work: Work,
    rows: Sequence[int],
    recorded: Recorded,
    targets: Int[Tensor, " items"],
    foils: Int[Tensor, " items"] | None,
    names: Sequence[str],
    size: int,
    *,
    measured: bool = True,
    done: Callable[[int], None] = lambda variants: None,
) -> Arrays:
    """All knock-outs of texts of one length.

    Args:
        work: model, plan and values; its strategy is a `Resumed`.
        rows: positions of the texts in the plan's table and the pools.
        recorded: their clean pass, with the streams.
        targets: target token of every read position, text by text.
        foils: the tokens whose logits are subtracted from the targets', if differences are read.
        names: what an error calls each of them by.
        size: variants in a push.
        measured: take log-probability, rank and KL divergence, for which all rows meet the whole vocabulary.
        done: told the number of variants of a text after each push.

    Returns:
        The ledger's variables, one row per text and read position.

    Raises:
        LedgerDoesNotClose: naming the component and the position that break it.
        AnatomyRefused: the clean row's logits are not those of the untouched model.
    """
    model, strategy = work.model, work.strategy
    assert isinstance(strategy, Resumed)
    device = recorded.ids.device
    others = None if foils is None else foils.to(device)
    read = directions(model.network, model.anatomy.tail, targets.to(device), others)
    by_unit = aims(model, work.plan.splits, read.vectors)
    heads = head_aims(model, work.plan.heads, by_unit, read.vectors)
    account = Account(work.plan, work.tolerance, names, read, measured=measured)
    before = sweep(model, recorded, [], read, strategy=strategy.whole, full=measured, aims=by_unit)
    account.enter_clean(before, recorded.logits)
    for jobs in work.plan.pushes_by_block(size):
        heard = work.heard(recorded, jobs, rows, strategy.whole, size)
        variants = [variant(work, job, rows, heard) for job in jobs]
        first = min(one.first_layer for one in variants)
        split = bool(heads) and not jobs[0].null
        swept = sweep(
            model,
            recorded,
            variants,
            read,
            strategy=strategy.at(first, watched=split),
            full=measured and not jobs[0].null,
            probed=False,
            aims=by_unit,
            before=before,
            routing=bool(work.plan.routed) and not jobs[0].null,
            heads=heads if split else {},
        )
        account.enter(jobs, swept)
        done(len(jobs) * len(rows))
    return account.arrays()


def tokens_at_once(device: torch.device) -> int:
    """Tokens of all rows of a push, at most."""
    return TOKENS_AT_ONCE.get(device.type, TOKENS_AT_ONCE_ELSEWHERE)
