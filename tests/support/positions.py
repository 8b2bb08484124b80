"""Where a run knocks out and reads, as its options say it."""

from __future__ import annotations

from typing import Any

from hydrascope.engine import Positions


def where(scope: Positions) -> dict[str, Any]:
    """The three options."""
    return {"positions": scope.ablate, "read": scope.read, "skip": scope.skip}
