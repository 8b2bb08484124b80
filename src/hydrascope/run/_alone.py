"""Keeps a model to one knock-out at a time: hooks and attention are changed on the module itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, get_ident
from weakref import WeakKeyDictionary

from torch import nn

from hydrascope.anatomy import Model
from hydrascope.errors import RunError


@dataclass
class _Turn:
    """Whose turn it is to use a module: the number of a thread, or None."""

    lock: Lock = field(default_factory=Lock)
    holder: int | None = None


_turns: WeakKeyDictionary[nn.Module, _Turn] = WeakKeyDictionary()
_looking = Lock()


@contextmanager
def alone_with(model: Model) -> Iterator[None]:
    """Wait until no other thread knocks out parts of a model, and keep others waiting.

    Args:
        model: the model, which other `Model`s may share the module with.

    Raises:
        RunError: this very thread is at work on it, so that waiting would never end.
    """
    with _looking:
        turn = _turns.setdefault(model.network, _Turn())
    if turn.holder == get_ident():
        raise RunError(
            "this model is at work in the call that this one is made from; wait for its end, or load another"
        )
    with turn.lock:
        turn.holder = get_ident()
        try:
            yield
        finally:
            turn.holder = None
