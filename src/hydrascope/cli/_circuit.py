"""`hydrascope circuit`: a ranking's scores as a circuit file of the MIB benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hydrascope.cli._streams import say

FILE = "circuit.json"


def circuit(
    ranking: Annotated[Path, typer.Argument(help="Folder of a finished ranking.", show_default=False)],
    score: Annotated[str, typer.Option(help="Name of a score, as in the ranking's table.")] = "total effect",
    keep: Annotated[
        int | None, typer.Option(min=0, help="Nodes in the circuit; those that clearly cost something if left out.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help=f"File to write; {FILE} in the ranking's folder.")] = None,
) -> None:
    """Write a ranking of heads and MLPs as a circuit file of the MIB benchmark."""
    from hydrascope.ranking import Rank

    say(Rank.open(ranking).circuit(out or ranking / FILE, score, keep))
