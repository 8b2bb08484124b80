"""Models that also see: opened from their folders as what they are, and measured on text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    PreTrainedModel,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from hydrascope.anatomy import load
from hydrascope.engine import choose_engine
from tests.engine.test_registry import hold_against_plain_forwards
from tests.support import registry, tiny

TEXT: dict[str, Any] = {
    "vocab_size": registry.VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64, "tie_word_embeddings": False,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
SIGHT: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16,
    "patch_size": 8,
}  # fmt: skip


def qwen2_vl() -> PreTrainedModel:
    text = TEXT | {"rope_scaling": {"type": "mrope", "mrope_section": [1, 1, 2]}}
    sight = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2, "patch_size": 8}
    return Qwen2VLForConditionalGeneration(Qwen2VLConfig(text_config=text, vision_config=sight))


def llava() -> PreTrainedModel:
    sight = CLIPVisionConfig(**SIGHT, projection_dim=16)
    return LlavaForConditionalGeneration(LlavaConfig(text_config=LlamaConfig(**TEXT), vision_config=sight))


def smolvlm() -> PreTrainedModel:
    return SmolVLMForConditionalGeneration(
        SmolVLMConfig(text_config=LlamaConfig(**TEXT), vision_config=SIGHT, scale_factor=2)
    )


@pytest.mark.parametrize("make", [qwen2_vl, llava, smolvlm])
def test_the_text_part_is_exact(make: Callable[[], PreTrainedModel], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = make().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.25)
    model = load(tiny.save(tmp_path / "m", network, with_tokenizer=False))
    assert type(model.network) is type(network)
    assert model.anatomy.n_layers == 3 and len(model.anatomy.heads) == 3
    hold_against_plain_forwards(model, choose_engine(model))
