"""The ledger on disk: written batch by batch, continued after a kill, opened when finished.

An `xarray.Dataset` in Zarr format, chunked by prompt, prompts in the order of their file; they are computed in another,
and everything here but the disk counts rows in that one. Of every batch of work the arrays are written first and its
entry in `done` last, each file atomically, so that a run killed at any moment continues with the first batch that is
not done. Plain `xarray.open_zarr` opens it.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from jaxtyping import Bool, Int

from hydrascope.errors import OutputError
from hydrascope.ledger._schema import CLOSED, FORMAT, VARIABLES


@dataclass(frozen=True)
class LedgerFile:
    """A ledger that is being written.

    Attributes:
        group: the Zarr group.
        batch: rows of a chunk.
        place: where on disk each row is, in the order of work.
    """

    group: zarr.Group
    batch: int
    place: Int[np.ndarray, " rows"]

    @classmethod
    def create(
        cls, path: Path, labels: xr.Dataset, batch: int, variables: Collection[str], attributes: Mapping[str, Any]
    ) -> LedgerFile:
        """Lay out an empty ledger; it appears under its name whole or not at all.

        Args:
            path: the Zarr folder.
            labels: coordinates and masks, with dimensions `prompt`, `ablated`, `writer`; rows in the order of work.
            batch: prompts per chunk.
            variables: names of the ledger's variables.
            attributes: plain values that describe the run.

        Raises:
            OutputError: the folder cannot be written.
        """
        draft = path.with_name(path.name + ".new")
        try:
            shutil.rmtree(draft, ignore_errors=True)
            labels.sortby("prompt").to_zarr(draft, mode="w", consolidated=False)
            group = zarr.open_group(draft, mode="r+")
            sizes = {**labels.sizes, "half": 2}
            for name in variables:
                dims, meaning = VARIABLES[name]
                group.create_array(
                    name,
                    shape=tuple(sizes[dim] for dim in dims),
                    chunks=tuple(batch if dim == "prompt" else max(1, sizes[dim]) for dim in dims),
                    dtype="float32",
                    fill_value=float("nan"),
                    dimension_names=dims,
                    attributes={"long_name": meaning.format(**_words(attributes))},
                )
            group.create_array(
                "done",
                shape=(sizes["prompt"],),
                chunks=(batch,),
                dtype="int8",
                fill_value=0,
                dimension_names=("prompt",),
            )
            group.attrs.update({"format": FORMAT, **attributes})
            os.rename(draft, path)
        except OSError as error:
            raise OutputError(f"the ledger '{path}' cannot be written: {error.strerror or error}") from error
        return cls.resume(path, labels["prompt"].values)

    @classmethod
    def resume(cls, path: Path, numbers: Int[np.ndarray, " rows"]) -> LedgerFile:
        """Open an unfinished ledger to go on with it, and drop the files that a kill left half-written.

        Args:
            path: the Zarr folder.
            numbers: label of each row along `prompt`, in the order of work.

        Raises:
            OutputError: it cannot be read.
        """
        try:
            for half in path.rglob("*.partial"):
                half.unlink()
            group = zarr.open_group(path, mode="r+")
            on_disk = {int(number): row for row, number in enumerate(np.asarray(group["prompt"][:]))}
            place = np.array([on_disk[int(number)] for number in numbers], dtype=np.int64)
            return cls(group, int(group["done"].chunks[0]), place)
        except (OSError, KeyError, ValueError) as error:
            raise OutputError(f"the ledger '{path}' is damaged; remove its folder or choose another --out") from error

    @classmethod
    def has_begun(cls, path: Path) -> bool:
        """Whether there is a ledger with at least one batch done."""
        return path.is_dir() and bool(cls.resume(path, np.zeros(0, np.int64)).group["done"][:].any())

    def batches(self) -> Iterator[tuple[range, bool]]:
        """Every batch's rows, and whether it is done."""
        done = self.done()
        for first in range(0, len(done), self.batch):
            rows = range(first, min(first + self.batch, len(done)))
            yield rows, bool(done[rows.start : rows.stop].all())

    def done(self) -> Bool[np.ndarray, " rows"]:
        """Which rows are there."""
        done: Bool[np.ndarray, " rows"] = np.asarray(self.group["done"][:]).astype(bool)[self.place]
        return done

    def write(self, rows: range, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one batch: all arrays, then its entry in `done`.

        Raises:
            OutputError: the disk is full or cannot be written; the batch stays undone.
        """
        place = self.place[rows.start : rows.stop]
        with _making_room():
            for name, (dims, _) in VARIABLES.items():
                if name in self.group:
                    where = tuple(place if dim == "prompt" else slice(None) for dim in dims)
                    self.group[name].oindex[where] = arrays[name].astype("float32")
            self.group["done"].oindex[(place,)] = np.ones(len(place), "int8")

    def finish(self, attributes: Mapping[str, Any]) -> None:
        """Add what is only known at the end, and gather the metadata where xarray looks first.

        Raises:
            OutputError: the disk is full or cannot be written.
        """
        with _making_room():
            self.group.attrs.update(dict(attributes))
            with warnings.catch_warnings():  # Zarr 3 has not adopted this yet
                warnings.simplefilter("ignore", UserWarning)
                zarr.consolidate_metadata(self.group.store)


def _words(attributes: Mapping[str, Any]) -> dict[str, str]:
    """The account's logit, and what the model does when it is right."""
    if attributes["target_policy"] == "difference":
        return {"logit": "logit difference of target and foil", "first": "the target is above its foil"}
    return {"logit": "centred target logit", "first": "the target is the most probable token"}


@contextmanager
def _making_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"the ledger cannot be written: {error.strerror or error}; what is done is kept, "
            "make room and run the same command again"
        ) from error


def open_dataset(path: Path) -> xr.Dataset:
    """A finished ledger, read into memory.

    Args:
        path: the Zarr folder, or the run's folder.

    Raises:
        OutputError: there is no ledger, or its run has not finished.
    """
    folder = path if path.suffix == ".zarr" else path / "ledger.zarr"
    if not folder.is_dir():
        raise OutputError(f"no ledger in '{path}'; give the folder that 'hydrascope run' wrote")
    try:
        dataset = xr.open_zarr(folder, consolidated=False).load()
    except (OSError, ValueError, KeyError) as error:
        raise OutputError(f"the ledger '{folder}' cannot be read: {str(error).splitlines()[0]}") from error
    if dataset.attrs.get("format") != FORMAT:
        raise OutputError(f"the ledger '{folder}' has another format than this version reads ({FORMAT}); run it again")
    if not bool(dataset["done"].all()) or CLOSED not in dataset.attrs:
        raise OutputError(f"the run in '{folder.parent}' has not finished; run the same command again to continue it")
    texts = {name: (c.dims, c.values.astype(object)) for name, c in dataset.coords.items() if c.dtype.kind == "T"}
    named: xr.Dataset = dataset.assign_coords(texts)
    return named


def is_finished(path: Path) -> bool:
    """Whether a run's folder has a ledger that is whole and proved to close."""
    folder = path / "ledger.zarr"
    if not folder.is_dir():
        return False
    try:
        group = zarr.open_group(folder, mode="r")
        return CLOSED in group.attrs and bool(np.asarray(group["done"][:]).all())
    except (OSError, KeyError, ValueError):
        return False
