"""A run: knock out parts of a model on a set of prompts, batch by batch, and write the ledger."""

from __future__ import annotations

import json
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import zarr

from hydrascope.ablation import ExtraRun
from hydrascope.anatomy import Site
from hydrascope.engine.account import Arrays
from hydrascope.engine.batch import Work, run_batch
from hydrascope.engine.budget import Budget, prompts_in_account, require_account, room
from hydrascope.engine.edges import sender_places
from hydrascope.engine.keeper import PrefixKeeper
from hydrascope.engine.plan import Plan, edited_places
from hydrascope.engine.values import ValueStore, same_length_batches
from hydrascope.errors import HydrascopeError, OutputError
from hydrascope.ledger import LedgerFile, label_dataset, numbers_kept, open_dataset, optional_variables
from hydrascope.prompts import Questions, pose
from hydrascope.run_directory import RunDirectory, locked, open_run_directory
from hydrascope.task import Task

BATCH = 16
"""Prompts per batch of the ledger: what a kill can cost at most."""

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


def execute(
    task: Task,
    out: Path | None = None,
    *,
    overwrite: bool = False,
    command: str = "",
    progress: Progress = lambda stage, done, total: None,
) -> tuple[xr.Dataset, RunDirectory | None]:
    """Run a task, or what is left of it.

    Args:
        task: what to do.
        out: the run's folder, made or continued; None keeps nothing on disk afterwards.
        overwrite: throw away the run that is in `out`.
        command: the command that reproduces the run, for the record.
        progress: told how far it is.

    Returns:
        The finished ledger and its folder, if any.

    Raises:
        OutputError: another process is at work in `out`.
        HydrascopeError: what goes wrong on the way, and what to do. A run that fails before its first batch is done
            leaves nothing behind, unless it failed for want of room.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="hydrascope-") as folder:
            dataset, _ = execute(task, Path(folder) / "run", command=command, progress=progress)
            return dataset, None
    started = time.monotonic()
    budget = Budget.read(task.options.memory, *task.model.devices)
    facts = {"memory": budget.bytes, "command": command, "versions": versions(), "created": _now()}
    with locked(out):
        directory = open_run_directory(out, task.settings, facts, overwrite=overwrite)
        if not directory.complete:
            if task.options.memory is None:  # the same batches as before the kill, so the same rounding
                budget = Budget(int(directory.record["memory"]))
            try:
                _Run(task, directory, budget, progress).finish(started)
            except OutputError:
                raise  # room can be made, and what is done is worth keeping
            except HydrascopeError:
                if not LedgerFile.has_begun(directory.ledger):
                    directory.discard()
                raise
            directory = directory.mark_complete()
    return open_dataset(directory.ledger), directory


def versions() -> dict[str, str]:
    """Versions of everything that the numbers depend on."""
    packages = {name: version(name) for name in ("hydrascope", "torch", "transformers", "numpy")}
    return {**packages, "python": platform.python_version()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _routed(plan: Plan) -> dict[str, str]:
    """Which writers' changes are split by their routing, for models that have such."""
    return {"routed_writers": json.dumps([plan.columns[i].name for i in plan.routed])} if plan.routed else {}


class _Run:
    """One run from its folder's state to its end."""

    def __init__(self, task: Task, directory: RunDirectory, budget: Budget, progress: Progress) -> None:
        self.task, self.directory, self.budget, self.progress = task, directory, budget, progress
        self.model = task.model
        self.tolerance = task.model.closing_tolerance
        needs_prefix = task.engine.strategy.needs_prefix
        self.keeper = PrefixKeeper(task.model, [prompt.ids for prompt in task.encoded.prompts], budget, needs_prefix)

    def finish(self, started: float) -> None:
        """Clean runs, filter, donors, knock-outs, closing."""
        anatomy, knockouts = self.model.anatomy, self.task.knockouts
        sites = tuple(
            dict.fromkeys(p.site for k in knockouts for p in (*edited_places(k, anatomy), *sender_places(k, anatomy)))
        )
        runs = [ExtraRun(prompt.ids, pair=prompt.pair) for prompt in self.task.encoded.prompts]
        clean = self._store("clean", runs, sites, self.keeper)
        options = self.task.options
        asked = pose(self.task.encoded, options.target, clean.answers, keep_wrong=options.keep_wrong, seed=options.seed)
        kept = asked.prompts
        donation = self.task.ablation.donate(kept, asked.tokens, options.seed)
        rows = [prompt.index for prompt in kept]
        pools = {site: clean.values(site)[rows] for site in sites}
        if donation.runs:
            extra = self._store("extra", donation.runs, sites, None)
            pools = {site: torch.cat([pool, extra.values(site)]) for site, pool in pools.items()}
        plan = Plan(
            self.model.anatomy,
            self.task.knockouts,
            self.task.ablation,
            donation.table,
            self.task.null_draws,
            self.task.options.seed,
            self.task.splits,
            self.task.options.detail,
        )
        file = self._ledger(plan, asked, clean.top[rows])
        work = Work(self.model, plan, self.task.engine.strategy, pools, len(kept), self.budget, self.tolerance)
        self._sweep(work, file, asked)
        self._close(file, time.monotonic() - started)

    def _store(
        self, name: str, runs: Sequence[ExtraRun], sites: Sequence[Site], keeper: PrefixKeeper | None
    ) -> ValueStore:
        try:
            group = zarr.open_group(self.directory.scratch, mode="a").require_group(name)
            store = ValueStore.create(group, sites, len(runs), self.model.anatomy.n_vocab)
            counted = 0

            def done(count: int) -> None:
                nonlocal counted
                counted += count
                self.progress(f"{name} runs", counted, len(runs))

            store.fill(self.model, runs, sites, self.budget, done, keeper)
        except OSError as error:
            raise OutputError(
                f"'{self.directory.scratch}' cannot be written: {error.strerror or error}; what is done is kept, "
                "make room and run the same command again"
            ) from error
        return store

    def _ledger(self, plan: Plan, asked: Questions, top: np.ndarray) -> LedgerFile:
        n = len(asked.prompts)
        if self.directory.ledger.exists():
            return LedgerFile.resume(self.directory.ledger)
        optional = optional_variables(plan.ablation.draws, plan.null_draws, plan.detail)
        if plan.routed:
            optional |= {"rerouted_change", "routing_change"}
        knockouts, entries = len(plan.knockouts), len(plan.book.entries)
        free = room(self.directory.path)
        require_account(self.budget, free, n, knockouts, entries, numbers_kept(optional))
        return LedgerFile.create(
            self.directory.ledger,
            self._labels(plan, asked, top),
            min(BATCH, n, prompts_in_account(self.budget, knockouts, entries)),
            optional,
            {
                **self._attributes(plan),
                **_routed(plan),
                "prompts_kept": n,
                "prompts_dropped_wrong": asked.dropped_wrong,
                "prompts_dropped_alike": asked.dropped_alike,
            },
        )

    def _labels(self, plan: Plan, asked: Questions, top: np.ndarray) -> xr.Dataset:
        entries, masks, kept = plan.book.entries, plan.book.masks, asked.prompts
        foils = {} if asked.foils is None else self._tokens("foil", asked.foils)
        return label_dataset(
            {
                "prompt": np.array([p.index for p in kept]),
                "text": np.array([p.text for p in kept]),
                **self._tokens("target", asked.tokens),
                **foils,
                "clean_top": np.array([self._token(int(t)) for t in top]),
                "group": np.array([p.group for p in kept]),
                "length": np.array([len(p.ids) for p in kept]),
            },
            {
                "ablated": np.array([str(k) for k in plan.knockouts]),
                "ablated_layer": np.array([k.first_layer for k in plan.knockouts]),
                "ablated_kind": np.array([k.kind for k in plan.knockouts]),
            },
            {
                "writer": np.array([entry.name for entry in entries]),
                "writer_layer": np.array([entry.layer for entry in entries]),
                "writer_kind": np.array([entry.kind for entry in entries]),
                "writer_unit": np.array([entry.unit for entry in entries]),
            },
            {"is_own": masks.own, "is_downstream": masks.downstream},
        )

    def _tokens(self, name: str, tokens: Sequence[int]) -> dict[str, np.ndarray]:
        return {name: np.array([self._token(token) for token in tokens]), f"{name}_token": np.array(tokens)}

    def _token(self, token: int) -> str:
        return str(token) if self.model.tokenizer is None else str(self.model.tokenizer.decode([token]))

    def _attributes(self, plan: Plan) -> dict[str, Any]:
        source, anatomy, record = self.model.source, self.model.anatomy, self.directory.record
        return {
            "model": source.name,
            "model_name": source.label,
            "family": source.family,
            "revision": source.revision,
            "weight_digest": source.weight_digest,
            "dtype": source.dtype,
            "device": source.device,
            "packing": source.packing,
            "engine": self.task.engine.strategy.name,
            "engines_passed_over": json.dumps(self.task.engine.passed_over),
            "positions": "last",
            "writers": self.task.writers,
            "detail": plan.detail,
            "ablation": plan.ablation.name,
            "donors": plan.ablation.draws,
            "null_draws": plan.null_draws,
            "seed": plan.seed,
            "target_policy": self.task.options.target,
            "bos": self.task.options.bos,
            "prompts_name": self.task.prompts.name,
            "prompts_digest": self.task.prompts.digest,
            "prompts_total": len(self.task.prompts) + self.task.prompts.unfit,
            "prompts_unfit": self.task.prompts.unfit,
            "targets_truncated": self.task.encoded.n_truncated_targets,
            "n_layers": anatomy.n_layers,
            "n_heads": max((site.n_heads for site in anatomy.heads), default=0),
            "d_model": anatomy.d_model,
            "n_parameters": source.n_parameters,
            "parallel_blocks": anatomy.parallel,
            "closing_tolerance": self.tolerance,
            "command": str(record["command"]),
            "versions": json.dumps(record["versions"], sort_keys=True),
            "created": str(record["created"]),
        }

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

    def _close(self, file: LedgerFile, seconds: float) -> None:
        def worst(name: str) -> float:
            return float(np.abs(np.asarray(file.group[name][:])).max())

        file.finish(
            {
                "closing_error": worst("worst_remainder"),
                "clean_closing_error": worst("clean_remainder"),
                "parity_error": worst("parity_error"),
                "seconds": round(seconds, 3),
            }
        )
