"""What the figures of a ledger share: which knock-outs a reader can choose from."""

from __future__ import annotations

from collections.abc import Collection

from hydrascope.errors import ComponentError
from hydrascope.report._figure import Figures
from hydrascope.report._run import Run


class LedgerFigures(Figures[Run]):
    """Figures of one ledger."""

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
