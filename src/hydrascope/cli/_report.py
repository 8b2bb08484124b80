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
    from hydrascope.results import Ledger
    from hydrascope.run_directory import REPORT

    ledger = Ledger.open(run)
    assert ledger.path is not None
    _terminal.warn_of_damage(ledger)
    say(ledger.report(out or ledger.path / REPORT))
