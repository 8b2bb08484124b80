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
    from hydrascope.run_directory import STRESS, kind_of

    if any(kind_of(run) == STRESS for run in runs):
        _stress_tests(runs, as_json)
        return
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


def _stress_tests(runs: list[Path], as_json: bool) -> None:
    """Stress tests beside the first one, in sentences and tables; there is no page of them."""
    import json

    from hydrascope.cli import _terminal
    from hydrascope.faults import Stress

    first, *others = map(Stress.open, runs)
    found = [one.beside(first) for one in others]
    if not as_json:
        for one in found:
            say(f"{one.names[1]} beside {one.names[0]}")
            say("\n".join(f"- {sentence}" for sentence in one.sentences))
        return
    told = [
        {
            "first": one.names[0],
            "second": one.names[1],
            "sentences": one.sentences,
            "curve": _terminal.records(one.curve()),
            "importance": _terminal.records(one.importance),
            "pairs": _terminal.records(one.pairs),
        }
        for one in found
    ]
    say(json.dumps({"comparisons": told}, indent=1))
