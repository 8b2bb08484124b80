"""Charts as methods that return them: what `plot` has in a ledger, a stress test and other results.

A class of figures derives from `Figures`; `@figure(choices, lacking)` makes a method that returns a chart one of them.
What a result does not have is not offered by the tab key, not written by `save_all`, and refused with the reason.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Concatenate, Generic, ParamSpec, TypeVar, cast

import altair as alt

from hydrascope.errors import DetailDropped, OutputError
from hydrascope.figures import FORMS, for_notebook, save_chart

P = ParamSpec("P")
Source = TypeVar("Source")
Chart = alt.TopLevelMixin
Choices = Iterable[dict[str, Any]]
"""Arguments with which a figure is made, one for each of its variants."""

ONE: Choices = ({},)
"""The choices of a figure without variants."""


class Figures(Generic[Source]):
    """The figures of one result.

    Args:
        run: the result's tables, from which every figure is drawn.

    Attributes:
        _WHAT: what the result is called in a sentence.
    """

    _WHAT: ClassVar[str] = "run"

    def __init__(self, run: Source) -> None:
        self._run = run

    @classmethod
    def _names(cls) -> list[str]:
        """Names of all figures of this class."""
        found = [name for kind in cls.__mro__ for name, member in vars(kind).items() if hasattr(member, "choices")]
        return list(dict.fromkeys(found))

    def _variants(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every figure that the result has: its name, and its arguments."""
        for name in self._names():
            yield from ((name, given) for given in getattr(type(self), name).choices(self._run))

    def __dir__(self) -> list[str]:
        own = set(super().__dir__()).difference(self._names())
        return sorted(own | {name for name, _ in self._variants()})

    def save(self, chart: Chart, path: str | Path, columns: int = 1) -> list[Path]:
        """Write one figure at the size of a paper's column, and its data as CSV beside it.

        Args:
            chart: a figure of this accessor.
            path: path of the picture; its ending says the form: pdf, svg, png or html.
            columns: 1 for a width of 3.25 inches, 2 for 6.75; an HTML page is as wide as its window.

        Returns:
            Paths of the picture and of its data.

        Raises:
            OutputError: the ending is none of these, or the file cannot be written.
        """
        return save_chart(chart, Path(path), columns=columns)

    def save_all(self, folder: str | Path, form: str = "pdf", columns: int = 1) -> list[Path]:
        """Write every figure that there is, in all its variants, and its data as CSV beside it.

        Args:
            folder: folder of the files, made if there is none; files of the same names are replaced.
            form: pdf, svg, png or html.
            columns: 1 for a width of 3.25 inches, 2 for 6.75; an HTML page is as wide as its window.

        Returns:
            Paths of the pictures and of their data.

        Raises:
            OutputError: there is no such form, or a file cannot be written.
        """
        if form not in FORMS:
            raise OutputError(f"there is no form '{form}' of a figure; choose from {', '.join(FORMS)}")
        written = []
        for name, given in self._variants():
            stem = "-".join([name, *(str(value).replace("_", "-") for value in given.values())])
            written += self.save(self._draw(name, **given), Path(folder) / f"{stem}.{form}", columns)
        return written

    def _draw(self, name: str, **given: Any) -> Chart:
        """A figure by its name.

        Args:
            name: name of a method that returns a chart.
            given: its arguments.
        """
        chart: Chart = getattr(self, name)(**given)
        return chart


Self_ = TypeVar("Self_", bound=Figures[Any])


def figure(
    choices: Callable[[Any], Choices], lacking: str
) -> Callable[[Callable[Concatenate[Self_, P], Chart]], Callable[Concatenate[Self_, P], Chart]]:
    """Make a method a figure, in the look of the package.

    Args:
        choices: the arguments of every variant that a result has; none where it has no such figure.
        lacking: why a result has none, for the end of a sentence.
    """

    def made(method: Callable[Concatenate[Self_, P], Chart]) -> Callable[Concatenate[Self_, P], Chart]:
        @functools.wraps(method)
        def drawn(self: Self_, *args: P.args, **given: P.kwargs) -> Chart:
            if not list(choices(self._run)):
                raise DetailDropped(f"this {self._WHAT} has no figure {method.__name__}: {lacking}")
            return for_notebook(method(self, *args, **given))

        drawn.choices = choices  # type: ignore[attr-defined]
        return cast(Callable[Concatenate[Self_, P], Chart], drawn)

    return made
