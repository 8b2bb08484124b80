"""`hydrascope report`: a finished run's page, again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hydrascope.cli._options import Finished
from hydrascope.cli._streams import say


def report(
    run: Finished,
    out: Annotated[Path | None, typer.Option(help="Where to write the page; report.html in the run's folder.")] = None,
) -> None:
    """Write a finished run's report again."""
    from hydrascope.cli import _terminal
    from hydrascope.cli._finished import open_finished
    from hydrascope.errors import OutputError
    from hydrascope.ranking import Rank
    from hydrascope.results import Ledger
    from hydrascope.run_directory import REPORT

    found = open_finished(run)
    assert found.path is not None
    if isinstance(found, Rank):
        raise OutputError(f"{found.WHAT} has no page; read it with 'hydrascope show {run}', or its tables with 'table'")
    if isinstance(found, Ledger):
        _terminal.warn_of_damage(found)
    say(found.report(out or found.path / REPORT))
