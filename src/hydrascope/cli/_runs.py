"""`hydrascope runs`: the runs in a folder, and what each found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hydrascope.cli._finished import open_finished
from hydrascope.cli._options import AsJson
from hydrascope.cli._streams import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hydrascope.faults import Stress
    from hydrascope.pruning import Prune
    from hydrascope.ranking import Rank
    from hydrascope.results import Ledger


def runs(
    folder: Annotated[Path, typer.Argument(help="Folder that the runs are in.")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List the runs in a folder: model, prompts, state, headline."""
    from rich.text import Text

    from hydrascope.cli._console import Terminal
    from hydrascope.errors import OutputError

    if not folder.is_dir():
        raise OutputError(f"there is no folder '{folder}'; name the one that has the runs")
    console = Terminal()
    console.soft_wrap = not console.is_terminal
    found = []
    for run in _listed(folder):
        found.append(run)
        if not as_json:
            told = " · ".join(filter(None, (run["model"], run["prompts"], run["state"])))
            where = Text.assemble((run["run"], "bold"), f"  {told}")
            console.print(where)
            if run["headline"]:
                console.print(Text(f"  {run['headline']}", "dim"))
    if as_json:
        print(json.dumps(found, indent=1))
    elif not found:
        say(f"No run in '{folder}'.")


def _listed(folder: Path) -> Iterator[dict[str, Any]]:
    """What is known of the folder's runs, and of the folder itself if it is one; companions are part of a run."""
    from hydrascope.errors import HydrascopeError
    from hydrascope.run_directory import JSON

    for path in (folder, *sorted(folder.iterdir())):
        if (path / JSON).is_file():
            try:
                yield _known(path)
            except HydrascopeError as error:  # one bad run must not hide the others
                yield {"run": str(path), "model": "", "prompts": "", "state": "unreadable", "headline": str(error)}


def _known(path: Path) -> dict[str, Any]:
    from hydrascope.errors import OutputError
    from hydrascope.ledger import read_record
    from hydrascope.run_directory import JSON, LEDGER

    try:
        record = read_record(path / JSON)
    except OutputError:
        if not (path / LEDGER).exists():
            raise
        return _told_by_ledger(path)
    try:
        complete = bool(record["complete"])
        named = {"model": record["model"]["label"], "prompts": record["prompts"]["name"]}
    except (KeyError, TypeError) as error:
        raise OutputError(f"'{path / JSON}' is no record of a run of this version") from error
    state, headline = ("complete", _headline(open_finished(path))) if complete else ("broken off", "")
    return {"run": str(path), **named, "state": state, "headline": headline}


def _told_by_ledger(path: Path) -> dict[str, Any]:
    """What is known of a run whose record is damaged: a ledger that opens is whole, whatever lies beside it."""
    from hydrascope.results import Ledger

    ledger = Ledger.open(path)
    named = {"model": ledger.dataset.attrs["model_name"], "prompts": ledger.dataset.attrs["prompts_name"]}
    return {"run": str(path), **named, "state": "complete", "headline": _headline(ledger)}


def _headline(found: Ledger | Stress | Rank | Prune) -> str:
    from hydrascope.results import Ledger

    bare = isinstance(found, Ledger) and not found.has_report
    return "" if bare else found.summary().headline
