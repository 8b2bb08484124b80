"""Models taken apart by experiment, against what is written down by hand about their families."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

import hydrascope as hs
from hydrascope.anatomy import Anatomy, directions, examine, prove_anatomy
from hydrascope.anatomy._solve import MAX_WRITERS, solve
from hydrascope.components import Component
from hydrascope.engine import choose_engine
from hydrascope.errors import AnatomyRefused, NotCausalLM
from tests.support.families import FAMILIES, Family, build, build_from
from tests.support.reference import double_copy, readout

torch.set_num_threads(1)

every_family = pytest.mark.parametrize("name", FAMILIES)


@functools.cache
def model(name: str, dtype: torch.dtype = torch.float32) -> hs.Model:
    return examine(build(name, dtype=dtype), None, name=name)


def changed(name: str, **config: object) -> Family:
    """A family with some of its configuration changed."""
    family = FAMILIES[name]
    return replace(family, config={**family.config, **config})


def names(anatomy: Anatomy) -> list[str]:
    return [str(writer.component) for writer in anatomy.writers]


def with_hook(name: str, hook: Callable[[PreTrainedModel], None]) -> PreTrainedModel:
    network = build(name)
    hook(network)
    return network


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@every_family
def test_blocks_and_writers(name, dtype):
    """The path may name the innermost module that returns the write: a router's experts, a dense layer's projection."""
    family, anatomy = FAMILIES[name], model(name, dtype).anatomy
    layers = range(family.n_layers)
    assert anatomy.layers == tuple(f"{family.layers}.{layer}" for layer in layers)
    assert names(anatomy) == [f"{kind}.{layer}" for layer, kind in product(layers, ("attn", "mlp"))]
    for writer in anatomy.writers:
        component = writer.component
        expected = family.path(component.layer, family.attn if component.kind == "attn" else family.mlp)
        (module,), (gain,) = writer.modules, writer.gains
        assert f"{module}.".startswith(f"{expected}.")
        assert gain == pytest.approx(family.multiplier, abs=1e-6 if dtype is torch.float32 else 5e-3)
    assert anatomy.embed_gain == 1
    assert anatomy.parallel == family.parallel
    reads = {(Component("attn", layer), Component("mlp", layer)) for layer in layers}
    assert anatomy.reads == (frozenset() if family.parallel else reads)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_huge_stream_at_some_tokens_does_not_drown_the_writes_at_others(dtype):
    network = build("llama").to(dtype)
    with torch.no_grad():
        network.get_input_embeddings().weight[::3] *= 3000
    anatomy = examine(network, None, name="llama").anatomy
    assert names(anatomy) == [
        f"{kind}.{layer}" for layer, kind in product(range(FAMILIES["llama"].n_layers), ("attn", "mlp"))
    ]
    assert {gain for writer in anatomy.writers for gain in writer.gains} == {1.0}


def test_a_huge_write_at_some_tokens_does_not_hide_what_an_mlp_reads_at_others():
    network = build("llama").bfloat16()
    with torch.no_grad():
        words = network.get_input_embeddings().weight
        words[:, 0] = 0
        words[::3, 0] = 1000
        for layer in network.model.layers:
            layer.self_attn.o_proj.weight[0] = 0
            layer.mlp.down_proj.weight[0] = 0
            layer.mlp.gate_proj.weight[0, 0] = layer.mlp.up_proj.weight[0, 0] = 1000
    anatomy = examine(network, None, name="llama").anatomy
    assert anatomy.reads == {(Component("attn", layer), Component("mlp", layer)) for layer in range(anatomy.n_layers)}


@every_family
def test_heads_and_sizes(name):
    family, anatomy = FAMILIES[name], model(name).anatomy
    assert [site.layer for site in anatomy.heads] == list(range(family.n_layers))
    for site in anatomy.heads:
        assert site.module == family.path(site.layer, family.o_proj)
        assert (site.n_heads, site.head_dim) == (family.n_heads, family.head_dim)
        assert site.n_kv == family.config.get("num_key_value_heads", family.n_heads)
    assert (anatomy.d_model, anatomy.n_vocab, anatomy.n_layers) == (32, 97, family.n_layers)
    inventory = anatomy.inventory
    counted = {kind: sum(units.values()) for kind, units in inventory.units.items()}
    n_kv = family.config.get("num_key_value_heads", family.n_heads)
    assert counted.pop("kv", None) == (family.n_layers * n_kv if n_kv < family.n_heads else None)
    counted.pop("neuron", None)
    counted.pop("expert", None)
    assert counted == {
        "attn": family.n_layers,
        "mlp": family.n_layers,
        "layer": family.n_layers,
        "head": family.n_layers * family.n_heads,
    }


@every_family
def test_neurons_lie_at_the_down_projection(name):
    """Dense MLPs have them; routed experts share no single projection."""
    anatomy, network = model(name).anatomy, model(name).network
    dense = [w.component.layer for w in anatomy.writers if w.component.kind == "mlp" and "experts" not in w.modules[0]]
    if name == "qwen2_moe":
        dense = [1]
    assert [site.layer for site in anatomy.neurons] == dense
    for site in anatomy.neurons:
        assert sorted(network.get_submodule(site.module).weight.shape) == sorted((site.n_neurons, anatomy.d_model))


@every_family
def test_way_to_the_logits(name):
    family, tail = FAMILIES[name], model(name).anatomy.tail
    assert (tail.norm, tail.head) == (family.final_norm, family.head)
    assert tail.centred == (family.norm == "layer")
    assert tail.eps == pytest.approx(family.epsilon, rel=1e-4)
    assert tail.scale == pytest.approx(family.logit_scale, rel=1e-5)
    assert tail.pre_gain == 1
    assert tail.softcap == family.soft_cap
    norm = model(name).network.get_submodule(family.final_norm)
    torch.testing.assert_close(tail.gain, norm.weight.detach() + family.gain_offset, rtol=1e-5, atol=1e-5)
    bias = torch.zeros_like(tail.gain) if getattr(norm, "bias", None) is None else norm.bias.detach()
    torch.testing.assert_close(tail.bias, bias, rtol=1e-5, atol=1e-5)


@every_family
def test_readout_directions(name):
    """For LayerNorm and RMSNorm, with and without biases of norm and head, tied and untied."""
    opened, family = model(name), FAMILIES[name]
    tokens = torch.tensor([3, 50, 96])
    found = directions(opened.network, opened.anatomy.tail, tokens)
    double = double_copy(opened.network)
    for i, token in enumerate(tokens.tolist()):
        vector, constant = readout(double, family, token)
        torch.testing.assert_close(found.vectors[i].double(), vector, rtol=1e-5, atol=1e-5)
        assert float(found.constants[i]) == pytest.approx(constant, abs=1e-5)


def test_families_cover_biased_and_tied_heads():
    heads = {name: model(name).network.get_output_embeddings() for name in FAMILIES}
    assert heads["phi"].bias is not None
    assert heads["gptj"].bias is not None
    assert heads["gpt2"].weight is model("gpt2").network.get_input_embeddings().weight
    assert heads["llama"].weight is not model("llama").network.get_input_embeddings().weight


@every_family
def test_every_check_passes_on_other_tokens(name):
    checks = prove_anatomy(model(name).network, model(name).anatomy)
    assert all(check.passed for check in checks)
    assert {"additive residual", "units", "final norm", "logits from head", "read-out"} <= {c.name for c in checks}
    assert model(name).anatomy.additivity_error < 1e-6


def test_a_wrong_anatomy_fails_by_name():
    network, anatomy = model("llama").network, model("llama").anatomy
    first, *others = anatomy.writers
    wrong = {
        "additive residual": replace(anatomy, writers=(replace(first, gains=(1.01,)), *others)),
        "final norm": replace(anatomy, tail=replace(anatomy.tail, eps=0.5)),
        "logits from head": replace(anatomy, tail=replace(anatomy.tail, softcap=3.0)),
        "read-out": replace(anatomy, tail=replace(anatomy.tail, mean_row=anatomy.tail.mean_row + 0.1)),
    }
    for name, broken in wrong.items():
        failed = [check.name for check in prove_anatomy(network, broken) if not check.passed]
        assert failed[0] == name


def test_a_model_of_one_block():
    opened = examine(build_from(changed("gpt2", n_layer=1)), None, name="one block")
    assert names(opened.anatomy) == ["attn.0", "mlp.0"]
    assert all(check.passed for check in choose_engine(opened).checks)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_tied_and_untied_heads(name, tied):
    network = build_from(changed(name, tie_word_embeddings=tied))
    assert (network.get_output_embeddings().weight is network.get_input_embeddings().weight) == tied
    anatomy = examine(network, None, name=name).anatomy
    row = network.get_output_embeddings().weight.detach().double().mean(0).float()
    torch.testing.assert_close(anatomy.tail.mean_row, row)


def test_writers_that_are_scaled_and_blocks_that_shrink_the_stream():
    """What a block writes counts for what later blocks leave of it."""
    kept = (0.5, 0.7, 0.9)

    def shrink(network: PreTrainedModel) -> None:
        for block, share in zip(network.model.layers, kept, strict=True):
            block.register_forward_hook(lambda _, __, output, share=share: output * share)

    opened = examine(with_hook("granite", shrink), None, name="shrinking")
    assert opened.anatomy.embed_gain == pytest.approx(0.5 * 0.7 * 0.9, rel=1e-5)
    found = {str(writer.component): writer.gains[0] for writer in opened.anatomy.writers}
    for layer, left in enumerate((0.5 * 0.7 * 0.9, 0.7 * 0.9, 0.9)):
        assert found[f"attn.{layer}"] == pytest.approx(0.4 * left, rel=1e-5)
        assert found[f"mlp.{layer}"] == pytest.approx(0.4 * left, rel=1e-5)
    assert all(check.passed for check in choose_engine(opened).checks)


POST_NORM = {
    "openai-gpt": replace(FAMILIES["gpt2"], model_type="openai-gpt"),
    "opt": changed("opt", do_layer_norm_before=False),
    "bloom": changed("bloom", apply_residual_connection_post_layernorm=True),
    "bert decoder": replace(changed("llama", is_decoder=True), model_type="bert"),
}


@pytest.mark.parametrize("name", POST_NORM)
def test_models_that_normalise_the_stream_itself_are_refused(name):
    with pytest.raises(AnatomyRefused, match="normalise the stream itself") as refused:
        examine(build_from(POST_NORM[name]), None, name=name)
    assert refused.value.check == "additive residual"


@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_models_that_read_to_the_right_are_refused(model_type):
    family = replace(changed("llama", is_decoder=False), model_type=model_type)
    with pytest.raises(NotCausalLM, match="left-to-right"):
        examine(build_from(family), None, name=model_type)


def test_a_decoder_without_its_mask_is_refused():
    """It has writers like any other; only its answers tell."""

    def unmask(network: PreTrainedModel) -> None:
        network.set_attn_implementation("eager")
        for block in network.model.layers:
            block.self_attn.register_forward_pre_hook(
                lambda _, args, named: (args, {**named, "attention_mask": None}), with_kwargs=True
            )

    with pytest.raises(NotCausalLM):
        examine(with_hook("llama", unmask), None, name="unmasked")


def two_mlps(network: PreTrainedModel) -> None:
    for block in network.model.layers:
        block.extra = nn.Linear(32, 32)
        block.register_forward_hook(lambda block, args, output: output + block.extra(args[0]))


def test_two_mlps_of_a_block_are_one_writer():
    opened = examine(with_hook("llama", two_mlps), None, name="two mlps")
    mlps = [writer for writer in opened.anatomy.writers if writer.component.kind == "mlp"]
    assert [len(writer.modules) for writer in mlps] == [2] * opened.anatomy.n_layers
    assert not opened.anatomy.neurons
    assert all(check.passed for check in choose_engine(opened).checks)


def broken_chain(network: PreTrainedModel) -> None:
    network.model.layers[1].register_forward_pre_hook(lambda _, args: (args[0] * 2, *args[1:]))


def bent_state(network: PreTrainedModel) -> None:
    network.lm_head.register_forward_pre_hook(lambda _, args: (args[0].tanh(),))


def bent_logits(network: PreTrainedModel) -> None:
    def cube(_: nn.Module, __: object, output: Any) -> Any:
        output.logits = output.logits**3
        return output

    network.register_forward_hook(cube)


@pytest.mark.parametrize(
    ("check", "bend"),
    [
        ("decoder blocks", broken_chain),
        ("linear tail", bent_state),
        ("logits from head", bent_logits),
    ],
)
def test_what_is_unlike_a_decoder_is_refused_by_name(check, bend):
    with pytest.raises(AnatomyRefused, match=f"check '{check}' failed") as refused:
        examine(with_hook("llama", bend), None, name="bent")
    assert refused.value.check == check


def vectors(n: int, seed: int = 0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(size=(n, 400)))


class TestSolve:
    """y = carry x + sum of gain c."""

    def test_the_plain_sum_is_found_among_others(self):
        x, a, b, *others = vectors(7)
        found = solve(x, x + a + b, [others[0], a, others[1], b, others[2]], 1e-6)
        assert found is not None
        assert found.members == (1, 3)
        assert found.gains == (1.0, 1.0)
        assert found.carry == 1
        assert found.error < 1e-7

    def test_gains_are_fitted(self):
        x, a, b, c = vectors(4)
        found = solve(x, x + 0.3 * a - 2 * b, [c, a, b], 1e-6)
        assert found is not None
        assert found.members == (1, 2)
        assert found.gains == pytest.approx((0.3, -2.0))
        assert found.carry == 1

    def test_a_carry_is_fitted_last(self):
        x, a, b, c = vectors(4)
        found = solve(x, 0.8 * x + a + 0.5 * b, [a, b, c], 1e-6)
        assert found is not None
        assert found.members == (0, 1)
        assert found.carry == pytest.approx(0.8)
        assert found.gains == pytest.approx((1.0, 0.5))

    def test_fewest_members_win(self):
        """The sum of both writers is itself a module's output in some models."""
        x, a, b = vectors(3)
        found = solve(x, x + a + b, [a, b, a + b], 1e-6)
        assert found is not None
        assert found.members == (2,)

    def test_dependent_candidates_do_no_harm(self):
        x, a, b = vectors(3)
        found = solve(x, x + a + 0.5 * b, [a, 2 * a, b, 3 * b], 1e-6)
        assert found is not None
        assert {found.members[0] // 2, found.members[1] // 2} == {0, 1}
        total = sum(g * [a, 2 * a, b, 3 * b][m] for m, g in zip(found.members, found.gains, strict=True))
        np.testing.assert_allclose(total, a + 0.5 * b, atol=1e-9)

    def test_what_is_no_sum_is_not_explained(self):
        x, a, b = vectors(3)
        assert solve(x, x + a * b, [a, b], 1e-2) is None
        assert solve(x, x + a, [], 1e-2) is None

    def test_no_more_than_four_members(self):
        x, *candidates = vectors(MAX_WRITERS + 2)
        assert solve(x, x + sum(candidates[:MAX_WRITERS]), candidates, 1e-6) is not None
        assert solve(x, x + sum(candidates), candidates, 1e-6) is None

    def test_a_block_that_passes_nothing_on_is_no_residual_block(self):
        x, a, b = vectors(3)
        assert solve(x, a + b, [a, b], 1e-6) is None
        assert solve(x, 1e-6 * x + a + b, [a, b], 1e-5) is None

    def test_tolerance_decides(self):
        x, a, noise = vectors(3)
        assert solve(x, x + a + 1e-3 * noise, [a], 1e-4) is None
        assert solve(x, x + a + 1e-3 * noise, [a], 1e-2) is not None
