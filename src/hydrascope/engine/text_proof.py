"""Proves that pushes of whole texts may begin at any block, and that they are what plain full forwards would be."""

from __future__ import annotations

from hydrascope.anatomy import Check, Model, directions, random_ids
from hydrascope.components import Component
from hydrascope.engine.last_token import sweep
from hydrascope.engine.proof import Engine, count_hooks, first_that_holds, parity_error, plain_forward, probed_parts
from hydrascope.engine.texts import Recorded, Resumed, record_texts
from hydrascope.engine.variants import Edit, Variant

EDITED, READ, TOKENS = (1, 2, 4), (2, 4, 5), 6


def choose_text_engine(model: Model) -> Engine:
    """Leave out the blocks below the first that differs, and what precedes its writers, if that is exact here.

    Args:
        model: the model.

    Returns:
        Strategy and proof.

    Raises:
        AnatomyRefused: not even full passes agree with plain ones.
        OutOfBudget: the device has no room for a trial.
    """
    return Engine(*first_that_holds(model, (Resumed(), Resumed(enters=False), Resumed(skips=False)), prove_texts))


def prove_texts(model: Model, strategy: Resumed) -> tuple[Check, ...]:
    """Compare a strategy with the untouched and with a plainly hooked model on random texts.

    Args:
        model: the model.
        strategy: whether blocks are left out.

    Returns:
        One check per statement.
    """
    parts, before = probed_parts(model), count_hooks(model)
    forwards = [module.forward for module in map(model.network.get_submodule, model.anatomy.layers)]
    ids = random_ids(model.network, batch=2, tokens=TOKENS, seed=5)
    places = [model.anatomy.places(part) for part in parts]
    sites = list(dict.fromkeys(place.site for some in places for place in some))
    recorded = record_texts(model, ids, EDITED, READ, sites)
    read = directions(model.network, model.anatomy.tail, recorded.logits.argmax(-1))
    clean = sweep(model, recorded, [], read, strategy=strategy.whole)
    size = float(recorded.logits.float().abs().max().clamp_min(1.0))
    allowed = 5 * model.anatomy.tolerance * size
    still = moved = 0.0
    for part in parts:
        own, donated = (_variant(model, recorded, part, shift) for shift in (0, 1))
        at = strategy.at(part.layer)
        swept = sweep(model, recorded, [own, donated], read, strategy=at, full=False, probed=False, before=clean)
        logit = swept.distribution.logit
        reads = (swept.reads[1] - clean.reads[0]) / clean.sigma[0]
        still = max(still, float((logit[1] - clean.distribution.logit[0]).abs().max()), float(reads.abs().max()))
        plain = plain_forward(model, recorded.ids, donated, read.tokens, EDITED, READ).cpu()
        moved = max(moved, float((logit[2] - plain).abs().max()))
    after = [module.forward for module in map(model.network.get_submodule, model.anatomy.layers)]
    return (
        Check(
            "untouched logits",
            parity_error(clean, recorded),
            allowed,
            "the clean row's logits are those of the untouched model at every read position",
        ),
        Check("self donor", still, allowed, "replacing a part by its own values changes nothing"),
        Check("plain loop", moved, allowed, "knock-outs agree with full forwards that carry plain hooks"),
        Check(
            "restored",
            float(count_hooks(model) - before + sum(a != b for a, b in zip(after, forwards, strict=True))),
            0.0,
            "no hook and no foreign forward stays on the model",
        ),
    )


def _variant(model: Model, recorded: Recorded, part: Component, shift: int) -> Variant:
    """A part given its own values, or those of the other text."""
    edits = tuple(
        Edit(place, recorded.values[place.site][:, list(EDITED), place.span].roll(shift, 0))
        for place in model.anatomy.places(part)
    )
    return Variant(str(part), part.layer, edits)
