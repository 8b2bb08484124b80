"""A run at the last token of every prompt."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from hydrascope.ablation import ExtraRun, Optimal
from hydrascope.engine.account import Arrays
from hydrascope.engine.batch import Work, run_batch
from hydrascope.engine.budget import Budget, prompts_in_account
from hydrascope.engine.keeper import PrefixKeeper
from hydrascope.engine.moments import Moments
from hydrascope.engine.optimal import Learning
from hydrascope.engine.passes import passes_of_prompts
from hydrascope.engine.plan import Plan
from hydrascope.engine.values import same_length_batches
from hydrascope.ledger import LedgerFile
from hydrascope.prompts import EncodedPrompt, Questions, pose
from hydrascope.run._task import Task
from hydrascope.run.base import BaseRun, Progress
from hydrascope.run_directory import RunDirectory

BATCH = 16
"""Prompts per batch of the ledger: what a kill can cost at most."""


class LastTokenRun(BaseRun):
    """Values of all prompts first, then knock-outs batch by batch."""

    def __init__(self, task: Task, directory: RunDirectory, budget: Budget, progress: Progress) -> None:
        super().__init__(task, directory, budget, progress)
        needs_prefix = task.engine.strategy.needs_prefix
        self.keeper = PrefixKeeper(task.model, [prompt.ids for prompt in task.encoded.prompts], budget, needs_prefix)

    def finish(self, started: float) -> None:
        """Clean runs, filter, donors, knock-outs, closing."""
        runs = [ExtraRun(prompt.ids, pair=prompt.pair) for prompt in self.task.encoded.prompts]
        clean = self._store("clean", runs, self.sites, self.keeper)
        options = self.task.options
        asked = pose(self.task.encoded, options.target, clean.answers, keep_wrong=options.keep_wrong, seed=options.seed)
        kept = asked.prompts
        donation = self.task.ablation.donate(kept, asked.tokens, options.seed)
        rows = [prompt.index for prompt in kept]
        pools = {site: clean.values(site)[rows] for site in self.sites}
        if donation.runs:
            extra = self._store("extra", donation.runs, self.sites, None)
            pools = {site: torch.cat([pool, extra.values(site)]) for site, pool in pools.items()}
        plan = self.task.plan(donation.table)
        sharing = 0 if asked.foils is None else donation.sharing
        file = self._file(plan, asked, clean.top[rows], sharing)
        work = Work(self.model, plan, self.task.engine.strategy, pools, len(kept), self.budget, self.tolerance)
        if isinstance(self.task.ablation, Optimal):
            learning = partial(self._learning, work, kept, self.task.ablation)
            work = replace(work, learned=self._constants(plan, learning))
        self._sweep(work, file, asked)
        self._close(file, time.monotonic() - started)

    def _learning(self, work: Work, prompts: Sequence[EncodedPrompt], ablation: Optimal) -> Learning:
        ids = [prompt.ids for prompt in prompts]
        passes = passes_of_prompts(self.model, work.strategy, ids, self.budget)
        moments = {site: Moments.of(pool[: work.n_clean]) for site, pool in work.pools.items()}
        return Learning(self.model, work.plan, lambda block: work.strategy, passes, moments, ablation)

    def _file(self, plan: Plan, asked: Questions, top: np.ndarray, sharing: int) -> LedgerFile:
        kept = asked.prompts
        foils = {} if asked.foils is None else self._tokens("foil", asked.foils)
        items = {
            "prompt": np.array([p.index for p in kept]),
            "text": np.array([p.text for p in kept]),
            **self._tokens("target", asked.tokens),
            **foils,
            "clean_top": np.array([self._token(int(t)) for t in top]),
            "group": np.array([p.group for p in kept]),
            "length": np.array([len(p.ids) for p in kept]),
        }
        counts = {
            "prompts_kept": len(kept),
            "prompts_dropped_wrong": asked.dropped_wrong,
            "prompts_dropped_alike": asked.dropped_alike,
            "donors_sharing": sharing,
        }
        held = prompts_in_account(self.budget, len(plan.knockouts), len(plan.book.entries))
        return self._ledger(plan, items, min(BATCH, len(kept), held), counts)

    def _sweep(self, work: Work, file: LedgerFile, asked: Questions) -> None:
        counted, total = 0, work.plan.variants * len(asked.prompts)

        def counting(variants: int) -> None:
            nonlocal counted
            counted += variants
            self.progress("knock-outs", counted, total)

        for rows, done in file.batches():
            if done:
                counting(len(rows) * work.plan.variants)
            else:
                file.write(rows, self._batch(work, rows, asked, counting))

    def _batch(self, work: Work, rows: range, asked: Questions, done: Callable[[int], None]) -> Arrays:
        found: Arrays = {}
        kept = asked.prompts
        for members in same_length_batches(self.model, [kept[row].ids for row in rows], self.budget):
            some = [rows[i] for i in members]
            part = run_batch(
                work,
                some,
                [kept[row] for row in some],
                [asked.tokens[row] for row in some],
                None if asked.foils is None else [asked.foils[row] for row in some],
                self.keeper.take,
                done,
            )
            for name, array in part.items():
                axis = 1 if name == "change_by_half" else 0
                shape = list(array.shape)
                shape[axis] = len(rows)
                whole = found.setdefault(name, np.empty(shape))
                whole[(slice(None),) * axis + (members,)] = array
        return found
