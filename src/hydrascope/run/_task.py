"""A run before it is made: everything that can be checked before the first number.

It costs the proofs of the engine, some dozens of forwards of a few tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from hydrascope.ablations import Ablation, Resample
from hydrascope.analysis import CONCLUSIVE_FROM, MORE_GROUPS, resample
from hydrascope.anatomy import Model, Site
from hydrascope.components import Component, Knockout, parse_knockouts, parse_writers
from hydrascope.engine import (
    OF_WHOLE_TEXTS,
    Budget,
    Engine,
    Plan,
    Positions,
    UnitDecomposition,
    choose_engine,
    edited_places,
    frozen_places,
    prove_attention_split,
    prove_edges,
    prove_units,
    require_learnable,
    sender_places,
)
from hydrascope.errors import EmptyPrompts, RunError, TargetError
from hydrascope.prompts import Encoded, EncodedPrompt, PromptSet, TargetPolicy, encode, require_distinct_foils
from hydrascope.run._options import Options
from hydrascope.run_directory import fresh_or_same

NEEDED: dict[TargetPolicy, tuple[str, ...]] = {
    "label": ("target",),
    "difference": ("target", "foil"),
    "top": (),
    "random-top": (),
    "kl": (),
}
"""Answers that each target policy reads."""

LISTED = 2000
"""Largest number of knock-outs whose addresses a run's settings spell out."""


@dataclass(frozen=True)
class Task:
    """A run that is ready to go: everything checked, nothing computed.

    Attributes:
        prompts: the prompt set.
        encoded: the prompts as tokens.
        ablation: what replaces an ablated output.
        options: how the run is made.
        knockouts: what is ablated, one after the other.
        engine: strategy and proof.
        decompositions: writers that are read unit by unit.
        heads: attention writers by their heads, where changes of attention are split.
        dose: how far a part is knocked out, from 0 to 1.
    """

    model: Model
    prompts: PromptSet
    encoded: Encoded
    ablation: Ablation
    options: Options
    knockouts: tuple[Knockout, ...]
    engine: Engine = field(repr=False)
    decompositions: tuple[UnitDecomposition, ...] = field(repr=False, default=())
    heads: tuple[UnitDecomposition, ...] = field(repr=False, default=())
    dose: float = 1.0

    def __post_init__(self) -> None:
        if self.ablation.learning is not None:
            require_learnable(self.knockouts, self.model.anatomy)
        self.ablation.check(self.encoded.prompts, last_token=self.positions.is_last)

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
            "delimiter": options.delimiter,
            "answer": options.answer,
            "components": _named(self.knockouts),
            "ablation": self.ablation.settings,
            "positions": options.positions,
            "read": options.read,
            "skip": options.skip if options.read == "each" else 0,
            "distribution": options.distribution,
            "target": options.target,
            "keep_wrong": options.keep_wrong,
            "null_draws": self.null_draws,
            "seed": options.seed,
            "dose": self.dose,
            "split_attention": options.split_attention,
            "writers": self.writers,
            "detail": options.detail,
        }

    @property
    def caution(self) -> str:
        """What can be known beforehand not to be told; empty where nothing is."""
        return caution(self.encoded.prompts)

    @property
    def writers(self) -> str:
        """The account's writers, in one spelling whichever was used."""
        return _divided({split.writer: split.kind for split in self.decompositions}, self.model)

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Module inputs and outputs whose values are replaced, or make replacements."""
        places = [
            place
            for k in self.knockouts
            for place in (
                *edited_places(k, self.model.anatomy),
                *sender_places(k, self.model.anatomy),
                *frozen_places(k, self.model.anatomy, self.decompositions),
            )
        ]
        return tuple(dict.fromkeys(place.site for place in places))

    def plan(self, table: Int[np.ndarray, "draws prompts"]) -> Plan:
        """The plan of all batches, given the pool index of each draw and prompt."""
        options = self.options
        return Plan(
            self.model.anatomy,
            self.knockouts,
            self.ablation,
            table,
            self.null_draws,
            options.seed,
            self.decompositions,
            options.detail,
            self.dose,
            self.heads,
            any(self.positions_of(one).reads_elsewhere(len(one.ids)) for one in self.encoded.prompts),
        )

    @property
    def positions(self) -> Positions:
        """Where parts are knocked out, and where effects are read, at most."""
        return _positions(self.options, self.encoded)

    def positions_of(self, prompt: EncodedPrompt) -> Positions:
        """Where parts of one prompt are knocked out, and where effects are read."""
        return replace(self.positions, span=prompt.span)

    @property
    def noun(self) -> str:
        """What a run is made on, in words."""
        return "text" if self.positions.read == "each" else "prompt"

    @property
    def null_draws(self) -> int:
        """Draws of the random-direction control, at most those of the ablation."""
        return min(self.options.null_draws, self.ablation.draws)


def prepare(
    model: Model,
    prompts: PromptSet,
    ablation: Ablation | None = None,
    options: Options | None = None,
    *,
    dose: float = 1.0,
) -> Task:
    """Check everything that can be checked before the first number is computed.

    Args:
        model: an opened model.
        prompts: at least one prompt.
        ablation: what replaces an ablated output; 15 resampled donors by default.
        options: how the run is made.
        dose: how far a part is knocked out, from 0 to 1.

    Raises:
        ComponentError: an address the model does not have.
        PromptError: prompts that this model cannot take.
        AnatomyRefused: no engine is exact on this model or its edges, or its units or attention cannot be split.
    """
    options = options or Options()
    knockouts = tuple(parse_knockouts(options.components, model.anatomy.inventory))
    for knockout in knockouts:
        edited_places(knockout, model.anatomy)
    _positions(options)
    wanted = parse_writers(options.writers, model.anatomy.inventory)
    Budget.read(options.memory, *model.devices)
    if not len(prompts):
        raise EmptyPrompts(f"the prompt set '{prompts.name}' is empty; give at least one prompt")
    encoded = encode(
        prompts,
        model.tokenizer,
        vocabulary=model.anatomy.n_vocab,
        context=model.context,
        bos=options.bos,
        delimiter=options.delimiter,
        answers=options.answer,
        needed=NEEDED[options.target],
    )
    if options.answer == "whole":
        _require_whole(encoded, ablation, options)
    positions = _positions(options, encoded)
    if options.target == "difference":
        require_distinct_foils(encoded)
    for prompt in encoded.prompts:
        where = replace(positions, span=prompt.span)
        where.ablated_in(len(prompt.ids)), where.read_in(len(prompt.ids))
    engine = choose_engine(model) if positions.is_last else choose_engine(model, OF_WHOLE_TEXTS)
    decompositions: tuple[UnitDecomposition, ...] = ()
    if wanted or any(knockout.sender is not None for knockout in knockouts):
        # proved at the last token: what is linear at one position is so at all
        prover = engine.strategy if positions.is_last else choose_engine(model).strategy
        prove_edges(model, prover, knockouts)
        decompositions = prove_units(model, prover, wanted) if wanted else ()
    heads = prove_attention_split(model, engine.strategy) if options.split_attention else ()
    return Task(
        model, prompts, encoded, ablation or Resample(), options, knockouts, engine, decompositions, heads, dose
    )


def caution(prompts: Sequence[EncodedPrompt]) -> str:
    """What so many groups of prompts cannot tell; empty where they suffice."""
    if resample([prompt.group for prompt in prompts]).conclusive:
        return ""
    return (
        f"fewer than {CONCLUSIVE_FROM} independent groups of prompts: means will be told, neither intervals nor "
        f"signs; {MORE_GROUPS}"
    )


def default_folder(task: Task) -> Path:
    """`runs/MODEL-PROMPTS`, or the next free number of it where another run is there."""
    return fresh_or_same(Path("runs") / f"{task.model.source.label}-{task.prompts.name}", task.settings)


def _positions(options: Options, encoded: Encoded | None = None) -> Positions:
    whole = encoded is not None and options.answer == "whole"
    span = max(prompt.span for prompt in encoded.prompts) if whole and encoded is not None else 1
    return Positions(options.positions, options.read, options.skip, span)


def _require_whole(encoded: Encoded, ablation: Ablation | None, options: Options) -> None:
    """Refuse what has no meaning for whole answers."""
    if options.target != "label" or options.read != "last":
        raise RunError(
            "--answer whole reads the answers given with the prompts, at their own positions; use --target label and "
            "--read last"
        )
    if ablation is not None and ablation.learning is not None:
        raise RunError(f"--answer whole cannot be read under {ablation.name}, which is learned at one position")
    if missing := [prompt.index for prompt in encoded.prompts if not prompt.answer]:
        raise TargetError(
            f"prompt {missing[0]} (counted from 0) has no target, which --answer whole needs; add a 'target' to every "
            "prompt"
        )


def _divided(wanted: Mapping[Component, str], model: Model) -> str:
    """`heads` or `neurons` where all of a kind are divided, otherwise block by block."""
    found = []
    for kind in dict.fromkeys(wanted.values()):
        layers = [writer.layer for writer, units in wanted.items() if units == kind]
        everywhere = len(layers) == len(model.anatomy.inventory.units[kind])
        found += [f"{kind}s"] if everywhere else [f"{kind}.{layer}" for layer in layers]
    return ",".join(found) or "layers"


def _named(knockouts: Sequence[Knockout]) -> str:
    """All addresses while they are few; otherwise first, last, number and a digest."""
    text = ",".join(map(str, knockouts))
    if len(knockouts) <= LISTED:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{knockouts[0]} to {knockouts[-1]}, {len(knockouts)} in all, {digest}"
