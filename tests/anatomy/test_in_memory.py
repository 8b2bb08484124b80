"""Models in memory: the right module is taken out of wrappers, left as it was, and measured as plain forwards say."""

from __future__ import annotations

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaForSequenceClassification, LlamaForTokenClassification, PreTrainedModel

import hydrascope as hs
from hydrascope.errors import AnatomyRefused, ModelError, NotCausalLM
from tests.support import tiny
from tests.support.families import FAMILIES, build
from tests.support.reference import double_copy

PROMPTS = hs.PromptSet(
    "few", tuple(hs.Prompt(input_ids=ids, target_id=7) for ids in ((5, 60, 11, 30, 8), (9, 14, 80, 21, 33)))
)


class Holder(nn.Module):
    """A wrapper that passes on what it does not know, as wrappers do."""

    def __init__(self, name: str, network: nn.Module) -> None:
        super().__init__()
        setattr(self, name, network)


def compiled_in_place(network: nn.Module) -> nn.Module:
    network.compile()
    return network


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "torch.compile": torch.compile,
    "m.compile": compiled_in_place,
    "DataParallel": nn.DataParallel,
    "TransformerLens": lambda network: Holder("original_model", network),
    "nnsight": lambda network: SimpleNamespace(_module=network, tokenizer=None),
    "nnsight before 0.8": lambda network: SimpleNamespace(_model=network),
    "twice": lambda network: nn.DataParallel(torch.compile(network)),
}


def measured(model: hs.Model, components: str = "attn,mlp") -> dict[str, np.ndarray]:
    options = hs.Options(keep_wrong=True, null_draws=1)
    dataset = hs.knock_out(model, PROMPTS, components, hs.Zero(), options=options, freeze=False).dataset
    return {str(name): dataset.total_effect.sel(ablated=name).values for name in dataset.ablated.values}


@torch.no_grad()
def by_plain_forwards(network: PreTrainedModel, layers: nn.ModuleList, attn: str, mlp: str) -> dict[str, np.ndarray]:
    """What zeroing a part at the last token does to the target's logit minus the mean, forward by forward."""

    def logits() -> np.ndarray:
        found = [network(torch.tensor([prompt.input_ids]), use_cache=False).logits[0, -1] for prompt in PROMPTS]
        return np.array([float(one[7] - one.mean()) for one in found])

    def last_to_zero(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[:, -1] = 0
        return output

    clean, effects = logits(), {}
    for layer, block in enumerate(layers):
        for kind, path in (("attn", attn), ("mlp", mlp)):
            handle = block.get_submodule(path).register_forward_hook(last_to_zero)
            effects[f"{kind}.{layer}"] = logits() - clean
            handle.remove()
    return effects


def hold(found: dict[str, np.ndarray], network: PreTrainedModel, family: str = "llama") -> None:
    own = FAMILIES[family]
    right = by_plain_forwards(network, network.get_submodule(own.layers), own.attn, own.mlp)
    assert found.keys() == right.keys()
    for name, effect in right.items():
        np.testing.assert_allclose(found[name], effect, rtol=0, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_the_module_inside_is_opened(wrap: Callable[[Any], Any]) -> None:
    model, right = hs.load(wrap(build("llama"))), hs.load(build("llama"))
    assert model.source == right.source
    assert model.anatomy.writers == right.anatomy.writers


def test_the_module_inside_is_measured() -> None:
    hold(measured(hs.load(WRAPPERS["twice"](compiled_in_place(build("llama"))))), double_copy(build("llama")))


def test_a_tokenizer_that_comes_along_is_taken() -> None:
    tokenizer = tiny.tokenizer()
    assert hs.load(SimpleNamespace(_module=tiny.network(), tokenizer=tokenizer)).tokenizer is tokenizer


def test_what_was_handed_over_stays_as_it_was() -> None:
    network: Any = compiled_in_place(build("llama").train())
    network.model.layers[1].eval()
    modes = {path: module.training for path, module in network.named_modules()}
    model = hs.load(network)
    measured(model, "attn.1")
    assert {path: module.training for path, module in network.named_modules()} == modes
    assert network._compiled_call_impl is not None
    assert not any(module.training for module in model.network.modules())
    assert all(a is b for a, b in zip(network.parameters(), model.network.parameters(), strict=True)), "shared"


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_block_used_twice_is_knocked_out_at_one_place(family: str) -> None:
    order, where = (0, 1, 1, 0, 2), FAMILIES[family].layers
    parent, _, name = where.rpartition(".")
    network, apart = build(family), double_copy(build(family))
    blocks, others = network.get_submodule(where), apart.get_submodule(where)
    setattr(network.get_submodule(parent), name, nn.ModuleList([blocks[i] for i in order]))
    setattr(apart.get_submodule(parent), name, nn.ModuleList([copy.deepcopy(others[i]) for i in order]))
    network.config.num_hidden_layers = apart.config.num_hidden_layers = len(order)
    model = hs.load(network)
    assert len(model.anatomy.heads) == len(order)
    hold(measured(model), apart, family)


def test_blocks_that_are_never_run_are_told() -> None:
    network = build("llama")
    network.config.num_hidden_layers = 2
    with pytest.raises(AnatomyRefused, match=r"'model\.layers' holds 3 blocks and runs 2"):
        hs.load(network)


def test_a_part_used_in_two_blocks_is_knocked_out_in_one() -> None:
    network, apart = build("llama"), double_copy(build("llama"))
    network.model.layers[2].mlp = network.model.layers[0].mlp
    apart.model.layers[2].mlp = copy.deepcopy(apart.model.layers[0].mlp)
    hold(measured(hs.load(network)), apart)


def silenced(parts: tuple[str, ...]) -> PreTrainedModel:
    network = build("llama")
    with torch.no_grad():
        for part in parts:
            network.model.layers[1].get_submodule(part).weight.zero_()
    return network


@pytest.mark.parametrize("parts", [("self_attn.o_proj", "mlp.down_proj"), ("self_attn.o_proj",), ("mlp.down_proj",)])
def test_parts_that_write_nothing_are_found_and_do_nothing(parts: tuple[str, ...]) -> None:
    model = hs.load(silenced(parts))
    plain = hs.load(build("llama")).anatomy
    assert [writer.modules for writer in model.anatomy.writers] == [writer.modules for writer in plain.writers]
    assert (model.anatomy.heads, model.anatomy.neurons) == (plain.heads, plain.neurons)
    assert model.anatomy.reads == plain.reads
    found = measured(model)
    hold(found, double_copy(silenced(parts)))
    assert np.abs(found["attn.1" if "self_attn.o_proj" in parts else "mlp.1"]).max() == 0


def test_a_block_that_is_there_twice_is_right() -> None:
    def stretched(network: PreTrainedModel) -> PreTrainedModel:
        network.model.layers.insert(2, copy.deepcopy(network.model.layers[1]))
        network.config.num_hidden_layers = 4
        return network

    hold(measured(hs.load(stretched(build("llama")))), stretched(double_copy(build("llama"))))


def test_a_block_less_is_right() -> None:
    def pruned(network: PreTrainedModel) -> PreTrainedModel:
        del network.model.layers[1]
        return network

    model = hs.load(pruned(build("llama")))
    assert [str(writer.component) for writer in model.anatomy.writers] == ["attn.0", "mlp.0", "attn.1", "mlp.1"]
    hold(measured(model), pruned(double_copy(build("llama"))))


CHANGES: dict[str, tuple[Callable[[PreTrainedModel], Any], str]] = {
    "cast": (lambda network: network.to(torch.bfloat16), "number format was float32 and is bfloat16"),
    "one value": (lambda network: network.model.layers[1].mlp.up_proj.weight.data[3, 5].add_(1e-3), "weights' digest"),
    "a swap": (lambda network: network.lm_head.weight.data.copy_(network.lm_head.weight.data.flip(0)), "digest"),
}


@pytest.mark.parametrize(("change", "says"), CHANGES.values(), ids=CHANGES)
def test_a_model_changed_after_it_was_opened_is_noticed(change: Callable[[Any], Any], says: str) -> None:
    network = build("llama")
    model = hs.load(network)
    measured(model, "attn.1")
    change(network)
    with pytest.raises(ModelError, match=says):
        measured(model, "attn.1")
    assert hs.load(network).source.weight_digest != model.source.weight_digest


REFUSED: dict[str, tuple[Callable[[], Any], type[ModelError], str]] = {
    "no model": (lambda: 3, ModelError, "an object of type int is no Hugging Face language model"),
    "plain module": (lambda: nn.Linear(2, 2), ModelError, "type Linear is no Hugging Face language model"),
    "no head": (
        lambda: build("llama").base_model,
        NotCausalLM,
        "returns no logits, as a model without its unembedding",
    ),
    "classifier": (
        lambda: LlamaForSequenceClassification(build("llama").config),
        NotCausalLM,
        r"logits of shape \(2, 2\) for \(2, 7\) tokens and has no unembedding",
    ),
    "classifier of tokens": (
        lambda: LlamaForTokenClassification(build("llama").config),
        NotCausalLM,
        r"logits of shape \(2, 7, 2\) for \(2, 7\) tokens and has no unembedding",
    ),
    "not loaded": (lambda: build("llama").to("meta"), ModelError, "are not loaded, only their shapes are"),
}


@pytest.mark.parametrize(
    "more", [{"adapter": "tuned"}, {"gguf": "m.gguf"}, {"dtype": "bfloat16"}, {"device": "cpu"}], ids=str
)
def test_what_is_asked_of_files_is_not_passed_over_in_silence(more: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="a module in memory is taken as it is"):
        hs.load(build("llama"), **more)


@pytest.mark.parametrize(("make", "kind", "says"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_language_model_is_refused_in_a_sentence(
    make: Callable[[], Any], kind: type[ModelError], says: str
) -> None:
    with pytest.raises(kind, match=says):
        hs.load(make())
