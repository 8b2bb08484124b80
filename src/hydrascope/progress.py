"""Bars that say how far a run is, in a terminal or a notebook; nothing where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from hydrascope.errors import RunError, shown

Told = Callable[[str, int, int], None]
"""Takes stage, number done and total."""

_EVERY = 0.2
"""Seconds between two changes of a notebook's bars."""


@contextmanager
def bars(*, quiet: bool = False) -> Iterator[Told]:
    """Bars below a notebook's cell, or on standard error while it is a terminal; nothing otherwise.

    Args:
        quiet: show nothing.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not (console.is_jupyter or console.is_terminal):
        yield lambda stage, done, total: None
    elif console.is_jupyter:
        yield _Cell().told
    else:
        with _in_terminal(console) as told:
            yield told


def require_callable(progress: object) -> None:
    """Refuse what cannot be told how far a run is.

    Raises:
        RunError: it is no function.
    """
    if progress is not None and not callable(progress):
        raise RunError(f"progress cannot be {shown(progress)}; give a function that takes stage, number done and total")


def loading(*, quiet: bool = False) -> None:
    """Say at once that a model is being opened, which takes seconds before the first bar.

    Args:
        quiet: say nothing; nothing is said either where standard error is no terminal.
    """
    if not quiet and sys.stderr.isatty():
        print("loading the model ...", file=sys.stderr, flush=True)


@contextmanager
def _in_terminal(console: Any) -> Iterator[Told]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description:<12}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as shown:
        known: dict[str, TaskID] = {}

        def told(stage: str, done: int, total: int) -> None:
            if stage not in known:
                known[stage] = shown.add_task(stage, total=total)
            shown.update(known[stage], completed=done, total=total)  # a sweep's cells share the names of stages

        yield told


class _Cell:
    """Bars of plain HTML, which every notebook shows without a widget library."""

    def __init__(self) -> None:
        from IPython.display import display

        self._stages: dict[str, tuple[int, int]] = {}
        self._shown = 0.0
        self._handle = display(self, display_id=True)

    def told(self, stage: str, done: int, total: int) -> None:
        self._stages[stage] = (done, total)
        if done >= total or time.monotonic() - self._shown > _EVERY:
            self._shown = time.monotonic()
            self._handle.update(self)

    def _repr_html_(self) -> str:
        rows = (
            f'<div><progress value="{done}" max="{total}"></progress> {stage} {done:,} / {total:,}</div>'
            for stage, (done, total) in self._stages.items()
        )
        return "".join(rows)

    def __repr__(self) -> str:
        return ", ".join(f"{stage} {done:,} / {total:,}" for stage, (done, total) in self._stages.items())
