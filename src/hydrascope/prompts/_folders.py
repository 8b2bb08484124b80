"""Files of a folder and its subfolders."""

from __future__ import annotations

import os
from pathlib import Path

from hydrascope.errors import PromptError

MOST = 100_000
"""Most files that a folder of prompts can have, whatever they are: more are a mistake such as `/`."""


def files_below(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    """Files of a folder and its subfolders with one of some endings, sorted by path.

    Args:
        folder: the folder; links to folders in it are not followed.
        endings: allowed endings, in small letters, each with its dot.

    Raises:
        PromptError: there are too many files.
    """
    seen, found = 0, []
    for where, folders, names in os.walk(folder):
        seen += len(folders) + len(names)
        if seen > MOST:
            raise PromptError(f"'{folder}' holds more than {MOST:,} files; give a file, or a smaller folder")
        found += [Path(where, name) for name in names if Path(name).suffix.lower() in endings]
    return sorted(found)
