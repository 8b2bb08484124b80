"""`hydrascope context`: how far the importance of parts depends on what the model is asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hydrascope.cli._options import AsJson
from hydrascope.cli._streams import say

PAGE = "context.html"


def context(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN [RUN...]", help="Folders of one model's finished runs, rankings or stress tests, a task each."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help=f"Where to write the page; {PAGE} in the last run's folder.")] = None,
    tables: Annotated[Path | None, typer.Option(help="Folder for the tables as CSV.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say how far the importance of parts depends on task, group, prompt and donor."""
    import json

    from hydrascope.cli import _terminal
    from hydrascope.contexts import context as put_together

    found = put_together(*runs)
    page = found.report(out or runs[-1] / PAGE)
    if tables is not None:
        found.save(tables)
    if as_json:
        written = {"report": str(page), "folder": None if tables is None else str(tables)}
        say(json.dumps({**_terminal.told_as_json(found), **written}, indent=1))
        return
    said = found.summary()
    _terminal.show_sentences(said.headline, said.sentences)
    say(page)
