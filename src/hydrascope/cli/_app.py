"""The verbs under one name, and what becomes of errors."""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from hydrascope import zoo
from hydrascope.cli._atlas import atlas
from hydrascope.cli._check import check
from hydrascope.cli._circuit import circuit
from hydrascope.cli._compare import compare
from hydrascope.cli._context import context
from hydrascope.cli._freeze import freeze
from hydrascope.cli._inspect import inspect
from hydrascope.cli._lists import models, tasks
from hydrascope.cli._options import add_options
from hydrascope.cli._prune import prune
from hydrascope.cli._rank import rank
from hydrascope.cli._report import report
from hydrascope.cli._run import run
from hydrascope.cli._runs import runs
from hydrascope.cli._show import show
from hydrascope.cli._streams import Terminated, prepare_streams, say, silence_output
from hydrascope.cli._stress import stress
from hydrascope.cli._sweep import sweep
from hydrascope.cli._table import table
from hydrascope.errors import HydrascopeError, sentence

app = typer.Typer(
    pretty_exceptions_enable=False,
)
for panel, verbs in {
    "Measure": (run, freeze, stress, rank, prune, sweep, inspect),
    "Read": (show, report, table, runs, compare, atlas, context, circuit, check),
    "What there is": (models, tasks),
}.items():
    for verb in verbs:
        app.command(rich_help_panel=panel)(verb)


def _print_version(asked: bool) -> bool:
    if asked:
        say(f"hydrascope {version('hydrascope')}")
        raise typer.Exit
    return asked


@app.callback()
def _options_of_all(
    shown: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Knock out any part of a language model and account exactly for what the rest does about it."""


_COMPLETING = "_HYDRASCOPE_COMPLETE"
"""Set by a shell that asks what may follow."""

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # click's, or the copy that newer versions of typer carry


def main() -> None:
    """Entry point: known conditions become one sentence on standard error and exit code 2."""
    words = sys.argv[1:] or ["--help"]
    prepare_streams()
    try:
        add_options(_verb(words))
        if _COMPLETING in os.environ:
            app(prog_name="hydrascope")  # answers the shell, and ends
        # not through its `main`, which would take interrupts and closed pipes for its own
        with typer.main.get_command(app).make_context("hydrascope", words) as context:
            context.command.invoke(context)
        sys.stdout.flush()
        code = 0
    except typer.Exit as end:
        code = end.exit_code
    except HydrascopeError as error:
        code = _fail(str(error), error.exit_code)
    except _UsageError as error:
        code = _fail(_as_clause(error, words), 2)
    except (KeyboardInterrupt, typer.Abort) as stop:
        code = _interrupted(stop)
    except BrokenPipeError:  # the reader of our output has gone
        silence_output()
        code = 141
    except OSError as error:
        if error.filename is None:
            silence_output()
        where = "standard output" if error.filename is None else f"'{error.filename}'"
        code = _fail(f"{where} cannot be used: {error.strerror or error}; what is done is kept", 2)
    sys.exit(code)


def _verb(words: list[str]) -> str:
    """The verb of a command, also of one that is being typed while a shell asks what may follow."""
    typed = os.environ.get("_TYPER_COMPLETE_ARGS") or os.environ.get("COMP_WORDS", "")
    asked = typed.split()[1:] if _COMPLETING in os.environ else words
    return asked[0] if asked else ""


def _fail(message: str, code: int) -> int:
    line = sentence(" ".join(message.split()))
    say(f"hydrascope: {line}", error=True)
    return code


def _interrupted(stop: BaseException) -> int:
    kept = "; ".join(getattr(stop, "__notes__", ()))
    code = 143 if isinstance(stop, Terminated) else 130
    return _fail(f"interrupted{kept and f'; {kept}'}; the same command continues where it stopped", code)


def _as_clause(error: Exception, words: list[str]) -> str:
    """What the library says of a wrong command, as one clause, with a hint where the slip is a known one."""
    message = " ".join(error.format_message().split()).rstrip(".?").replace(". ", "; ")  # type: ignore[attr-defined]
    message = (message[:1].lower() + message[1:]).replace("Value error, ", "")
    message = re.sub(
        r"Input should be a valid integer.*|'.*' is not a valid (integer|int)$", "give a whole number", message
    )
    context = getattr(error, "ctx", None)
    return f"{message}{_hint(message, words)}; see '{context.command_path if context else 'hydrascope'} --help'"


def _hint(message: str, words: list[str]) -> str:
    if message.startswith("no such command") and (zoo.find(words[0]) is not None or os.path.isdir(words[0])):
        return f"; to knock out parts of a model write hydrascope run {words[0]}"
    if "unexpected extra argument" in message and words[0] == "run":
        return "; a list has commas and no spaces, as in attn,mlp"
    return ""
