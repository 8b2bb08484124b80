"""Proves, on a model and a few random prompts, that its attention can be watched and what is seen is what it writes.

Where a gate, a second attention or code of its own stands between the attention function and the output projection,
weights times values are not what the heads write, and the split would be of something else.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import Check, Model, Place, Site, directions, random_ids, require
from hydrascope.components import Component
from hydrascope.engine.capture import Clean, capture
from hydrascope.engine.columns import columns
from hydrascope.engine.last_token import Swept, sweep
from hydrascope.engine.pattern import CHECK, MEND, head_aims
from hydrascope.engine.proof import probed_parts
from hydrascope.engine.splits import Split, split_writers
from hydrascope.engine.strategy import Strategy
from hydrascope.engine.text_proof import EDITED, READ, TOKENS
from hydrascope.engine.texts import Recorded, Resumed, record_texts
from hydrascope.engine.variants import Edit, Variant
from hydrascope.errors import AnatomyRefused, HydrascopeError


def prove_pattern(model: Model, strategy: Strategy) -> tuple[Split, ...]:
    """Divide all attention writers into heads and show, on random knock-outs, that the split of their changes is exact.

    Args:
        model: the model.
        strategy: of the run, at the last token or of whole texts.

    Returns:
        The attention writers, ready to be read head by head.

    Raises:
        AnatomyRefused: the weights cannot be seen, or what comes of them is not what the heads write.
    """
    try:
        return _prove(model, strategy)
    except HydrascopeError:
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        # The model's own code met an attention function it cannot take.
        what = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise AnatomyRefused(CHECK, f"the model cannot be run with its weights watched ({what}); {MEND}") from error


def _prove(model: Model, strategy: Strategy) -> tuple[Split, ...]:
    anatomy = model.anatomy
    splits = _heads(model)
    parts = probed_parts(model)
    places = {part: anatomy.places(part) for part in parts}
    clean = _clean(model, strategy, list(dict.fromkeys(place.site for some in places.values() for place in some)))
    read = directions(model.network, anatomy.tail, clean.logits.argmax(-1))
    variants = [
        Variant(str(part), part.layer, tuple(Edit(place, _value(clean, place).roll(1, 0)) for place in some))
        for part, some in places.items()
    ]
    plain = sweep(model, clean, variants, read, strategy=strategy, full=False)
    aims = head_aims(model, splits, {}, read.vectors)
    seen = sweep(model, clean, variants, read, strategy=strategy, full=False, heads=aims)
    allowed = 5 * anatomy.tolerance * float(clean.logits.float().abs().max().clamp_min(1.0))
    require([Check(CHECK, _moved_by_watching(plain, seen), allowed, "a model whose attention is watched is the same")])
    if not (missed := _missed(model, splits, parts, seen)) <= allowed:
        raise AnatomyRefused(
            CHECK,
            "what heads write is not their weights times their values, since a gate, a norm or a bias comes between "
            f"attention and the residual stream (off by {missed:.1e}, allowed {allowed:.0e}); {MEND}",
        )
    return splits


def _heads(model: Model) -> tuple[Split, ...]:
    anatomy = model.anatomy
    writers = [writer.component for writer in anatomy.writers if writer.component.kind == "attn"]
    if not writers:
        raise AnatomyRefused(CHECK, f"the model has no attention layer; {MEND}")
    known = {site.layer for site in anatomy.heads}
    if unknown := [writer for writer in writers if writer.layer not in known]:
        raise AnatomyRefused(CHECK, f"{unknown[0]} has no heads that can be told apart; {MEND}")
    return split_writers(model, dict.fromkeys(writers, "head"))


def _clean(model: Model, strategy: Strategy, sites: list[Site]) -> Clean:
    if isinstance(strategy, Resumed):
        return record_texts(model, random_ids(model.network, batch=2, tokens=TOKENS, seed=8), EDITED, READ, sites)
    ids = random_ids(model.network, batch=3, tokens=TOKENS, seed=8)
    return capture(model, ids, sites, keep_prefix=strategy.needs_prefix)


def _value(clean: Clean, place: Place) -> Float[Tensor, "prompts *edited _"]:
    value = clean.values[place.site][..., place.span]
    return value[:, list(clean.layout.edited)] if isinstance(clean, Recorded) else value


def _moved_by_watching(plain: Swept, seen: Swept) -> float:
    reads = (plain.reads - seen.reads) / plain.sigma[0]
    logits = plain.distribution.logit - seen.distribution.logit
    return float(torch.stack([reads.abs().max(), logits.abs().max()]).max())


def _missed(model: Model, splits: tuple[Split, ...], parts: list[Component], seen: Swept) -> float:
    """By how much the two parts miss the change of a writer that comes behind what is knocked out."""
    assert seen.pattern is not None
    writers = [column.writer for column in columns(model.anatomy)]
    worst = 0.0
    for column, split in enumerate(splits):
        behind = [1 + k for k, part in enumerate(parts) if model.anatomy.is_downstream(split.writer, part)]
        reads = seen.reads[:, writers.index(split.writer)]
        summed = seen.pattern.redistributed[behind, column] + seen.pattern.revalued[behind, column]
        if behind:
            worst = max(worst, float(((summed - (reads[behind] - reads[0])) / seen.sigma[0]).abs().max()))
    return worst
