"""One model's runs on several tasks, in Python: `hydrascope.context`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pandas as pd

from hydrascope._tables import NamedTables
from hydrascope.errors import RunError
from hydrascope.resilience import Verdict
from hydrascope.results import Ledger
from hydrascope.run_directory import COMPANIONS, RUN, SINGLES, folder_named, kind_of
from hydrascope.significance import Contexts, told_context

if TYPE_CHECKING:
    from hydrascope.report import ContextFigures


@dataclass(frozen=True, repr=False)
class Context(NamedTables):
    """How the importance of parts depends on task, group of prompts, prompt and donor.

    Attributes:
        findings: the tables behind all methods.
        folders: folders of the runs, as they were named; none where a run is only in memory.
    """

    TABLES: ClassVar = ("variance", "agreement", "effects", "somewhere")
    WHAT: ClassVar = "a context"

    findings: Contexts
    folders: tuple[str, ...] = ()

    def variance(self) -> pd.DataFrame:
        """The share of task, group, prompt and donor in the variance of each part's effect."""
        return self.findings.variance.copy()

    def agreement(self) -> pd.DataFrame:
        """How far tasks order the parts alike: Kendall's W."""
        return self.findings.agreement.copy()

    def effects(self) -> pd.DataFrame:
        """The effect of every part in every task, and whether it matters or idles there."""
        return self.findings.effects.copy()

    def somewhere(self) -> pd.DataFrame:
        """Parts that matter in one task and idle in another, with the prompts on which they matter most."""
        return self.findings.somewhere.copy()

    def summary(self) -> Verdict:
        """The findings in plain sentences, with the numbers in them."""
        return told_context(self.findings)

    @cached_property
    def plot(self) -> ContextFigures:
        """Every figure of the page as a method, such as `found.plot.variance_shares()`; `save_all` writes them all."""
        from hydrascope.report import ContextFigures  # charts take a second to import

        return ContextFigures(self.findings)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the HTML page.

        Args:
            path: path of the HTML file.

        Raises:
            OutputError: the file cannot be written.
        """
        from hydrascope.report import write_context_report  # charts take a second to import

        return write_context_report(self.findings, folder_named(path), self.folders)


def context(*runs: Ledger | str | os.PathLike[str]) -> Context:
    """Say how far the importance of a model's parts depends on what it is asked.

    Args:
        runs: runs of one model with one ablation and the same parts, each on a task of its own: ledgers, or folders of
            finished runs, stress tests or rankings. One is enough to split the variance within a task.

    Returns:
        Tables and sentences.

    Raises:
        RunError: there is no run, two are of the same prompts, or the runs differ in more than their prompts.
        OutputError: a folder holds nothing finished.
    """
    if not runs:
        raise RunError("name one finished run or more, each on a task of its own")
    ledgers = [run if isinstance(run, Ledger) else _opened(folder_named(run)) for run in runs]
    _require_tasks_once(runs, ledgers)
    datasets = [one.dataset.compute() for one in ledgers]
    named = tuple(str(run) for run in runs if not isinstance(run, Ledger))
    folders = named if len(named) == len(runs) else ()
    return Context(Contexts(dict(zip(_names(ledgers), datasets, strict=True))), folders)


def _opened(folder: Path) -> Ledger:
    return Ledger.open(folder if kind_of(folder) == RUN else folder / COMPANIONS / SINGLES)


def _require_tasks_once(runs: Sequence[object], ledgers: Sequence[Ledger]) -> None:
    digests = [one.dataset.attrs["prompts_digest"] for one in ledgers]
    for place, digest in enumerate(digests):
        if (first := digests.index(digest)) < place:
            one, other = (
                f"run {number + 1}" if isinstance(runs[number], Ledger) else f"'{runs[number]}'"
                for number in (first, place)
            )
            raise RunError(f"{one} and {other} are of the same prompts; name one run of each task")


def _names(ledgers: Sequence[Ledger]) -> list[str]:
    """Name of each run's prompts, with its place where that tells no two runs apart."""
    prompts = [str(one.dataset.attrs["prompts_name"]) for one in ledgers]
    if len(set(prompts)) == len(prompts):
        return prompts
    return [f"{name} ({place})" for place, name in enumerate(prompts, start=1)]
