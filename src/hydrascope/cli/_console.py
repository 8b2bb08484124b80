"""A console for words and tables, whoever wrote what is in them."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from hydrascope.cli._streams import unobeyed


class Terminal(Console):
    """A console whose texts cannot steer the terminal."""

    def __init__(self) -> None:
        super().__init__(highlight=False, markup=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render to segments of printable text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=unobeyed(segment.text))
