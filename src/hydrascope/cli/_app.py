"""The verbs under one name, and what becomes of errors."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from hydrascope.cli._freeze import freeze
from hydrascope.cli._inspect import inspect
from hydrascope.cli._lists import models, tasks
from hydrascope.cli._options import add_options
from hydrascope.cli._report import report
from hydrascope.cli._run import run
from hydrascope.cli._runs import runs
from hydrascope.cli._show import show
from hydrascope.cli._table import table
from hydrascope.errors import HydrascopeError

app = typer.Typer(
    pretty_exceptions_enable=False,
)
for panel, verbs in {
    "Measure": (run, freeze, inspect),
    "Read": (show, report, table, runs),
    "What there is": (models, tasks),
}.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)


def _print_version(asked: bool) -> bool:
    if asked:
        print(version("hydrascope"))
        raise typer.Exit
    return asked


@app.callback()
def _options_of_all(
    shown: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Knock out any part of a language model and account exactly for what the rest does about it."""


_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # click's, or the copy that newer versions of typer carry


def main() -> None:
    """Entry point: known conditions become one sentence on standard error and exit code 2."""
    words = sys.argv[1:] or ["--help"]
    try:
        add_options(_verb(words))
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


def _verb(words: list[str]) -> str:
    """The verb of a command, also of one that is being typed while a shell asks what may follow."""
    typed = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
    asked = typed.split()[1:] if "_HYDRASCOPE_COMPLETE" in os.environ else words
    return asked[0] if asked else ""


def _fail(message: str, code: int) -> int:
    print(f"hydrascope: {message}", file=sys.stderr)
    return code


def _as_clause(error: Exception) -> str:
    message = " ".join(error.format_message().split()).rstrip(".?").replace(". ", "; ")  # type: ignore[attr-defined]
    message = message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    return f"{message}; see '{context.command_path if context else 'hydrascope'} --help'"
