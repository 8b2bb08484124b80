"""The hand-written rows of the families hold for the models themselves."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from tests.support.families import CONTEXT, FAMILIES, VOCABULARY, build
from tests.support.reference import DoubleEverywhere, double_copy, reference_ledger, run

torch.set_num_threads(1)

every_family = pytest.mark.parametrize("name", FAMILIES)
PROMPT = [13, 57, 4, 88, 31, 22, 9, 71, 46]
OTHER = [64, 5, 90, 12, 77, 38, 3, 25, 60]


@functools.cache
def doubled(name: str) -> PreTrainedModel:
    return double_copy(build(name))


@every_family
def test_writers_sum_to_what_each_block_adds(name):
    family, model = FAMILIES[name], doubled(name)
    stream = []
    handles = []
    for block in model.get_submodule(family.layers):
        handles.append(
            block.register_forward_hook(
                lambda _, inputs, named, out: stream.append(
                    (
                        (inputs[0] if inputs else named["hidden_states"])[0, -1],
                        (out if isinstance(out, torch.Tensor) else out[0])[0, -1],
                    )
                ),
                with_kwargs=True,
            )
        )
    seen = run(model, family, PROMPT)
    for handle in handles:
        handle.remove()
    assert len(stream) == family.n_layers
    for layer, (before, after) in enumerate(stream):
        written = family.multiplier * (seen.values["attn", layer] + seen.values["mlp", layer])
        torch.testing.assert_close(after - before, written, rtol=0, atol=1e-12)
        assert written.abs().max() > 0.1
    torch.testing.assert_close(seen.residual, stream[-1][1], rtol=0, atol=0)


@every_family
def test_attention_alone_looks_at_earlier_tokens(name):
    """Tells the two writers of a block apart: the sums above would hold with their names exchanged."""
    family, model = FAMILIES[name], doubled(name)
    clean = run(model, family, PROMPT)
    changed = [*PROMPT[:-2], 50, PROMPT[-1]]
    other = run(model, family, changed)
    assert (other.values["attn", 0] - clean.values["attn", 0]).abs().max() > 1e-2
    held = run(model, family, changed, {("attn", 0): clean.values["attn", 0]})
    torch.testing.assert_close(held.values["mlp", 0], clean.values["mlp", 0], rtol=0, atol=1e-12)


@every_family
def test_heads_make_up_the_attention(name):
    family, model = FAMILIES[name], doubled(name)
    donor = run(model, family, OTHER)
    for layer in range(family.n_layers):
        heads = [("head", layer, head) for head in range(family.n_heads)]
        seen = run(model, family, PROMPT, {part: donor.values[part] for part in heads})
        torch.testing.assert_close(seen.values["attn", layer], donor.values["attn", layer], rtol=0, atol=1e-12)


@every_family
def test_head_scale_and_soft_cap(name):
    family, model = FAMILIES[name], doubled(name)
    returned = []
    handle = model.get_submodule(family.head).register_forward_hook(lambda _, i, out: returned.append(out[0, -1]))
    seen = run(model, family, PROMPT)
    handle.remove()
    expected = family.logit_scale * returned[0]
    if family.soft_cap is not None:
        expected = family.soft_cap * (expected / family.soft_cap).tanh()
    torch.testing.assert_close(seen.logits, expected, rtol=0, atol=1e-12)
    special = family.soft_cap is not None or family.logit_scale != 1
    assert ((seen.logits - returned[0]).abs().max() > 0.1) == special


@every_family
def test_double_copy_is_the_same_function(name):
    model = build(name)
    with torch.no_grad():
        logits = model(torch.tensor([PROMPT])).logits[0, -1]
    seen = run(double_copy(model), FAMILIES[name], PROMPT)
    torch.testing.assert_close(logits.double(), seen.logits, rtol=0, atol=1e-4)
    assert logits.dtype == torch.float32  # the copy left the model alone
    assert next(model.parameters()).dtype == torch.float32


class SinglePrecision(TorchDispatchMode):
    """Notes every operation with a float32 result, counting (exact for whole numbers) excepted."""

    def __init__(self):
        super().__init__()
        self.operations: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and out.dtype == torch.float32 and not torch.equal(out, out.round()):
            self.operations.add(str(func))
        return out


@every_family
def test_nothing_is_computed_in_single_precision(name):
    model = doubled(name)
    with SinglePrecision() as single, DoubleEverywhere(), torch.no_grad():
        model(torch.tensor([PROMPT]), use_cache=False)
    assert not single.operations


def test_single_precision_would_be_noticed():
    with SinglePrecision() as single, torch.no_grad():
        doubled("llama")(torch.tensor([PROMPT]), use_cache=False)
    assert single.operations


@every_family
def test_built_anew_it_is_the_same_model(name):
    state = torch.random.get_rng_state()
    first, second, third = build(name), build(name), build(name, seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    pairs = list(zip(first.parameters(), second.parameters(), third.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not any(torch.equal(a, c) for a, _, c in pairs)
    assert not first.training
    assert first.config.vocab_size == VOCABULARY


def test_bfloat16_keeps_rotary_frequencies():
    model = build("llama", dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.model.rotary_emb.inv_freq.dtype == torch.float32


@every_family
def test_takes_the_whole_context(name):
    model = build(name)
    prompt = [3 + i % 90 for i in range(CONTEXT)]
    with torch.no_grad():
        assert torch.isfinite(model(torch.tensor([prompt])).logits).all()


@pytest.mark.parametrize(
    ("name", "sees_the_first_token"),
    [("mistral", False), ("gemma2", False), ("gemma3_text", False), ("llama", True)],
)
def test_window_hides_old_tokens(name, sees_the_first_token):
    family, model = FAMILIES[name], doubled(name)
    clean, changed = (run(model, family, prompt).values["attn", 0] for prompt in (PROMPT, [50, *PROMPT[1:]]))
    assert ((clean - changed).abs().max() > 1e-4) == sees_the_first_token


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("granite", {"multiplier": 1.0}),
        ("granite", {"logit_scale": 1.0}),
        ("gemma2", {"soft_cap": None}),
        ("gemma2", {"gain_offset": 0.0}),
        ("gpt2", {"norm": "rms"}),
        ("llama", {"norm": "layer"}),
        ("gemma2", {"attn": "self_attn.o_proj"}),
        ("olmo2", {"mlp": "mlp.down_proj"}),
        ("llama", {"epsilon": 1.0}),
    ],
)
def test_a_wrong_row_does_not_close(name, wrong):
    family = replace(FAMILIES[name], **wrong)
    target = 40
    got = reference_ledger(doubled(name), family, [PROMPT], [target], [(("attn", 0),)], "zero")
    open_clean = np.abs(got["direct_effect"].sum(axis=1) - got["clean_logit"]).max()
    assert max(open_clean, np.abs(got["remainder"]).max()) > 1e-3
