"""What a run reads of every prompt: a logit difference, a random leading token, the whole distribution."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import hydrascope as hs
from hydrascope.anatomy import examine
from hydrascope.errors import EmptyPrompts, TargetError
from tests.support.dealt import resample_table
from tests.support.families import FAMILIES, VOCABULARY, build
from tests.support.reference import Knockout, Reference, double_copy, reference_ledger, run

torch.set_num_threads(1)

SEED = 3
LENGTHS = (9, 1, 9, 4, 6)
TARGETS = (5, 11, 5, 40, 11)
FOILS = (8, 20, 9, 41, 8)
KNOCKOUTS = "attn.0,mlp.1,attn.2,head.1.2,attn.0+mlp.1"
PARTS: list[Knockout] = [
    (("attn", 0),),
    (("mlp", 1),),
    (("attn", 2),),
    (("head", 1, 2),),
    (("attn", 0), ("mlp", 1)),
]
TOLERANCE = 1e-4


def tokens() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in LENGTHS]


PROMPTS = tokens()


def prompt_set() -> hs.PromptSet:
    rows = zip(PROMPTS, TARGETS, FOILS, strict=True)
    return hs.PromptSet("pairs", tuple(hs.Prompt(input_ids=tuple(ids), target_id=t, foil_id=f) for ids, t, f in rows))


@functools.cache
def model(name: str) -> hs.Model:
    return examine(build(name), None, name=name)


def ledger(name: str, target: str, prompts: hs.PromptSet | None = None, **options: object) -> xr.Dataset:
    chosen = hs.Options(**({"target": target, "keep_wrong": True, "null_draws": 0, "seed": SEED} | options))  # type: ignore[arg-type]
    return hs.knock_out(model(name), prompts or prompt_set(), KNOCKOUTS, hs.Resample(donors=2), options=chosen).dataset


@functools.cache
def reference(name: str) -> Reference:
    return reference_ledger(
        build(name),
        FAMILIES[name],
        PROMPTS,
        TARGETS,
        PARTS,
        "resample",
        resample_table(PROMPTS, TARGETS, 2, SEED, FOILS),
        foils=FOILS,
    )


@functools.cache
def clean_logits(name: str) -> np.ndarray:
    double: nn.Module = double_copy(build(name))
    return np.stack([run(double, FAMILIES[name], prompt).logits.numpy() for prompt in PROMPTS])


@pytest.mark.parametrize("writers", ["layers", "heads"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "phi", "cohere"])
def test_a_difference_is_that_of_the_slow_loop(name: str, writers: str) -> None:
    found, right = ledger(name, "difference", writers=writers), reference(name)
    for variable in (
        "direct_effect", "clean_logit", "clean_prob", "change", "own_change", "norm_effect",
        "total_effect", "log_prob_change", "kl", "scale_ratio",
    ):  # fmt: skip
        if writers == "heads" and variable == "own_change":
            continue  # a head's own there, its layer's in the slow loop
        expected = right[variable]
        if writers == "heads" and "writer" in found[variable].dims:
            by_layer = found[variable].groupby(xr.DataArray(_layer_writers(found), dims="writer", name="w")).sum()
            np.testing.assert_allclose(by_layer.sel(w=list(right.writers)), expected, rtol=0, atol=TOLERANCE)
            continue
        np.testing.assert_allclose(found[variable], expected, rtol=0, atol=TOLERANCE, err_msg=variable)
    total = right["total_effect"]
    assert np.abs(total).max(axis=0).min() > 0.02, "a knock-out that does nothing proves nothing"
    assert found.attrs["closing_error"] < TOLERANCE
    assert found["foil_token"].values.tolist() == list(FOILS)
    assert found["clean_logit"].attrs["long_name"] == "logit difference of target and foil of the clean run"


def _layer_writers(found: xr.Dataset) -> list[str]:
    """The layer's own name for every head and bias inside it: `head.1.2` and `bias.attn.1` are parts of `attn.1`."""
    names = map(str, found["writer"].values)
    return [f"attn.{name.split('.')[1]}" if name.startswith("head.") else name.removeprefix("bias.") for name in names]


def test_a_difference_is_the_difference_of_two_accounts() -> None:
    """Exact by linearity: what the mean over the vocabulary does cancels."""
    both = ledger("gemma2", "difference")
    one = ledger("gemma2", "label")
    swapped = tuple(
        hs.Prompt(input_ids=p.input_ids, target_id=p.foil_id, foil_id=p.target_id) for p in prompt_set().prompts
    )
    other = ledger("gemma2", "label", hs.PromptSet("foils", swapped))
    for variable in ("direct_effect", "clean_logit", "total_effect", "change", "norm_effect"):
        np.testing.assert_allclose(both[variable], one[variable] - other[variable], rtol=0, atol=TOLERANCE)
    for variable in ("log_prob_change", "rank_change", "clean_prob"):
        np.testing.assert_array_equal(both[variable], one[variable], err_msg="these stay the target's")
    assert (both["clean_target_first"] == (both["clean_logit"] > 0)).all(), "right is to be above the foil"


def test_only_prompts_on_which_the_target_is_above_the_foil_are_kept() -> None:
    logits = clean_logits("gpt2")
    margins = [float(logits[i, t] - logits[i, f]) for i, (t, f) in enumerate(zip(TARGETS, FOILS, strict=True))]
    right = [i for i, margin in enumerate(margins) if margin > 0]
    assert 0 < len(right) < len(margins)
    kept = hs.PromptSet(
        "turned",
        tuple(
            p if i in right or i == 0 else hs.Prompt(input_ids=p.input_ids, target_id=p.foil_id, foil_id=p.target_id)
            for i, p in enumerate(prompt_set().prompts)
        ),
    )
    expected = sorted({*range(len(LENGTHS))} - ({0} - set(right)))
    found = ledger("gpt2", "difference", kept, keep_wrong=False)
    assert found["prompt"].values.tolist() == expected
    assert (found["clean_logit"].values > 0).all()
    assert found.attrs["prompts_dropped_wrong"] == len(LENGTHS) - len(expected)


def test_prompts_whose_pair_begins_alike_are_dropped_and_counted() -> None:
    alike = hs.Prompt(input_ids=(4, 5, 6), target_id=7, foil_id=7)
    found = ledger("gpt2", "difference", hs.PromptSet("some", (alike, *prompt_set().prompts)))
    assert found["prompt"].values.tolist() == [1, 2, 3, 4, 5]
    assert found.attrs["prompts_dropped_alike"] == 1
    with pytest.raises(EmptyPrompts, match="begin with the same token in all 2 prompts"):
        ledger("gpt2", "difference", hs.PromptSet("same", (alike, alike)))


def test_a_difference_needs_both() -> None:
    halves: dict[str, dict[str, Any]] = {"foil": {"target_id": 5}, "target": {"foil_id": 5}}
    for lacking, given in halves.items():
        prompts = hs.PromptSet("half", (*prompt_set().prompts, hs.Prompt(input_ids=(4, 5), **given)))
        with pytest.raises(TargetError, match=rf"^prompt 5 \(counted from 0\) has no {lacking}, which a logit"):
            ledger("gpt2", "difference", prompts)


def test_the_random_token_is_one_of_the_leading_ten_and_follows_the_seed() -> None:
    leading = np.argsort(-clean_logits("gpt2"), axis=1)[:, :10]
    drawn = []
    for seed in range(8):
        found = ledger("gpt2", "random-top", seed=seed)
        chosen = found["target_token"].values
        assert all(token in row for token, row in zip(chosen, leading, strict=True))
        np.testing.assert_allclose(
            found["clean_prob"],
            [
                np.exp(row - row.max())[t] / np.exp(row - row.max()).sum()
                for row, t in zip(clean_logits("gpt2"), chosen, strict=True)
            ],
            atol=1e-5,
        )
        drawn.append(tuple(chosen))
    assert len(set(drawn)) > 4
    assert drawn[0] == tuple(ledger("gpt2", "random-top", seed=0)["target_token"].values)


def test_for_the_whole_distribution_the_account_is_of_the_top_token() -> None:
    whole, top = ledger("llama", "kl"), ledger("llama", "top")
    assert whole.attrs["target_policy"] == "kl"
    for variable in top.data_vars:
        np.testing.assert_array_equal(whole[variable], top[variable], err_msg=str(variable))
