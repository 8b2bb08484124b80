"""What makes a method a figure of `Ledger.plot`: the choices that a run has for it, and the look of the package."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import altair as alt

from hydrascope.errors import ComponentError, DetailDropped
from hydrascope.figures import for_notebook
from hydrascope.report._run import Run

P = ParamSpec("P")
Chart = alt.TopLevelMixin
Choices = Iterable[dict[str, Any]]
"""Arguments with which a figure is made, one for each of its variants."""

ONE: Choices = ({},)
"""The choices of a figure without variants."""


class Figures:
    """The figures of one run.

    Args:
        run: the run's tables, and the knock-out shown first.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    def _variants(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every figure that the run has: its name, and its arguments."""
        for name in NAMES:
            if hasattr(type(self), name):
                yield from ((name, given) for given in getattr(type(self), name).choices(self._run))

    def __dir__(self) -> list[str]:
        own = {name for name in super().__dir__() if name not in NAMES}
        return sorted(own | {name for name, _ in self._variants()})

    def _choices(self, most: int, ablated: str | None, among: Collection[str] | None = None) -> tuple[list[str], str]:
        """Knock-outs that a reader can choose from, and the one that is shown first.

        Args:
            most: number of knock-outs, the strongest.
            ablated: the one to show; the report's choice if None.
            among: knock-outs that the figure can show; all of the run's if None.

        Raises:
            ComponentError: the figure cannot show it.
        """
        names = self._run.strongest(most, among)
        names = [name for name in names if among is None or name in among]
        known = [str(name) for name in self._run.losses["ablated"] if among is None or name in among]
        if ablated is None:
            return names, self._run.first(names)
        return [name for name in known if name in {*names, self._known(ablated, known)}], ablated

    def _known(self, ablated: str, names: Collection[str]) -> str:
        """The knock-out itself, if it is one of some."""
        if ablated not in names:
            some = ", ".join(list(names)[:8])
            raise ComponentError(f"this figure has no knock-out '{ablated}'; it has {some}{' ...' * (len(names) > 8)}")
        return ablated


Self_ = TypeVar("Self_", bound=Figures)

NAMES: list[str] = []
"""Names of all figures."""


def figure(
    choices: Callable[[Run], Choices], lacking: str
) -> Callable[[Callable[Concatenate[Self_, P], Chart]], Callable[Concatenate[Self_, P], Chart]]:
    """Make a method a figure of the accessor.

    Args:
        choices: the arguments of every variant that a run has; none where it has no such figure.
        lacking: why a run has none, for the end of a sentence.
    """

    def made(method: Callable[Concatenate[Self_, P], Chart]) -> Callable[Concatenate[Self_, P], Chart]:
        @functools.wraps(method)
        def drawn(self: Self_, *args: P.args, **given: P.kwargs) -> Chart:
            if not list(choices(self._run)):
                raise DetailDropped(f"this run has no figure {method.__name__}: {lacking}")
            return for_notebook(method(self, *args, **given))

        drawn.choices = choices  # type: ignore[attr-defined]
        NAMES.append(method.__name__)
        return cast(Callable[Concatenate[Self_, P], Chart], drawn)

    return made
