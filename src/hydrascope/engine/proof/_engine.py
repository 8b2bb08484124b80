"""Chooses the cheapest strategy that agrees with plain full forwards on a model.

Strategies are tried on the model in front of us, on a few random prompts; no list of names is kept. The plain forwards
share no code with the strategies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import Check, Directions, Model, Place, directions, experts_of_last_token, random_ids, require
from hydrascope.components import UNIT_KINDS, Component
from hydrascope.engine._attention import SHARED_PREFIX
from hydrascope.engine._axes import columns
from hydrascope.engine._clean import CleanRun, record
from hydrascope.engine._forward import Readings, run_interventions
from hydrascope.engine._interventions import Edit, Intervention
from hydrascope.engine._positions import Layout
from hydrascope.engine._strategies import ExpandedCache, FromBlock, SharedPrefix, Strategy, WholeSequence
from hydrascope.engine._units import UnitDecomposition, check_name, decompose_writers, readouts
from hydrascope.engine.proof._plain import plain_forward, routing_checks
from hydrascope.errors import AnatomyRefused, HydrascopeError, OutOfBudget

AT_LAST_TOKEN: tuple[Strategy, ...] = (SharedPrefix(), ExpandedCache(), WholeSequence())
"""Strategies for replacing and reading at the last token, the cheapest first."""

OF_WHOLE_TEXTS: tuple[Strategy, ...] = (FromBlock(), FromBlock(enters=False), FromBlock(skips=False))
"""Strategies for replacing or reading at other positions, the cheapest first."""

TOKENS = 6
EDITED, READ = (1, 2, 4), (2, 4, 5)
"""Positions at which a strategy for whole texts is tried."""


@dataclass(frozen=True)
class Engine:
    """The strategy chosen for a model, and its proof.

    Attributes:
        strategy: how interventions are run.
        checks: what was proved.
        passed_over: why each cheaper strategy was not taken, in the order of trial.
    """

    strategy: Strategy
    checks: tuple[Check, ...]
    passed_over: tuple[str, ...] = ()


def choose_engine(model: Model, strategies: Sequence[Strategy] = AT_LAST_TOKEN) -> Engine:
    """Take the first strategy that passes every check on this model.

    Args:
        model: the model.
        strategies: strategies to try, the cheapest first.

    Returns:
        Strategy and proof.

    Raises:
        AnatomyRefused: none passes; the message names the check that failed for the last one.
        OutOfBudget: the device has no room for a trial, so that nothing can be said about the strategies.
    """
    refusal: HydrascopeError | None = None
    passed_over: list[str] = []
    for strategy in strategies:
        try:
            checks = prove_engine(model, strategy)
            require(checks)
            return Engine(strategy, checks, tuple(passed_over))
        except HydrascopeError as error:
            refusal = error
        except torch.cuda.OutOfMemoryError as error:
            raise OutOfBudget(
                f"the model leaves no room on {model.device} for a few tokens to pass through it; free memory there, "
                "or choose another device (--device) or a number format with fewer bytes (--dtype)"
            ) from error
        except (RuntimeError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
            # the model's own code met a batch it cannot take: exactly what the trial is there to find out
            refusal = AnatomyRefused("engine", (str(error).strip() or type(error).__name__).splitlines()[0])
        passed_over.append(f"{strategy.name}: {refusal}")
    assert refusal is not None
    raise refusal


@dataclass(frozen=True)
class Trial:
    """A clean run on random prompts, and parts to intervene on.

    Attributes:
        strategy: strategy on trial.
        parts: parts that are replaced, one after the other.
        clean: clean run with the values of all parts.
        read: read-out directions of the most likely tokens.
    """

    model: Model
    strategy: Strategy
    parts: Sequence[Component]
    clean: CleanRun
    read: Directions

    @classmethod
    def of(cls, model: Model, strategy: Strategy, parts: Sequence[Component], *, seed: int) -> Trial:
        """Record random prompts, at the positions that the strategy is for."""
        clean = record_random(model, strategy, [place for part in parts for place in model.anatomy.places(part)], seed)
        read = directions(model.network, model.anatomy.tail, clean.logits.argmax(-1))
        return cls(model, strategy, parts, clean, read)

    @property
    def allowed(self) -> float:
        """Largest difference that passes, in logits."""
        logits = self.model.anatomy.tail.of_tokens(self.clean.logits)
        return 5 * self.model.anatomy.tolerance * float(logits.float().abs().max().clamp_min(1.0))

    def interventions(self, shift: int) -> list[Intervention]:
        """Every part given its own values, or those of the prompt `shift` rows before."""
        places = self.model.anatomy.places
        return [
            Intervention(
                str(part),
                part.layer,
                tuple(Edit(place, own_value(self.clean, place).roll(shift, 0)) for place in places(part)),
            )
            for part in self.parts
        ]

    def readings(self, interventions: Sequence[Intervention], *, routing: bool = False) -> Readings:
        """Run interventions together or, where rows of one forward begin at one block, one by one."""
        if not self.strategy.by_block:
            return run_interventions(
                self.model, self.clean, interventions, self.read, strategy=self.strategy, routing=routing
            )
        before = run_interventions(self.model, self.clean, [], self.read, strategy=self.strategy.whole)
        alone = [
            run_interventions(
                self.model,
                self.clean,
                [one],
                self.read,
                strategy=self.strategy.at(one.first_layer),
                with_distribution=False,
                with_clean_logits=False,
                before=before,
            )
            for one in interventions
        ]
        return Readings.joined(before, alone)


def record_random(model: Model, strategy: Strategy, places: Sequence[Place], seed: int) -> CleanRun:
    """Run the untouched model on a few random prompts, with what a strategy needs."""
    sites = list(dict.fromkeys(place.site for place in places))
    ids = random_ids(model.network, batch=2 if strategy.by_block else 3, tokens=TOKENS, seed=seed)
    layout = Layout(len(ids), TOKENS, EDITED, READ) if strategy.by_block else Layout.last(*ids.shape)
    return record(model, ids, sites, layout, keep=strategy.keep)


def own_value(clean: CleanRun, place: Place) -> Float[Tensor, "prompts edited width"]:
    """A place's own value in a clean run that kept its site."""
    return clean.values[place.site][..., place.span]


def prove_engine(model: Model, strategy: Strategy) -> tuple[Check, ...]:
    """Compare a strategy with the untouched and with a plainly hooked model on random prompts.

    Args:
        model: the model.
        strategy: how interventions are run.

    Returns:
        One check per statement.
    """
    before = _left_on(model)
    parts = probed_parts(model)
    if not strategy.by_block:
        parts += _probed_experts(model, random_ids(model.network, batch=3, tokens=TOKENS, seed=2))
    trial = Trial.of(model, strategy, parts, seed=5 if strategy.by_block else 2)
    clean, allowed = trial.clean, trial.allowed
    own, donated = trial.interventions(0), trial.interventions(1)
    routed = model.anatomy.routes and not strategy.by_block
    found = trial.readings([*own, *donated], routing=routed)
    logit, others = found.distribution.logit, 1 + len(own)
    still = max(
        float((logit[1:others] - logit[0]).abs().max()),
        float(((found.reads[1:others] - found.reads[0]) / found.sigma[0]).abs().max()),
    )
    plain = torch.stack([plain_forward(model, clean, one, trial.read.tokens) for one in donated]).cpu()
    assert found.distribution.probe is not None
    checks = [
        Check(
            "untouched logits",
            float((found.distribution.probe - clean.logits.float().cpu()).abs().max()),
            allowed,
            "the clean row's logits are those of the untouched model",
        ),
        Check("self donor", still, allowed, "replacing a part by its own value changes nothing"),
        Check(
            "plain loop",
            float((logit[others:] - plain).abs().max()),
            allowed,
            "knock-outs agree with full forwards that carry plain hooks",
        ),
    ]
    if not strategy.by_block:
        error = _read_back_error(model, found, donated, trial.read.vectors, first=others)
        checks.insert(2, Check("read-back", error, allowed, "a replaced writer reads as the donor's value"))
    if found.routing is not None:
        scaled = replace(trial.read, vectors=trial.read.vectors / found.sigma[0].to(trial.read.vectors)[:, None])
        rerouted = found.routing.rerouted[others, -1] / found.sigma[0]
        checks += routing_checks(model, clean.ids, donated[0], scaled, rerouted, allowed)
    left = float(sum(a != b for a, b in zip(before, _left_on(model), strict=True)))
    checks.append(Check("restored", left, 0.0, "no hook, no foreign attention and no forward stays on the model"))
    return tuple(checks)


def prove_units(model: Model, strategy: Strategy, wanted: Mapping[Component, str]) -> tuple[UnitDecomposition, ...]:
    """Divide writers into units, and prove on random knock-outs that these sum to the write.

    Args:
        model: the model.
        strategy: how interventions are run at the last token.
        wanted: kind of units by writer.

    Returns:
        The divided writers.

    Raises:
        AnatomyRefused: units and biases do not sum to what their writer writes.
    """
    decompositions = decompose_writers(model, wanted)
    parts = [*probed_parts(model), *(Component(split.kind, split.writer.layer, 0) for split in decompositions)]
    trial = Trial.of(model, strategy, parts, seed=4)
    interventions, read = trial.interventions(1), trial.read
    whole = run_interventions(model, trial.clean, interventions, read, strategy=strategy)
    apart = readouts(model, decompositions, read.vectors)
    divided = run_interventions(
        model, trial.clean, interventions, read, strategy=strategy, readouts=apart, with_distribution=False
    )
    names = [column.writer for column in columns(model.anatomy, decompositions)[1:-1]]
    members = torch.tensor([[name == w.component for name in names] for w in model.anatomy.writers]).float()
    summed = torch.einsum("wc,vcp->vwp", members, divided.reads[:, 1:])
    worst = ((summed - whole.reads[:, 1:]) / whole.sigma[0]).abs().amax((0, 2))
    of_kind = {
        kind: [wanted.get(writer.component) == kind for writer in model.anatomy.writers]
        for kind in dict.fromkeys(wanted.values())
    }
    require(
        Check(check_name(kind), float(worst[mine].max()), trial.allowed, f"{kind}s and biases sum to what is written")
        for kind, mine in of_kind.items()
    )
    return decompositions


def probed_parts(model: Model) -> list[Component]:
    """First, middle and last writers and a unit of each kind: what a proof can afford on a large model."""
    writers = [writer.component for writer in model.anatomy.writers]
    middle = len(writers) // 2
    chosen = dict.fromkeys([*writers[:2], *writers[middle : middle + 2], *writers[-2:]])
    units = model.anatomy.inventory.units
    inside = [
        Component(kind, min(units[kind]), units[kind][min(units[kind])] - 1) for kind in UNIT_KINDS if kind in units
    ]
    return [*chosen, *inside]


def _probed_experts(model: Model, ids: Tensor) -> list[Component]:
    """Two experts that are asked: of many most are not, and replacing those proves little."""
    return [
        Component("expert", site.layer, expert)
        for site in model.anatomy.experts[:1]
        for expert in experts_of_last_token(model.network, ids, site)[:2]
    ]


def _read_back_error(
    model: Model,
    readings: Readings,
    interventions: Sequence[Intervention],
    vectors: Float[Tensor, "prompts d"],
    first: int,
) -> float:
    worst = 0.0
    for column, writer in enumerate(model.anatomy.writers, start=1):
        for row, intervention in enumerate(interventions, start=first):
            if intervention.name == str(writer.component):
                pairs = zip(writer.gains, intervention.edits, strict=True)
                expected = sum((edit.value[:, 0].float() * vectors).sum(-1).cpu() * gain for gain, edit in pairs)
                worst = max(worst, float(((readings.reads[row, column] - expected) / readings.sigma[0]).abs().max()))
    return worst


def _left_on(model: Model) -> list[object]:
    """What a forward could leave on a model: hooks, an attention function of ours, forwards of blocks."""
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.network.modules())
    blocks = map(model.network.get_submodule, model.anatomy.layers)
    return [hooks, SHARED_PREFIX in str(model.network.config._attn_implementation), *(b.forward for b in blocks)]
