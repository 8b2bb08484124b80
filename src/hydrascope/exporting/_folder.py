"""Where a smaller model goes: a folder that is free, written beside its place and moved there whole."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hydrascope.errors import OutputError


def require_free(folder: Path) -> None:
    """Refuse a place where no folder can be written, or where something is already.

    Raises:
        OutputError: there is something, or nothing can be written.
    """
    another = "choose another folder for the smaller model"
    if folder.is_dir():
        with _told(folder):
            if any(folder.iterdir()):
                raise OutputError(f"'{folder}' exists and is not empty; {another}")
    elif os.path.lexists(folder):
        what = "a link to nothing" if folder.is_symlink() else "a file"
        raise OutputError(f"'{folder}' is {what}; {another}")
    with drafted(folder):
        pass


@contextmanager
def drafted(folder: Path) -> Iterator[Path]:
    """An empty folder beside another one; what is left of it at the end goes, with parents that were made for it.

    Args:
        folder: the folder whose place it can take.

    Raises:
        OutputError: it cannot be written.
    """
    draft = folder.with_name(f".{folder.name}.new")
    with _told(folder):
        made = [one for one in draft.parents if not one.exists()]
        shutil.rmtree(draft, ignore_errors=True)
        try:
            draft.mkdir(parents=True)
            yield draft
        finally:
            shutil.rmtree(draft, ignore_errors=True)
            for parent in made:
                with suppress(OSError):  # it holds the folder
                    parent.rmdir()


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise OutputError(f"'{folder}' cannot be written: {why}; choose another folder") from error
