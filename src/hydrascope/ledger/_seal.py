"""Proves that a ledger on disk is what was written: a digest of each row of numbers, and a seal of the rest.

A digest is taken before its row goes to disk, so that it also tells of files that are missing or in another's place.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jaxtyping import Bool
from zarr.storage import LocalStore

from hydrascope._digests import digest_rows
from hydrascope.ledger._schema import VARIABLES

DIGEST = "digest"
"""Array with the digest of every row of each variable."""

SEAL = "seal"
"""Attribute with the digest of labels, masks, attributes and the arrays' layout."""


def lazily(path: Path) -> xr.Dataset:
    """A ledger whose arrays are read when they are looked at.

    Args:
        path: the Zarr folder; as a store, since xarray takes some names for addresses and expands others.
    """
    with warnings.catch_warnings():  # of files that do not belong there
        warnings.simplefilter("ignore")
        # not by dask where that is installed: on a worker of its cluster it would wait for itself
        opened: xr.Dataset = xr.open_zarr(LocalStore(path), consolidated=False, chunks=None)
    return opened


def seal_of(dataset: xr.Dataset, attributes: Mapping[str, Any]) -> str:
    """Digest of all of a ledger but its numbers.

    Args:
        dataset: the ledger; of its numbers only the layout is looked at.
        attributes: its attributes.
    """
    layout = {
        str(name): [variable.dims, variable.shape, variable.attrs.get("long_name")]
        for name, variable in dataset.variables.items()
    }
    attributes = {name: value for name, value in attributes.items() if name != SEAL}
    found = hashlib.blake2b(json.dumps([layout, attributes], sort_keys=True).encode(), digest_size=16)
    for name in sorted(set(layout) - {*VARIABLES, DIGEST, "done"}):
        found.update(json.dumps(dataset[name].values.tolist()).encode())
    return found.hexdigest()


def is_sealed(dataset: xr.Dataset) -> bool:
    """Whether labels, masks, attributes and layout are those that were written."""
    return bool(dataset.attrs.get(SEAL) == seal_of(dataset, dataset.attrs))


def changed_rows(dataset: xr.Dataset) -> dict[str, Bool[np.ndarray, " rows"]]:
    """Which rows of each variable are not what was written.

    Args:
        dataset: the ledger, in memory.
    """
    digests, found = dataset[DIGEST].transpose("prompt", "variable").values, {}
    for column, name in enumerate(map(str, dataset["variable"].values)):
        variable = dataset[name]
        found[name] = digest_rows(variable.values, variable.dims.index("prompt")) != digests[:, column]
    return found
