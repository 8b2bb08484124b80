"""`hydrascope check`: does a model's part still do what its team expects?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hydrascope.cli._options import AsJson, Trust
from hydrascope.cli._streams import say
from hydrascope.progress import bars, loading

SIGNS = {"holds": "+", "fails": "-", "undecided": "?"}


def check(
    file: Annotated[Path, typer.Argument(help="A TOML file with a run and what is expected of its parts.")],
    base: Annotated[Path | None, typer.Option(help="A finished run that every value is compared with.")] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Write FILE from what this finished run shows today, and stop.")
    ] = None,
    junit: Annotated[Path | None, typer.Option(help="Where to write JUnit XML.")] = None,
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Judge expectations by a run's intervals: exit code 0 if all hold, 1 if one fails, 3 if one is undecided."""
    import json

    from hydrascope import checking
    from hydrascope.cli import _terminal
    from hydrascope.ledger import write_text
    from hydrascope.run_directory import folder_named

    if record is not None:
        written = checking.record(record, file)
        count = len(checking.read_expectations(written).expected)
        say(json.dumps({"file": str(written), "expectations": count}) if as_json else written)
        return
    loading(quiet=as_json)
    _terminal.quiet()
    with bars(quiet=as_json) as progress:
        found = checking.check(file, base=base, trust_remote_code=trust_remote_code, progress=progress)
    if junit is not None:
        write_text(folder_named(junit), checking.junit(file.stem, found.judged))
    if as_json:
        say(json.dumps({"headline": found.headline, "expectations": found.table().to_dict("records")}, indent=1))
    else:
        for one in found.judged:
            beside = f", {one.beside} against the base" if one.beside else ""
            beside = beside or (", nothing on the same prompts in the base" if base is not None else "")
            say(f"{SIGNS[one.outcome]} {one.expectation.name}: {one.said}{beside}")
        say(found.headline)
    raise typer.Exit(found.exit_code)
