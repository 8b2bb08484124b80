"""What runs of every engine share: values on disk, the ledger's labels and attributes, the last check."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import xarray as xr
import zarr

from hydrascope.ablation import ExtraRun
from hydrascope.anatomy import Site
from hydrascope.engine.batch import Constants
from hydrascope.engine.budget import Budget, require_account, room
from hydrascope.engine.constants import ConstantStore
from hydrascope.engine.keeper import PrefixKeeper
from hydrascope.engine.optimal import Learning
from hydrascope.engine.plan import Plan
from hydrascope.engine.values import ValueStore
from hydrascope.errors import OutputError
from hydrascope.ledger import LedgerFile, label_dataset, numbers_kept, optional_variables, split_variables
from hydrascope.run._task import Task
from hydrascope.run_directory import RunDirectory

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


class BaseRun:
    """One run from its folder's state to its end."""

    def __init__(self, task: Task, directory: RunDirectory, budget: Budget, progress: Progress) -> None:
        self.task, self.directory, self.budget, self.progress = task, directory, budget, progress
        self.model = task.model
        self.tolerance = task.model.closing_tolerance

    def finish(self, started: float) -> None:
        """Do what is left to do.

        Args:
            started: when the run, or this part of it, began; seconds of the monotonic clock.
        """
        raise NotImplementedError

    @property
    def sites(self) -> tuple[Site, ...]:
        """Module inputs and outputs whose values are replaced, or make replacements."""
        return self.task.sites

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

    def _constants(self, plan: Plan, learning: Callable[[], Learning]) -> dict[int, Constants]:
        """The constants of all knock-outs; what of them is not in the scratch folder yet is learned now."""
        store = ConstantStore.open(self.directory.scratch, plan)
        if not store.complete:
            store.fill(learning(), partial(self.progress, "learning"))
        return store.constants()

    def _ledger(self, plan: Plan, items: Mapping[str, np.ndarray], batch: int, counts: Mapping[str, Any]) -> LedgerFile:
        """The run's ledger, laid out if it is not there yet.

        Args:
            plan: the run's plan.
            items: coordinates of the ledger's first dimension; the first of them names it.
            batch: rows of a chunk.
            counts: what became of the prompts, for the attributes.
        """
        if self.directory.ledger.exists():
            return LedgerFile.resume(self.directory.ledger)
        measured = self.task.options.distribution
        optional = optional_variables(plan.ablation.draws, plan.null_draws, plan.detail, measured=measured)
        if plan.routed:
            optional |= {"rerouted_change", "routing_change"}
        if plan.heads:
            optional |= split_variables(plan.detail)
        rows = len(next(iter(items.values())))
        knockouts, entries = len(plan.knockouts), len(plan.book.entries)
        free = room(self.directory.path)
        require_account(self.budget, free, rows, knockouts, entries, numbers_kept(optional))
        attributes = {**self._attributes(plan), **_routed(plan), **counts}
        return LedgerFile.create(self.directory.ledger, _labels(plan, items), batch, optional, attributes)

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
            "protocol": self.task.options.protocol,
            "positions": self.task.scope.knocked_out,
            "read": self.task.scope.read,
            "skipped_positions": self.task.scope.skipped,
            "writers": self.task.writers,
            "detail": plan.detail,
            "ablation": plan.ablation.name,
            "donors": plan.ablation.draws,
            "dose": plan.dose,
            "split_attention": bool(plan.heads),
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
            "sibling": source.sibling,
            "sibling_command": str(record.get("sibling_command", "")),
            "parallel_blocks": anatomy.parallel,
            "closing_tolerance": self.tolerance,
            "command": str(record["command"]),
            "versions": json.dumps(record["versions"], sort_keys=True),
            "created": str(record["created"]),
        }

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


def _labels(plan: Plan, items: Mapping[str, np.ndarray]) -> xr.Dataset:
    entries, masks = plan.book.entries, plan.book.masks
    return label_dataset(
        items,
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


def _routed(plan: Plan) -> dict[str, str]:
    """Which writers' changes are split by their routing, for models that have such."""
    return {"routed_writers": json.dumps([plan.columns[i].name for i in plan.routed])} if plan.routed else {}
