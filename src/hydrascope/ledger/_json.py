"""Small text files of a run, written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from hydrascope.errors import OutputError


def read_json(path: Path) -> dict[str, Any]:
    """Read a small JSON file of a run.

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
