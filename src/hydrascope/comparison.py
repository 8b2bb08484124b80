"""Runs side by side, in Python: `hydrascope.compare`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from hydrascope.analysis import Comparison, ComparisonSummary, summarise_comparison
from hydrascope.errors import RunError
from hydrascope.results import Ledger
from hydrascope.run_directory import folder_named


@dataclass(frozen=True)
class Compared:
    """One run beside one or more others; differences are another's minus the first's.

    Attributes:
        pairs: the first run with each of the others.
    """

    pairs: tuple[Comparison, ...]

    def knockouts(self) -> pd.DataFrame:
        """Every knock-out that both runs have, with the difference of each term of its account.

        Returns:
            A row per other run, named in `run`, and knock-out: means of both in `_first` and `_second`, differences
            with `_lo` and `_hi` (logits), of shares and slopes where both lose something; `outcome`: whether its loss
            is repaired `more`, `less` or `alike`.
        """
        return self._stacked(lambda one: one.knockouts)

    def responders(self) -> pd.DataFrame:
        """The matrix of differences: every answer of a writer to a knock-out that both runs have."""
        return self._stacked(lambda one: one.responders)

    def by_depth(self) -> pd.DataFrame:
        """All runs over relative depth, each on its own prompts, whatever they share."""
        return pd.concat([one.by_depth for one in self.pairs]).drop_duplicates(
            ["run", "kind", "depth"], ignore_index=True
        )

    @cached_property
    def summaries(self) -> tuple[ComparisonSummary, ...]:
        """What the first run and each of the others differ in, in sentences."""
        return tuple(map(summarise_comparison, self.pairs))

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the page that shows the runs side by side.

        Args:
            path: path of the HTML file.

        Raises:
            OutputError: the file cannot be written.
        """
        from hydrascope.report import write_comparison  # charts take a second to import

        return write_comparison(self.pairs, folder_named(path))

    def _stacked(self, table: Callable[[Comparison], pd.DataFrame]) -> pd.DataFrame:
        tables = [table(one).assign(run=one.names[1]) for one in self.pairs]
        return pd.concat(tables, ignore_index=True)


def compare(first: Ledger | str | os.PathLike[str], *others: Ledger | str | os.PathLike[str]) -> Compared:
    """Put runs side by side: a base and a tuned model, two checkpoints, ablations, seeds or number formats.

    Runs of models with as many blocks are compared prompt by prompt on the prompts and knock-outs that both have;
    other runs by relative depth. What the runs differ in is told.

    Args:
        first: the run that others are compared with: its ledger, or the folder of the finished run.
        others: one or more other runs.

    Returns:
        Tables, sentences and the page.

    Raises:
        RunError: fewer than two runs, or one at the last token with one on whole texts.
        OutputError: a folder holds no finished run.
    """
    if not others:
        raise RunError("a comparison needs two runs or more: name another one")
    ledgers = [one if isinstance(one, Ledger) else Ledger.open(one) for one in (first, *others)]
    names = _names(ledgers)
    datasets = [one.dataset.compute() for one in ledgers]
    pairs = zip(datasets[1:], names[1:], strict=True)
    return Compared(tuple(Comparison(datasets[0], ds, (names[0], name)) for ds, name in pairs))


def _names(ledgers: Sequence[Ledger]) -> list[str]:
    """What tells the runs apart: model, or what is named of their folders, or their place."""
    models = [str(one.dataset.attrs["model_name"]) for one in ledgers]
    folders = [one.path.resolve().name if one.path else "" for one in ledgers]
    for names in (models, folders):
        if len(set(names)) == len(names) and all(names):
            return names
    return [f"{model} ({place})" for place, model in enumerate(models, start=1)]
