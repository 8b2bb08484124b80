"""Puts the rows of several ledgers that were laid out alike into one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from hydrascope.errors import OutputError
from hydrascope.ledger._file import LedgerFile
from hydrascope.ledger._seal import changed_rows, is_sealed, lazily, seal_of


@dataclass(frozen=True)
class Part:
    """Some rows of a ledger, on disk in a ledger that is laid out for all.

    Attributes:
        path: its Zarr folder.
        rows: number of rows that were written.
        name: what an error calls it.
        mend: what an error says to do about it.
    """

    path: Path
    rows: int
    name: str
    mend: str

    def read(self) -> xr.Dataset:
        """The rows that are there, read into memory and checked.

        Raises:
            OutputError: they are not what was written.
        """
        try:
            labels = lazily(self.path)
            sealed = is_sealed(labels)
            found = labels.isel(prompt=np.flatnonzero(labels["done"].values)).load()
            changed = any(rows.any() for rows in changed_rows(found).values())
        except Exception as error:  # what can be wrong in a damaged file has no end of names
            raise OutputError(f"{self.name} is damaged ({type(error).__name__}); {self.mend}") from error
        if changed or not sealed or found.sizes["prompt"] != self.rows:
            raise OutputError(f"{self.name} is damaged: it is not what was written; {self.mend}")
        return found

    @property
    def seal(self) -> str:
        """Digest of labels, layout and attributes but the device, of which each process may have its own."""
        labels = lazily(self.path)
        return seal_of(labels, {**labels.attrs, "device": ""})


def join_ledgers(parts: Sequence[Part], joined: Path) -> LedgerFile:
    """Make one ledger of parts that hold different rows; it is not finished yet.

    Args:
        parts: the parts, which hold every row once.
        joined: Zarr folder of the whole, which must not exist.

    Raises:
        OutputError: a part is damaged or was laid out otherwise than the first, or the whole cannot be written.
    """
    first, *others = parts
    first.read()
    try:
        shutil.copytree(first.path, joined)
    except OSError as error:
        raise OutputError(f"'{joined}' cannot be written: {error.strerror or error}") from error
    file = LedgerFile.resume(joined, lazily(joined)["prompt"].values)
    for part in others:
        found = part.read()
        if part.seal != first.seal:
            raise OutputError(
                f"{part.name} has other prompts or labels than {first.name}, as unlike machines or devices may choose; "
                f"{part.mend}, on a machine like the first's"
            )
        if part.rows:
            replace(file, place=_places(file, found)).write(range(part.rows), _arrays(found))
    return file


def _places(file: LedgerFile, rows: xr.Dataset) -> np.ndarray:
    """Where the rows are on disk, where they lie by their labels."""
    return np.searchsorted(np.asarray(file.group["prompt"][:]), rows["prompt"].values)


def _arrays(rows: xr.Dataset) -> Mapping[str, np.ndarray]:
    return {str(name): rows[name].values for name in rows["variable"].values}
