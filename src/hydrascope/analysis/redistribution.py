"""How much of what attention answers is that it looks elsewhere.

A head reads from earlier tokens j with weights a_j what they have there, u_j. Under a knock-out both change, and its
change is the sum of two parts:

    redistributed   sum_j (a'_j - a_j) (u_j + u'_j) / 2    weight moves to other tokens
    revalued        sum_j (a_j + a'_j) / 2 (u'_j - u_j)    the tokens have something else there

The split treats before and after alike: each part is what one change does with the other halfway done. It says by
which way an answer came about, not why weights or values changed, nor what would be left if only one of them could.

The moved weight is 1/2 sum_j |a'_j - a_j|: the share of a head's attention that lies elsewhere than in the clean run.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from hydrascope.analysis import mechanisms, parts, two_ways
from hydrascope.analysis.statistics import DRAWS, Array
from hydrascope.analysis.tokens import TOP_SHARE, Tokens
from hydrascope.errors import DetailDropped

WAYS = two_ways.TwoWays("revalued", "redistributed", "redistributed_change", "moved_weight", "moved_weight")

TOGETHER = "attention"
"""The sum of both ways, among them."""


def has_redistribution(ds: xr.Dataset) -> bool:
    """Whether the ledger splits the changes of attention."""
    return WAYS.variable in ds


def redistribution(ds: xr.Dataset, *, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """How each attention layer, or head, answers each knock-out: by looking elsewhere, or by what it finds.

    Args:
        ds: the ledger.
        draws: bootstrap draws.
        seed: of the draws.

    Returns:
        `analysis.two_ways.by_writer`, the ways `redistributed` and `revalued`, the share `moved_weight` (the mean over
        a layer's heads).

    Raises:
        DetailDropped: the run did not split attention, or kept only sums by kind of writer.
    """
    return two_ways.by_writer(ds, WAYS, _attention(ds), parts.plan(ds, draws, seed))


def redistribution_totals(ds: xr.Dataset, *, draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """The same for all attention behind a knock-out together: `analysis.two_ways.totals`.

    Args:
        ds: the ledger.
        draws: bootstrap draws.
        seed: of the draws.

    Raises:
        DetailDropped: the run did not split attention, or kept only sums by kind of writer.
    """
    return two_ways.totals(ds, WAYS, _attention(ds), parts.plan(ds, draws, seed))


def redistribution_on_text(
    ds: xr.Dataset, *, top_share: float = TOP_SHARE, draws: int = DRAWS, seed: int = 0
) -> pd.DataFrame:
    """The same on ordinary text, for every knock-out whose direct effect is known, on its top tokens and on all.

    Args:
        ds: the ledger; one of sums by kind will do.
        top_share: share of tokens that are selected for each knock-out.
        draws: bootstrap draws; whole documents are drawn.
        seed: of the draws.

    Returns:
        The columns of `analysis.mechanisms.mechanisms`; mechanisms are `redistributed`, `revalued` and their sum,
        `attention`.

    Raises:
        DetailDropped: the run did not split attention, or no knock-out's direct effect is known.
    """
    _require(ds)
    return mechanisms.table_of(ds, _by_token, top_share=top_share, draws=draws, seed=seed)


def _by_token(tokens: Tokens) -> dict[str, Array]:
    whole = tokens.answers.get("attn", np.zeros_like(tokens.own))
    moved = parts.response(tokens.ds, "attn", variable=WAYS.variable)[:, tokens.known]
    return {WAYS.part: moved, WAYS.rest: whole - moved, TOGETHER: whole}


def _attention(ds: xr.Dataset) -> NDArray[np.bool_]:
    _require(ds)
    parts.require_writers(ds, "who looks elsewhere")
    found: NDArray[np.bool_] = parts.writer_kinds(ds) == "attn"
    return found


def _require(ds: xr.Dataset) -> None:
    if not has_redistribution(ds):
        raise DetailDropped(
            "this run did not split what attention changes into moved weights and changed values; run it again with "
            "--split-attention"
        )
