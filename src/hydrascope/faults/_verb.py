"""The verb of a notebook: `stress` makes a stress test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hydrascope.ablations import Ablation, Resample
from hydrascope.anatomy import Model
from hydrascope.faults._execution import execute_stress, prepare_stress
from hydrascope.faults._request import StressRequest
from hydrascope.faults._stress import Stress
from hydrascope.prompts import PromptSet
from hydrascope.run import Options, Progress


def stress(
    model: Model,
    prompts: PromptSet,
    components: str | None = None,
    ablation: Ablation | None = None,
    *,
    rates: Sequence[float] | None = None,
    masks: int | None = None,
    pairs: int | None = None,
    worst: int | None = None,
    accuracy: float | None = None,
    loss: float | None = None,
    seed: int | None = None,
    options: Options | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> Stress:
    """Knock out random sets of parts, pairs and the worst sets, and learn what the model survives.

    Args:
        model: model that `hydrascope.load` opened.
        prompts: prompts from `hydrascope.load_prompts`, or texts from `hydrascope.cut`.
        components: the parts that can fail, for example `attn,mlp` or `head.9.*`; overrides `options`.
        ablation: what replaces an ablated output; one resampled donor by default.
        rates: failure rates between 0 and 1; from 0.1 to 0.9 by default.
        masks: random sets at each rate (64).
        pairs: how many parts, those that lose or cost most alone, are knocked out two by two (32).
        worst: largest size for which the worst set is searched (3).
        accuracy: least share of right prompts that counts as surviving (0.5; against foils 0.75).
        loss: logits that a prompt must lose for a part not to be secure (0.5).
        seed: seed of random sets, donors and noise; overrides `options`.
        options: how the runs are made.
        out: folder that keeps the test; the same call with the same folder continues it.
        overwrite: throw away the test that is in `out`.
        progress: takes stage, number done and total.

    Returns:
        The finished test.

    Raises:
        HydrascopeError: what cannot be done, and what to do about it.
    """
    chosen = (options or Options()).but(components=components, seed=seed)
    folder = None if out is None else Path(out)
    how = ablation or Resample(donors=1)
    request = StressRequest.of(model, prompts, (how,), (1.0,), chosen, freeze=False, out=folder)
    request = request.but(
        rates=None if rates is None else tuple(rates),
        masks=masks,
        pairs=pairs,
        worst=worst,
        accuracy=accuracy,
        loss=loss,
    )
    found, directory = execute_stress(
        prepare_stress(request, model, prompts, how), folder, overwrite=overwrite, progress=progress
    )
    return Stress(found, None if directory is None else directory.path)
