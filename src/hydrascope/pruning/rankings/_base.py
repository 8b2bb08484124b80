"""What a ranking is, and what it chooses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from hydrascope.components import Component
from hydrascope.errors import RunError, did_you_mean
from hydrascope.pruning._judge import Judge

RANKINGS: dict[str, type[Ranking]] = {}
"""Rankings by name, in the order of the table."""


@dataclass(frozen=True)
class Choice:
    """What a ranking removes.

    Attributes:
        sets: for every size the parts that go, in the order of their removal if there is one; the first set of a
            ranking that draws several.
        scores: by part, the lowest of which goes first; empty where sets are chosen as a whole.
        drawn: for every size all sets of a ranking that draws them; empty elsewhere.
    """

    sets: Mapping[int, tuple[Component, ...]]
    scores: Mapping[Component, float] = field(default_factory=dict)
    drawn: Mapping[int, tuple[tuple[Component, ...], ...]] = field(default_factory=dict)

    def all_sets(self, size: int) -> tuple[tuple[Component, ...], ...]:
        """The set of a size, or all that were drawn."""
        return self.drawn.get(size, (self.sets[size],))

    @classmethod
    def by_score(cls, scores: Mapping[Component, float], sizes: Sequence[int]) -> Choice:
        """The parts with the lowest scores; of equal ones the later."""
        return cls.in_order(sorted(scores, key=lambda part: (scores[part], -part.layer)), sizes, scores)

    @classmethod
    def in_order(
        cls, order: Sequence[Component], sizes: Sequence[int], scores: Mapping[Component, float] | None = None
    ) -> Choice:
        """The first parts of one order."""
        return cls({size: tuple(order[:size]) for size in sizes}, scores or {})


class Ranking(ABC):
    """A way to choose which parts go. A subclass with a name is found by being there.

    Attributes:
        name: name on the command line and in tables.
        meaning: what goes first, in words.
        repairs: whether it knows that other parts go too, if only those that went before.
        kinds: kinds of parts that it can rank; empty for all.
        runs: whether it runs the model without every part, which takes long where there are thousands.
        sees: whether it may know the text to calibrate on, so that it can seem cheaper there than elsewhere.
        draws: whether its sets are drawn at random from all sets of a size, for whose mean they stand.
    """

    name: ClassVar[str] = ""
    meaning: ClassVar[str] = ""
    repairs: ClassVar[bool] = False
    kinds: ClassVar[tuple[str, ...]] = ()
    runs: ClassVar[bool] = False
    sees: ClassVar[bool] = True
    draws: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        if cls.name:
            RANKINGS[cls.name] = cls

    @abstractmethod
    def choose(self, judge: Judge, parts: Sequence[Component], sizes: Sequence[int]) -> Choice:
        """Choose the parts that go.

        Args:
            judge: judges sets on the text to calibrate on.
            parts: the parts that can go, in the order of the forward pass.
            sizes: how many go, ascending.
        """

    def sets_run(self, parts: int, sizes: Sequence[int]) -> float:
        """About how many sets it runs, for an estimate of the time."""
        return 0


def ranking_named(name: str, more: Sequence[str] = ()) -> type[Ranking]:
    """A ranking by its name.

    Args:
        name: its name.
        more: other names that could have been given, for the error.

    Raises:
        RunError: there is none.
    """
    if name not in RANKINGS:
        names = [*RANKINGS, *more]
        raise RunError(f"there is no ranking '{name}'{did_you_mean(name, names)}; choose from {', '.join(names)}")
    return RANKINGS[name]
