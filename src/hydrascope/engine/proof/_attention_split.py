"""Proves, on a model and a few random prompts, that its attention can be recorded and split.

Where a gate, a second attention or code of its own stands between the attention function and the output projection,
weights times values are not what the heads write, and the split would be of something else.
"""

from __future__ import annotations

import torch

from hydrascope.anatomy import Check, Model, require
from hydrascope.components import Component
from hydrascope.engine._attention_split import CHECK, MEND, head_readouts
from hydrascope.engine._axes import columns
from hydrascope.engine._forward import Readings, run_interventions
from hydrascope.engine._strategies import Strategy
from hydrascope.engine._units import UnitDecomposition, decompose_writers
from hydrascope.engine.proof._engine import Trial, probed_parts
from hydrascope.errors import AnatomyRefused, HydrascopeError


def prove_attention_split(model: Model, strategy: Strategy) -> tuple[UnitDecomposition, ...]:
    """Divide attention into heads, and prove that the split of its changes is exact.

    Args:
        model: the model.
        strategy: how interventions are run, at the last token or on whole texts.

    Returns:
        The attention writers, ready to be read head by head.

    Raises:
        AnatomyRefused: the weights cannot be recorded, or weights times values are not what the heads write.
    """
    try:
        return _prove(model, strategy)
    except HydrascopeError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        # the model's own code met an attention function it cannot take
        what = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise AnatomyRefused(CHECK, f"the model cannot be run with its weights watched ({what}); {MEND}") from error


def _prove(model: Model, strategy: Strategy) -> tuple[UnitDecomposition, ...]:
    decompositions = _heads(model)
    parts = probed_parts(model)
    trial = Trial.of(model, strategy, parts, seed=8)
    interventions, read, clean = trial.interventions(1), trial.read, trial.clean
    plain = run_interventions(model, clean, interventions, read, strategy=strategy, with_distribution=False)
    readouts = head_readouts(model, decompositions, {}, read.vectors)
    seen = run_interventions(
        model, clean, interventions, read, strategy=strategy, with_distribution=False, heads=readouts
    )
    allowed = trial.allowed
    require([Check(CHECK, _moved_by_watching(plain, seen), allowed, "a model whose attention is watched is the same")])
    if not (missed := _missed(model, decompositions, parts, seen)) <= allowed:
        raise AnatomyRefused(
            CHECK,
            "what heads write is not their weights times their values, since a gate, a norm or a bias comes between "
            f"attention and the residual stream (off by {missed:.1e}, allowed {allowed:.0e}); {MEND}",
        )
    return decompositions


def _heads(model: Model) -> tuple[UnitDecomposition, ...]:
    anatomy = model.anatomy
    writers = [writer.component for writer in anatomy.writers if writer.component.kind == "attn"]
    if not writers:
        raise AnatomyRefused(CHECK, f"the model has no attention layer; {MEND}")
    known = {site.layer for site in anatomy.heads}
    if unknown := [writer for writer in writers if writer.layer not in known]:
        raise AnatomyRefused(CHECK, f"{unknown[0]} has no heads that can be told apart; {MEND}")
    return decompose_writers(model, dict.fromkeys(writers, "head"))


def _moved_by_watching(plain: Readings, seen: Readings) -> float:
    reads = (plain.reads - seen.reads) / plain.sigma[0]
    logits = plain.distribution.logit - seen.distribution.logit
    return float(torch.stack([reads.abs().max(), logits.abs().max()]).max())


def _missed(
    model: Model, decompositions: tuple[UnitDecomposition, ...], parts: list[Component], seen: Readings
) -> float:
    """Largest gap between the sum of both effects and the change of a writer downstream of a knock-out."""
    assert seen.pattern is not None
    writers = [column.writer for column in columns(model.anatomy)]
    worst = 0.0
    for column, split in enumerate(decompositions):
        behind = [1 + k for k, part in enumerate(parts) if model.anatomy.is_downstream(split.writer, part)]
        reads = seen.reads[:, writers.index(split.writer)]
        summed = seen.pattern.pattern_effect[behind, column] + seen.pattern.value_effect[behind, column]
        if behind:
            worst = max(worst, float(((summed - (reads[behind] - reads[0])) / seen.sigma[0]).abs().max()))
    return worst
