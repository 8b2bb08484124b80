"""Small files of a run, written whole or not at all, and the removal of what a run has made."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hydrascope.errors import OutputError

DIGEST = "digest"
"""Entry of a record that tells whether the others are what was written."""


def read_record(path: Path) -> dict[str, Any]:
    """Read the record of a run.

    Raises:
        OutputError: it cannot be read, or is not what was written.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OutputError(f"'{path}' cannot be read: {error.strerror}; choose another folder (--out)") from error
    except (ValueError, RecursionError) as error:
        raise OutputError(f"'{path}' is damaged ({error}); put it back, or choose another folder (--out)") from error
    if not isinstance(content, dict) or "settings" not in content:
        raise OutputError(f"'{path}' is no record of a run; choose another folder (--out)")
    if content.pop(DIGEST, None) != _digest(content):
        raise OutputError(
            f"'{path}' is not what was written (edited, damaged, or of another version); put it back, or start anew "
            "(--overwrite)"
        )
    return content


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write the record of a run, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    plain = json.loads(json.dumps(content))
    write_text(path, json.dumps({**plain, DIGEST: _digest(plain)}, indent=1, sort_keys=True) + "\n")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all; where a link was, there is a file then.

    Raises:
        OutputError: it cannot be written.
    """
    draft = path.with_name(path.name + ".new")
    try:
        remove(draft)
        with draft.open("x", encoding="utf-8") as file:
            file.write(text)
        os.replace(draft, path)
    except OSError as error:
        remove(draft)
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}") from error


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it can be; what a link leads to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        try:
            path.unlink(missing_ok=True)
        except OSError:
            return
