"""Tiny transformers whose weights are set by hand, so that what a knock-out does is known on paper.

All are Llama models with four blocks. A prompt names a subject; each subject has an answer and a strength u.
A copier is an attention head that finds the subject and writes u (or a share of it) on the answer's own axis,
which the head of the model reads as the answer's logit. Around it are built:

    backup   a later attention layer writes u exactly when u is not there yet:  f(x) = 0 if x = u else u
    erasure  a late MLP takes away a fixed share of what stands on every answer's axis:  f(x) = -0.4 x
    neither  nobody responds
    hydra    a backup that is worth 0.7 u, and an erasing MLP above it
    norm     nobody responds, but the final norm is a real one and a knock-out changes its scale

How the paper and the weights are kept equal:
- The epsilon of the norms is far above every mean square and their gains undo it: a norm is a multiplication
  by two, and there is no norm effect. Only the final norm of `norm` is a real one.
- The rotary base is so large that the axes that queries and keys use do not turn.
- Queries are so large that attention is saturated (leaks below 1e-9).
- Every answer has an opposite token with the negative readout: the vocabulary mean of the readout is zero.
- Every writer also hums: it writes a few numbers that depend on the tokens, on axes that nobody reads. No
  writer is silent, and a sum over writers has something to get wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from transformers import PreTrainedModel

from tests.support.families import Family, build_from

N_LAYERS, N_HEADS, HEAD_DIM = 4, 2, 16
N_ANSWERS, N_FILLERS, N_STRENGTHS = 5, 6, 4
BOS, QUERY = 0, 1
FILLERS = range(2, 2 + N_FILLERS)
ANSWERS = range(FILLERS.stop, FILLERS.stop + N_ANSWERS)
OPPOSITES = range(ANSWERS.stop, ANSWERS.stop + N_ANSWERS)
SUBJECTS = range(OPPOSITES.stop, OPPOSITES.stop + N_ANSWERS * N_STRENGTHS)

# Axes of the residual stream.
ONE, IS_SUBJECT, JUNK = 0, 1, 2
NAME = slice(3, 8)  # which answer the subject has
VALUE = slice(8, 13)  # the same, times the strength
OUT = slice(13, 18)  # what has been written about each answer; the model's head reads this
NOISE = slice(18, 24)  # differs from token to token
HUM = slice(24, 32)  # written by all, read by none
WIDTH = 32

SHARP = 60.0  # attention score for and against; exp(-0.7 * 60) is 1e-18
THRESHOLD = 1.3  # between no answer (or the mean over all prompts, 0.6) and the weakest strength, 2
EPSILON = 1e12
GAIN = 2.0  # of every norm; what reads a norm is divided by it

FAMILY = Family(
    "llama",
    {
        "vocab_size": SUBJECTS.stop,
        "bos_token_id": BOS,
        "eos_token_id": None,
        "pad_token_id": None,
        "hidden_size": WIDTH,
        "intermediate_size": N_ANSWERS + 6,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": N_HEADS,
        "num_key_value_heads": N_HEADS,
        "head_dim": HEAD_DIM,
        "hidden_act": "relu",
        "max_position_embeddings": 32,
        "rms_norm_eps": EPSILON,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e30},
        "tie_word_embeddings": False,
    },
    layers="model.layers",
    attn="self_attn.o_proj",
    mlp="mlp.down_proj",
    o_proj="self_attn.o_proj",
    n_layers=N_LAYERS,
    n_heads=N_HEADS,
    head_dim=HEAD_DIM,
    final_norm="model.norm",
    epsilon=EPSILON,
)

READERS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "lm_head")


@dataclass(frozen=True)
class Recipe:
    """What is built into a model.

    Attributes:
        copiers: layer to share of the strength that its attention writes.
        backups: layer to share of the strength that its attention writes when the answer is missing.
        erasers: layer to share of the answers that its MLP takes away.
        junk: layer to a constant that its attention writes where nobody reads; it only lengthens the stream.
        real_norm: whether the final norm divides by the root mean square of the stream.
    """

    copiers: Mapping[int, float]
    backups: Mapping[int, float] = field(default_factory=dict)
    erasers: Mapping[int, float] = field(default_factory=dict)
    junk: Mapping[int, float] = field(default_factory=dict)
    real_norm: bool = False


@dataclass(frozen=True)
class Response:
    """What one knock-out does to the answer's logit, in units of the prompt's strength over the norm's scale.

    Attributes:
        own: change of the replaced writers' direct effect.
        attn: compensation by attention layers.
        mlp: compensation by MLPs.
        relaxed: rises of writers whose clean direct effect is negative (relaxed suppression).
        promoted: rises of all other writers (new promotion).
    """

    own: float = 0.0
    attn: float = 0.0
    mlp: float = 0.0
    relaxed: float = 0.0
    promoted: float = 0.0

    @property
    def restored(self) -> float:
        """Restored fraction without the norm effect, and slope of compensation on minus the own change."""
        return -(self.attn + self.mlp) / self.own


@dataclass(frozen=True)
class Planted:
    """A model and what must be found in it.

    Attributes:
        model: float32, eval mode. The final norm of `norm` has an epsilon of its own, which saving loses.
        family: where it keeps its writers.
        prompts, targets: token ids; the target is the model's top token.
        strengths: u of each prompt. [P]
        scale: what the final norm divides by in the clean run. [P]
        donors: for resampling, prompts with another answer. [R, P]
        direct: writer to clean direct effect in units of the strength over the scale; all others have none.
        responses: knock-out to response, the same for zero and for resample; all other single attention
            layers and MLPs have none.
        tolerance: how far float32 may be from these numbers, in logits.
    """

    model: PreTrainedModel
    family: Family
    recipe: Recipe
    prompts: list[list[int]]
    targets: list[int]
    strengths: np.ndarray
    scale: np.ndarray
    donors: np.ndarray
    direct: Mapping[str, float]
    responses: Mapping[str, Response]
    tolerance: float = 1e-4

    @property
    def unit(self) -> np.ndarray:
        """Logits of one unit of the shares in `direct` and `responses`. [P]"""
        return self.strengths / self.scale

    @property
    def clean_logits(self) -> np.ndarray:
        """The target's logit. [P]"""
        return sum(self.direct.values()) * self.unit

    def ablated_scale(self, writer: str, kind: str) -> np.ndarray:
        """What the final norm divides by when one writer of `norm` is knocked out. [R, P] (R = 1 for zero)"""
        rows = [None] if kind == "zero" else self.donors
        return np.array([_scales(self.recipe, self.prompts, writer, row) for row in rows])

    def norm_effect(self, writer: str, kind: str) -> np.ndarray:
        """Norm effect of knocking out one writer, mean over donors. [P]"""
        if not self.recipe.real_norm:
            return np.zeros(len(self.prompts))
        response = self.responses.get(writer, Response())
        left = self.clean_logits + (response.own + response.attn + response.mlp) * self.unit
        return ((self.scale / self.ablated_scale(writer, kind) - 1) * left).mean(axis=0)


RECIPES = {
    "backup": Recipe(copiers={1: 1.0}, backups={3: 1.0}),
    "erasure": Recipe(copiers={1: 0.7, 2: 0.3}, erasers={3: 0.4}),
    "neither": Recipe(copiers={1: 0.7, 2: 0.3}),
    "hydra": Recipe(copiers={1: 1.0}, backups={2: 0.7}, erasers={3: 0.4}),
    "norm": Recipe(copiers={1: 0.7, 2: 0.3}, junk={1: 5.0}, real_norm=True),
}

DIRECT = {
    "backup": {"attn.1": 1.0},
    "erasure": {"attn.1": 0.7, "attn.2": 0.3, "mlp.3": -0.4},
    "neither": {"attn.1": 0.7, "attn.2": 0.3},
    "hydra": {"attn.1": 1.0, "mlp.3": -0.4},
    "norm": {"attn.1": 0.7, "attn.2": 0.3},
}

RESPONSES = {
    "backup": {
        "attn.1": Response(own=-1, attn=1, promoted=1),
        "layer.1": Response(own=-1, attn=1, promoted=1),
        "head.1.0": Response(own=-1, attn=1, promoted=1),
        "attn.1+attn.3": Response(own=-1),
        "attn.1+mlp.2": Response(own=-1, attn=1, promoted=1),
    },
    "erasure": {
        "attn.1": Response(own=-0.7, mlp=0.28, relaxed=0.28),
        "layer.1": Response(own=-0.7, mlp=0.28, relaxed=0.28),
        "head.1.0": Response(own=-0.7, mlp=0.28, relaxed=0.28),
        "attn.2": Response(own=-0.3, mlp=0.12, relaxed=0.12),
        "layer.2": Response(own=-0.3, mlp=0.12, relaxed=0.12),
        "head.2.0": Response(own=-0.3, mlp=0.12, relaxed=0.12),
        "mlp.3": Response(own=0.4),
        "layer.3": Response(own=0.4),
        "attn.1+attn.2": Response(own=-1, mlp=0.4, relaxed=0.4),
        "attn.1+mlp.3": Response(own=-0.3),
    },
    "neither": {
        "attn.1": Response(own=-0.7),
        "layer.1": Response(own=-0.7),
        "head.1.0": Response(own=-0.7),
        "attn.2": Response(own=-0.3),
        "layer.2": Response(own=-0.3),
        "head.2.0": Response(own=-0.3),
        "attn.1+attn.2": Response(own=-1),
    },
    "hydra": {
        "attn.1": Response(own=-1, attn=0.7, mlp=0.12, relaxed=0.12, promoted=0.7),
        "layer.1": Response(own=-1, attn=0.7, mlp=0.12, relaxed=0.12, promoted=0.7),
        "head.1.0": Response(own=-1, attn=0.7, mlp=0.12, relaxed=0.12, promoted=0.7),
        "mlp.3": Response(own=0.4),
        "layer.3": Response(own=0.4),
        "attn.1+attn.2": Response(own=-1, mlp=0.4, relaxed=0.4),
    },
    "norm": {
        "attn.1": Response(own=-0.7),
        "attn.2": Response(own=-0.3),
    },
}


@functools.cache
def planted(name: str) -> Planted:
    """One of the models of `RECIPES` with its prompts and numbers; treat it as read-only."""
    recipe = RECIPES[name]
    prompts = [_prompt(subject) for subject in range(len(SUBJECTS))]
    count = np.arange(len(SUBJECTS))
    return Planted(
        model=build_recipe(recipe),
        family=replace(FAMILY, epsilon=0.01) if recipe.real_norm else FAMILY,
        recipe=recipe,
        prompts=prompts,
        targets=[ANSWERS[_answer(subject)] for subject in range(len(SUBJECTS))],
        strengths=np.array([_strength(subject) for subject in range(len(SUBJECTS))]),
        scale=_scales(recipe, prompts),
        donors=np.stack([(count + 1) % len(count), (count + 7) % len(count)]),  # no multiple of N_ANSWERS
        direct=DIRECT[name],
        responses=RESPONSES[name],
    )


def _answer(subject: int) -> int:
    return subject % N_ANSWERS


def _strength(subject: int) -> float:
    return 2.0 + 2.0 * (3 * subject % len(SUBJECTS)) / len(SUBJECTS)


def _prompt(subject: int) -> list[int]:
    """BOS, some fillers, the subject, some fillers, the query: lengths and places differ."""
    before = [FILLERS[(subject + i) % N_FILLERS] for i in range(subject % 3)]
    after = [FILLERS[(2 * subject + i) % N_FILLERS] for i in range(subject % 2)]
    return [BOS, *before, SUBJECTS[subject], *after, QUERY]


@functools.cache
def _embedding() -> np.ndarray:
    table = np.zeros((SUBJECTS.stop, WIDTH))
    table[:, ONE] = 1
    table[:, NOISE] = np.random.default_rng(0).normal(size=(len(table), 6))
    for subject, token in enumerate(SUBJECTS):
        table[token, IS_SUBJECT] = 1
        table[token, NAME][_answer(subject)] = 1
        table[token, VALUE][_answer(subject)] = _strength(subject)
    return table


@functools.cache
def _hum(kind: str, layer: int) -> np.ndarray:
    """Matrix from the noise that a writer sees to what it hums. [8, 6]"""
    return 0.3 * np.random.default_rng([kind == "mlp", layer]).normal(size=(8, 6))


def build_recipe(recipe: Recipe) -> PreTrainedModel:
    model = build_from(FAMILY)
    weights = {name: np.zeros(tuple(parameter.shape)) for name, parameter in model.named_parameters()}
    for name in weights:
        if "norm" in name:
            weights[name] += GAIN * EPSILON**0.5
    weights["model.embed_tokens.weight"] += _embedding()
    head = weights["lm_head.weight"]
    head[ANSWERS.start : ANSWERS.stop, OUT] = np.eye(N_ANSWERS)
    head[OPPOSITES.start : OPPOSITES.stop, OUT] = -np.eye(N_ANSWERS)
    if recipe.real_norm:
        weights["model.norm.weight"][:] = GAIN
        model.model.norm.variance_epsilon = 0.01

    for layer in range(N_LAYERS):
        inside = f"model.layers.{layer}."
        query, key, value, out = (weights[f"{inside}self_attn.{m}_proj.weight"] for m in "qkvo")
        gate, up, down = (weights[f"{inside}mlp.{m}_proj.weight"] for m in ("gate", "up", "down"))
        copied = recipe.copiers.get(layer, 0)
        backed_up = recipe.backups.get(layer, 0)
        erased = recipe.erasers.get(layer, 0)

        # Head 0. Query and key use rotary axes 1 to 6; axis 0 turns with the position and stays empty.
        sharp = SHARP * HEAD_DIM**0.5
        key[1, IS_SUBJECT] = 1
        query[1, ONE] = sharp * (THRESHOLD if backed_up else 1)
        value[:5, VALUE] = np.eye(N_ANSWERS)
        value[5, ONE] = 1
        out[OUT, :5] = (copied + backed_up) * np.eye(N_ANSWERS)
        out[JUNK, 5] = recipe.junk.get(layer, 0)
        if backed_up:
            key[2:7, NAME] = np.eye(N_ANSWERS)
            query[2:7, OUT] = -sharp * np.eye(N_ANSWERS)

        # Head 1 attends to all tokens alike and hums; so does the MLP, about the last token only.
        value[HEAD_DIM : HEAD_DIM + 6, NOISE] = np.eye(6)
        out[HUM, HEAD_DIM : HEAD_DIM + 6] = _hum("attn", layer)
        gate[:, ONE] = 1
        up[:N_ANSWERS, OUT] = np.eye(N_ANSWERS)
        down[OUT, :N_ANSWERS] = -erased * np.eye(N_ANSWERS)
        up[N_ANSWERS:, NOISE] = np.eye(6)
        down[HUM, N_ANSWERS:] = _hum("mlp", layer)

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            reads_a_norm = name.split(".")[-2] in READERS
            parameter.copy_(torch.from_numpy(weights[name] / (GAIN if reads_a_norm else 1)))
    return model


def _write(recipe: Recipe, prompt: list[int], writer: str) -> np.ndarray:
    """What a copier, or a writer that only hums, adds at the last position. [WIDTH]"""
    kind, layer = writer.split(".")[0], int(writer.split(".")[1])
    embedding = _embedding()[prompt]
    added = np.zeros(WIDTH)
    if kind == "mlp":
        added[HUM] = _hum("mlp", layer) @ embedding[-1, NOISE]
        return added
    added[HUM] = _hum("attn", layer) @ embedding[:, NOISE].mean(axis=0)
    added[OUT] = recipe.copiers.get(layer, 0) * embedding[:, VALUE].sum(axis=0)
    added[JUNK] = recipe.junk.get(layer, 0)
    return added


def _scales(
    recipe: Recipe, prompts: list[list[int]], without: str | None = None, donors: np.ndarray | None = None
) -> np.ndarray:
    """Root mean square of the stream before the final norm, one writer removed or taken from donors. [P]"""
    if not recipe.real_norm:
        return np.ones(len(prompts))
    found = []
    for p, prompt in enumerate(prompts):
        stream = _embedding()[prompt[-1]].copy()
        for writer in (f"{kind}.{layer}" for layer in range(N_LAYERS) for kind in ("attn", "mlp")):
            if writer != without:
                stream += _write(recipe, prompt, writer)
            elif donors is not None:
                stream += _write(recipe, prompts[donors[p]], writer)
        found.append(np.sqrt((stream**2).mean() + 0.01))
    return np.array(found)
