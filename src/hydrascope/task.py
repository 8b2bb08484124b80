"""A run before it is made: options, and everything that can be checked before the first number is computed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Int

from hydrascope.ablations import Ablation, Resample
from hydrascope.anatomy import Model, Site
from hydrascope.components import Component, Knockout, parse_knockouts, parse_writers
from hydrascope.engine import (
    OF_WHOLE_TEXTS,
    Budget,
    Detail,
    Engine,
    Plan,
    Positions,
    Split,
    choose_engine,
    edited_places,
    held_places,
    prove_attention_split,
    prove_edges,
    prove_splits,
    require_learnable,
    sender_places,
)
from hydrascope.errors import EmptyPrompts, RunError
from hydrascope.prompts import Bos, Encoded, PromptSet, TargetPolicy, encode, told_apart
from hydrascope.run_directory import fresh_or_same

LISTED = 2000
"""Knock-outs whose addresses are written out in a run's settings."""


@dataclass(frozen=True)
class Options:
    """How a knock-out run is made, beside model, prompts and ablation.

    Attributes:
        components: what is ablated, one after the other; `writers` is every attention layer, mixer and MLP. See
            `hydrascope.components`.
        target: `label` takes each prompt's target and keeps the prompts that the model completes with it; `difference`
            the target's logit minus the foil's, where that is positive; `top` the clean run's top token for all,
            `random-top` one of its ten most probable; `kl` the top token, ranked by the change of the whole
            distribution. Prompts without a target always take the top token.
        keep_wrong: keep prompts whose target is not the model's top token, or not above the foil.
        bos: who puts a beginning-of-sequence token in front: `auto` the tokenizer, `always`, `never`.
        null_draws: draws repeated with a random displacement of the same norm, as a negative control.
        seed: of donors, noise and null.
        memory: budget such as `4GB`; None for a share of what is free.
        writers: what the account keeps apart. `layers` keeps every writer whole; `heads`, `neurons`, or a list such as
            `head,neuron.6-7`, divide those writers into their units and, apart, their biases.
        detail: `full` keeps the change of every writer; `kinds` only sums by kind of writer, for sweeps of so many
            knock-outs that the whole account would be too large.
        positions: where which parts are knocked out and at which effects are read.
        measured: also measure the whole next-token distribution (log-probability, rank, KL divergence).
        dose: how far a part is knocked out, from 0 to 1: what is put in place is (1 - dose) of the prompt's own value
            and dose of the replacement. An edge's is that of what its receiver reads through it.
        split_attention: split what answering attention changes into moved weights and changed values. At the last token
            that costs little; in whole texts attention is computed without its fast kernels, with all weights in
            memory.
        protocol: name of the protocol that these options come from, for the record; they may differ from it.
    """

    components: str = "writers"
    target: TargetPolicy = "label"
    keep_wrong: bool = False
    bos: Bos = "auto"
    null_draws: int = 2
    seed: int = 0
    memory: str | None = None
    writers: str = "layers"
    detail: Detail = "full"
    positions: Positions = field(default_factory=Positions)
    measured: bool = True
    dose: float = 1.0
    split_attention: bool = False
    protocol: str = ""


@dataclass(frozen=True)
class Task:
    """A run that is ready to go: everything checked, nothing computed.

    Attributes:
        model: the model.
        prompts: the prompt set.
        encoded: its tokens.
        ablation: what replaces an ablated output.
        options: the rest.
        knockouts: what is ablated.
        engine: strategy and proof.
        splits: writers that are read unit by unit.
        heads: attention writers by their heads, where their changes are split.
    """

    model: Model
    prompts: PromptSet
    encoded: Encoded
    ablation: Ablation
    options: Options
    knockouts: tuple[Knockout, ...]
    engine: Engine = field(repr=False)
    splits: tuple[Split, ...] = field(repr=False, default=())
    heads: tuple[Split, ...] = field(repr=False, default=())

    def __post_init__(self) -> None:
        if self.ablation.learning is not None:
            require_learnable(self.knockouts, self.model.anatomy)
        self.ablation.check(self.encoded.prompts, last_token=self.options.positions.is_last)

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the numbers depend on."""
        source, options = self.model.source, self.options
        return {
            "weights": source.weight_digest,
            "dtype": source.dtype,
            "device": self.model.device.type,
            "engine": self.engine.strategy.name,
            "prompts": self.prompts.digest,
            "bos": options.bos,
            "components": _named(self.knockouts),
            "ablation": self.ablation.settings,
            "positions": options.positions.ablate,
            "read": options.positions.read,
            "skipped_positions": options.positions.skip if options.positions.read == "each" else 0,
            "measured": options.measured,
            "target": options.target,
            "keep_wrong": options.keep_wrong,
            "null_draws": self.null_draws,
            "seed": options.seed,
            "dose": options.dose,
            "split_attention": options.split_attention,
            "writers": self.writers,
            "detail": options.detail,
        }

    @property
    def writers(self) -> str:
        """What the account keeps apart, in one spelling whichever was used."""
        return _divided({split.writer: split.kind for split in self.splits}, self.model)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Module inputs and outputs whose values are replaced, or make replacements."""
        places = [
            place
            for k in self.knockouts
            for place in (
                *edited_places(k, self.model.anatomy),
                *sender_places(k, self.model.anatomy),
                *held_places(k, self.model.anatomy, self.splits),
            )
        ]
        return tuple(dict.fromkeys(place.site for place in places))

    def plan(self, table: Int[np.ndarray, "draws prompts"]) -> Plan:
        """What every batch does.

        Args:
            table: pool index of each draw and prompt.
        """
        options = self.options
        return Plan(
            self.model.anatomy,
            self.knockouts,
            self.ablation,
            table,
            self.null_draws,
            options.seed,
            self.splits,
            options.detail,
            options.dose,
            self.heads,
        )

    @property
    def positions(self) -> Positions:
        """Where parts are knocked out, and where effects are read."""
        return self.options.positions

    @property
    def null_draws(self) -> int:
        """The null has at most as many draws as the ablation."""
        return min(self.options.null_draws, self.ablation.draws)


def prepare(model: Model, prompts: PromptSet, ablation: Ablation | None = None, options: Options | None = None) -> Task:
    """Check everything that can be checked before the first number is computed.

    Raises:
        ComponentError: an address the model does not have.
        PromptError: prompts that this model cannot take.
        AnatomyRefused: no engine is exact on this model, or not on its edges, or its units cannot be told apart in
            what they write, or its attention cannot be watched.
    """
    options = options or Options()
    knockouts = tuple(parse_knockouts(options.components, model.anatomy.inventory))
    for knockout in knockouts:
        edited_places(knockout, model.anatomy)
    if options.target not in get_args(TargetPolicy):
        raise RunError(f"no target policy '{options.target}'; choose {', '.join(get_args(TargetPolicy))}")
    if options.null_draws < 0:
        raise RunError(f"{options.null_draws} null draws make no sense; ask for 0 or more")
    wanted = parse_writers(options.writers, model.anatomy.inventory)
    if options.detail not in ("full", "kinds"):
        raise RunError(f"no detail '{options.detail}'; choose full or kinds")
    if not 0 <= options.dose <= 1:
        raise RunError(f"a dose of {options.dose:g} is none; give a number from 0 to 1")
    if options.seed < 0:
        raise RunError(f"{options.seed} is no seed; give 0 or more")
    Budget.read(options.memory, *model.devices)
    if not len(prompts):
        raise EmptyPrompts(f"the prompt set '{prompts.name}' is empty; give at least one prompt")
    encoded = encode(prompts, model.tokenizer, vocabulary=model.anatomy.n_vocab, context=model.context, bos=options.bos)
    if options.target == "difference":
        told_apart(encoded)
    for length in encoded.by_length():
        options.positions.ablated_in(length), options.positions.read_in(length)
    engine = choose_engine(model) if options.positions.is_last else choose_engine(model, OF_WHOLE_TEXTS)
    splits: tuple[Split, ...] = ()
    if wanted or any(knockout.sender is not None for knockout in knockouts):
        # they are proved at the last token; what is linear in one place is so in all
        prover = engine.strategy if options.positions.is_last else choose_engine(model).strategy
        prove_edges(model, prover, knockouts)
        splits = prove_splits(model, prover, wanted) if wanted else ()
    heads = prove_attention_split(model, engine.strategy) if options.split_attention else ()
    return Task(model, prompts, encoded, ablation or Resample(), options, knockouts, engine, splits, heads)


def default_folder(task: Task) -> Path:
    """`runs/MODEL-PROMPTS`, or the next free number of it where another run is there."""
    return fresh_or_same(Path("runs") / f"{task.model.source.label}-{task.prompts.name}", task.settings)


def _divided(wanted: Mapping[Component, str], model: Model) -> str:
    """`heads` or `neurons` where all of a kind are divided, otherwise block by block."""
    found = []
    for kind in dict.fromkeys(wanted.values()):
        layers = [writer.layer for writer, units in wanted.items() if units == kind]
        everywhere = len(layers) == len(model.anatomy.inventory.units[kind])
        found += [f"{kind}s"] if everywhere else [f"{kind}.{layer}" for layer in layers]
    return ",".join(found) or "layers"


def _named(knockouts: Sequence[Knockout]) -> str:
    """All addresses while they are few; of tens of thousands, how many and a digest."""
    text = ",".join(map(str, knockouts))
    if len(knockouts) <= LISTED:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{knockouts[0]} to {knockouts[-1]}, {len(knockouts)} in all, {digest}"
