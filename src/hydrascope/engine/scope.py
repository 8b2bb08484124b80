"""At which positions of a text parts are knocked out, and at which their effects are read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from hydrascope.errors import RunError

Read = Literal["last", "each"]


@dataclass(frozen=True)
class Positions:
    """Where a run replaces and where it reads.

    Attributes:
        ablate: `last`, `all`, or positions such as `0,3,-1`, counted from 0 and, if negative, from the end.
        read: `last`, what follows the text; or `each`, the text's own next token at every position that has one.
        skip: with `each`, so many positions at the beginning are not read: the first tokens of a text have next to
            nothing to go by, and many models park their attention there.
    """

    ablate: str = "last"
    read: Read = "last"
    skip: int = 1

    def __post_init__(self) -> None:
        if self.read not in get_args(Read):
            raise RunError(f"effects cannot be read at '{self.read}'; choose last or each")
        if self.skip < 0:
            raise RunError(f"{self.skip} positions cannot be skipped; give 0 or more")
        if self.ablate not in ("last", "all") and not re.fullmatch(r"-?\d+(,-?\d+)*", self.ablate):
            raise RunError(f"'{self.ablate}' is no set of positions; write last, all, or for example 0,3,-1")

    @property
    def is_last(self) -> bool:
        """Whether everything happens at the last token."""
        return self.read == "last" and self.ablate in ("last", "-1")

    def ablated_in(self, tokens: int) -> tuple[int, ...]:
        """Positions that are replaced in a text of so many tokens.

        Raises:
            RunError: the text has no such position.
        """
        if self.ablate in ("last", "all"):
            return tuple(range(0 if self.ablate == "all" else tokens - 1, tokens))
        positions = [int(number) for number in self.ablate.split(",")]
        if strange := [position for position in positions if not -tokens <= position < tokens]:
            raise RunError(
                f"there is no position {strange[0]} in a text of {tokens} tokens; choose others, or longer texts"
            )
        return tuple(sorted({position % tokens for position in positions}))

    def read_in(self, tokens: int) -> tuple[int, ...]:
        """Positions that are read in a text of so many tokens.

        Raises:
            RunError: nothing is left to read.
        """
        if self.read == "last":
            return (tokens - 1,)
        if self.skip >= tokens - 1:
            raise RunError(
                f"a text of {tokens} tokens has no position left to read after {self.skip} are skipped; "
                "give longer texts"
            )
        return tuple(range(self.skip, tokens - 1))
