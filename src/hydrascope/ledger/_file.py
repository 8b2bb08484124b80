"""The ledger on disk while it is written: batch by batch, and continued after a kill.

An `xarray.Dataset` in Zarr format, cut along the prompts, prompts in the order of their file; they are computed in
another, and everything here but the disk counts rows in that one. Of every batch of work the arrays are written first,
then the digests of its rows and its entry in `done` last, each file atomically. So a run killed at any moment continues
with the first batch that is not done, and rows whose digest is another are not done. Plain `xarray.open_zarr` opens it.
"""

from __future__ import annotations

import os
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
from zarr.storage import LocalStore

from hydrascope._digests import digest_rows
from hydrascope.errors import OutputError
from hydrascope.ledger._json import remove
from hydrascope.ledger._schema import CLOSED, FLAT, FORMAT, VARIABLES, rows_of_a_file
from hydrascope.ledger._seal import DIGEST, SEAL, is_sealed, lazily, seal_of


@dataclass(frozen=True)
class LedgerFile:
    """A ledger that is being written.

    Attributes:
        path: the Zarr folder.
        group: the Zarr group.
        batch: rows that are computed together.
        place: where on disk each row is, in the order of work.
    """

    path: Path
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
            batch: prompts that are computed together.
            variables: names of the ledger's variables.
            attributes: plain values that describe the run.

        Raises:
            OutputError: the folder cannot be written.
        """
        draft = path.with_name(path.name + ".new")
        kept = [name for name in VARIABLES if name in variables]
        try:
            remove(draft)
            ordered = labels.sortby("prompt").assign_coords(variable=np.array(kept, dtype=np.dtypes.StringDType()))
            flat = {name: {"chunk_key_encoding": FLAT} for name in ordered.variables}
            ordered.to_zarr(LocalStore(draft), mode="w", consolidated=False, encoding=flat)
            group = zarr.open_group(draft, mode="r+")
            sizes = {**ordered.sizes, "half": 2}
            for name in kept:
                dims, meaning = VARIABLES[name]
                shape = tuple(sizes[dim] for dim in dims)
                together = max(batch, rows_of_a_file([sizes[dim] for dim in dims if dim != "prompt"]))
                group.create_array(
                    name,
                    shape=shape,
                    chunks=tuple(min(together, sizes[dim]) if dim == "prompt" else max(1, sizes[dim]) for dim in dims),
                    dtype="float32",
                    fill_value=float("nan"),
                    dimension_names=dims,
                    chunk_key_encoding=FLAT,
                    attributes={"long_name": meaning.format(**_words(attributes))},
                )
            rows = sizes["prompt"]
            together = min(rows, max(batch, rows_of_a_file([len(kept)])))
            group.create_array(
                DIGEST,
                shape=(rows, len(kept)),
                chunks=(together, len(kept)),
                dtype="uint32",
                fill_value=0,
                dimension_names=("prompt", "variable"),
                chunk_key_encoding=FLAT,
            )
            group.create_array(
                "done",
                shape=(rows,),
                chunks=(together,),
                dtype="int8",
                fill_value=0,
                dimension_names=("prompt",),
                chunk_key_encoding=FLAT,
            )
            known = {"format": FORMAT, "batch": batch, **attributes}
            group.attrs.update({**known, SEAL: seal_of(lazily(draft), known)})
            os.rename(draft, path)
        except OSError as error:
            raise OutputError(f"the ledger '{path}' cannot be written: {error.strerror or error}") from error
        return cls.resume(path, labels["prompt"].values)

    @classmethod
    def resume(cls, path: Path, numbers: Int[np.ndarray, " rows"]) -> LedgerFile:
        """Open an unfinished ledger to go on with it.

        Files that a kill left half-written are dropped, and rows that are not what was written are no longer done.

        Args:
            path: the Zarr folder.
            numbers: label of each row along `prompt`, in the order of work.

        Raises:
            OutputError: its labels are not what was written, or it cannot be read or written.
        """
        try:
            for half in path.rglob("*.partial"):
                half.unlink()
            labels = lazily(path)
            on_disk = {int(number): row for row, number in enumerate(labels["prompt"].values)}
            if is_sealed(labels) and labels.attrs["format"] == FORMAT:
                place = np.array([on_disk[int(number)] for number in numbers], dtype=np.int64)
                file = cls(path, zarr.open_group(path, mode="r+"), int(labels.attrs["batch"]), place)
                file._forget_damaged()
                return file
        except FileNotFoundError:
            pass
        except OSError as error:
            raise OutputError(f"the ledger '{path}' cannot be read: {error.strerror or error}") from error
        except Exception:  # what can be wrong in a damaged file has no end of names
            pass
        raise _damaged(path)

    @classmethod
    def has_begun(cls, path: Path) -> bool:
        """Whether there is a ledger with at least one batch done."""
        return cls.count(path)[0] > 0

    @classmethod
    def count(cls, path: Path) -> tuple[int, int]:
        """How many rows of a ledger are done, and how many there are; none where there is no ledger.

        Raises:
            OutputError: it cannot be read.
        """
        if not path.is_dir():
            return 0, 0
        try:
            done = np.asarray(zarr.open_group(path, mode="r")["done"][:])
        except Exception as error:  # what can be wrong in a damaged file has no end of names
            raise _damaged(path) from error
        return int(done.sum()), len(done)

    def _forget_damaged(self) -> None:
        """Take rows that are not what was written for not done."""
        counted, digests = (np.concatenate([part for _, part in self._parts(name)]) for name in ("done", DIGEST))
        done = counted.astype(bool)
        for column, name in enumerate(self.group["variable"][:]):
            axis = VARIABLES[str(name)][0].index("prompt")
            for rows, part in self._parts(str(name)):
                done[rows] &= digest_rows(part, axis) == digests[rows, column]
        if (done != counted).any():
            self.group["done"][:] = done.astype("int8")

    def _parts(self, name: str) -> Iterator[tuple[slice, np.ndarray]]:
        """Rows and values of each file of an array; a file that cannot be read is removed, and is then as empty."""
        array = self.group[name]
        axis = array.metadata.dimension_names.index("prompt")
        for number, first in enumerate(range(0, array.shape[axis], array.chunks[axis])):
            rows = slice(first, first + array.chunks[axis])
            where = (slice(None),) * axis + (rows,)
            try:
                part = array[where]
            except OSError:
                raise
            except Exception:  # each codec has errors of its own
                key = tuple(number if i == axis else 0 for i in range(array.ndim))
                (self.path / name / array.metadata.encode_chunk_key(key)).unlink()
                part = array[where]
            yield rows, np.asarray(part)

    def batches(self) -> Iterator[range]:
        """Every batch's rows."""
        rows = len(self.place)
        return (range(first, min(first + self.batch, rows)) for first in range(0, rows, self.batch))

    def done(self) -> Bool[np.ndarray, " rows"]:
        """Which rows are there."""
        done: Bool[np.ndarray, " rows"] = np.asarray(self.group["done"][:]).astype(bool)[self.place]
        return done

    def write(self, rows: range, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one batch: all arrays, then digests, then its entry in `done`.

        Raises:
            OutputError: the disk is full or cannot be written; the batch stays undone.
        """
        place = self.place[rows.start : rows.stop]
        digests = []
        with _making_room():
            for name, (dims, _) in VARIABLES.items():
                if name in self.group:
                    numbers = arrays[name].astype("float32")
                    where = tuple(place if dim == "prompt" else slice(None) for dim in dims)
                    self.group[name].oindex[where] = numbers
                    digests.append(digest_rows(numbers, dims.index("prompt")))
            self.group[DIGEST].oindex[(place, slice(None))] = np.stack(digests, 1)
            self.group["done"].oindex[(place,)] = np.ones(len(place), "int8")

    def finish(self, seconds: float) -> None:
        """Add how far the numbers close, and gather the metadata where xarray looks first.

        Args:
            seconds: time that the run took.

        Raises:
            OutputError: the disk is full or cannot be written.
        """

        def worst(name: str) -> float:
            return float(np.abs(np.asarray(self.group[name][:])).max())

        attributes = {
            CLOSED: worst("worst_remainder"),
            "clean_closing_error": worst("clean_remainder"),
            "parity_error": worst("parity_error"),
            "seconds": round(seconds, 3),
        }
        with _making_room():
            dataset = lazily(self.path)
            self.group.attrs.update({**attributes, SEAL: seal_of(dataset, {**dataset.attrs, **attributes})})
            with warnings.catch_warnings():  # Zarr 3 has not adopted this yet
                warnings.simplefilter("ignore", UserWarning)
                zarr.consolidate_metadata(self.group.store)


def _damaged(path: Path) -> OutputError:
    return OutputError(
        f"the ledger '{path}' is damaged, or of another version; start anew (--overwrite), or choose another "
        "folder (--out)"
    )


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
