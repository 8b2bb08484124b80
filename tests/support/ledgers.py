"""Holds ledgers to each other, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

OF_THE_MOMENT = {"command", "created", "seconds", "seal"}
"""Attributes that two runs of the same do not share."""


def same_bits(expected: Path, found: Path) -> None:
    """Prove that two runs' ledgers are the same in every bit and attribute.

    Args:
        expected: folder of a run.
        found: folder of the run that must equal it.
    """
    one, other = (xr.open_zarr(out / "ledger.zarr", consolidated=False).load() for out in (expected, found))
    assert set(one.variables) == set(other.variables)
    for name, variable in one.variables.items():
        np.testing.assert_array_equal(other[name].values, variable.values, err_msg=f"{found}: {name}")
    assert {k: v for k, v in one.attrs.items() if k not in OF_THE_MOMENT} == {
        k: v for k, v in other.attrs.items() if k not in OF_THE_MOMENT
    }
