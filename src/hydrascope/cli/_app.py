"""The verbs under one name, and what becomes of errors."""

from __future__ import annotations

import os
import sys

import typer

from hydrascope.cli._freeze import freeze
from hydrascope.cli._inspect import inspect
from hydrascope.cli._lists import models, tasks
from hydrascope.cli._options import add_options
from hydrascope.cli._report import report
from hydrascope.cli._run import run
from hydrascope.cli._show import show
from hydrascope.cli._stress import stress
from hydrascope.errors import HydrascopeError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Knock out any part of a language model and account exactly for what the rest does about it.",
)
for verb in (run, freeze, stress, show, inspect, report, models, tasks):
    app.command()(verb)

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # click's, or the copy that newer versions of typer carry


def main() -> None:
    """Entry point: known conditions become one sentence on standard error and exit code 2."""
    words = sys.argv[1:] or ["--help"]
    try:
        add_options(words[0])
        code = app(words, prog_name="hydrascope", standalone_mode=False)
        sys.stdout.flush()
    except HydrascopeError as error:
        code = _fail(str(error), error.exit_code)
    except _UsageError as error:
        code = _fail(_as_clause(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    if code == 130:
        _fail("interrupted; the same command continues where it stopped", code)
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    print(f"hydrascope: {message}", file=sys.stderr)
    return code


def _as_clause(error: Exception) -> str:
    message = " ".join(error.format_message().split()).rstrip(".?").replace(". ", "; ")  # type: ignore[attr-defined]
    message = message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    return f"{message}; see '{context.command_path if context else 'hydrascope'} --help'"
