"""One run, from its folder to a ledger that closes, for prompts and whole texts alike."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from typing import ClassVar

import numpy as np
import torch

from hydrascope.ablations import ExtraRun
from hydrascope.analysis import prompt_weights
from hydrascope.anatomy import Site
from hydrascope.engine import (
    Arrays,
    BatchContext,
    Budget,
    CleanCache,
    CleanRun,
    Constants,
    ConstantStore,
    Items,
    Learning,
    Plan,
    ValueStore,
    measure,
    require_account,
    room,
)
from hydrascope.errors import OutputError
from hydrascope.ledger import VARIABLES, LedgerBuffer, LedgerFile, numbers_kept
from hydrascope.prompts import EncodedPrompt, LeftOut, require_donors
from hydrascope.run._description import ledger_attributes, ledger_labels, ledger_variables
from hydrascope.run._introduction import introduction, recorded
from hydrascope.run._shard import WHOLE, Shard
from hydrascope.run._task import Task
from hydrascope.run_directory import RunDirectory

Progress = Callable[[str, int, int], None]
"""Takes stage, number done and total."""

Tell = Callable[[Sequence[str]], None]
"""Takes what a run says before its first number, line by line."""


@dataclass(frozen=True)
class Selection:
    """What a run is about: prompts, where each is read, and for which tokens.

    Attributes:
        prompts: prompts that stay, in the order of the ledger's rows.
        positions: read positions of each prompt.
        tokens: target of each read position.
        foils: tokens whose logits are subtracted, where differences are read.
        dropped: number of prompts left out, by the ledger's attribute for the reason.
        left_out: those of them that are told one by one.
        summed: the read positions of a prompt are one answer, and share a row.
    """

    prompts: tuple[EncodedPrompt, ...]
    positions: tuple[tuple[int, ...], ...]
    tokens: tuple[tuple[int, ...], ...]
    foils: tuple[int, ...] | None
    dropped: Mapping[str, int]
    left_out: tuple[LeftOut, ...] = ()
    summed: bool = False

    @cached_property
    def first_rows(self) -> tuple[int, ...]:
        """Ledger row of each prompt's first read position, and the number of rows."""
        return tuple(accumulate((1 if self.summed else len(some) for some in self.positions), initial=0))

    def rows(self, prompts: range) -> range:
        """Ledger rows of consecutive prompts."""
        return range(self.first_rows[prompts.start], self.first_rows[prompts.stop])

    def items(self, prompts: Sequence[int], names: Sequence[str]) -> Items:
        """Targets and foils of some prompts, with names for their read positions."""
        foils = None if self.foils is None else torch.tensor([self.foils[i] for i in prompts])
        targets = torch.tensor([token for i in prompts for token in self.tokens[i]])
        return Items(targets, foils, names, len(self.tokens[prompts[0]]) if self.summed else 1)


@dataclass(frozen=True)
class Batch:
    """Prompts of one length that are measured together.

    Attributes:
        context: model, plan and values.
        prompts: numbers of the prompts in the selection.
        rows: rows of the prompts in the plan's table and the pools.
        within: ledger rows of the prompts, counted from the group's first.
        clean: clean run of the prompts.
        items: what is read.
    """

    context: BatchContext
    prompts: Sequence[int]
    rows: Sequence[int]
    within: Sequence[int]
    clean: CleanRun
    items: Items


@dataclass(frozen=True)
class Group:
    """Consecutive rows of the ledger that are written together.

    Attributes:
        rows: ledger rows.
        prompts: number of prompts.
        batches: how the rows are measured; none where they are done.
    """

    rows: range
    prompts: int
    batches: Iterator[Batch]


class Runner(ABC):
    """One run from its folder's state to its end.

    Args:
        task: what to do.
        directory: the run's folder.
        budget: memory budget.
        progress: takes stage, number done and total.
        tell: takes what is said before the first number.
    """

    wait: ClassVar[float]
    """Seconds that finished rows may wait to be written with others: what a kill can cost."""

    def __init__(self, task: Task, directory: RunDirectory, budget: Budget, progress: Progress, tell: Tell) -> None:
        self.task, self.directory, self.budget, self.progress, self.tell = task, directory, budget, progress, tell
        self.model = task.model
        self.tolerance = task.model.closing_tolerance

    def finish(self, started: float) -> None:
        """Do what is left to do of the whole run, and close its ledger.

        Args:
            started: start of the run, or of this part of it, in seconds of the monotonic clock.
        """
        file = self.measure(WHOLE)
        file.finish(time.monotonic() - started)

    def measure(self, shard: Shard) -> LedgerFile:
        """Do what is left to do of a share, in a ledger that is laid out for all: select, plan, learn, measure.

        Args:
            shard: the share.
        """
        selection = self.select()
        plan = self.plan(selection)
        file = self._ledger(plan, selection)
        learned = self._learned(plan, selection)
        self.tell(introduction(self.task, selection.prompts, selection.tokens, selection.left_out))
        self._measure(plan, selection, file, learned, shard)
        return file

    def deal(self, together: int) -> tuple[Selection, Plan, Iterator[Batch]]:
        """What would be measured, with every donor dealt out: prompts, plan and batches.

        Args:
            together: largest number of prompts of a batch at the last token.
        """
        selection = self.select()
        plan = self.plan(selection)
        rows = selection.first_rows[-1]
        written = (range(first, min(first + together, rows)) for first in range(0, rows, together))
        groups = self.groups(plan, selection, written, self._learned(plan, selection), lambda rows: False)
        return selection, plan, (batch for group in groups for batch in group.batches)

    @abstractmethod
    def select(self) -> Selection:
        """Run what decides which prompts stay, and say what is read of them."""

    @abstractmethod
    def plan(self, selection: Selection) -> Plan:
        """The plan of all batches."""

    @abstractmethod
    def labels(self, selection: Selection) -> Mapping[str, np.ndarray]:
        """Coordinates of the ledger's rows; the first of them names the dimension."""

    @abstractmethod
    def rows_together(self, plan: Plan, selection: Selection) -> int:
        """Rows that share a file of each of the ledger's variables."""

    @abstractmethod
    def indivisible(self, selection: Selection, file: LedgerFile) -> Iterator[range]:
        """Rows that must be computed together for their last bits, in order."""

    @abstractmethod
    def sharing(self, selection: Selection) -> int:
        """Number of donors that name a token of the prompt's pair of target and foil."""

    @abstractmethod
    def learning(self, plan: Plan, selection: Selection) -> Learning:
        """What constants are learned from."""

    @abstractmethod
    def groups(
        self,
        plan: Plan,
        selection: Selection,
        written: Iterable[range],
        learned: Mapping[int, Constants],
        is_done: Callable[[range], bool],
    ) -> Iterator[Group]:
        """All rows of the ledger in order; finished ones come without batches.

        Args:
            plan: the plan of all batches.
            selection: what the run is about.
            written: rows that share the ledger's files.
            learned: constants by knock-out, where the ablation learns them.
            is_done: tells whether rows are finished.
        """

    def _measure(
        self, plan: Plan, selection: Selection, file: LedgerFile, learned: Mapping[int, Constants], shard: Shard
    ) -> None:
        mine = shard.share(self.indivisible(selection, file), selection.first_rows[-1])
        counted, total = 0, plan.interventions * int(mine[list(selection.first_rows[:-1])].sum())

        def counting(interventions: int) -> None:
            nonlocal counted
            counted += interventions
            self.progress("knock-outs", counted, total)

        with LedgerBuffer(file, self.wait) as buffer:

            def is_done(rows: range) -> bool:
                return not mine[rows.start] or buffer.is_done(rows)

            for group in self.groups(plan, selection, file.batches(), learned, is_done):
                if not is_done(group.rows):
                    buffer.add(group.rows, self._arrays(group, counting))
                elif mine[group.rows.start]:
                    counting(plan.interventions * group.prompts)

    def _arrays(self, group: Group, done: Callable[[int], None]) -> Arrays:
        found: Arrays = {}
        for batch in group.batches:
            part = measure(
                batch.context,
                batch.rows,
                batch.clean,
                batch.items,
                with_distribution=self.task.options.distribution,
                done=done,
                smaller=self._smaller,
            )
            for name, array in part.items():
                axis = VARIABLES[name][0].index("prompt")
                shape = (*array.shape[:axis], len(group.rows), *array.shape[axis + 1 :])
                whole = found.setdefault(name, np.empty(shape))
                whole[(slice(None),) * axis + (list(batch.within),)] = array
        return found

    def _smaller(self, size: int) -> None:
        self.budget = self.budget.halved()
        self.progress(f"out of memory, now {size} at once", 0, 1)

    def _store(
        self, name: str, runs: Sequence[ExtraRun], sites: Sequence[Site], cache: CleanCache | None = None
    ) -> ValueStore:
        """Last-token values of runs, on disk; missing ones are made now."""
        try:
            store = ValueStore.open(self.directory.scratch, name, sites, len(runs), self.model.anatomy.n_vocab)
            counted = 0

            def done(count: int) -> None:
                nonlocal counted
                counted += count
                self.progress(f"{name} runs", counted, len(runs))

            store.fill(self.model, runs, sites, self.budget, done, cache)
        except OSError as error:
            raise OutputError(
                f"'{self.directory.scratch}' cannot be written: {error.strerror or error}; what is done is kept, "
                "make room and run the same command again"
            ) from error
        return store

    def _learned(self, plan: Plan, selection: Selection) -> Mapping[int, Constants]:
        """Constants of all knock-outs, where the ablation learns them; missing ones are learned now."""
        if plan.ablation.learning is None:
            return {}
        store = ConstantStore.open(self.directory.scratch, plan)
        if not store.complete:
            store.fill(self.learning(plan, selection), partial(self.progress, "learning"))
        return store.constants()

    def _ledger(self, plan: Plan, selection: Selection) -> LedgerFile:
        """The run's ledger, laid out if it is not there yet."""
        labels = self._weighted(self.labels(selection))
        if self.directory.ledger.exists():
            return LedgerFile.resume(self.directory.ledger, labels["prompt"])
        variables = ledger_variables(plan, self.task.options.distribution)
        rows, knockouts, entries = selection.first_rows[-1], len(plan.knockouts), len(plan.aggregation.entries)
        require_account(self.budget, room(self.directory.path), rows, knockouts, entries, numbers_kept(variables))
        attributes = {
            **ledger_attributes(self.task, plan, self.directory.record),
            "prompts_kept": len(selection.prompts),
            **selection.dropped,
            **recorded(self.task, selection.prompts, selection.tokens, selection.left_out),
            "donors_sharing": 0 if selection.foils is None else self.sharing(selection),
        }
        together = min(rows, self.rows_together(plan, selection))
        return LedgerFile.create(self.directory.ledger, ledger_labels(plan, labels), together, variables, attributes)

    def _weighted(self, labels: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """The labels, with how much each row counts in estimates: every group once, or every token of a text."""
        each = self.task.positions.read == "each"
        return {**labels, "weight": np.ones(len(labels["group"])) if each else prompt_weights(labels["group"])}

    def _tokens(self, name: str, tokens: Sequence[int]) -> dict[str, np.ndarray]:
        return {name: np.array([self._token(token) for token in tokens]), f"{name}_token": np.array(tokens)}

    def require_donors(self, prompts: Sequence[EncodedPrompt], tokens: Sequence[int]) -> None:
        """Require donors for every prompt, where the ablation deals them out; an error shows the token's text."""
        if self.task.ablation.deals:
            inputs, numbers = [prompt.ids for prompt in prompts], [prompt.index for prompt in prompts]
            draws = self.task.ablation.draws
            require_donors(tokens, draws, inputs=inputs, numbers=numbers, shown=lambda one: repr(self._token(one)))

    def _token(self, token: int) -> str:
        return str(token) if self.model.tokenizer is None else str(self.model.tokenizer.decode([token]))
