"""The verb of a notebook: `stress` makes a stress test."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydrascope.ablations import Ablation
from hydrascope.faults._execution import execute_stress, prepare_stress
from hydrascope.faults._request import StressRequest
from hydrascope.faults._stress import Stress
from hydrascope.progress import bars, require_callable
from hydrascope.run import (
    ModelLike,
    Options,
    PathLike,
    Progress,
    PromptsLike,
    alone_with,
    given_for_sets,
    given_model,
    given_options,
    given_prompts,
)
from hydrascope.run_directory import folder_named


def stress(
    model: ModelLike,
    prompts: PromptsLike,
    components: str | Sequence[str] | None = None,
    ablation: Ablation | str | None = None,
    *,
    rates: Sequence[float] | None = None,
    masks: int | None = None,
    pairs: int | None = None,
    worst: int | None = None,
    accuracy: float | None = None,
    loss: float | None = None,
    seed: int | None = None,
    options: Options | Mapping[str, Any] | None = None,
    out: PathLike | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Stress:
    """Knock out random sets of parts, pairs and the worst sets, and learn what the model survives.

    Args:
        model: model that `hydrascope.load` opened, or what it takes: a name, a folder, a module.
        prompts: prompts from `hydrascope.load_prompts`, or what it takes: a file, a task's name, a list of texts, a
            table; or texts from `hydrascope.cut`; with the protocol `text` also a text file.
        components: the parts that can fail, for example `attn,mlp` or `head.9.*`; overrides `options`.
        ablation: what replaces an ablated output, or its name; one resampled donor by default.
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
        progress: takes stage, number done and total; if None, bars in a notebook or a terminal.

    Returns:
        The finished test.

    Raises:
        HydrascopeError: what cannot be done, and what to do about it.
    """
    require_callable(progress)
    chosen = given_options(options).but(components=components, seed=seed)
    folder = None if out is None else folder_named(out)
    how = given_for_sets(ablation, chosen)
    opened = given_model(model)
    asked = given_prompts(prompts, opened, chosen)
    request = StressRequest.of(opened, asked, how, (1.0,), chosen, freeze=False, out=folder).but(
        rates=tuple(rates) if isinstance(rates, Iterable) and not isinstance(rates, str) else rates,
        masks=masks,
        pairs=pairs,
        worst=worst,
        accuracy=accuracy,
        loss=loss,
    )
    with alone_with(opened), bars(quiet=progress is not None) as drawn:
        opened.require_unchanged()
        found, directory = execute_stress(
            prepare_stress(request, opened, asked, how[0]), folder, overwrite=overwrite, progress=progress or drawn
        )
    return Stress(found, None if directory is None else directory.path)
