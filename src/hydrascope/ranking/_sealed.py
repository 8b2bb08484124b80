"""Scores on disk beside the ledgers that they are held to: cheap ones, and those of a stress test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from hydrascope.errors import OutputError
from hydrascope.ledger import SEAL, is_sealed, lazily, remove, seal_of


def write_scores(path: Path, found: xr.Dataset) -> None:
    """Store scores, all at once or not at all, with a seal that tells whether they are what was written.

    Args:
        path: the Zarr folder; what is there is replaced.
        found: scores by name and part.
    """
    draft = path.with_name(f"{path.name}.new")
    remove(draft)
    kept = found.assign_coords({name: found[name].astype(np.dtypes.StringDType()) for name in ("score", "ablated")})
    kept.attrs[SEAL] = seal_of(kept, kept.attrs)
    kept.to_zarr(draft, mode="w", consolidated=False)
    remove(path)
    draft.rename(path)


def read_scores(path: Path) -> xr.Dataset:
    """Stored scores.

    Args:
        path: the Zarr folder.

    Raises:
        OutputError: they are not what was written.
    """
    try:
        found = lazily(path).load()
        sound = is_sealed(found)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):  # whatever the store and its codecs raise
        sound = False
    if not sound:
        raise OutputError(
            f"the scores in '{path}' are not what was written; remove that folder and give the ranking's command again"
        )
    return found
