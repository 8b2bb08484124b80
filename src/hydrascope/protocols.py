"""Named, stored sets of choices: what two papers did, as far as it decides the numbers.

facts   McGrath et al. 2023 (arXiv 2307.15771): whole layers, knocked out and read at the last token of prompts that the
        model completes correctly; 15 resampled donors; the logit of the answer.
text    Rushing & Nanda 2024 (arXiv 2402.15390): single heads, knocked out at every position of ordinary text; one
        resampled donor; read at every position, the logit of the token that follows.
"""

from __future__ import annotations

from dataclasses import dataclass

from hydrascope.engine import Positions
from hydrascope.errors import RunError
from hydrascope.task import Options

LENGTH = 128
"""Tokens of a piece of text, as in the paper's code."""


@dataclass(frozen=True)
class Protocol:
    """Choices that a command line or a caller may still change one by one.

    Attributes:
        name: as `--protocol` takes it.
        options: how a run is made.
        donors: replacement values per prompt; None for the ablation's own default.
        length: tokens of the pieces that documents are cut into; None where prompts are taken as they are.
    """

    name: str
    options: Options
    donors: int | None = None
    length: int | None = None


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("facts", Options(protocol="facts")),
        Protocol(
            "text",
            Options(
                components="head",
                target="top",
                null_draws=0,
                writers="heads",
                detail="kinds",
                positions=Positions("all", "each", skip=1),
                measured=False,
                protocol="text",
            ),
            donors=1,
            length=LENGTH,
        ),
    )
}


def protocol(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        RunError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise RunError(f"no protocol '{name}'; choose {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
