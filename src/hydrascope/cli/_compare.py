"""`hydrascope compare`: runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hydrascope.cli._options import AsJson
from hydrascope.cli._streams import say

PAGE = "comparison.html"


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN [RUN...]", help="Folders of finished runs.")],
    out: Annotated[
        Path | None, typer.Option(help=f"Where to write the page; {PAGE} in the second run's folder.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run loses and repairs more or less than the first one, and through whom."""
    import json

    from hydrascope.comparison import compare as compared

    found = compared(*runs)
    page = found.report(out or runs[1] / PAGE)
    if as_json:
        told = [
            {"first": pair.names[0], "second": pair.names[1], "headline": one.headline, "sentences": one.sentences}
            for pair, one in zip(found.pairs, found.summaries, strict=True)
        ]
        print(json.dumps({"comparisons": told, "report": str(page)}, indent=1))
        return
    for pair, one in zip(found.pairs, found.summaries, strict=True):
        say(f"{pair.names[1]} beside {pair.names[0]}")
        say("\n".join([one.headline, *(f"- {sentence}" for sentence in one.sentences), ""]))
    say(page)
