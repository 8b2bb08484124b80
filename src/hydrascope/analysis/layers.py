"""Layers from heads: what is drawn layer by layer is drawn of a ledger that accounts for heads, too."""

from __future__ import annotations

import numpy as np
import xarray as xr

from hydrascope.analysis import parts


def by_layer(ds: xr.Dataset) -> xr.Dataset:
    """The ledger with the heads and biases of each attention layer summed into `attn.L`.

    Sums of direct effects and changes are exact. How a sum varies over donors cannot be known from its terms, so
    `change_sd` of attention layers is NaN.

    Args:
        ds: a ledger; one without heads among its writers is returned as it is.

    Returns:
        The ledger that `--writers layers` would have written.
    """
    if str(ds.attrs.get("writers", "layers")) != "heads":
        return ds
    kinds, depth = parts.writer_kinds(ds), int(ds.attrs["n_layers"])
    layers, units = ds["writer_layer"].values.astype(int), ds["writer_unit"].values.astype(int)
    inside = (units >= 0) | ((kinds == "bias") & (layers < depth))
    joined = [f"attn.{layers[i]}" if inside[i] else name for i, name in enumerate(parts.names(ds, "writer"))]
    names = list(dict.fromkeys(joined))
    member = np.array([[name == one for name in names] for one in joined])
    first = member.argmax(0)
    # xarray would keep the old labels of a dimension whose length changes
    found = ds.drop_dims("writer").assign_coords(
        writer=("writer", np.array(names, dtype=object)),
        writer_layer=("writer", layers[first]),
        writer_kind=("writer", np.array(kinds[first], dtype=object)),
        writer_unit=("writer", np.full(len(names), -1)),
    )
    for name in ds.data_vars:
        if "writer" not in ds[name].dims:
            continue
        values = ds[name].values
        summed = values @ member
        if name == "change_sd":
            summed[..., member.sum(0) > 1] = np.nan
        found[name] = (ds[name].dims, summed.astype(values.dtype), ds[name].attrs)
    found["is_downstream"] &= ~found["is_own"]
    own = (found["change"] * found["is_own"]).sum("writer").transpose(*ds["own_change"].dims)
    found["own_change"] = own.astype(ds["own_change"].dtype).assign_attrs(ds["own_change"].attrs)
    return found.assign_attrs(writers="layers")
