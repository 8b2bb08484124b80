"""Reads finished ledgers, and believes none that is damaged or does not close."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from zarr.storage import LocalStore

from hydrascope.errors import LedgerDoesNotClose, OutputError
from hydrascope.ledger._schema import CLOSED, FORMAT, UNKNOWN
from hydrascope.ledger._seal import DIGEST, SEAL, changed_rows, is_sealed, lazily

AT_ONCE = 4096
"""Rows whose accounts are added up together."""


def open_dataset(path: Path) -> xr.Dataset:
    """A finished ledger, read into memory and checked.

    Args:
        path: the Zarr folder, or the run's folder.

    Raises:
        OutputError: there is no ledger, its run has not finished, or it is not what was written.
        LedgerDoesNotClose: its numbers do not add up.
    """
    folder = path if path.suffix == ".zarr" else path / "ledger.zarr"
    try:
        there = folder.is_dir()
    except OSError as error:
        raise OutputError(f"the ledger '{folder}' cannot be read: {error.strerror}") from error
    if not there:
        raise OutputError(f"no ledger in '{path}'; give the folder that 'hydrascope run' wrote")
    dataset = _read(folder)
    _require_undamaged(folder, dataset)
    _require_closed(folder, dataset)
    texts = {name: (c.dims, c.values.astype(object)) for name, c in dataset.coords.items() if c.dtype.kind == "T"}
    del dataset.attrs[SEAL]
    named: xr.Dataset = dataset.drop_vars([DIGEST, "variable"]).assign_coords(texts)
    return named


def unfinished(folder: Path, what: str = "run") -> OutputError:
    """The error of a folder whose run, or what else is in it, has begun and not finished."""
    return OutputError(f"the {what} in '{folder}' has not finished; run the same command again to continue it")


def _read(folder: Path) -> xr.Dataset:
    try:
        dataset = lazily(folder)
        if dataset.attrs.get("format") != FORMAT:
            raise OutputError(
                f"the ledger '{folder}' has another format than this version reads ({FORMAT}); run it again"
            )
        if CLOSED not in dataset.attrs:
            raise unfinished(folder.parent)
        dataset.load()
    except OutputError:
        raise
    except Exception as error:  # what can be wrong in a damaged file has no end of names
        why = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:120]
        raise _damaged(folder, f"its '{_unreadable(folder)}' cannot be read ({why})") from error
    return dataset


def _unreadable(folder: Path) -> str:
    """Name of the first array that cannot be read by itself, or of the file that describes them."""
    with suppress(Exception):
        for name, array in zarr.open_group(LocalStore(folder), mode="r").arrays():
            try:
                array[...]
            except Exception:  # each codec has errors of its own
                return str(name)
    return "zarr.json"


def _require_undamaged(folder: Path, dataset: xr.Dataset) -> None:
    if not is_sealed(dataset):
        raise _damaged(folder, "its labels or attributes are not what was written")
    for name, changed in {"done": dataset["done"].values != 1, **changed_rows(dataset)}.items():
        if not changed.any():
            continue
        rows, first = int(changed.sum()), int(dataset["prompt"].values[changed.argmax()])
        what = f"'{name}' of {rows} of its {len(changed)} rows, the first of prompt {first}"
        raise _damaged(folder, f"{what}, is not what was written")


def _damaged(folder: Path, what: str) -> OutputError:
    return OutputError(
        f"the ledger '{folder}' is damaged: {what}; put its files back, or make the run anew (--overwrite)"
    )


def _require_closed(folder: Path, dataset: xr.Dataset) -> None:
    """Refuse numbers that are not finite or do not add up, whatever they were when they were written."""
    tolerance, worst = float(dataset.attrs["closing_tolerance"]), float(dataset["worst_remainder"].max())
    for first in range(0, dataset.sizes["prompt"], AT_ONCE):
        some = dataset.isel(prompt=slice(first, first + AT_ONCE))
        for name in some.data_vars:
            broken = np.isinf if name in UNKNOWN else lambda values: ~np.isfinite(values)
            if broken(some[name].values).any():
                raise LedgerDoesNotClose(f"the ledger '{folder}' has a '{name}' that is no number; run it again")
        change = some["change"].values.astype(np.float64)
        others = (some["norm_effect"] + some["remainder"]).values
        gap = np.abs(change.sum(-1) + others - some["total_effect"].values) / np.maximum(1, np.abs(change).sum(-1))
        worst = max(worst, float(gap.max()))
    if not worst <= tolerance:
        raise LedgerDoesNotClose(
            f"the ledger '{folder}' closes to {worst:.1g} (allowed {tolerance:g}), so that its numbers mean nothing; "
            "run it again"
        )
