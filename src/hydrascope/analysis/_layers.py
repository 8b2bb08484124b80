"""A ledger of heads or neurons as one of whole layers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from hydrascope.analysis import _ledger_access as access


def by_layer(ds: xr.Dataset, kinds: Sequence[str] = access.KINDS) -> xr.Dataset:
    """Sum the units and biases of each writer: heads into `attn.L`, neurons into `mlp.L`.

    Sums of direct effects and changes are exact. How a sum varies over donors cannot be known from its terms, so
    `change_sd` of what was divided is NaN. `moved_weight` is the mean over heads.

    Args:
        ds: a ledger; one without units among its writers is returned as it is.
        kinds: kinds of writers whose units are summed.

    Returns:
        The ledger that `--writers layers` would have written, if all kinds are summed.
    """
    divided = {name for name in access.divided(ds) if name.split(".")[0] in kinds}
    if not divided:
        return ds
    kind_of, layers, units = access.writer_kinds(ds), ds["writer_layer"].values.astype(int), access.units(ds)
    joined = access.names(ds, "writer")
    for i, name in enumerate(joined):
        whole = f"{kind_of[i]}.{layers[i]}" if units[i] >= 0 else name.removeprefix("bias.")
        joined[i] = whole if whole in divided else name
    places = {name: i for i, name in enumerate(dict.fromkeys(joined))}
    names, place = list(places), np.array([places[name] for name in joined])
    member = np.zeros((len(joined), len(names)), np.float32)
    member[np.arange(len(joined)), place] = 1
    first = member.argmax(0)
    # xarray would keep the old labels of a dimension whose length changes
    found = ds.drop_dims("writer").assign_coords(
        writer=("writer", np.array(names, dtype=object)),
        writer_layer=("writer", layers[first]),
        writer_kind=("writer", np.array(kind_of[first], dtype=object)),
        writer_unit=("writer", np.where([name in divided for name in names], -1, units[first])),
    )
    for variable in map(str, ds.data_vars):
        if "writer" not in ds[variable].dims:
            continue
        values = ds[variable].values
        summed = values @ member
        if variable == "moved_weight":
            heads = member[units >= 0].sum(0)
            summed = summed / np.maximum(heads, 1)
        if variable == "change_sd":
            summed[..., member.sum(0) > 1] = np.nan
        found[variable] = (ds[variable].dims, summed.astype(values.dtype), ds[variable].attrs)
    found["is_downstream"] &= ~found["is_own"]
    own = (found["change"] * found["is_own"]).sum("writer").transpose(*ds["own_change"].dims)
    found["own_change"] = own.astype(ds["own_change"].dtype).assign_attrs(ds["own_change"].attrs)
    return found if access.divided(found) else found.assign_attrs(writers="layers")
