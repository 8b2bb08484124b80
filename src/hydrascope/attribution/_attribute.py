"""Estimates of every knock-out of a task, batch by batch, as the exact run deals its donors out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import Tensor

from hydrascope.ablations import Ablation
from hydrascope.analysis import ablated_direct, prompt_weights
from hydrascope.anatomy import Model, Place, Site
from hydrascope.attribution._graded import GradedRun
from hydrascope.attribution._query_key import QueryKeyFix, require_watchable
from hydrascope.attribution._scores import SCORES, Score, Scores
from hydrascope.components import Knockout
from hydrascope.engine import Footprint, Plan, texts_at_once
from hydrascope.errors import ComponentError, ModelError, RunError
from hydrascope.run import Batch, Progress, Selection, Task, dealt

GRADED_ROWS = 256
"""Single-token rows whose graph is kept at once."""

GRAPH_SHARE = 4
"""A graph takes one part in so many of the memory budget."""

SHARE = 8
"""Displacements that are alive at once take one part in so many of the memory budget."""

SINGLE = ("embed", "attn", "mixer", "mlp", "head", "kv", "neuron")
"""Kinds of parts that a gradient is taken at."""


def attribute(
    task: Task, scores: Scores | None = None, *, progress: Progress = lambda stage, done, total: None
) -> xr.Dataset:
    """Estimate the total effect of every knock-out of a task from gradients of the clean run.

    Prompts, donors and replacement values are those of a run of the same task, drawn by the same code with the same
    seed, so that estimates and the run's ledger can be compared number by number. A batch costs a forward and a few
    backward passes of its clean run, whatever the number of knock-outs.

    Args:
        task: what the exact run is asked, from `hydrascope.run.prepare` or `prepare_runs`.
        scores: which estimates; attribution patching, GradDrop and activation x gradient of the logit by default.
        progress: takes stage, number done and total.

    Returns:
        `estimate` by score, prompt and ablated, a mean over draws with the sign of the total effect (GradDrop: a mean
        of absolute values), and `seconds` by score. Prompts are in the order of the ledger; of texts that are read at
        each position there is one row a text, the mean over its positions.

    Raises:
        ComponentError: a knock-out is more, or something else, than one part.
        ModelError: the model is not in float32, or lets no gradient or no view of its attention weights through.
        NonFinite: a read-out or a gradient is NaN or infinite.
    """
    scores = scores or Scores()
    _require_single(task.knockouts)
    _require_exact_numbers(task.model)
    if "grad_drop" in scores.kinds and task.model.anatomy.n_layers < 2:
        raise RunError("grad_drop drops one block after another, and this model has a single one; leave it out")
    if "query_key" in scores.kinds:
        require_watchable(task.model, task.engine.strategy)
    started = time.monotonic()
    with dealt(task, progress) as (selection, plan, batches):
        shape = (len(scores.kinds), len(selection.prompts), len(plan.knockouts))
        found, passes = np.full(shape, np.nan), _Passes(dict.fromkeys(scores.kinds, 0.0))
        for batch in batches:
            found[:, list(batch.prompts)] = _estimates(task, plan, batch, scores, passes)
            progress("attribution", max(batch.prompts) + 1, len(selection.prompts))
    clean = time.monotonic() - started - passes.total
    return _labelled(found, task, selection, scores, passes, clean)


def direct_attribution(ledger: xr.Dataset) -> xr.DataArray:
    """Minus the clean direct effect of what is knocked out, by prompt and ablated, from an exact run's ledger.

    It is the total effect of zeroing a part that nothing reads, with the final norm's scale frozen. NaN for units of a
    writer that the account keeps whole.

    Args:
        ledger: a finished ledger.
    """
    return ledger["total_effect"].copy(data=-ablated_direct(ledger)).rename("direct_attribution")


@dataclass
class _Passes:
    """What the passes cost so far.

    Attributes:
        seconds: wall time by score; a pass that several scores share counts for each.
        total: wall time of all.
    """

    seconds: dict[Score, float]
    total: float = 0.0

    def spent(self, since: float, *kinds: Score) -> float:
        """Book the time since then for some scores, and return the time now."""
        now = time.monotonic()
        self.total += now - since
        for kind in kinds:
            if kind in self.seconds:
                self.seconds[kind] += now - since
        return now


def _estimates(
    task: Task, plan: Plan, batch: Batch, scores: Scores, passes: _Passes
) -> Float[np.ndarray, "scores prompts ablated"]:
    found = np.zeros((len(scores.kinds), len(batch.rows), len(plan.knockouts)))
    rows = dict(zip(scores.kinds, found, strict=True))
    context, run = batch.context, partial(GradedRun, task.model, batch.context.strategy, batch.clean, batch.items)
    for some in _chunks(plan, batch):
        now = time.monotonic()
        moved = {k: context.displacements(k, batch.rows) for k in some}
        sites = list(dict.fromkeys(place.site for k in some for place in plan.edited[k]))
        now = passes.spent(now, *SCORES)
        if set(rows) - {"grad_drop"}:
            graded = run(sites, scores.value, watched="query_key" in rows)
            (slopes,) = _by_row(graded.gradients())
            patching = {k: _dot(plan.edited[k], moved[k], slopes) for k in some}
            for k in some if "attribution_patching" in rows else ():
                rows["attribution_patching"][:, k] = patching[k].mean(0)
            for k in some if "activation_gradient" in rows else ():
                own = [context.own(place, batch.rows)[None].float() for place in plan.edited[k]]
                rows["activation_gradient"][:, k] = -_dot(plan.edited[k], own, slopes)[0]
            now = passes.spent(now, "attribution_patching", "activation_gradient", "query_key")
            if "query_key" in rows:
                missed = QueryKeyFix(graded, batch).corrections({plan.knockouts[k].parts[0]: moved[k] for k in some})
                for k, one in zip(some, missed, strict=True):
                    rows["query_key"][:, k] = (patching[k] + one).mean(0)
                now = passes.spent(now, "query_key")
        if "grad_drop" in rows:
            blocks = range(task.model.anatomy.n_layers)
            together = _rows_together(batch)
            for first in blocks[::together]:
                for slopes in _by_row(run(sites, scores.value, dropped=blocks[first : first + together]).gradients()):
                    for k in some:
                        absolute = np.abs(_dot(plan.edited[k], moved[k], slopes)).mean(0)
                        others = len(blocks) - (plan.knockouts[k].first_layer >= 0)
                        rows["grad_drop"][:, k] += absolute / others
            passes.spent(now, "grad_drop")
    return found


def _by_row(slopes: Mapping[Site, Tensor]) -> Iterator[dict[Site, Float[Tensor, "prompts edited _"]]]:
    """Gradients of one row of every prompt after the other."""
    for row in zip(*slopes.values(), strict=True):
        yield dict(zip(slopes, row, strict=True))


def _rows_together(batch: Batch) -> int:
    """Rows of a prompt that share a forward: many single tokens, or as many tokens as a forward of texts has."""
    prompts, tokens = batch.clean.ids.shape
    if batch.context.strategy.staircase:
        model = batch.context.model
        row = Footprint.of(model, tokens, copies_prefix=False).row * model.anatomy.n_layers
        return max(1, min(GRADED_ROWS, batch.context.budget.bytes // GRAPH_SHARE // row) // prompts)
    return texts_at_once(batch.clean.ids.device, prompts * tokens, 1)


def _chunks(plan: Plan, batch: Batch) -> Iterator[list[int]]:
    """Knock-outs whose displacements fit a share of the memory budget; they share a graph."""
    room = batch.context.budget.bytes // SHARE
    edited = len(batch.rows) * len(batch.clean.layout.edited) * 4
    some: list[int] = []
    taken = 0
    for k, places in enumerate(plan.edited):
        size = sum(place.width for place in places) * edited * plan.ablation.draws
        if some and taken + size > room:
            yield some
            some, taken = [], 0
        some.append(k)
        taken += size
    if some:
        yield some


def _dot(
    places: Sequence[Place], values: Sequence[Tensor], slopes: Mapping[Site, Tensor]
) -> Float[np.ndarray, "draws prompts"]:
    """Inner products of values with gradients, over all places, positions and entries."""
    found = sum(
        (value * slopes[place.site][..., place.span].to(value)).sum((-1, -2)).double()
        for place, value in zip(places, values, strict=True)
    )
    assert isinstance(found, Tensor)
    return found.numpy()


def _labelled(
    found: Float[np.ndarray, "scores prompts ablated"],
    task: Task,
    selection: Selection,
    scores: Scores,
    passes: _Passes,
    clean: float,
) -> xr.Dataset:
    groups = np.array([prompt.group for prompt in selection.prompts])
    each = task.positions.read == "each"
    ablation: Ablation = task.ablation
    dataset = xr.Dataset(
        {
            "estimate": (("score", "prompt", "ablated"), found),
            "seconds": (("score",), np.array([passes.seconds[kind] for kind in scores.kinds])),
        },
        coords={
            "score": list(scores.kinds),
            "prompt": [prompt.index for prompt in selection.prompts],
            "group": ("prompt", groups),
            "weight": ("prompt", np.ones(len(groups)) if each else prompt_weights(groups)),
            "ablated": [str(knockout) for knockout in task.knockouts],
            "ablated_layer": ("ablated", [knockout.first_layer for knockout in task.knockouts]),
            "ablated_kind": ("ablated", [knockout.kind for knockout in task.knockouts]),
        },
        attrs={
            "value": scores.value,
            "ablation": json.dumps(ablation.settings, sort_keys=True),
            "dose": task.dose,
            "seed": task.options.seed,
            "clean_seconds": clean,
        },
    )
    return dataset.sortby("prompt")


def _require_single(knockouts: Sequence[Knockout]) -> None:
    for knockout in knockouts:
        if knockout.kind not in SINGLE:
            raise ComponentError(
                f"a gradient speaks of one part, and {knockout} is none of {', '.join(SINGLE)}; name single parts"
            )


def _require_exact_numbers(model: Model) -> None:
    if model.dtype not in (torch.float32, torch.float64):
        raise ModelError(f"gradients in {model.source.dtype} are too coarse to rank parts by; use --dtype float32")
