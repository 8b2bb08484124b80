"""Where a run knocks out and reads, as its options say it."""

from __future__ import annotations

from typing import Any

from hydrascope.engine.scope import Scope


def where(scope: Scope) -> dict[str, Any]:
    """The three options."""
    return {"positions": scope.knocked_out, "read": scope.read, "skip": scope.skipped}
