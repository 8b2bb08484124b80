"""Learned constants: the loss is the lowest, and what is put in place is what was learned."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import hydrascope as hs
from hydrascope.ablations import Ablation, Optimal
from hydrascope.engine import Constants, KLObjective, Learning, Positions, _constants
from hydrascope.errors import AblationError
from tests.engine.test_families import PROMPTS, TARGETS, double, model, parts, prompt_set
from tests.support.families import FAMILIES
from tests.support.positions import where
from tests.support.reference import DoubleEverywhere, Part, reference_ledger

NAMES = ["attn.0", "mlp.0", "attn.2", "mlp.2", "head.1.2", "head.0.1+head.2.3", "layer.1"]


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> dict[int, Constants]:
    """What the last run put in place."""
    seen: dict[int, Constants] = {}
    read = _constants.ConstantStore.constants

    def watched(store: _constants.ConstantStore) -> dict[int, Constants]:
        seen.update(read(store))
        return seen

    monkeypatch.setattr(_constants.ConstantStore, "constants", watched)
    return seen


def kl(name: str, ablation: Ablation, out: Path | None = None) -> np.ndarray:
    options = hs.Options(keep_wrong=True, null_draws=0, seed=7)
    return (
        hs.knock_out(model(name), prompt_set(), ",".join(NAMES), ablation, options=options, out=out)
        .dataset["kl"]
        .values
    )


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_no_other_ablation_costs_less(name: str) -> None:
    best = kl(name, Optimal(steps=25)).mean(0)
    for other in (hs.Zero(), hs.Mean(), hs.Resample(donors=2)):
        cost = kl(name, other).mean(0)
        assert (best <= cost + 1e-6).all(), other.name
    assert (best < 0.9 * kl(name, hs.Mean()).mean(0)).any(), "learning has changed something"


def test_what_was_learned_is_put_in_place(learned: dict[int, Constants]) -> None:
    name = "gemma2"
    options = hs.Options(keep_wrong=True, null_draws=0, seed=7)
    simple = NAMES[:-1]
    found = hs.knock_out(model(name), prompt_set(), ",".join(simple), Optimal(steps=5), options=options).dataset
    for number, address in enumerate(simple):
        values = dict(zip(parts(address), learned[number], strict=True))

        def value(part: Part, prompt: int, draw: int, values: dict[Part, Tensor] = values) -> Tensor:
            return values[part].double()

        expected = reference_ledger(double(name), FAMILIES[name], PROMPTS, TARGETS, [parts(address)], value)
        for quantity in ("change", "own_change", "norm_effect", "total_effect", "kl"):
            np.testing.assert_allclose(
                found[quantity].sel(ablated=[address]), expected[quantity], atol=1e-4, err_msg=f"{address} {quantity}"
            )


def plain_loss(slow: torch.nn.Module, path: str, value: Tensor) -> Tensor:
    """Mean KL divergence to the clean run with one module's last output replaced, by full forwards in float64."""
    total = torch.zeros((), dtype=torch.float64)
    for prompt in PROMPTS:
        rows = []
        for replaced in (None, value):

            def put(_, __, output, replaced=replaced):
                if replaced is None:
                    return None
                first = output[0] if isinstance(output, tuple) else output
                changed = torch.cat([first[:, :-1], replaced.expand(1, 1, -1)], 1)
                return (changed, *output[1:]) if isinstance(output, tuple) else changed

            handle = slow.get_submodule(path).register_forward_hook(put)
            with DoubleEverywhere():
                rows.append(slow(torch.tensor([prompt]), use_cache=False).logits[0, -1].log_softmax(-1))
            handle.remove()
        total = total + (rows[0].exp() * (rows[0] - rows[1])).sum() / len(PROMPTS)
    return total


@pytest.mark.parametrize(("name", "address"), [("gpt2", "mlp.2"), ("llama", "attn.0"), ("gemma2", "attn.1")])
def test_losses_and_gradients_are_those_of_plain_float64_forwards(
    name: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    measure = KLObjective.losses_and_slopes

    def watched(harm, values, step):
        losses, slopes = measure(harm, values, step)
        seen.append((values[0][0].detach().double(), losses[0], slopes[0][0]))
        return losses, slopes

    monkeypatch.setattr(KLObjective, "losses_and_slopes", watched)
    options = hs.Options(keep_wrong=True, null_draws=0)
    hs.knock_out(model(name), prompt_set(), address, Optimal(steps=2), options=options)
    slow, family = double(name), FAMILIES[name]
    kind, layer = address.split(".")
    path = family.path(int(layer), family.attn if kind == "attn" else family.mlp)
    for value, loss, slope in seen:
        value.requires_grad_()
        expected = plain_loss(slow, path, value)
        assert float(loss) == pytest.approx(float(expected.detach()), abs=1e-4)
        (gradient,) = torch.autograd.grad(expected, value)
        np.testing.assert_allclose(slope, gradient, atol=1e-4)
        assert float(gradient.abs().max()) > 1e-3
    assert len(seen) == 2


def test_a_killed_run_goes_on_with_the_same_constants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kl("llama", Optimal(steps=4), tmp_path / "whole")
    monkeypatch.setattr(
        "hydrascope.engine._clean_cache.LEARNED_ROWS", 2 * len(PROMPTS) + 3
    )  # a few knock-outs at a time
    by_group = kl("llama", Optimal(steps=4), tmp_path / "groups")
    np.testing.assert_allclose(by_group, whole, atol=1e-4)
    child = os.fork()
    if child == 0:
        learn, calls = Learning.learn, list[int]()

        def dying(*arguments):
            if calls:  # the second group
                os.kill(os.getpid(), signal.SIGKILL)
            calls.append(0)
            return learn(*arguments)

        Learning.learn = dying
        kl("llama", Optimal(steps=4), tmp_path / "killed")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    groups: list[int] = []
    learn = Learning.learn
    monkeypatch.setattr(Learning, "learn", lambda self, some: (groups.append(len(some)), learn(self, some))[1])
    np.testing.assert_array_equal(kl("llama", Optimal(steps=4), tmp_path / "killed"), by_group)
    assert 0 < sum(groups) < len(NAMES), "what had been learned was not learned again"


@pytest.mark.parametrize("scope", [Positions(), Positions("all")])
def test_an_edge_is_refused(scope: Positions) -> None:
    options = hs.Options(keep_wrong=True, **where(scope))
    with pytest.raises(AblationError, match=r"attn\.0->mlp\.2 is an edge"):
        hs.knock_out(model("llama"), prompt_set(), "attn.0->mlp.2", Optimal(), options=options)
