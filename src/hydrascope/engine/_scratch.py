"""Arrays of a run that survive a kill, and are made anew where they are not what was written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Store = TypeVar("Store")


def open_or_renew(scratch: Path, lay_out: Callable[[], Store], is_intact: Callable[[Store], bool]) -> Store:
    """Open a store, or lay it out anew, together with all that is in its folder, where it is damaged.

    Args:
        scratch: the run's scratch folder.
        lay_out: opens the store in it, and lays out what is not there.
        is_intact: tells whether every row that is done is what was written.

    Raises:
        OSError: the folder cannot be written.
    """
    try:
        store = lay_out()
        if is_intact(store):
            return store
    except FileNotFoundError:  # a damaged store lacks files
        pass
    except OSError:
        raise
    except Exception:  # what can be wrong in a damaged file has no end of names
        pass
    shutil.rmtree(scratch)
    return lay_out()
