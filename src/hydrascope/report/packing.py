"""Chart data in a quarter of the space: by column, with repeated text written once.

Vega wants a list of records, in which every name stands in every row. The page carries columns, and its
script turns them back into records.
"""

from __future__ import annotations

from typing import Any


def pack(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Records as columns.

    Args:
        records: rows with the same names.

    Returns:
        `rows`, how many; `columns`, name to a list of values, or to `levels` and `codes` where the
        values are text.
    """
    names = list(dict.fromkeys(name for record in records for name in record))
    return {
        "rows": len(records),
        "columns": {name: _column([r.get(name) for r in records]) for name in names},
    }


def _column(values: list[Any]) -> Any:
    if not values or not all(isinstance(value, str) for value in values):
        return values
    codes: dict[str, int] = {}
    indices = [codes.setdefault(value, len(codes)) for value in values]
    return {"levels": list(codes), "codes": indices}
