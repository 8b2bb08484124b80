"""What reaches the terminal: text that cannot steer it."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

from hydrascope.errors import printable


class Terminated(KeyboardInterrupt):
    """The process was asked to end by a signal, as a batch system does before it kills."""


def prepare_streams() -> None:
    """Give closed streams somewhere to go, and let SIGTERM end a run as Ctrl-C does."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # otherwise the next file that is opened would take its number
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    signal.signal(signal.SIGTERM, _terminate)


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def silence_output() -> None:
    """Drop what standard output did not take, lest Python try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def unobeyed(text: str) -> str:
    """Text that cannot steer the terminal; line ends and tabs stay."""
    return printable(text, keep="\n\t")


def say(text: object, *, error: bool = False) -> None:
    """Print text unwrapped, on standard output or standard error.

    Args:
        text: what is printed, line by line.
        error: print it on standard error.
    """
    print(unobeyed(str(text)), file=sys.stderr if error else sys.stdout)
