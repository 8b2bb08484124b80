"""Tiny random models of every causal language model that the library's own registry knows.

Nothing here names a model: configurations are shrunk by what their fields are called, so that next year's families are
tried without an edit. What cannot be built this way says why.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 97
DEPTH = 3
MOST_PARAMETERS = 5_000_000

FIELDS: dict[int, str] = {
    VOCABULARY: "vocab_size text_vocab_size vocab_size_per_layer_input",
    32: "hidden_size n_embd d_model dim emb_dim embed_dim word_embed_proj_dim embedding_size model_dim n_embed "
    "lru_width",
    DEPTH: "num_hidden_layers n_layer num_layers n_layers decoder_layers num_decoder_layers encoder_layers",
    4: "num_attention_heads n_head num_heads n_heads decoder_attention_heads encoder_attention_heads qk_rope_head_dim "
    "num_experts num_local_experts n_routed_experts moe_num_experts num_routed_experts time_step_rank mamba_dt_rank "
    "linear_num_value_heads linear_num_key_heads linear_num_heads",
    2: "num_key_value_heads num_kv_heads n_kv_heads multi_query_group_num num_experts_per_tok moe_k moe_topk "
    "num_experts_per_token num_selected_experts moe_top_k experts_per_token top_k_experts mamba_expand",
    48: "intermediate_size n_inner ffn_dim decoder_ffn_dim encoder_ffn_dim d_ff ffn_hidden_size moe_intermediate_size "
    "shared_expert_intermediate_size moe_shared_expert_intermediate_size feed_forward_size shared_intermediate_size "
    "mlp_hidden_size dense_intermediate_size",
    8: "head_dim qk_nope_head_dim v_head_dim kv_channels attention_head_dim global_head_dim swa_head_dim rotary_dim "
    "mamba_d_state state_size ssm_state_size mamba_n_heads mamba_num_heads mamba_d_head mamba_head_dim "
    "linear_key_head_dim linear_value_head_dim linear_head_dim hidden_size_per_layer_input",
    12: "qk_head_dim",
    16: "kv_lora_rank q_lora_rank",
    64: "max_position_embeddings n_positions n_ctx max_seq_len seq_length mamba_d_ssm",
    1: "n_group topk_group num_expert_group n_shared_experts num_shared_experts first_k_dense_replace num_dense_layers "
    "moe_layer_start_index first_k_dense mamba_n_groups n_groups",
    5: "sliding_window",
}
SIZES = {name: size for size, names in FIELDS.items() for name in names.split()}
PER_LAYER = ("layer_types", "layers_block_type", "mlp_layer_types", "block_types", "mixer_types")
SPECIAL_TOKENS = ("pad_token_id", "bos_token_id", "eos_token_id")
UNTOUCHED = ("A_log", "dt_bias", ".D")  # of recurrent mixers, whose size decides whether the state explodes


def model_types() -> list[str]:
    """Every model type that the library calls a causal language model."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def build(model_type: str, seed: int = 0) -> Any:
    """A tiny float32 model in eval mode, with weights large enough that effects are of the order of a logit.

    Any exception means that the type cannot be built from a shrunk default configuration.
    """
    config = CONFIG_MAPPING[model_type]()
    if hasattr(config, "text_config") and not hasattr(config, "vocab_size"):
        config = config.get_text_config()
    if hasattr(config, "is_decoder"):
        config.is_decoder = True
    _shrink(config)
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with torch.device("meta"):  # some defaults stay huge: count before any memory is taken
            n_parameters = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
        if n_parameters > MOST_PARAMETERS:
            raise ValueError(f"its shrunk configuration still has {n_parameters:,} parameters")
        torch.use_deterministic_algorithms(True)  # fills with NaN what the library leaves uninitialised
        try:
            model = AutoModelForCausalLM.from_config(config).eval()
        finally:
            torch.use_deterministic_algorithms(False)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.is_floating_point() and not any(part in name for part in UNTOUCHED):
                noise = torch.randn(weight.shape, generator=generator).to(weight)
                weight.nan_to_num_(0.0).add_(noise * (0.15 if weight.ndim > 1 else 0.1))
    return model.float()


def _shrink(config: Any) -> None:
    for name, value in list(vars(config).items()):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in SIZES and (is_number or (value is None and name in ("num_key_value_heads", "head_dim"))):
            setattr(config, name, SIZES[name])
        elif name in PER_LAYER and value:
            kinds = list(dict.fromkeys(value))
            setattr(config, name, [kinds[i % len(kinds)] for i in range(DEPTH)])
        elif name in SPECIAL_TOKENS and value is not None:
            setattr(config, name, [1] if isinstance(value, list) else 1)
    if getattr(config, "kv_lora_rank", None) is not None:  # latent attention has as many keys as queries
        if hasattr(config, "num_key_value_heads"):
            config.num_key_value_heads = config.num_attention_heads
        if hasattr(config, "head_dim"):
            config.head_dim = getattr(config, "qk_rope_head_dim", None) or config.head_dim
    if hasattr(config, "state_size") and hasattr(config, "num_heads"):  # heads of a state, not of attention
        config.num_heads = 8
