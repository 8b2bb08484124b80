"""What reaches the terminal: text that cannot steer it, and one sentence of bounded length for each error."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

LONGEST = 1000
"""Most characters of an error."""


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


def printable(text: str) -> str:
    """Text with everything that a terminal could obey as an escape sequence; line ends and tabs stay."""
    return "".join(one if one.isprintable() or one in "\n\t" else _escaped(one) for one in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def sentence(message: str) -> str:
    """A message in one line of bounded length; what is left out is its middle, since its end says what to do."""
    line = printable(" ".join(message.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} [...] {line[-LONGEST // 2 :]}"


def say(text: object, *, error: bool = False) -> None:
    """Print text unwrapped, on standard output or standard error.

    Args:
        text: what is printed, line by line.
        error: print it on standard error.
    """
    print(printable(str(text)), file=sys.stderr if error else sys.stdout)
