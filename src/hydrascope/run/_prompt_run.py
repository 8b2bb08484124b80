"""A run at the last token: values of all prompts, then knock-outs of some at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.ablations import Donation, ExtraRun
from hydrascope.anatomy import Site
from hydrascope.engine import (
    ActivationStatistics,
    BatchContext,
    Budget,
    CleanCache,
    Constants,
    Learning,
    Plan,
    batches_of_prompts,
    prompts_at_once,
    prompts_in_account,
    same_length_batches,
)
from hydrascope.ledger import LedgerFile
from hydrascope.prompts import select_prompts
from hydrascope.run._runner import Batch, Group, Progress, Runner, Selection, Tell
from hydrascope.run._task import Task
from hydrascope.run_directory import RunDirectory

BATCH = 16
"""Prompts that are written together: the most that a kill can cost."""


class PromptRun(Runner):
    """One run at the last token of every prompt."""

    wait = 0.0

    def __init__(self, task: Task, directory: RunDirectory, budget: Budget, progress: Progress, tell: Tell) -> None:
        super().__init__(task, directory, budget, progress, tell)
        prompts = [prompt.ids for prompt in task.encoded.prompts]
        self.cache = CleanCache(task.model, prompts, budget, task.engine.strategy.keep)
        self.pools: dict[Site, Float[Tensor, "pool 1 _"]] = {}
        self.top = np.zeros(0, dtype=np.int64)
        self.donation = Donation(np.zeros((0, 0), dtype=np.int64))

    def select(self) -> Selection:
        """Run all prompts, keep those that the target policy wants, and choose their donors."""
        task = self.task
        runs = [ExtraRun(prompt.ids, pair=prompt.pair) for prompt in task.encoded.prompts]
        clean = self._store("clean", runs, task.sites, self.cache)
        options = task.options
        asked = select_prompts(
            task.encoded, options.target, clean.answers, keep_wrong=options.keep_wrong, seed=options.seed
        )
        self.require_donors(asked.prompts, asked.tokens)
        self.donation = task.ablation.donate(asked.prompts, asked.tokens, options.seed)
        rows = [task.encoded.rows[prompt.index] for prompt in asked.prompts]
        self.top = clean.top[rows]
        self.pools = {site: clean.values(site)[rows] for site in task.sites}
        if self.donation.runs:
            extra = self._store("extra", self.donation.runs, task.sites)
            self.pools = {site: torch.cat([pool, extra.values(site)]) for site, pool in self.pools.items()}
        return Selection(
            asked.prompts,
            tuple((len(prompt.ids) - 1,) for prompt in asked.prompts),
            tuple((token,) for token in asked.tokens),
            asked.foils,
            {"prompts_dropped_wrong": asked.dropped_wrong, "prompts_dropped_alike": asked.dropped_alike},
            asked.left_out,
        )

    def plan(self, selection: Selection) -> Plan:
        """The plan with the table of all donors."""
        return self.task.plan(self.donation.table)

    def labels(self, selection: Selection) -> Mapping[str, np.ndarray]:
        """One row a prompt."""
        prompts = selection.prompts
        foils = {} if selection.foils is None else self._tokens("foil", selection.foils)
        return {
            "prompt": np.array([p.index for p in prompts]),
            "text": np.array([p.text for p in prompts]),
            **self._tokens("target", [token for (token,) in selection.tokens]),
            **foils,
            "clean_top": np.array([self._token(int(t)) for t in self.top]),
            "group": np.array([p.group for p in prompts]),
            "length": np.array([len(p.ids) for p in prompts]),
        }

    def rows_together(self, plan: Plan, selection: Selection) -> int:
        """A batch."""
        return prompts_together(plan, self.budget)

    def indivisible(self, selection: Selection, file: LedgerFile) -> Iterator[range]:
        """The ledger's batches, whose prompts go through the model together."""
        return file.batches()

    def sharing(self, selection: Selection) -> int:
        """The count made when donors were chosen."""
        return self.donation.sharing

    def learning(self, plan: Plan, selection: Selection) -> Learning:
        """All prompts at once, from their values at the last token."""
        strategy, prompts = self.task.engine.strategy, selection.prompts
        batches = batches_of_prompts(self.model, strategy, [prompt.ids for prompt in prompts], self.budget)
        statistics = {site: ActivationStatistics.of(pool[: len(prompts)]) for site, pool in self.pools.items()}
        return Learning(self.model, plan, strategy.at, batches, statistics)

    def groups(
        self,
        plan: Plan,
        selection: Selection,
        written: Iterable[range],
        learned: Mapping[int, Constants],
        is_done: Callable[[range], bool],
    ) -> Iterator[Group]:
        """The ledger's batches, each cut by the length of its prompts."""
        for rows in written:
            yield Group(rows, len(rows), self._batches(plan, selection, learned, rows))

    def _batches(
        self, plan: Plan, selection: Selection, learned: Mapping[int, Constants], rows: range
    ) -> Iterator[Batch]:
        strategy, prompts = self.task.engine.strategy, selection.prompts
        fitting = partial(prompts_at_once, self.model, budget=self.budget)
        keys, places = [prompt.key for prompt in prompts], self.task.encoded.rows
        for within in same_length_batches([prompts[row].ids for row in rows], fitting):
            context = BatchContext(
                self.model, plan, strategy, self.pools, keys, self.budget, self.tolerance, learned=learned
            )
            some = [rows[i] for i in within]
            clean = self.cache.take([places[prompts[row].index] for row in some])
            yield Batch(
                context, some, some, within, clean, selection.items(some, [str(prompts[row].index) for row in some])
            )


def prompts_together(plan: Plan, budget: Budget) -> int:
    """Prompts of a batch: as many as have room for their account, up to what a kill may cost."""
    return min(BATCH, prompts_in_account(budget, len(plan.knockouts), len(plan.aggregation.entries)))
