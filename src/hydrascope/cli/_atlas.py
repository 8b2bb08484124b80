"""`hydrascope atlas`: many finished runs in one table and one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hydrascope.cli._options import AsJson
from hydrascope.cli._streams import say
from hydrascope.progress import bars


def atlas(
    folder: Annotated[Path, typer.Argument(help="Folder that the runs are in, however deep.")],
    out: Annotated[
        Path | None, typer.Option(help="Where to write the page; atlas.html in that folder if left out.")
    ] = None,
    tables: Annotated[Path | None, typer.Option(help="Folder for the tables as CSV.")] = None,
    as_json: AsJson = False,
) -> None:
    """Say which of the paper's claims hold in which model and task, with every number side by side."""
    import json

    from hydrascope.atlases import PAGE
    from hydrascope.atlases import atlas as put_together
    from hydrascope.cli import _terminal

    with bars(quiet=as_json) as progress:
        found = put_together(folder, progress=progress)
        page = out or found.path / PAGE
        _terminal.write_page(found, page, progress)
    if tables is not None:
        found.save(tables)
    if as_json:
        facts = {"left_out": found.left_out, "report": str(page), "folder": None if tables is None else str(tables)}
        say(json.dumps({**_terminal.told_as_json(found), **facts}, indent=1))
        return
    for reason in found.left_out.values():
        say(f"left out: {reason}", error=True)
    said = found.summary()
    _terminal.show_sentences(said.headline, said.sentences)
    if tables is not None:
        say(tables)
    say(page)  # last, so that it can be clicked or piped
