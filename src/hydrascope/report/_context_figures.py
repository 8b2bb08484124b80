"""The figures of a model on several tasks, `plot` of a `Context`."""

from __future__ import annotations

from typing import ClassVar

from hydrascope import figures
from hydrascope.figures import LEVEL_LABELS
from hydrascope.report._figure import ONE, Chart, Choices, Figures, figure
from hydrascope.significance import Contexts

ONE_TASK = "there is one task; name a run on another one"
STILL = "no effect varies"
UNSURE = "there are too few independent groups of prompts for intervals"


def varies(found: Contexts) -> Choices:
    """Whether any share of a variance is known."""
    return ONE if found.variance[list(LEVEL_LABELS)].notna().any(axis=None) else ()


def sure(found: Contexts) -> Choices:
    """Whether shares have intervals."""
    return ONE if found.variance.filter(like="_lo").notna().any(axis=None) else ()


def several(found: Contexts) -> Choices:
    """Whether there are tasks to compare."""
    return ONE if len(found.ledgers) > 1 else ()


class ContextFigures(Figures[Contexts]):
    """The figures of a model on several tasks."""

    _WHAT: ClassVar[str] = "context"

    @figure(varies, STILL)
    def variance_shares(self) -> Chart:
        """How much of the variance of each part's effect lies between tasks, groups, prompts and donors."""
        return figures.variance_shares(self._run.variance)

    @figure(sure, UNSURE)
    def share_intervals(self) -> Chart:
        """The shares of the costliest parts with their intervals."""
        return figures.share_intervals(self._run.variance)

    @figure(several, ONE_TASK)
    def task_agreement(self) -> Chart:
        """Kendall's W of the tasks' rankings of the parts."""
        return figures.task_agreement(self._run.agreement)

    @figure(several, ONE_TASK)
    def effects_by_task(self) -> Chart:
        """What the loss of each part does in each task."""
        return figures.effects_by_task(self._run.effects, self._run.parts)
