"""Writes a tiny Llama as llama.cpp keeps it: other names, rotary halves interleaved, plain numbers or 8 bits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Name of each module in transformers, and in the file."""


def write(
    path: Path, network: PreTrainedModel, *, in_eight_bits: bool = False, more: Mapping[str, np.ndarray] | None = None
) -> Path:
    """Write the weights and the sizes of a Llama, without a tokenizer.

    Args:
        path: file to make.
        network: the model.
        in_eight_bits: keep matrices as Q8_0, 32 numbers to a scale.
        more: further tensors.
    """
    from gguf import GGMLQuantizationType, GGUFWriter, quants

    config = network.config
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    for name, value in network.state_dict().items():
        numbers = value.numpy()
        for part, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if part in name:
                numbers = numbers.reshape(heads, 2, -1, numbers.shape[-1]).swapaxes(1, 2).reshape(numbers.shape)
        numbers = np.ascontiguousarray(numbers, np.float32)
        if in_eight_bits and numbers.ndim == 2 and numbers.shape[-1] % 32 == 0:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(_renamed(name), quants.quantize(numbers, kind), raw_dtype=kind)
        else:
            writer.add_tensor(_renamed(name), numbers)
    for name, numbers in (more or {}).items():
        writer.add_tensor(name, numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _renamed(name: str) -> str:
    module, _, kind = name.rpartition(".")
    if module.startswith("model.layers."):
        _, _, layer, inside = module.split(".", 3)
        return f"blk.{layer}.{NAMES[inside]}.{kind}"
    return f"{NAMES[module]}.{kind}"
