"""Quantities that every table is made of, read from a ledger as plain arrays.

Intervals are made in `_statistics`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from hydrascope.analysis._statistics import RESAMPLES, Array, Resampling, resample
from hydrascope.components import UNIT_KINDS
from hydrascope.errors import ComponentError, DetailDropped, PromptError

KINDS = ("attn", "mlp", "mixer")
"""Kinds of writers that can answer a knock-out."""


def kinds(ds: xr.Dataset) -> list[str]:
    """Kinds of answering writers in this ledger, in the order of `KINDS`."""
    present = set(writer_kinds(ds))
    return [kind for kind in KINDS if kind in present]


def names(ds: xr.Dataset, coordinate: str) -> list[str]:
    """A text coordinate as a list."""
    return [str(value) for value in ds[coordinate].values]


def writer_kinds(ds: xr.Dataset) -> NDArray[Any]:
    """Kind of each writer, as an array of text."""
    return np.array(names(ds, "writer_kind"), dtype=object)


def units(ds: xr.Dataset) -> NDArray[np.intp]:
    """Head or neuron index of each writer; -1 for whole writers, biases and the embedding."""
    found: NDArray[np.intp] = (
        ds["writer_unit"].values.astype(np.intp)
        if "writer_unit" in ds.coords
        else np.full(ds.sizes["writer"], -1, np.intp)
    )
    return found


def divided(ds: xr.Dataset) -> set[str]:
    """Addresses of writers kept only unit by unit: `attn.5` where every head is apart."""
    inside = units(ds) >= 0
    layers = ds["writer_layer"].values.astype(int)
    return {f"{kind}.{layer}" for kind, layer in zip(writer_kinds(ds)[inside], layers[inside], strict=True)}


def reads_each(ds: xr.Dataset) -> bool:
    """Whether every position of a text was read, so that a row is a token."""
    return ds.attrs.get("read") == "each"


def has_writers(ds: xr.Dataset) -> bool:
    """Whether the ledger keeps every writer's change, not only sums by kind."""
    return str(ds.attrs.get("detail", "full")) == "full"


def require_writers(ds: xr.Dataset, what: str) -> None:
    """Refuse what cannot be known from sums by kind.

    Raises:
        DetailDropped: the run was made with `--detail kinds`.
    """
    if not has_writers(ds):
        raise DetailDropped(
            f"{what} needs the change of every writer, and this run kept only sums by kind of writer; "
            "run it again with all of it (--detail full)"
        )


def bootstrap(ds: xr.Dataset, resamples: int = RESAMPLES, seed: int = 0) -> Resampling:
    """What is independent in a ledger: groups of prompts, which count once each, or the documents of its tokens."""
    groups = ds["group"].values if "group" in ds.coords else np.arange(ds.sizes["prompt"])
    weight = np.ones(ds.sizes["prompt"]) if reads_each(ds) else None
    return resample(groups, resamples, seed, weight=weight)


def numbers(ds: xr.Dataset, variable: str) -> Array:
    """Values of a variable in float64, so that sums over many writers do not round."""
    return np.asarray(ds[variable].values, dtype=np.float64)


def knockout_columns(ds: xr.Dataset, which: Any = slice(None)) -> dict[str, Any]:
    """Address, first layer and kind of some places along `ablated`, as columns."""
    return {name: _column(ds, name)[which] for name in ("ablated", "ablated_layer", "ablated_kind")}


def writer_columns(ds: xr.Dataset, which: Any = slice(None)) -> dict[str, Any]:
    """Address, layer and kind of some places along `writer`, as columns."""
    return {name: _column(ds, name)[which] for name in ("writer", "writer_layer", "writer_kind")}


def _column(ds: xr.Dataset, name: str) -> NDArray[Any]:
    layers = name.endswith("_layer")
    return ds[name].values.astype(int) if layers else np.array(names(ds, name), dtype=object)


def answering(ds: xr.Dataset) -> NDArray[np.bool_]:
    """Which writers can answer: downstream and not knocked out, (ablated, writer)."""
    free: NDArray[np.bool_] = ds["is_downstream"].values.astype(bool) & ~ds["is_own"].values.astype(bool)
    return free


def response(ds: xr.Dataset, kind: str | None = None, *, variable: str = "change", own: bool = False) -> Array:
    """Summed change of writers that were not knocked out, (prompt, ablated), in logits.

    Args:
        ds: the ledger.
        kind: `attn`, `mlp` or `mixer`; None sums over all writers.
        variable: the ledger's variable summed, such as `change` or `null_change`.
        own: sum over the writers that were knocked out instead.
    """
    return _summed(ds, ds[variable].values, own=own, kind=kind)


def half_response(ds: xr.Dataset) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Own changes and compensations by half of the donors, (prompt, ablated) each."""
    first, second = ds["change_by_half"].values
    own = _summed(ds, first, own=True), _summed(ds, second, own=True)
    others = _summed(ds, first, own=False), _summed(ds, second, own=False)
    return own, others


def ablated_direct(ds: xr.Dataset) -> Array:
    """Clean direct effect of what is knocked out, (prompt, ablated), in logits.

    NaN for units of a writer that the ledger keeps whole.
    """
    if "own_direct_effect" in ds:
        return numbers(ds, "own_direct_effect")
    own = ds["is_own"].values.astype(np.float64)
    direct: Array = numbers(ds, "direct_effect") @ own.T
    apart = divided(ds)

    def known(part: str) -> bool:
        kind, *place = part.split(".")
        return len(place) == 1 or f"{UNIT_KINDS.get(kind, kind)}.{place[0]}" in apart

    whole = [all(map(known, name.partition("/")[0].split("+"))) for name in names(ds, "ablated")]
    return np.where(np.array(whole, bool), direct, np.nan)


def knows_direct(ds: xr.Dataset) -> bool:
    """Whether any knock-out's direct effect is known."""
    return bool(np.isfinite(ablated_direct(ds)).all(0).any())


def knockout_index(ds: xr.Dataset, ablated: str) -> int:
    """Position of a knock-out in the ledger.

    Raises:
        ComponentError: the ledger has no such knock-out.
    """
    known = names(ds, "ablated")
    if ablated not in known:
        some = ", ".join(known[:8]) + (", ..." if len(known) > 8 else "")
        raise ComponentError(f"'{ablated}' was not knocked out in this run; it has {some}")
    return known.index(ablated)


def prompt_index(ds: xr.Dataset, prompt: int) -> int:
    """Position of the prompt with this original index.

    Raises:
        PromptError: the prompt is not in the ledger.
    """
    found = np.flatnonzero(ds["prompt"].values == prompt)
    if not len(found):
        raise PromptError(f"prompt {prompt} is not in this ledger; its `prompt` coordinate lists those that are")
    return int(found[0])


def _summed(ds: xr.Dataset, change: NDArray[Any], *, own: bool, kind: str | None = None) -> Array:
    columns = np.ones(ds.sizes["writer"], bool) if kind is None else writer_kinds(ds) == kind
    wanted = ds["is_own"].values[:, columns] == own
    total: Array = (change[:, :, columns] * wanted).sum(axis=2, dtype=np.float64)
    return total
