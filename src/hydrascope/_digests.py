"""Checksums of rows of arrays, which tell whether what lies on disk is still what was written."""

from __future__ import annotations

import zlib

import numpy as np
from jaxtyping import Shaped, UInt32

AT_ONCE = 4096
"""Rows that are copied together where they do not lie one after the other."""


def digest_rows(array: Shaped[np.ndarray, ...], axis: int = 0) -> UInt32[np.ndarray, " rows"]:
    """CRC-32 of the bytes of each row.

    Args:
        array: the array.
        axis: axis along which the rows lie.
    """
    rows, found = np.moveaxis(array, axis, 0), []
    for first in range(0, len(rows), AT_ONCE):
        some = np.ascontiguousarray(rows[first : first + AT_ONCE])
        found += [zlib.crc32(row.data) for row in some.reshape(len(some), -1)]
    return np.array(found, dtype=np.uint32)
