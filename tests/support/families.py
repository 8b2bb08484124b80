"""Tiny random-weight models of many families, and by hand where each keeps its writers.

The rows of `FAMILIES` are data, written from the families' published equations: which module adds the
attention's and the MLP's contribution to the residual stream, with which multiplier, where the heads can be
cut apart, what the final norm and the head do. `test_reference_families.py` checks every row against the
model itself.

Weights are far larger than a default initialisation, norm gains are not one and biases not zero: with default
weights every effect is tiny and a wrong gain, scale or order hides in the tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

VOCABULARY = 97
CONTEXT = 64
EPSILON = 1e-3  # large enough that forgetting it in a norm scale is seen
WINDOW = 5  # sliding windows are shorter than the prompts


@dataclass(frozen=True)
class Family:
    """How one family is built, and what a reader of its equations needs to account for it.

    Attributes:
        model_type: the configuration's name in transformers.
        config: arguments of the configuration.
        layers: path of the list of blocks.
        attn: inside a block, the module whose output times `multiplier` is the attention's contribution
            (after a post-norm).
        mlp: likewise for the MLP.
        o_proj: inside a block, the module whose input is all heads' outputs side by side.
        n_layers, n_heads, head_dim: sizes.
        final_norm, head: paths of the final norm and of the matrix to the vocabulary.
        norm: kind of the final norm: `layer` subtracts the mean, `rms` does not.
        gain_offset: the final norm's gain is its weight plus this number.
        epsilon: added to the mean square inside the final norm's root.
        multiplier: factor on what a writer returns before it is added to the residual stream.
        logit_scale: factor on the head's output.
        soft_cap: logits are `soft_cap * tanh(logits / soft_cap)`; None for no cap.
        parallel: attention and MLP of a block read the same residual.
    """

    model_type: str
    config: Mapping[str, Any] = field(repr=False)
    layers: str
    attn: str
    mlp: str
    o_proj: str
    n_layers: int
    n_heads: int
    head_dim: int
    final_norm: str
    head: str = "lm_head"
    norm: str = "rms"
    gain_offset: float = 0.0
    epsilon: float = EPSILON
    multiplier: float = 1.0
    logit_scale: float = 1.0
    soft_cap: float | None = None
    parallel: bool = False

    def path(self, layer: int, inside: str) -> str:
        """Full path of a module inside a block."""
        return f"{self.layers}.{layer}.{inside}"


def build(name: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A model of the family with large random weights, in eval mode; the global random state is left alone.

    Args:
        name: a key of `FAMILIES`.
        seed: seed of the weights.
        dtype: type of the parameters; buffers such as rotary frequencies stay in float32, as when a model is
            loaded.
    """
    return build_from(FAMILIES[name], seed, dtype)


def build_from(family: Family, seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Like `build`, for a row that need not be in `FAMILIES`."""
    config = AutoConfig.for_model(family.model_type, **family.config)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                # A gain starts at one (or at zero, where the norm adds one), a bias at zero.
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter), alpha=0.3)
                else:
                    parameter.normal_(std=0.25)
                parameter.data = parameter.data.to(dtype)
    return model


_TOKENS = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
_GPT2 = _TOKENS | {
    "n_positions": CONTEXT,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "layer_norm_epsilon": EPSILON,
}
_WIDE = _TOKENS | {
    "max_position_embeddings": CONTEXT,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
_LAYER_NORM = _WIDE | {"layer_norm_eps": EPSILON}
_RMS = _WIDE | {"rms_norm_eps": EPSILON, "num_key_value_heads": 2, "tie_word_embeddings": False}
_GEMMA = _RMS | {
    "tie_word_embeddings": True,
    "num_hidden_layers": 4,
    "head_dim": 12,
    "query_pre_attn_scalar": 10,
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
}

_IN_LLAMA: dict[str, Any] = {
    "layers": "model.layers",
    "attn": "self_attn.o_proj",
    "mlp": "mlp.down_proj",
    "o_proj": "self_attn.o_proj",
    "n_layers": 3,
    "n_heads": 4,
    "head_dim": 8,
    "final_norm": "model.norm",
}
_IN_POST_NORM = _IN_LLAMA | {"attn": "post_attention_layernorm", "mlp": "post_feedforward_layernorm"}
_IN_GEMMA = _IN_POST_NORM | {"n_layers": 4, "head_dim": 12, "gain_offset": 1.0}
_IN_EXPERTS = _IN_LLAMA | {"mlp": "mlp"}
_IN_NEOX: dict[str, Any] = {
    "layers": "gpt_neox.layers",
    "attn": "attention.dense",
    "mlp": "mlp.dense_4h_to_h",
    "o_proj": "attention.dense",
    "n_layers": 3,
    "n_heads": 4,
    "head_dim": 8,
    "final_norm": "gpt_neox.final_layer_norm",
    "norm": "layer",
}
_IN_GPT2 = _IN_NEOX | {
    "layers": "transformer.h",
    "attn": "attn.c_proj",
    "mlp": "mlp.c_proj",
    "o_proj": "attn.c_proj",
    "final_norm": "transformer.ln_f",
}


FAMILIES: dict[str, Family] = {
    "gpt2": Family("gpt2", _GPT2, **_IN_GPT2),
    "gpt_neox": Family("gpt_neox", _LAYER_NORM, parallel=True, **_IN_NEOX),
    "gpt_neox_sequential": Family("gpt_neox", _LAYER_NORM | {"use_parallel_residual": False}, **_IN_NEOX),
    "llama": Family("llama", _RMS, **_IN_LLAMA),
    "mistral": Family("mistral", _RMS | {"sliding_window": WINDOW, "head_dim": 12}, **_IN_LLAMA | {"head_dim": 12}),
    "qwen2": Family("qwen2", _RMS, **_IN_LLAMA),
    "qwen3": Family("qwen3", _RMS | {"head_dim": 12}, **_IN_LLAMA | {"head_dim": 12}),
    "gemma2": Family(
        "gemma2",
        _GEMMA | {"final_logit_softcapping": 4.0, "attn_logit_softcapping": 3.0},
        soft_cap=4.0,
        **_IN_GEMMA,
    ),
    "gemma3_text": Family("gemma3_text", _GEMMA, **_IN_GEMMA),
    "olmo2": Family("olmo2", _RMS, **_IN_POST_NORM),
    "phi": Family(
        "phi",
        _LAYER_NORM | {"num_key_value_heads": 2},
        parallel=True,
        **_IN_LLAMA
        | {
            "attn": "self_attn.dense",
            "mlp": "mlp.fc2",
            "o_proj": "self_attn.dense",
            "final_norm": "model.final_layernorm",
            "norm": "layer",
        },
    ),
    "mixtral": Family("mixtral", _RMS | {"num_local_experts": 4, "num_experts_per_tok": 2}, **_IN_EXPERTS),
    "olmoe": Family("olmoe", _RMS | {"num_experts": 6, "num_experts_per_tok": 3}, **_IN_EXPERTS),
    "qwen2_moe": Family(
        "qwen2_moe",
        _RMS
        | {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 32,
            "mlp_only_layers": [1],
        },
        **_IN_EXPERTS,
    ),
    "cohere": Family(
        "cohere",
        _LAYER_NORM | {"num_key_value_heads": 2, "logit_scale": 0.3},
        logit_scale=0.3,
        parallel=True,
        **_IN_LLAMA | {"norm": "layer"},
    ),
    "granite": Family(
        "granite",
        _RMS
        | {
            "embedding_multiplier": 6.0,
            "residual_multiplier": 0.4,
            "attention_multiplier": 0.25,
            "logits_scaling": 2.0,
        },
        multiplier=0.4,
        logit_scale=0.5,
        **_IN_LLAMA,
    ),
    "stablelm": Family(
        "stablelm",
        _LAYER_NORM | {"num_key_value_heads": 2, "use_qkv_bias": True},
        **_IN_LLAMA | {"norm": "layer"},
    ),
    "gpt_neo": Family(
        "gpt_neo",
        _TOKENS
        | {
            "max_position_embeddings": CONTEXT,
            "hidden_size": 32,
            "num_layers": 3,
            "num_heads": 4,
            "attention_types": [[["global", "local", "global"], 1]],
            "window_size": WINDOW,
            "layer_norm_epsilon": EPSILON,
        },
        **_IN_GPT2 | {"attn": "attn.attention.out_proj", "o_proj": "attn.attention.out_proj"},
    ),
    "gptj": Family(
        "gptj",
        _GPT2 | {"rotary_dim": 4},
        parallel=True,
        **_IN_GPT2 | {"attn": "attn.out_proj", "mlp": "mlp.fc_out", "o_proj": "attn.out_proj"},
    ),
    "bloom": Family(
        "bloom",
        _TOKENS | {"hidden_size": 32, "n_layer": 3, "n_head": 4, "layer_norm_epsilon": EPSILON},
        **_IN_GPT2 | {"attn": "self_attention.dense", "mlp": "mlp.dense_4h_to_h", "o_proj": "self_attention.dense"},
    ),
    "opt": Family(
        "opt",
        _TOKENS
        | {
            "max_position_embeddings": CONTEXT,
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "ffn_dim": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
        },
        epsilon=1e-5,
        **_IN_NEOX
        | {
            "layers": "model.decoder.layers",
            "attn": "self_attn.out_proj",
            "mlp": "fc2",
            "o_proj": "self_attn.out_proj",
            "final_norm": "model.decoder.final_layer_norm",
        },
    ),
}
