"""The figures of a ranking, `plot` of a `Rank`."""

from __future__ import annotations

from typing import ClassVar

from hydrascope import figures
from hydrascope.report._figure import ONE, Chart, Figures, figure
from hydrascope.significance import Significance


class RankFigures(Figures[Significance]):
    """The figures of a ranking."""

    _WHAT: ClassVar[str] = "ranking"

    @figure(lambda _: ONE, "")
    def conditional_scores(self) -> Chart:
        """What the loss of each candidate moves, alone and once the primaries are out."""
        return figures.conditional_scores(self._run.backups)

    @figure(lambda found: ONE if len(found.freezing) else (), "no part reads what the primaries write")
    def frozen_repair(self) -> Chart:
        """What of the primaries' repair goes while one candidate cannot answer."""
        table = self._run.freezing
        return figures.frozen_repair(table[table["chosen_by"] == "alone"])

    @figure(lambda _: ONE, "")
    def score_agreement(self) -> Chart:
        """Kendall's tau of each two scores."""
        return figures.score_agreement(self._run.agreement, [score.name for score in self._run.scores])

    @figure(lambda found: ONE if len(found.misjudged) else (), "no cheap score estimates effects")
    def cheap_against_exact(self) -> Chart:
        """Effects that cheap scores estimate, over the exact ones."""
        return figures.cheap_against_exact(self._run.misjudged)
