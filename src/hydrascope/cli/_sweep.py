"""`hydrascope sweep`: every run that a plan asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hydrascope.cli._options import AsJson, Trust
from hydrascope.cli._streams import say
from hydrascope.progress import bars

if TYPE_CHECKING:
    from hydrascope.sweeping import Outcome, Price, Sweep


def sweep(
    plan: Annotated[Path, typer.Argument(help="A TOML file; options of 'run', whose lists are crossed.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Price every cell and stop.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Make the cells in so many processes on this machine, by Dask.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Make the cells on the Dask cluster with this scheduler.")
    ] = None,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Open finished cells' models, too, and hold weights and prompts to the record."),
    ] = False,
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Run many models, tasks, ablations and seeds from one file. Run again, it continues."""
    from hydrascope.sweeping import How, Sweep, Where, execute_sweep, price_plan, read_plan

    where = Where(workers, scheduler)
    where.require()
    asked = read_plan(plan)
    from hydrascope.cli import _terminal

    _terminal.quiet()
    how = How(trust_remote_code, verify, asked.report)
    with bars(quiet=as_json) as progress:
        if dry_run:
            prices = price_plan(asked, how, progress=progress)
        else:
            told, tell = _log(len(asked.cells), as_json), _silent if as_json else _tell
            made = execute_sweep(asked, how, where, progress=progress, told=told, tell=tell)
            found = Sweep(asked.folder, tuple(made))
    if dry_run:
        _show_prices(prices, asked.folder, as_json)
        raise typer.Exit(int(any(one.state == "refused" for one in prices)))
    _show(found, as_json)
    raise typer.Exit(found.exit_code)


def _tell(line: str) -> None:
    say(line, error=True)


def _silent(line: str) -> None:
    pass


def _log(cells: int, quiet: bool) -> Callable[[Outcome], None]:
    """What says a line on standard error about each cell that was worked on, as soon as it is known."""
    done = count(1)

    def told(outcome: Outcome) -> None:
        line = f"[{next(done)}/{cells}] {outcome.cell}: {outcome.state}, {outcome.seconds:.1f} s"
        if not quiet and outcome.state != "reused":
            say(f"{line}: {outcome.said}" if outcome.said else line, error=True)

    return told


def _show(found: Sweep, as_json: bool) -> None:
    if as_json:
        cells = [one.as_dict() for one in found.outcomes]
        say(json.dumps({"headline": found.headline, "folder": str(found.folder), "cells": cells}, indent=1))
        return
    _print("what was found", [(one.folder, one.state, one.said) for one in found.outcomes])
    say(found.headline)
    say(found.folder)  # last, so that it can be clicked or piped


def _show_prices(prices: Sequence[Price], folder: Path, as_json: bool) -> None:
    least = sum(one.seconds for one in prices)
    if as_json:
        cells = [one.as_dict() for one in prices]
        say(json.dumps({"seconds": least, "folder": str(folder), "cells": cells}, indent=1))
        return
    _print("what it takes", [(one.folder, one.state, _priced(one)) for one in prices])
    finished = sum(one.state == "finished" for one in prices)
    say(
        f"{len(prices)} cells, {finished} finished; the rest at least {least:,.1f} s in all at the speed of a matrix "
        "product here, companions and at most freezing included"
    )


def _priced(price: Price) -> str:
    if price.state in ("finished", "refused"):
        return price.said
    said = f"{price.interventions:,} interventions a prompt, at least {price.seconds:,.1f} s, "
    said += f"{price.needed_bytes / 2**20:,.0f} MB beside the weights, {price.ledger_bytes / 2**20:,.0f} MB of ledger"
    return f"{said}; {price.said}" if price.said else said


def _print(heading: str, rows: Sequence[tuple[str, str, str]]) -> None:
    """A table of cells; where nobody watches, every cell is one line."""
    from rich.table import Table

    from hydrascope.cli._console import Terminal

    console = Terminal()
    if not console.is_terminal:
        say("\n".join("\t".join(row).rstrip() for row in rows))
        return
    table = Table("cell", "state", heading, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table)
