"""What a run's ledger says beside its numbers: which variables it has, their labels, and the run's attributes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from hydrascope.engine import Plan
from hydrascope.ledger import kept_variables, label_dataset
from hydrascope.run._task import Task


def ledger_variables(plan: Plan, with_distribution: bool) -> tuple[str, ...]:
    """Names of the variables that a run's ledger has."""
    return kept_variables(
        draws=plan.ablation.draws,
        null_draws=plan.null_draws,
        full=plan.detail == "full",
        routed=bool(plan.routed),
        split=bool(plan.heads),
        with_distribution=with_distribution,
    )


def ledger_labels(plan: Plan, rows: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Coordinates and masks of a run's ledger.

    Args:
        plan: the plan of all batches.
        rows: coordinates of the rows; the first of them names the dimension.
    """
    entries, masks = plan.aggregation.entries, plan.aggregation.masks
    return label_dataset(
        rows,
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


def ledger_attributes(task: Task, plan: Plan, record: Mapping[str, Any]) -> dict[str, Any]:
    """What describes a run in its ledger, but for what is only known of its prompts.

    Args:
        task: what is done.
        plan: the plan of all batches.
        record: record of the run's folder.
    """
    source, anatomy = task.model.source, task.model.anatomy
    tail = anatomy.tail
    routed = {"routed_writers": json.dumps([plan.columns[i].name for i in plan.routed])} if plan.routed else {}
    return {
        "model": source.name,
        "model_name": source.label,
        "family": source.family,
        "revision": source.revision,
        "weight_digest": source.weight_digest,
        "dtype": source.dtype,
        "device": source.device,
        "packing": source.packing,
        "adapter": source.adapter,
        "gguf": source.gguf,
        "unused_tensors": len(source.unused),
        "random_weights": "" if source.random_weights is None else f"seed {source.random_weights}",
        "engine": task.engine.strategy.name,
        "engines_passed_over": json.dumps(task.engine.passed_over),
        "protocol": task.options.protocol,
        "positions": task.positions.ablate,
        "read": task.positions.read,
        "skipped_positions": task.positions.skip,
        "writers": task.writers,
        "detail": plan.detail,
        "ablation": plan.ablation.name,
        "ablation_learned": plan.ablation.learning is not None,
        "ablation_caveat": plan.ablation.caveat(task.noun),
        "replaced_by": plan.ablation.replaced_by(task.noun),
        "donors": plan.ablation.draws,
        "dose": plan.dose,
        "split_attention": bool(plan.heads),
        "null_draws": plan.null_draws,
        "seed": plan.seed,
        "target_policy": task.options.target,
        "answer": task.options.answer,
        "bos": task.options.bos,
        "delimiter": task.options.delimiter,
        "prompts_name": task.prompts.name,
        "prompts_digest": task.prompts.digest,
        "prompts_total": len(task.prompts) + task.prompts.unfit,
        "prompts_unfit": task.prompts.unfit,
        "targets_truncated": task.encoded.n_truncated_targets,
        "n_layers": anatomy.n_layers,
        "n_heads": max((site.n_heads for site in anatomy.heads), default=0),
        "d_model": anatomy.d_model,
        "n_vocab": anatomy.n_vocab,
        "tokens_averaged": anatomy.n_vocab if tail.averaged is None else int(tail.averaged.sum()),
        "softcap": tail.softcap or 0.0,
        "n_parameters": source.n_parameters,
        "sibling": source.sibling,
        "parallel_blocks": anatomy.parallel,
        "closing_tolerance": task.model.closing_tolerance,
        "command": str(record["command"]),
        "sibling_command": str(record.get("sibling_command", "")),
        "versions": json.dumps(record["versions"], sort_keys=True),
        "created": str(record["created"]),
        **routed,
    }
