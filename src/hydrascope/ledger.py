"""The ledger: where every knock-out of every prompt is accounted for, on disk, batch by batch.

An `xarray.Dataset` in Zarr format, chunked by prompt. Of every batch of work the arrays are written first and its entry
in `done` last, each file atomically, so that a run killed at any moment continues with the first batch that is not
done. Plain `xarray.open_zarr` opens it.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from jaxtyping import Bool

from hydrascope.errors import OutputError

FORMAT = 1

CLOSED = "closing_error"
"""The attribute that a ledger gets when all of it is there and was found to close."""

CHUNK_BYTES = 4 * 2**20
"""What a variable's file holds, about, where the work does not come in batches."""

_ACCOUNT = ("prompt", "ablated", "writer")
_BY_PROMPT = ("prompt", "ablated")

VARIABLES: dict[str, tuple[tuple[str, ...], str]] = {
    "direct_effect": (("prompt", "writer"), "direct effect of a writer in the clean run, clean norm scale"),
    "change": (_ACCOUNT, "change of a writer's direct effect under the ablation, clean norm scale, mean over draws"),
    "change_sd": (_ACCOUNT, "standard deviation of the change over draws"),
    "change_by_half": (("half", *_ACCOUNT), "the change averaged over even and over odd draws"),
    "null_change": (_ACCOUNT, "the change when a random displacement of the same norm replaces the real one"),
    "own_direct_effect": (_BY_PROMPT, "clean direct effect of what is ablated, where only sums by kind are kept"),
    "rerouted_change": (_ACCOUNT, "what of a routed MLP's change is due to its routing, mean over draws; others 0"),
    "routing_change": (_ACCOUNT, "share of a routed MLP's chosen experts that the clean run did not choose; others 0"),
    "redistributed_change": (_ACCOUNT, "what moved weights add to attention's change, mean over draws; others 0"),
    "moved_weight": (_ACCOUNT, "share of attention's weight that moved to other keys, mean over heads; others 0"),
    "own_change": (_BY_PROMPT, "change of the ablated component's own direct effect"),
    "norm_effect": (_BY_PROMPT, "what the final norm's change of scale adds"),
    "total_effect": (_BY_PROMPT, "ablated minus clean {logit}, measured from the model's logits"),
    "total_effect_sd": (_BY_PROMPT, "standard deviation of the total effect over draws"),
    "remainder": (_BY_PROMPT, "total effect minus the sum of its parts"),
    "scale_ratio": (_BY_PROMPT, "clean over ablated scale of the final norm"),
    "log_prob_change": (_BY_PROMPT, "change of the target's log-probability, nats"),
    "kl": (_BY_PROMPT, "KL divergence of the ablated from the clean next-token distribution, nats"),
    "rank_change": (_BY_PROMPT, "change of the target's rank"),
    "null_norm_effect": (_BY_PROMPT, "norm effect of the random displacement"),
    "null_total_effect": (_BY_PROMPT, "total effect of the random displacement"),
    "clean_logit": (("prompt",), "{logit} of the clean run"),
    "clean_prob": (("prompt",), "probability of the target in the clean run"),
    "clean_remainder": (("prompt",), "clean logit minus the sum of direct effects"),
    "worst_remainder": (("prompt",), "largest |remainder| / max(1, |total|) over all draws of a prompt"),
    "parity_error": (("prompt",), "largest difference of a clean logit from the untouched model's"),
}
"""Every variable a ledger can have: its dimensions and meaning. In logits of the target token, or of target minus foil
(`logit` in the text), unless said otherwise."""

MEASURES = ("log_prob_change", "kl", "rank_change", "clean_prob")
"""Variables that take the whole vocabulary of every row."""

OPTIONAL = (
    "change_by_half",
    "null_change",
    "null_norm_effect",
    "null_total_effect",
    "own_direct_effect",
    "rerouted_change",
    "routing_change",
    "redistributed_change",
    "moved_weight",
    *MEASURES,
)
"""Variables that need several draws, the null, routed MLPs, or a run that keeps less, splits or measures more."""


def optional_variables(draws: int, null_draws: int, detail: str = "full", *, measured: bool = True) -> set[str]:
    """Which of the optional variables a ledger has."""
    found = {*(MEASURES if measured else ())} | ({"change_by_half"} if draws > 1 else set())
    found |= {"own_direct_effect"} if detail != "full" else set()
    return found | ({"null_change", "null_norm_effect", "null_total_effect"} if null_draws else set())


def split_variables(detail: str = "full") -> set[str]:
    """Those that a ledger has where changes of attention are split."""
    return {"redistributed_change"} | ({"moved_weight"} if detail == "full" else set())


def numbers_kept(optional: set[str]) -> int:
    """How many numbers a ledger keeps of each prompt, knock-out and writer."""
    kept = [(name, dims) for name, (dims, _) in VARIABLES.items() if name not in OPTIONAL or name in optional]
    return sum(2 if "half" in dims else 1 for _, dims in kept if "writer" in dims and "ablated" in dims)


def rows_of_a_chunk(knockouts: int, entries: int) -> int:
    """Rows that share a file of each variable: few enough to be written again, many enough to be read quickly."""
    return max(1, CHUNK_BYTES // (4 * 2 * knockouts * entries))


@dataclass(frozen=True)
class LedgerFile:
    """A ledger that is being written."""

    group: zarr.Group
    batch: int

    @classmethod
    def create(
        cls, path: Path, labels: xr.Dataset, batch: int, optional: set[str], attributes: Mapping[str, Any]
    ) -> LedgerFile:
        """Lay out an empty ledger; it appears under its name whole or not at all.

        Args:
            path: the Zarr folder.
            labels: coordinates and masks, with dimensions `prompt`, `ablated`, `writer`.
            batch: prompts per chunk.
            optional: which of the optional variables it will have.
            attributes: plain values that describe the run.

        Raises:
            OutputError: the folder cannot be written.
        """
        draft = path.with_name(path.name + ".new")
        try:
            shutil.rmtree(draft, ignore_errors=True)
            labels.to_zarr(draft, mode="w", consolidated=False)
            group = zarr.open_group(draft, mode="r+")
            sizes = {**labels.sizes, "half": 2}
            for name, (dims, meaning) in VARIABLES.items():
                if name in OPTIONAL and name not in optional:
                    continue
                group.create_array(
                    name,
                    shape=tuple(sizes[dim] for dim in dims),
                    chunks=tuple(batch if dim == "prompt" else max(1, sizes[dim]) for dim in dims),
                    dtype="float32",
                    fill_value=float("nan"),
                    dimension_names=dims,
                    attributes={"long_name": meaning.format(logit=_logit(attributes))},
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
        return cls(zarr.open_group(path, mode="r+"), batch)

    @classmethod
    def resume(cls, path: Path) -> LedgerFile:
        """Open an unfinished ledger to go on with it, and drop the files that a kill left half-written.

        Raises:
            OutputError: it cannot be read.
        """
        try:
            for half in path.rglob("*.partial"):
                half.unlink()
            group = zarr.open_group(path, mode="r+")
            return cls(group, int(group["done"].chunks[0]))
        except (OSError, KeyError, ValueError) as error:
            raise OutputError(f"the ledger '{path}' is damaged; remove its folder or choose another --out") from error

    @classmethod
    def has_begun(cls, path: Path) -> bool:
        """Whether there is a ledger with at least one batch done."""
        return path.is_dir() and any(done for _, done in cls.resume(path).batches())

    def batches(self) -> Iterator[tuple[range, bool]]:
        """Every batch's rows, and whether it is done."""
        done = self.done()
        for first in range(0, len(done), self.batch):
            rows = range(first, min(first + self.batch, len(done)))
            yield rows, bool(done[rows.start : rows.stop].all())

    def done(self) -> Bool[np.ndarray, " rows"]:
        """Which rows are there."""
        return np.asarray(self.group["done"][:]).astype(bool)

    def write(self, rows: range, arrays: Mapping[str, np.ndarray]) -> None:
        """Write one batch: all arrays, then its entry in the journal.

        Raises:
            OutputError: the disk is full or cannot be written; the batch stays undone.
        """
        with _making_room():
            for name, (dims, _) in VARIABLES.items():
                if name in self.group:
                    where = tuple(slice(rows.start, rows.stop) if dim == "prompt" else slice(None) for dim in dims)
                    self.group[name][where] = arrays[name].astype("float32")
            self.group["done"][rows.start : rows.stop] = 1

    def finish(self, attributes: Mapping[str, Any]) -> None:
        """Add what is only known at the end, and gather all metadata in one place, where xarray looks for it first.

        Raises:
            OutputError: the disk is full or cannot be written.
        """
        with _making_room():
            self.group.attrs.update(dict(attributes))
            with warnings.catch_warnings():  # that the format's third version has not adopted this yet
                warnings.simplefilter("ignore", UserWarning)
                zarr.consolidate_metadata(self.group.store)


def _logit(attributes: Mapping[str, Any]) -> str:
    """What the account is of, in words."""
    difference = attributes["target_policy"] == "difference"
    return "logit difference of target and foil" if difference else "centred target logit"


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
    """A finished ledger, read into memory, prompts in the order of their file.

    Args:
        path: the Zarr folder, or the run directory that holds it.

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
    ordered: xr.Dataset = dataset.assign_coords(texts).sortby("prompt")
    return ordered


def is_finished(path: Path) -> bool:
    """Whether a run directory holds a ledger that is whole and proved to close."""
    folder = path / "ledger.zarr"
    if not folder.is_dir():
        return False
    try:
        group = zarr.open_group(folder, mode="r")
        return CLOSED in group.attrs and bool(np.asarray(group["done"][:]).all())
    except (OSError, KeyError, ValueError):
        return False


def label_dataset(
    prompts: Mapping[str, np.ndarray],
    ablated: Mapping[str, np.ndarray],
    writers: Mapping[str, np.ndarray],
    masks: Mapping[str, np.ndarray],
) -> xr.Dataset:
    """Coordinates and masks of a ledger. Each mapping's first entry names its dimension's own coordinate."""
    dataset = xr.Dataset({name: (("ablated", "writer"), mask) for name, mask in masks.items()})
    for dim, columns in (("prompt", prompts), ("ablated", ablated), ("writer", writers)):
        dataset = dataset.assign_coords({name: (dim, _plain(column)) for name, column in columns.items()})
    return dataset


def _plain(column: np.ndarray) -> np.ndarray:
    """Text as variable-length strings: Zarr 3 has no stable form for fixed-width ones."""
    return column.astype(np.dtypes.StringDType()) if column.dtype.kind in "UO" else column


def read_json(path: Path) -> dict[str, Any]:
    """A small JSON file of a run.

    Raises:
        OutputError: it cannot be read.
    """
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise OutputError(f"'{path}' cannot be read: {error.strerror}; choose another --out") from error
    except ValueError as error:
        raise OutputError(f"'{path}' is damaged ({error}); remove the folder or choose another --out") from error
    if not isinstance(content, dict):
        raise OutputError(f"'{path}' is no record of a run; choose another --out")
    return content


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    draft = path.with_name(path.name + ".new")
    try:
        draft.write_text(text)
        os.replace(draft, path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}") from error
