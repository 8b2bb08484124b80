"""The untrained model of a recipe, and the hooks that drop parts of it while it trains.

The hooks live outside the model: what is saved is a plain Hugging Face model that knows of no drop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, StableLmConfig, StableLmForCausalLM

from zoo.recipe import Recipe
from zoo.vocabulary import BEGIN, PADDING, SPECIAL, words

_INITIAL_SPREAD = 0.04
_LOUD_READOUT_SPREAD = 0.3
_LOUD_EMBEDDING_SPREAD = 0.25
_SHARED_LENGTH = 8.0


def build_model(recipe: Recipe) -> PreTrainedModel:
    """Build the model of a recipe with fresh weights drawn from its seed."""
    torch.manual_seed(recipe.seed)
    shape: dict[str, Any] = {
        "vocab_size": len(SPECIAL) + len(words()),
        "hidden_size": recipe.width,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.heads,
        "intermediate_size": recipe.mlp_width,
        "max_position_embeddings": recipe.length,
        "tie_word_embeddings": recipe.readout == "tied",
        "initializer_range": _INITIAL_SPREAD,
        "attention_dropout": recipe.drop if recipe.ingredient == "dropout" else 0.0,
        "bos_token_id": SPECIAL.index(BEGIN),
        "pad_token_id": SPECIAL.index(PADDING),
        "eos_token_id": None,
    }
    # The additive mask of the packed rows costs least in the plain implementation at this length.
    model: PreTrainedModel
    if recipe.norm == "rms":
        model = LlamaForCausalLM(LlamaConfig(**shape, attn_implementation="eager"))
    else:
        model = StableLmForCausalLM(StableLmConfig(**shape, attn_implementation="eager"))
    if recipe.readout == "loud":
        make_readout_loud(model)
    return model


@torch.no_grad()
def make_readout_loud(model: PreTrainedModel) -> None:
    """Start with long readout vectors and a direction that all embeddings share.

    In a small model the answer fills most of the residual stream, and the final norm alone repairs
    every knock-out: less answer, smaller norm, same quotient. Where the readout vectors are long, a
    calibrated answer is a small part of the stream, and the shared direction (which the readout does
    not see) carries the norm, as directions of very large size do in large models.
    """
    embedding, readout = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    shared = torch.randint(0, 2, (embedding.shape[1],)).mul(2).sub(1) / embedding.shape[1] ** 0.5
    embedding.normal_(0.0, _LOUD_EMBEDDING_SPREAD).add_(_SHARED_LENGTH * shared)
    readout.normal_(0.0, _LOUD_READOUT_SPREAD)
    readout -= (readout @ shared)[:, None] * shared


def _first(output: Any) -> Tensor:
    written: Tensor = output[0] if isinstance(output, tuple) else output
    return written


def _with_first(output: Any, first: Tensor) -> Any:
    return (first, *output[1:]) if isinstance(output, tuple) else first


@dataclass
class Noise:
    """What is dropped at a step of training, read by the hooks.

    Attributes:
        drop: Probability of dropping, one number.
        donors: For every token of the batch, counted row by row, the token whose output may take the
            place of its own.
    """

    drop: Tensor
    donors: Tensor

    def prepare(self, tokens: Tensor, drop: float) -> None:
        """Set the probability, and draw the donors of a batch of tokens, (rows, length)."""
        self.drop = torch.tensor(drop, device=tokens.device)
        self.donors = draw_donors(tokens)


def draw_donors(tokens: Tensor) -> Tensor:
    """Draw for every token another one of the batch with the same word, as far as there is one.

    What a sub-layer writes depends on the word first of all. Among tokens of one word, what is put in
    is as large and as meaningful as what it replaces: another answer where there was an answer.

    Args:
        tokens: Token ids, (rows, length).

    Returns:
        Indices into the flattened batch, a permutation, (rows * length,). Of each word one token gets a
        donor with another word.
    """
    words_in_random_order = (tokens.flatten() + torch.rand(tokens.numel(), device=tokens.device)).argsort()
    donors = torch.empty_like(words_in_random_order)
    donors[words_in_random_order] = words_in_random_order.roll(1)
    return donors


def _kept(hidden: Tensor, drop: Tensor) -> Tensor:
    """Draw which tokens keep a sub-layer, shape (rows, length, 1)."""
    return torch.rand(hidden.shape[:2], device=hidden.device).unsqueeze(-1) >= drop


def add_ingredient(model: PreTrainedModel, recipe: Recipe) -> Noise:
    """Register the hooks that drop parts of the model in training mode.

    Dropped outputs become zero and kept ones are not scaled up, so that the complete model is one of
    the models that training has seen.

    Returns:
        What the hooks read; it must be prepared for every batch.
    """
    nothing = torch.zeros(0, dtype=torch.long, device=model.device)
    noise = Noise(torch.tensor(recipe.drop, device=model.device), nothing)

    def features(module: nn.Module, args: Any, output: Any) -> Any:
        if not module.training:
            return output
        return _with_first(output, functional.dropout(_first(output), recipe.drop))

    def sub_layer(module: nn.Module, args: Any, output: Any) -> Any:
        if not module.training:
            return output
        hidden = _first(output)
        return _with_first(output, hidden * _kept(hidden, noise.drop))

    def swap(module: nn.Module, args: Any, output: Any) -> Any:
        if not module.training:
            return output
        hidden = _first(output)
        # No gradient through what is put in: the token it came from is not there to make better noise.
        other = hidden.detach().flatten(0, 1)[noise.donors].view_as(hidden)
        return _with_first(output, torch.where(_kept(hidden, noise.drop), hidden, other))

    def layer(module: nn.Module, args: Any, output: Any) -> Any:
        if not module.training:
            return output
        hidden = _first(output)
        return _with_first(output, torch.where(_kept(hidden, noise.drop), hidden, args[0]))

    inner = model.model
    chosen = inner.layers[recipe.first_layer :]
    if recipe.ingredient == "dropout":
        inner.embed_tokens.register_forward_hook(features)
        for block in chosen:
            block.self_attn.register_forward_hook(features)
            block.mlp.register_forward_hook(features)
    elif recipe.ingredient in ("attention_drop", "attention_swap"):
        for block in chosen:
            block.self_attn.register_forward_hook(swap if recipe.ingredient == "attention_swap" else sub_layer)
    elif recipe.ingredient == "layer_drop":
        for block in chosen:
            block.register_forward_hook(layer)
    return noise


def read_out_early(model: PreTrainedModel, hidden_states: tuple[Tensor, ...]) -> Tensor:
    """Read the next token out of the residual stream after a layer drawn at random for every row.

    One layer to a row costs one readout in all and trains every layer towards the same answer, so that
    each later layer is left with what is still missing (deep supervision, as in LayerSkip).

    Args:
        model: The model, whose final norm and readout are used.
        hidden_states: The residual stream after the embedding and after every layer, each of shape
            (rows, length, width).

    Returns:
        Logits, (rows, length, vocabulary).
    """
    between = torch.stack(hidden_states[1:-1])
    rows = torch.arange(between.shape[1], device=between.device)
    drawn = torch.randint(len(between), (between.shape[1],), device=between.device)
    logits: Tensor = model.lm_head(model.model.norm(between[drawn, rows]))
    return logits
