"""Estimates of every knock-out of a task, batch by batch, as the exact run deals its donors out."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float

from hydrascope.analysis import ablated_direct, prompt_weights
from hydrascope.anatomy import Model
from hydrascope.attribution._estimates import Estimates, chunks
from hydrascope.attribution._query_key import require_watchable
from hydrascope.attribution._scores import Scores
from hydrascope.components import Knockout
from hydrascope.errors import ComponentError, ModelError, RunError
from hydrascope.run import Progress, Selection, Task, dealt

PROMPTS = 64
"""Prompts of one length that are estimated together at the last token, at most."""

SINGLE = ("embed", "attn", "mixer", "mlp", "head", "kv", "neuron")
"""Kinds of parts that a gradient is taken at."""


def attribute(
    task: Task, scores: Scores | None = None, *, progress: Progress = lambda stage, done, total: None
) -> xr.Dataset:
    """Estimate the total effect of every knock-out of a task from gradients of the clean run.

    Prompts, donors and replacement values are those of a run of the same task, drawn by the same code with the same
    seed, so that estimates and the run's ledger can be compared number by number. A batch costs a forward and a few
    backward passes of its clean run, whatever the number of knock-outs; only the query-key fix grows with parts and
    draws. On whole texts with a single draw an exact run may well be no slower.

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
    with dealt(task, PROMPTS, progress) as (selection, plan, batches):
        shape = (len(scores.kinds), len(selection.prompts), len(plan.knockouts))
        found, seconds, passes = np.full(shape, np.nan), np.zeros(len(scores.kinds)), 0.0
        for batch in batches:
            began = time.monotonic()
            for some in chunks(plan, batch):
                estimates = Estimates(plan, batch, some, scores)
                made = estimates.all()
                for row, kind in enumerate(scores.kinds):
                    found[row][np.ix_(batch.prompts, some)] = made[kind].T
                    seconds[row] += estimates.seconds[kind]
            passes += time.monotonic() - began
            progress("attribution", max(batch.prompts) + 1, len(selection.prompts))
    return _labelled(found, task, selection, scores, seconds, time.monotonic() - started - passes)


def direct_attribution(ledger: xr.Dataset) -> xr.DataArray:
    """Minus the clean direct effect of what is knocked out, by prompt and ablated, from an exact run's ledger.

    It is the total effect of zeroing a part that nothing reads, with the final norm's scale frozen. NaN for units of a
    writer that the account keeps whole.

    Args:
        ledger: a finished ledger.
    """
    return ledger["total_effect"].copy(data=-ablated_direct(ledger)).rename("direct_attribution")


def _labelled(
    found: Float[np.ndarray, "scores prompts ablated"],
    task: Task,
    selection: Selection,
    scores: Scores,
    seconds: Float[np.ndarray, " scores"],
    clean: float,
) -> xr.Dataset:
    groups = np.array([prompt.group for prompt in selection.prompts])
    each = task.positions.read == "each"
    dataset = xr.Dataset(
        {
            "estimate": (("score", "prompt", "ablated"), found),
            "seconds": (("score",), seconds),
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
            "ablation": json.dumps(task.ablation.settings, sort_keys=True),
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
        raise ModelError(
            f"gradients in {model.source.dtype} are too coarse to rank parts by; use more exact numbers "
            "(--dtype float32)"
        )
