"""Proves, on a model and a few random prompts, that the engine does what a plain loop of full forwards would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import (
    Check,
    Directions,
    Model,
    Place,
    directions,
    experts_of_last_token,
    hooked,
    random_ids,
    require,
)
from hydrascope.components import UNIT_KINDS, Component
from hydrascope.engine.attention import NAME
from hydrascope.engine.capture import Clean, capture
from hydrascope.engine.columns import columns
from hydrascope.engine.last_token import Swept, sweep
from hydrascope.engine.plain import attach_edit, routing_checks
from hydrascope.engine.splits import Split, aims, check_name, split_writers
from hydrascope.engine.strategy import ExpandedCache, SharedPrefix, Strategy, WholeSequence
from hydrascope.engine.variants import Edit, Variant
from hydrascope.errors import AnatomyRefused, HydrascopeError, OutOfBudget

S = TypeVar("S", bound=Strategy)

_STRATEGIES: tuple[Strategy, ...] = (SharedPrefix(), ExpandedCache(), WholeSequence())


@dataclass(frozen=True)
class Engine:
    """The strategy chosen for a model, and its proof.

    Attributes:
        strategy: how rows come by their prefix.
        checks: the proof.
        passed_over: why each cheaper strategy was not taken, in the order in which they were tried.
    """

    strategy: Strategy
    checks: tuple[Check, ...]
    passed_over: tuple[str, ...] = ()


def own_value(clean: Clean, place: Place) -> Float[Tensor, "prompts width"]:
    """A place's own value in a clean pass that kept its site."""
    return clean.values[place.site][:, place.span]


def parity_error(swept: Swept, clean: Clean) -> float:
    """Largest difference of a push's clean logits from those of the clean pass."""
    assert swept.distribution.probe is not None
    return float((swept.distribution.probe - clean.logits.float().cpu()).abs().max())


def choose_engine(model: Model) -> Engine:
    """The first strategy that passes every check on this model.

    Args:
        model: the model.

    Returns:
        Strategy and proof.

    Raises:
        AnatomyRefused: none passes; the message names the check that failed for the plainest one.
        OutOfBudget: the device has no room for a trial, so that nothing can be said about the strategies.
    """
    return Engine(*first_that_holds(model, _STRATEGIES, prove_engine))


def first_that_holds(
    model: Model, strategies: Sequence[S], prove: Callable[[Model, S], tuple[Check, ...]]
) -> tuple[S, tuple[Check, ...], tuple[str, ...]]:
    """Try strategies until one passes every check.

    Args:
        model: the model.
        strategies: the cheapest first.
        prove: the trial.

    Returns:
        The strategy, its proof, and why each one before it was passed over.

    Raises:
        AnatomyRefused: none passes; the message names the check that failed for the last one.
        OutOfBudget: the device has no room for a trial, so that nothing can be said about the strategies.
    """
    refusal: HydrascopeError | None = None
    passed_over: list[str] = []
    for strategy in strategies:
        try:
            checks = prove(model, strategy)
            require(checks)
            return strategy, checks, tuple(passed_over)
        except HydrascopeError as error:
            refusal = error
        except torch.cuda.OutOfMemoryError as error:
            raise OutOfBudget(
                f"the model leaves no room on {model.device} for a few tokens to pass through it; free memory there, "
                "or choose another --device or a --dtype with fewer bytes"
            ) from error
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            # The model's own code met a batch it cannot take: exactly what the trial is there to find out.
            refusal = AnatomyRefused("engine", (str(error).strip() or type(error).__name__).splitlines()[0])
        passed_over.append(f"{strategy.name}: {refusal}")
    assert refusal is not None
    raise refusal


def prove_engine(model: Model, strategy: Strategy) -> tuple[Check, ...]:
    """Compare a strategy with the untouched and with a plainly hooked model on random prompts.

    Args:
        model: the model.
        strategy: how rows come by the prefix.

    Returns:
        One check per statement.
    """
    before = count_hooks(model)
    ids = random_ids(model.network, batch=3, tokens=6, seed=2)
    parts = [*probed_parts(model), *_probed_experts(model, ids)]
    places = [model.anatomy.places(part) for part in parts]
    sites = list(dict.fromkeys(place.site for some in places for place in some))
    clean = capture(model, ids, sites, keep_prefix=strategy.needs_prefix)
    read = directions(model.network, model.anatomy.tail, clean.logits.argmax(-1))
    own = [_variant(clean, part, some, 0) for part, some in zip(parts, places, strict=True)]
    donated = [_variant(clean, part, some, 1) for part, some in zip(parts, places, strict=True)]
    swept = sweep(model, clean, [*own, *donated], read, strategy=strategy, routing=model.anatomy.routes)
    size = float(clean.logits.float().abs().max().clamp_min(1.0))
    allowed = 5 * model.anatomy.tolerance * size
    logit = swept.distribution.logit
    still = max(
        float((logit[1 : 1 + len(own)] - logit[0]).abs().max()),
        float(((swept.reads[1 : 1 + len(own)] - swept.reads[0]) / swept.sigma[0]).abs().max()),
    )
    plain = torch.stack([plain_forward(model, ids, variant, read.tokens) for variant in donated]).cpu()
    return (
        Check(
            "untouched logits",
            parity_error(swept, clean),
            allowed,
            "the clean row's logits are those of the untouched model",
        ),
        Check("self donor", still, allowed, "replacing a part by its own value changes nothing"),
        Check(
            "read-back",
            _read_back_error(model, swept, donated, read.vectors, first=1 + len(own)),
            allowed,
            "a replaced writer reads as the donor's value",
        ),
        Check(
            "plain loop",
            float((logit[1 + len(own) :] - plain).abs().max()),
            allowed,
            "knock-outs agree with full forwards that carry plain hooks",
        ),
        *_routing_checks(model, ids, donated[0], read, swept, 1 + len(own), allowed),
        Check(
            "restored",
            _foreign(model) + count_hooks(model) - before,
            0.0,
            "no hook and no foreign attention stays on the model",
        ),
    )


def _routing_checks(
    model: Model, ids: Tensor, variant: Variant, read: Directions, swept: Swept, row: int, allowed: float
) -> tuple[Check, ...]:
    if swept.routing is None:
        return ()
    scaled = replace(read, vectors=read.vectors / swept.sigma[0].to(read.vectors)[:, None])
    return routing_checks(model, ids, variant, scaled, swept.routing.rerouted[row, -1] / swept.sigma[0], allowed)


def prove_splits(model: Model, strategy: Strategy, wanted: Mapping[Component, str]) -> tuple[Split, ...]:
    """Divide writers into their units and show, on random prompts and knock-outs, that these sum to the write.

    Args:
        model: the model.
        strategy: its engine's.
        wanted: writer to the kind of its units.

    Returns:
        The divided writers.

    Raises:
        AnatomyRefused: units and biases do not sum to what their writer writes.
    """
    splits = split_writers(model, wanted)
    parts = [*probed_parts(model), *(Component(split.kind, split.writer.layer, 0) for split in splits)]
    ids = random_ids(model.network, batch=3, tokens=6, seed=4)
    places = [model.anatomy.places(part) for part in parts]
    sites = list(dict.fromkeys(place.site for some in places for place in some))
    clean = capture(model, ids, sites, keep_prefix=strategy.needs_prefix)
    read = directions(model.network, model.anatomy.tail, clean.logits.argmax(-1))
    variants = [_variant(clean, part, some, 1) for part, some in zip(parts, places, strict=True)]
    whole = sweep(model, clean, variants, read, strategy=strategy)
    divided = sweep(model, clean, variants, read, strategy=strategy, aims=aims(model, splits, read.vectors), full=False)
    names = [column.writer for column in columns(model.anatomy, splits)[1:-1]]
    members = torch.tensor([[name == w.component for name in names] for w in model.anatomy.writers]).float()
    summed = torch.einsum("wc,vcp->vwp", members, divided.reads[:, 1:])
    worst = ((summed - whole.reads[:, 1:]) / whole.sigma[0]).abs().amax((0, 2))
    allowed = 5 * model.anatomy.tolerance * float(clean.logits.float().abs().max().clamp_min(1.0))
    of_kind = {
        kind: [wanted.get(writer.component) == kind for writer in model.anatomy.writers]
        for kind in dict.fromkeys(wanted.values())
    }
    require(
        Check(check_name(kind), float(worst[mine].max()), allowed, f"{kind}s and biases sum to what their writer adds")
        for kind, mine in of_kind.items()
    )
    return splits


def _variant(clean: Clean, part: Component, places: Sequence[Place], shift: int) -> Variant:
    """A part given its own values, or those of the prompt `shift` rows before."""
    edits = tuple(Edit(place, own_value(clean, place).roll(shift, 0)) for place in places)
    return Variant(str(part), part.layer, edits)


def probed_parts(model: Model) -> list[Component]:
    """A first, a middle and a last writer of each kind and a unit of each: what a proof can afford on a large model."""
    writers = [writer.component for writer in model.anatomy.writers]
    middle = len(writers) // 2
    chosen = dict.fromkeys([*writers[:2], *writers[middle : middle + 2], *writers[-2:]])
    units = model.anatomy.inventory.units
    inside = [
        Component(kind, min(units[kind]), units[kind][min(units[kind])] - 1) for kind in UNIT_KINDS if kind in units
    ]
    return [*chosen, *inside]


def _probed_experts(model: Model, ids: Tensor) -> list[Component]:
    """Two experts that are asked: most of many are not, and replacing those proves little."""
    return [
        Component("expert", site.layer, expert)
        for site in model.anatomy.experts[:1]
        for expert in experts_of_last_token(model.network, ids, site)[:2]
    ]


def plain_forward(
    model: Model,
    ids: Tensor,
    variant: Variant,
    tokens: Tensor,
    edited: Sequence[int] = (-1,),
    read: Sequence[int] = (-1,),
) -> Tensor:
    """Centred target logits of one full forward with a plain hook per edit.

    Args:
        model: the model.
        ids: prompts of one length.
        variant: what is replaced; values have one row per prompt, or one per prompt and edited position.
        tokens: target of each prompt and read position.
        edited: positions that are replaced.
        read: positions that are read.
    """
    seen: list[Tensor] = []
    with hooked() as hooks, torch.no_grad():
        for edit in variant.edits:
            attach_edit(model, hooks, ids, edit, edited)
        tail = model.anatomy.tail
        hooks.on_output(model.network.get_submodule(tail.head), "head", lambda y: seen.append(y))
        model.network(input_ids=ids, use_cache=False)
    hooks.require_fired()
    logits = seen[0][:, list(read)].flatten(0, 1).float() * tail.scale
    return logits.gather(1, tokens[:, None])[:, 0] - logits.mean(-1)


def _read_back_error(
    model: Model, swept: Swept, variants: list[Variant], vectors: Float[Tensor, "prompts d"], first: int
) -> float:
    worst = 0.0
    for column, writer in enumerate(model.anatomy.writers, start=1):
        for row, variant in enumerate(variants, start=first):
            if variant.name == str(writer.component):
                pairs = zip(writer.gains, variant.edits, strict=True)
                expected = sum((edit.value.float() * vectors).sum(-1).cpu() * gain for gain, edit in pairs)
                worst = max(worst, float(((swept.reads[row, column] - expected) / swept.sigma[0]).abs().max()))
    return worst


def count_hooks(model: Model) -> int:
    """Hooks on all modules together."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.network.modules())


def _foreign(model: Model) -> float:
    return float(NAME in str(model.network.config._attn_implementation))
