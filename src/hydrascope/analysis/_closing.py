"""Does the ledger close: recomputed from its terms, not from the stored remainder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from hydrascope.analysis import _ledger_access as access

_EXACT = 1e-3
"""Accounts that close within this tolerance are exact for every purpose."""


@dataclass(frozen=True)
class Closing:
    """How well the identities of a ledger hold.

    Attributes:
        error: max over prompts and knock-outs of |total - (own + others + norm)| / max(1, |total|).
        tolerance: largest error that is accepted.
        prompt: original index of the prompt with the largest error.
        ablated: knock-out with the largest error.
        clean_error: max over prompts of |sum of direct effects - clean logit| / max(1, |clean logit|).
        own_error: max |own_change - sum of the changes of the writers knocked out|, in logits.
        stored_error: max |stored remainder - recomputed remainder|, in logits.
    """

    error: float
    tolerance: float
    prompt: int
    ablated: str
    clean_error: float
    own_error: float
    stored_error: float

    @property
    def closes(self) -> bool:
        """Whether every total effect is the sum of its parts, within the tolerance."""
        return max(self.error, self.clean_error) <= self.tolerance


def closing(ds: xr.Dataset) -> Closing:
    """Recompute both identities, of total effects and of clean logits.

    Args:
        ds: the ledger.

    Returns:
        The errors, and where the largest one is.
    """
    total, stored = access.numbers(ds, "total_effect"), access.numbers(ds, "remainder")
    own, listed_own = access.response(ds, own=True), access.numbers(ds, "own_change")
    remainder = total - (own + access.response(ds) + access.numbers(ds, "norm_effect"))
    relative = np.abs(remainder) / np.maximum(1, np.abs(total))
    prompt, knockout = np.unravel_index(int(relative.argmax()), relative.shape)
    clean = access.numbers(ds, "clean_logit")
    summed = access.numbers(ds, "direct_effect").sum(1)
    return Closing(
        error=float(relative.max()),
        tolerance=float(ds.attrs["closing_tolerance"]),
        prompt=int(ds["prompt"].values[prompt]),
        ablated=access.names(ds, "ablated")[knockout],
        clean_error=float((np.abs(summed - clean) / np.maximum(1, np.abs(clean))).max()),
        own_error=float(np.abs(listed_own - own).max()),
        stored_error=float(np.abs(stored - remainder).max()),
    )


def rounding(ds: xr.Dataset) -> str | None:
    """How exact an account in a coarse number format is, and what to do about it.

    Args:
        ds: the ledger.

    Returns:
        One sentence with the largest error measured in this run (reordered sums, remainders); None where the account is
        exact.
    """
    a = ds.attrs
    tolerance, packing = float(a["closing_tolerance"]), str(a.get("packing", ""))
    if tolerance <= _EXACT:
        return None
    level = max(float(a["parity_error"]), float(a["closing_error"]), float(a["clean_closing_error"]))
    what = f"Its weights are quantised ({packing})" if packing else f"The model computes in {a['dtype']}"
    mend = "an unquantised copy" if packing else "more exact numbers (--dtype float32)"
    return (
        f"{what}, so its own rounding moves logits by up to {level:.1g} here, and accounts are held to {tolerance:g} "
        f"instead of {_EXACT:g}: read nothing into smaller effects of single prompts, and use {mend} where they matter."
    )
