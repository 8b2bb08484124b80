"""`hydrascope table`: a table of a finished run, for a spreadsheet or a paper."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from hydrascope.cli._options import Finished
from hydrascope.cli._streams import say

if TYPE_CHECKING:
    import pandas as pd


def table(
    run: Finished,
    name: Annotated[str | None, typer.Argument(help="Name of the table; all names if left out.")] = None,
    form: Annotated[Literal["csv", "md"], typer.Option("--format", help="csv, or md for Markdown.")] = "csv",
    full: Annotated[bool, typer.Option("--full", help="Print all columns.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write to this file instead.")] = None,
) -> None:
    """Print a table of a finished run as CSV or Markdown."""
    from hydrascope.analysis import TABLES
    from hydrascope.cli._finished import open_finished
    from hydrascope.ledger import write_text
    from hydrascope.results import Ledger

    opened = open_finished(run)
    if name is None:
        offered = TABLES if isinstance(opened, Ledger) else {known: getattr(opened, known) for known in opened.TABLES}
        for known, function in offered.items():
            say(f"{known}: {(function.__doc__ or '').splitlines()[0]}")
        return
    found = opened.table(name, full=full) if isinstance(opened, Ledger) else opened.table(name)
    text = found.to_csv(index=False) if form == "csv" else markdown(found)
    if out is None:
        say(text.rstrip("\n"))
    else:
        write_text(out, text)


def markdown(table: pd.DataFrame) -> str:
    """A table in Markdown, a mean and its interval in one cell."""
    plain = [name for name in table if not (str(name).endswith(("_lo", "_hi")) and str(name)[:-3] in table)]
    rows = [[_cell(row, name) for name in plain] for row in table.to_dict("records")]
    lines = [[str(name) for name in plain], ["---"] * len(plain), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cell(row: dict[object, object], name: object) -> str:
    said = _said(row[name])
    low, high = row.get(f"{name}_lo"), row.get(f"{name}_hi")
    if said and isinstance(low, float) and isinstance(high, float) and low == low and high == high:
        said += f" [{_said(low)}, {_said(high)}]"
    return said


def _said(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value == value else ""
    return str(value).replace("|", "\\|")
