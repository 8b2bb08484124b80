"""Everything that decides how a model comes out, in one place and in one TOML file per model."""

from __future__ import annotations

import json
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from zoo.documents import Mixture

Ingredient = Literal["none", "dropout", "attention_drop", "attention_swap", "layer_drop"]


@dataclass(frozen=True)
class Recipe:
    """How to train one model.

    Attributes:
        name: Name of the model and of its checkpoint folder.
        start: Weights to start from instead of fresh ones, as ``RUN/step-NUMBER``; empty for fresh ones.
        ingredient: What is dropped during training: nothing; single features of the embedding, of the
            attention weights and of every sub-layer's output (as GPT-2 did); the whole output of the
            attention sub-layer at a token; the same, with the output at a token of the same word
            elsewhere in the batch in its place (``attention_swap``); or a whole layer at a token.
        drop: Probability of dropping, 0 with ``none``.
        ramp: Steps over which the probability of dropping grows from 0 to ``drop``; single features are
            dropped with the full probability from the start.
        first_layer: The ingredient leaves the layers before this one alone.
        supervision: Weight of the loss of the next token read out after a layer drawn at random, row
            by row; 0 for the last layer's loss alone.
        norm: ``rms`` (a Llama) or ``layer`` (a StableLM, which differs in the norm only).
        readout: ``tied`` to the embedding, or ``loud`` (see :func:`zoo.model.make_readout_loud`).
        layers: Number of layers.
        width: Size of the residual stream.
        heads: Attention heads per layer.
        mlp_width: Hidden size of the MLPs.
        length: Tokens in a packed row, and the context length of the model.
        rows: Rows in a batch.
        steps: Optimiser steps; the learning rate reaches zero at the last.
        warmup: Steps of linear warm-up.
        schedule: ``cosine`` falls from the warm-up to the end; ``plateau`` stays until ``decay`` steps before
            it, so that up to there nothing depends on ``steps`` and a run may be made longer or shorter.
        decay: Steps of linear decay at the end of a plateau.
        curriculum: Steps until retrieval documents are as hard as they get.
        optimiser: ``adamw``, or ``muon`` for the matrices of the layers (the rest stays with AdamW).
        learning_rate: Peak learning rate.
        weight_decay: On matrices, embedding excepted.
        seed: Seed of the weights, of the corpus and of everything dropped.
        precision: ``float32``, or ``bfloat16`` for the matrix products of training.
        compiled: Run the training step through ``torch.compile``.
        evaluate_every: Steps between evaluations.
        checkpoint_every: Steps between checkpoints.
        snapshot_every: Steps between sets of weights that are kept.
        mixture: What the corpus is made of.
    """

    name: str
    start: str = ""
    ingredient: Ingredient = "none"
    drop: float = 0.0
    ramp: int = 0
    first_layer: int = 0
    supervision: float = 0.0
    norm: Literal["rms", "layer"] = "rms"
    readout: Literal["tied", "loud"] = "tied"
    layers: int = 8
    width: int = 128
    heads: int = 4
    mlp_width: int = 384
    length: int = 64
    rows: int = 64
    steps: int = 1400
    warmup: int = 200
    schedule: Literal["cosine", "plateau"] = "cosine"
    decay: int = 0
    curriculum: int = 700
    optimiser: Literal["adamw", "muon"] = "muon"
    learning_rate: float = 3e-3
    weight_decay: float = 0.1
    seed: int = 0
    precision: Literal["float32", "bfloat16"] = "bfloat16"
    compiled: bool = True
    evaluate_every: int = 250
    checkpoint_every: int = 250
    snapshot_every: int = 175
    mixture: Mixture = field(default_factory=Mixture)

    def __post_init__(self) -> None:
        if (self.ingredient == "none") != (self.drop == 0.0):
            raise ValueError("'drop' must be 0 with the ingredient 'none' and above 0 with any other.")
        if self.warmup + self.decay > self.steps:
            raise ValueError("'warmup' and 'decay' together are longer than 'steps'.")
        if (self.schedule == "plateau") != (self.decay > 0):
            raise ValueError("'decay' must be above 0 with the schedule 'plateau' and 0 with 'cosine'.")
        if not 0.0 <= self.drop < 1.0:
            raise ValueError(f"'drop' is a probability below 1, not {self.drop}.")

    def as_dict(self) -> dict[str, Any]:
        """Return the recipe as plain values, for a log or a model card."""
        return asdict(self)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe.

    Args:
        path: A TOML file whose keys are the fields of :class:`Recipe`, with a ``[mixture]`` table.

    Raises:
        ValueError: If a key is unknown.
    """
    return read_recipe(tomllib.loads(path.read_text()), path)


def read_recipe(values: dict[str, Any], source: Path) -> Recipe:
    """Make a recipe of plain values.

    Args:
        values: Fields of :class:`Recipe`, with a table ``mixture``.
        source: The file that an error names.

    Raises:
        ValueError: If a key is unknown.
    """
    unknown = set(values) - {entry.name for entry in fields(Recipe)}
    if unknown:
        raise ValueError(f"{source} has the unknown key {min(unknown)!r}; see zoo/recipe.py.")
    return _read(values)


def load_recipe_record(path: Path) -> Recipe:
    """Read the recipe that a run has written down beside its checkpoint."""
    return _read(json.loads(path.read_text()))


def _read(values: dict[str, Any]) -> Recipe:
    shares = dict(values.get("mixture", {}))
    if "people" in shares:
        shares["people"] = tuple(shares["people"])
    return Recipe(**{**values, "mixture": Mixture(**shares)})
