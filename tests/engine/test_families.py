"""Every family, every ablation: the engine's ledger is that of the slow loop in double precision."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn
from transformers import PreTrainedModel

import hydrascope as hs
from hydrascope.ablations import Ablation
from hydrascope.anatomy import CLOSING, examine
from hydrascope.errors import OutOfBudget
from hydrascope.run._execution import execute
from hydrascope.run._task import prepare
from tests.support.dealt import resample_table
from tests.support.families import FAMILIES, VOCABULARY, WINDOW, build
from tests.support.reference import Part, Reference, double_copy, reference_ledger, run

torch.set_num_threads(1)

SEED = 7
LENGTHS = (12, 1, 12, 6)  # beyond the sliding windows, with nothing to share, twice the same
TARGETS = (5, 11, 5, 40)  # a donor with the same target is not allowed
KNOCKOUTS = "attn.0,mlp.0,attn.2,mlp.2,layer.1,head.1.2,head.0.1+head.2.3,attn.0+mlp.1"
NAMES = KNOCKOUTS.split(",")
COUNT = np.arange(len(LENGTHS))
TOLERANCE = 1e-4

ABLATIONS: dict[str, Ablation] = {
    "zero": hs.Zero(),
    "mean": hs.Mean(),
    "resample": hs.Resample(donors=2),
    "noise": hs.Noise(donors=3, scale=1.5),
    "counterfactual": hs.Counterfactual(),
}

every_family = pytest.mark.parametrize("name", FAMILIES)
every_device = pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")),
    ],
)


def tokens(seed: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in LENGTHS]


PROMPTS, COUNTERFACTUALS = tokens(1), tokens(2)


def prompt_set(n: int = len(LENGTHS)) -> hs.PromptSet:
    return hs.PromptSet(
        "random",
        tuple(
            hs.Prompt(input_ids=tuple(ids), target_id=target, counterfactual_input_ids=tuple(other))
            for ids, target, other in zip(PROMPTS[:n], TARGETS, COUNTERFACTUALS, strict=False)
        ),
    )


@functools.cache
def model(name: str, device: str = "cpu", dtype: torch.dtype = torch.float32) -> hs.Model:
    return examine(build(name, dtype=dtype).to(device), None, name=name)


@functools.cache
def double(name: str) -> PreTrainedModel:
    return double_copy(build(name))


def ledger(
    opened: hs.Model, kind: str = "resample", *, components: str = KNOCKOUTS, null: int = 0, memory: str | None = None
) -> xr.Dataset:
    options = hs.Options(keep_wrong=True, null_draws=null, seed=SEED, memory=memory)
    return hs.knock_out(opened, prompt_set(), components, ABLATIONS[kind], options=options).dataset


def parts(knockout: str) -> tuple[Part, ...]:
    split = (part.split(".") for part in knockout.split("+"))
    return tuple((kind, *map(int, numbers)) for kind, *numbers in split)  # type: ignore[misc]


def key_of(prompt: int) -> int:
    """What noise is seeded with: the prompt's tokens, not its place."""
    tokens = tuple(int(token) for token in PROMPTS[prompt])
    return int(hashlib.sha256(repr(tokens).encode()).hexdigest()[:16], 16)


def noisy_values(name: str, prompt: int, draw: int) -> dict[Part, Tensor]:
    """Values of a run with Gaussian noise on what enters the first block, in units of its own spread there."""
    ablation = ABLATIONS["noise"]
    assert isinstance(ablation, hs.Noise)

    def disturb(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        state = inputs[0] if inputs else named["hidden_states"]
        drawn = np.random.default_rng((SEED, key_of(prompt), draw)).standard_normal(state.shape[1:], "float32")
        state = state + ablation.scale * state.std() * torch.from_numpy(drawn).double()
        return ((state, *inputs[1:]), named) if inputs else (inputs, {**named, "hidden_states": state})

    first = double(name).get_submodule(FAMILIES[name].layers)[0]
    handle = first.register_forward_pre_hook(disturb, with_kwargs=True)
    try:
        return run(double(name), FAMILIES[name], PROMPTS[prompt]).values
    finally:
        handle.remove()


@functools.cache
def reference(name: str, kind: str) -> Reference:
    about = (build(name), FAMILIES[name], PROMPTS, TARGETS, [parts(knockout) for knockout in NAMES])
    if kind in ("zero", "mean"):
        return reference_ledger(*about, kind)
    if kind == "resample":
        return reference_ledger(*about, "resample", resample_table(PROMPTS, TARGETS, 2, SEED))
    if kind == "counterfactual":
        return reference_ledger(*about, "resample", COUNT[None], COUNTERFACTUALS)
    noisy = [[noisy_values(name, int(prompt), draw) for prompt in COUNT] for draw in range(3)]
    return reference_ledger(*about, lambda part, prompt, draw: noisy[draw][prompt][part], np.zeros((3, len(COUNT))))


def assert_close(found: xr.DataArray | np.ndarray, expected: np.ndarray, what: str) -> None:
    np.testing.assert_allclose(np.asarray(found), expected, rtol=0, atol=TOLERANCE, err_msg=what)


@every_device
@pytest.mark.parametrize("kind", ABLATIONS)
@every_family
def test_ledger_is_that_of_the_slow_loop(name, kind, device):
    found, right = ledger(model(name, device), kind), reference(name, kind)
    assert found["ablated"].values.tolist() == list(right.knockouts)
    assert found["writer"].values.tolist() == list(right.writers)
    assert found["prompt"].values.tolist() == COUNT.tolist()
    for variable in (
        "direct_effect", "clean_logit", "clean_prob", "change", "own_change", "norm_effect",
        "total_effect", "log_prob_change", "kl", "scale_ratio",
    ):  # fmt: skip
        assert_close(found[variable], right[variable], variable)
    assert np.abs(right["total_effect"]).max(axis=0).min() > 0.02, "a knock-out that does nothing proves nothing"

    draws = right.draws["change"]
    ddof = int(len(draws) > 1)
    assert_close(found["change_sd"], draws.std(axis=0, ddof=ddof), "change_sd")
    assert_close(found["total_effect_sd"], right.draws["total_effect"].std(axis=0, ddof=ddof), "total_effect_sd")
    assert ("change_by_half" in found) == (len(draws) > 1)
    if len(draws) > 1:
        halves = np.stack([draws[0::2].mean(axis=0), draws[1::2].mean(axis=0)])
        assert_close(found["change_by_half"], halves, "change_by_half")

    assert_close(found["remainder"], np.zeros_like(right["remainder"]), "remainder")
    others = found["rank_change"].values - right["rank_change"]
    assert (np.abs(others) > 1e-3).mean() <= 0.02, "only tokens that tie with the target may be ordered otherwise"
    for k in range(len(NAMES)):
        assert found["is_own"].values[k].tolist() == right.own(k).tolist()
    still = ~(found["is_own"] | found["is_downstream"]).values
    assert (found["change"].values[:, still] == 0).all()
    np.testing.assert_array_equal(still, np.abs(right["change"]).max(axis=0) < 1e-9, err_msg="who can respond")
    assert found.attrs["closing_error"] < TOLERANCE
    assert found.attrs["parity_error"] < TOLERANCE


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama", "gemma2", "mixtral", "gpt_neo"])
def test_null_is_a_random_displacement_of_the_same_norm(name):
    found = ledger(model(name), "resample", null=2)
    family, table = FAMILIES[name], resample_table(PROMPTS, TARGETS, 2, SEED)
    clean = [run(double(name), family, prompt).values for prompt in PROMPTS]
    for k, knockout in enumerate(map(parts, NAMES)):
        edited = [p for part in knockout for p in (_both(part[1]) if part[0] == "layer" else (part,))]

        def displaced(part: Part, prompt: int, draw: int, k: int = k, edited: list[Part] = edited) -> Tensor:
            own, other = clean[prompt][part], clean[table[draw, prompt]][part]
            key = (SEED, key_of(prompt), k, draw, edited.index(part))
            direction = torch.from_numpy(np.random.default_rng(key).standard_normal(len(own), "float32")).double()
            return own + direction / direction.norm() * (other - own).norm()

        right = reference_ledger(
            build(name), family, PROMPTS, TARGETS, [knockout], displaced, np.zeros((2, len(COUNT)))
        )
        for variable in ("change", "norm_effect", "total_effect"):
            assert_close(found[f"null_{variable}"].values[:, [k]], right[variable], f"{NAMES[k]} {variable}")


def _both(layer: int) -> tuple[Part, Part]:
    return ("attn", layer), ("mlp", layer)


def test_null_has_no_more_draws_than_the_ablation_and_may_be_left_out():
    opened = model("gpt2")
    assert ledger(opened, "zero", null=4).attrs["null_draws"] == 1
    assert "null_change" not in ledger(opened, "zero", null=0)


@every_device
@pytest.mark.parametrize(
    ("dtype", "share", "closing"),
    [(torch.bfloat16, 0.05, 0.05), (torch.float16, 0.01, 0.01), (torch.float64, 1e-4, 1e-4)],
    ids=str,
)
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])
def test_other_formats_stay_near_float32_on_the_same_weights(name, dtype, share, closing, device):
    """Half formats round the residual stream: effects agree within a share of their own size."""
    other = ledger(model(name, device, dtype), "resample")
    full = ledger(examine(build(name, dtype=dtype).float().to(device), None, name=name), "resample")
    assert other.attrs["dtype"] == str(dtype).removeprefix("torch.")
    assert other.attrs["closing_error"] < closing < CLOSING[dtype]
    for variable in ("direct_effect", "change", "total_effect"):
        difference = other[variable].values - full[variable].values
        size = np.sqrt((full[variable].values ** 2).mean())
        assert np.sqrt((difference**2).mean()) < share * size, variable
        assert (difference != 0).any(), "the two runs must not be the same one"


def passes(opened: hs.Model, memory: str | None) -> tuple[xr.Dataset, int]:
    """A ledger, and how often the first block was entered for it."""
    options = hs.Options(components="attn,mlp,head.0.*", keep_wrong=True, null_draws=2, seed=SEED, memory=memory)
    task = prepare(opened, prompt_set(), ABLATIONS["resample"], options)
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1

    handle = opened.network.get_submodule(opened.anatomy.layers[0]).register_forward_pre_hook(counted)
    try:
        return execute(task)[0], count
    finally:
        handle.remove()


def smallest_that_fits(opened: hs.Model) -> tuple[xr.Dataset, int]:
    for step in range(100):
        try:
            return passes(opened, f"{8 * 1.2**step:.1f}KB")
        except OutOfBudget:
            continue
    raise AssertionError("no budget holds a tiny model's prompt")


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bloom"])
def test_a_small_budget_changes_the_number_of_passes_and_nothing_else(name):
    whole, few = passes(model(name), None)
    tight, many = smallest_that_fits(model(name))
    assert many >= 2 * few
    assert set(tight) == set(whole)
    for variable in whole.data_vars:
        np.testing.assert_allclose(tight[variable], whole[variable], rtol=0, atol=1e-5, err_msg=str(variable))


def test_the_same_run_twice_is_bitwise_the_same():
    first, again = ledger(model("gpt2"), "noise", null=2), ledger(model("gpt2"), "noise", null=2)
    for variable in first.data_vars:
        np.testing.assert_array_equal(first[variable], again[variable], err_msg=str(variable))


def test_a_budget_that_holds_no_prompt_is_refused():
    with pytest.raises(OutOfBudget, match=r"raise the budget \(--memory\)"):
        ledger(model("gpt2"), memory="1KB")


def test_the_long_prompts_reach_beyond_every_window():
    assert max(LENGTHS) > 2 * WINDOW
    assert min(LENGTHS) == 1
