"""The slow reference obeys every identity that the accounting promises."""

from __future__ import annotations

import copy
import functools

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from tests.support.families import FAMILIES, VOCABULARY, Family, build
from tests.support.reference import Knockout, Part, Reference, address, double_copy, reference_ledger, run

torch.set_num_threads(1)

every_family = pytest.mark.parametrize("name", FAMILIES)
PROMPTS = [
    [13, 57, 4, 88, 31, 22, 9, 71, 46],
    [64, 5, 90, 12, 77, 38, 3, 25],
    [20, 61, 33, 94, 8, 15, 70, 42, 29, 55, 83],
]
DONORS = np.array([[1, 2, 0], [2, 0, 1]])
KINDS = ("zero", "mean", "resample")
IN_LOGITS = ("own_change", "norm_effect", "total_effect")


@functools.cache
def doubled(name: str) -> PreTrainedModel:
    return double_copy(build(name))


@functools.cache
def targets(name: str) -> list[int]:
    return [int(run(doubled(name), FAMILIES[name], prompt).logits.argmax()) for prompt in PROMPTS]


def knockouts(family: Family) -> list[Knockout]:
    last = family.n_layers - 1
    return [
        (("attn", 0),),
        (("mlp", 0),),
        (("attn", last),),
        (("mlp", last),),
        (("layer", 1),),
        (("head", 1, 2),),
        (("attn", 0), ("mlp", 2)),
        (("head", 0, 1), ("head", 0, 3), ("attn", 1)),
    ]


@functools.cache
def result(name: str, kind: str) -> Reference:
    family = FAMILIES[name]
    donors = DONORS if kind == "resample" else None
    return reference_ledger(doubled(name), family, PROMPTS, targets(name), knockouts(family), kind, donors)


@every_family
def test_e1_direct_effects_sum_to_the_clean_logit(name):
    got = result(name, "zero")
    np.testing.assert_allclose(got["direct_effect"].sum(axis=1), got["clean_logit"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@every_family
def test_e2_total_is_own_plus_responses_plus_norm(name, kind):
    got = result(name, kind)
    assert got.draws["change"].shape == (
        2 if kind == "resample" else 1,
        3,
        8,
        2 * FAMILIES[name].n_layers + 2,
    )
    assert np.abs(got.draws["remainder"]).max() < 1e-9
    total = got["change"].sum(axis=-1) + got["norm_effect"]
    np.testing.assert_allclose(total, got["total_effect"], rtol=0, atol=1e-9)


@every_family
def test_effects_are_large_enough_to_show_mistakes(name):
    got = result(name, "resample")
    assert np.abs(got["total_effect"]).max(axis=0).min() > 0.02
    assert np.abs(got["total_effect"]).mean() > 0.1
    assert np.abs(got["norm_effect"]).max() > 0.05
    assert np.abs(got["direct_effect"][:, :-1]).mean(axis=0).min() > 0.02
    assert np.abs(got["total_effect"] - got["own_change"]).max() > 0.1


@every_family
def test_e3_writers_that_are_not_downstream_do_not_move(name):
    family, got = FAMILIES[name], result(name, "resample")
    for k, knockout in enumerate(knockouts(family)):
        kind, layer = knockout[0][:2]
        first = 1 + 2 * layer + (kind == "mlp")
        upstream = [*range(first), len(got.writers) - 1]
        if family.parallel and kind in ("attn", "head"):
            upstream.append(2 + 2 * layer)  # the MLP of the same block reads what attention reads
        assert (got.draws["change"][:, :, k, upstream] == 0).all()
        assert (got.draws["change"][:, :, k, first] != 0).all()


@every_family
def test_e4_a_prompt_as_its_own_donor_changes_nothing(name):
    family = FAMILIES[name]
    itself = np.arange(len(PROMPTS))[None]
    got = reference_ledger(doubled(name), family, PROMPTS, targets(name), knockouts(family), "resample", itself)
    for array in got.draws.values():
        assert np.abs(array - array.round()).max() < 1e-12  # the scale ratio is one, all else nothing
    assert (got["scale_ratio"] == 1).all()
    assert np.abs(got["total_effect"]).max() == 0


@every_family
def test_e5_zero_takes_away_the_direct_effect(name):
    got = result(name, "zero")
    for k in range(4):
        writer = got.writers.index(got.knockouts[k])
        own, direct = got["own_change"][:, k], got["direct_effect"][:, writer]
        np.testing.assert_allclose(own, -direct, rtol=0, atol=1e-12)
        assert (got["own_change"][:, k] == got["change"][:, k, writer]).all()


@every_family
def test_e6_in_the_last_block_little_can_respond(name):
    family, got = FAMILIES[name], result(name, "resample")
    last = family.n_layers - 1
    attn, mlp = got.writers.index(f"attn.{last}"), got.writers.index(f"mlp.{last}")
    responses = got["change"].copy()
    responses[:, 2, attn] = responses[:, 3, mlp] = 0
    assert (responses[:, 3] == 0).all()
    if family.parallel:
        assert (responses[:, 2] == 0).all()
    else:
        assert (responses[:, 2, mlp] != 0).all()
        responses[:, 2, mlp] = 0
        assert (responses[:, 2] == 0).all()


@every_family
def test_e9_scaling_the_final_norm_scales_every_logit(name):
    family, factor = FAMILIES[name], 2.5
    scaled = copy.deepcopy(doubled(name))
    norm = scaled.get_submodule(family.final_norm)
    with torch.no_grad():
        norm.weight.copy_(factor * (norm.weight + family.gain_offset) - family.gain_offset)
    some = knockouts(family)[::3]
    got = reference_ledger(scaled, family, PROMPTS, targets(name), some, "mean")
    once = result(name, "mean")
    np.testing.assert_allclose(
        got["direct_effect"][:, :-1], factor * once["direct_effect"][:, :-1], rtol=1e-9, atol=1e-12
    )
    np.testing.assert_allclose(got["direct_effect"][:, -1], once["direct_effect"][:, -1], rtol=0, atol=1e-12)
    for quantity in IN_LOGITS:
        np.testing.assert_allclose(got[quantity], factor * once[quantity][:, ::3], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got["scale_ratio"], once["scale_ratio"][:, ::3], rtol=1e-12)


@every_family
def test_e10_a_constant_in_every_column_of_the_head_is_not_seen(name):
    family = FAMILIES[name]
    shifted = copy.deepcopy(doubled(name))
    head = shifted.get_submodule(family.head)
    shift = torch.linspace(-1, 1, head.weight.shape[1], dtype=torch.float64)
    head.weight = nn.Parameter(head.weight.detach() + shift)  # a new parameter: a tied embedding keeps the old one
    some = knockouts(family)[::3]
    got = reference_ledger(shifted, family, PROMPTS, targets(name), some, "mean")
    once = result(name, "mean")
    np.testing.assert_allclose(got["direct_effect"], once["direct_effect"], rtol=0, atol=1e-9)
    for quantity in IN_LOGITS:
        np.testing.assert_allclose(got[quantity], once[quantity][:, ::3], rtol=0, atol=1e-9)
    if family.soft_cap is None:  # a cap is not blind to what all logits share
        np.testing.assert_allclose(got["kl"], once["kl"][:, ::3], rtol=0, atol=1e-9)


@every_family
def test_distribution_measures_agree_with_plain_formulas(name):
    family, model = FAMILIES[name], doubled(name)
    got = result(name, "resample")
    knocked = knockouts(family)[4]
    for p, prompt in enumerate(PROMPTS):
        target = targets(name)[p]
        logits = run(model, family, prompt).logits.numpy()
        clean = np.exp(logits) / np.exp(logits).sum()
        np.testing.assert_allclose(got["clean_prob"][p], clean[target], rtol=1e-12)
        kl, log_prob, ranks = [], [], []
        for donor in DONORS[:, p]:
            values = run(model, family, PROMPTS[donor]).values
            replaced: dict[Part, Tensor] = {
                (kind, knocked[0][1]): values[kind, knocked[0][1]] for kind in ("attn", "mlp")
            }
            logits = run(model, family, prompt, replaced).logits.numpy()
            ablated = np.exp(logits) / np.exp(logits).sum()
            kl.append((clean * np.log(clean / ablated)).sum())
            log_prob.append(np.log(ablated[target] / clean[target]))
            ranks.append(np.sort(ablated)[::-1].tolist().index(ablated[target]))  # the clean target ranks 0
        np.testing.assert_allclose(got["kl"][p, 4], np.mean(kl), rtol=0, atol=1e-12)
        np.testing.assert_allclose(got["log_prob_change"][p, 4], np.mean(log_prob), rtol=0, atol=1e-12)
        assert got["rank_change"][p, 4] == np.mean(ranks)
        assert got["kl"][p, 4] > 0


def test_zero_attention_equals_a_model_without_that_projection():
    """Weights, not hooks: a second way to take a component away, at all positions of a one-token prompt."""
    family, model = FAMILIES["gpt2"], doubled("gpt2")
    without = copy.deepcopy(model)
    projection = without.get_submodule(family.path(1, family.attn))
    with torch.no_grad():
        projection.weight.zero_()
        projection.bias.zero_()
        expected = without(torch.tensor([[7]])).logits[0, -1] - model(torch.tensor([[7]])).logits[0, -1]
    got = reference_ledger(model, family, [[7]], [40], [(("attn", 1),)], "zero")
    np.testing.assert_allclose(got["total_effect"][0, 0], float((expected - expected.mean())[40]), atol=1e-12)


def test_donors_come_from_another_list():
    """Counterfactual prompts: resampling from a list of their own."""
    family, model = FAMILIES["llama"], doubled("llama")
    others = [[token * 7 % VOCABULARY for token in prompt] for prompt in PROMPTS]
    everyone = np.arange(3)[None]
    got = reference_ledger(model, family, PROMPTS, targets("llama"), knockouts(family), "resample", everyone, others)
    by_value = [run(model, family, prompt).values for prompt in others]
    same = reference_ledger(
        model, family, PROMPTS, targets("llama"), knockouts(family), lambda part, p, r: by_value[p][part]
    )
    np.testing.assert_array_equal(got["change"], same["change"])
    assert np.abs(got["change"] - result("llama", "resample")["change"]).max() > 0.1


def test_addresses_and_own_writers():
    got = result("llama", "zero")
    assert got.writers == ("embed", "attn.0", "mlp.0", "attn.1", "mlp.1", "attn.2", "mlp.2", "bias")
    assert address((("head", 1, 2),)) == "head.1.2"
    own = {k: {got.writers[i] for i in np.flatnonzero(got.own(n))} for n, k in enumerate(got.knockouts)}
    assert own["layer.1"] == {"attn.1", "mlp.1"}
    assert own["head.1.2"] == {"attn.1"}
    assert own["attn.0+mlp.2"] == {"attn.0", "mlp.2"}
    assert own["head.0.1+head.0.3+attn.1"] == {"attn.0", "attn.1"}


def test_targets_may_be_any_token():
    family = FAMILIES["gpt_neox"]
    everything = list(range(VOCABULARY))
    got = reference_ledger(doubled("gpt_neox"), family, [PROMPTS[0]] * VOCABULARY, everything, [(("attn", 1),)], "zero")
    assert abs(got["clean_logit"].sum()) < 1e-9  # centred over the vocabulary
    assert abs(got["total_effect"].sum()) < 1e-9
    assert sorted(np.bincount(got["clean_prob"].argsort())) == [1] * VOCABULARY
