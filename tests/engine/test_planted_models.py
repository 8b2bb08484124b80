"""The planted models do what their recipes say, by the slow reference."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.planted import ANSWERS, N_LAYERS, RECIPES, Planted, Response, planted
from tests.support.reference import Reference, reference_ledger

torch.set_num_threads(1)

every_model = pytest.mark.parametrize("name", RECIPES)
every_kind = pytest.mark.parametrize("kind", ["zero", "resample"])
SOME = slice(None, None, 3)  # every third prompt: all answers, strengths and lengths are there
WRITERS = [f"{kind}.{layer}" for layer in range(N_LAYERS) for kind in ("attn", "mlp")]
OTHERS = [*(f"layer.{layer}" for layer in range(N_LAYERS)), "head.0.0", "head.1.0", "head.1.1", "head.2.0"]


def knockouts(model: Planted) -> list[str]:
    several = [] if model.recipe.real_norm else OTHERS  # the norm's scale is on paper for single writers
    return [*WRITERS, *several, *(address for address in model.responses if "+" in address)]


def parse(knockout: str) -> tuple[Any, ...]:
    parts = (part.split(".") for part in knockout.split("+"))
    return tuple((kind, *map(int, numbers)) for kind, *numbers in parts)


@functools.cache
def result(name: str, kind: str) -> Reference:
    model = planted(name)
    donors = model.donors[:, SOME] if kind == "resample" else None
    return reference_ledger(
        model.model,
        model.family,
        model.prompts[SOME],
        model.targets[SOME],
        [parse(knockout) for knockout in knockouts(model)],
        kind,
        donors,
        model.prompts,
    )


def of_kind(got: Reference, k: int, kind: str) -> np.ndarray:
    """Change of all writers of a kind that the knock-out does not replace. [P]"""
    chosen = [writer.startswith(kind) for writer in got.writers] & ~got.own(k)
    return got["change"][:, k, chosen].sum(axis=-1)


@every_kind
@every_model
def test_knockouts_do_what_was_planted(name, kind):
    model, got = planted(name), result(name, kind)
    unit = model.unit[SOME]
    for k, knockout in enumerate(got.knockouts):
        expected = model.responses.get(knockout, Response())
        norm = model.norm_effect(knockout, kind)[SOME] if "+" not in knockout else np.zeros_like(unit)
        close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-6, err_msg=knockout)
        close(got["own_change"][:, k], expected.own * unit)
        close(of_kind(got, k, "attn"), expected.attn * unit)
        close(of_kind(got, k, "mlp"), expected.mlp * unit)
        close(got["norm_effect"][:, k], norm)
        close(got["total_effect"][:, k], (expected.own + expected.attn + expected.mlp) * unit + norm)
        rises = np.where(got.own(k), 0, got["change"][:, k]).clip(min=0)
        suppressing = got["direct_effect"] < 0
        close((rises * suppressing).sum(axis=-1), expected.relaxed * unit)
        close((rises * ~suppressing).sum(axis=-1), expected.promoted * unit)


@every_model
def test_clean_run_is_as_planted(name):
    model, got = planted(name), result(name, "zero")
    expected = np.zeros_like(got["direct_effect"])
    for writer, share in model.direct.items():
        expected[:, got.writers.index(writer)] = share * model.unit[SOME]
    np.testing.assert_allclose(got["direct_effect"], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(got["clean_logit"], model.clean_logits[SOME], rtol=0, atol=1e-6)


@every_model
def test_float32_answers_the_prompts(name):
    model = planted(name)
    for prompt, target, logit in zip(model.prompts, model.targets, model.clean_logits, strict=True):
        with torch.no_grad():
            logits = model.model(torch.tensor([prompt])).logits[0, -1]
        assert int(logits.argmax()) == target
        assert abs(float(logits[target] - logits.mean()) - logit) < model.tolerance


@every_model
def test_no_writer_is_silent(name):
    """What is silent could not be found by looking, nor be missed in a sum."""
    model = planted(name)
    got: dict[str, torch.Tensor] = {}
    handles = [
        model.model.get_submodule(model.family.path(layer, inside)).register_forward_hook(
            lambda _, inputs, out, at=(layer, inside): got.update({at: out[0, -1]})
        )
        for layer in range(N_LAYERS)
        for inside in (model.family.attn, model.family.mlp)
    ]
    with torch.no_grad():
        model.model(torch.tensor([model.prompts[3]]))
    for handle in handles:
        handle.remove()
    written = torch.stack(list(got.values()))
    assert written.abs().max(dim=1).values.min() > 0.1
    assert torch.linalg.matrix_rank(written) == 2 * N_LAYERS


def test_slopes_and_fractions_follow():
    fraction = {name: planted(name).responses["attn.1"].restored for name in RECIPES}
    assert fraction == pytest.approx({"backup": 1, "erasure": 0.4, "neither": 0, "hydra": 0.82, "norm": 0})
    for name in RECIPES:
        model, got = planted(name), result(name, "zero")
        k = got.knockouts.index("attn.1")
        compensation = of_kind(got, k, "attn") + of_kind(got, k, "mlp")
        slope, intercept = np.polyfit(-got["own_change"][:, k], compensation, 1)
        assert slope == pytest.approx(model.responses["attn.1"].restored, abs=1e-6)
        assert intercept == pytest.approx(0, abs=1e-6)


def test_toy_motifs_of_e8():
    """Both motifs make up for a lost component; the clean direct effect tells them apart."""
    for kind in ("zero", "resample"):
        backup = result("backup", kind)
        k = backup.knockouts.index("attn.1")
        later = backup.writers.index("attn.3")
        assert np.abs(backup["total_effect"][:, k]).max() < 1e-6
        assert np.abs(backup["direct_effect"][:, later]).max() < 1e-6
        assert backup["change"][:, k, later].min() > 1.9
        erasure = result("erasure", kind)
        later = erasure.writers.index("mlp.3")
        assert erasure["direct_effect"][:, later].max() < -0.7
        k = erasure.knockouts.index("attn.1+attn.2")
        after = erasure["direct_effect"] + erasure["change"][:, k]
        assert np.abs(after[:, later]).max() < 1e-6


def test_norm_alone_restores_a_part():
    """Without what attn.1 writes the stream is shorter, and what is left counts for more."""
    model, got = planted("norm"), result("norm", "zero")
    k = got.knockouts.index("attn.1")
    assert got["norm_effect"][:, k].min() > 0.1
    assert (got["scale_ratio"][:, k] > 1.2).all()
    assert np.ptp(model.norm_effect("attn.1", "zero")) > 0.05
    assert np.abs(result("norm", "resample")["norm_effect"][:, k]).max() < 0.1


def test_mean_ablation_of_the_copier_is_backed_up_too():
    model = planted("backup")
    got = reference_ledger(model.model, model.family, model.prompts, model.targets, [(("attn", 1),)], "mean")
    answers = np.array(model.targets) - ANSWERS.start
    mean = np.array([model.strengths[answers == a].sum() for a in answers]) / len(answers)
    np.testing.assert_allclose(got["own_change"][:, 0], mean - model.strengths, rtol=0, atol=1e-6)
    np.testing.assert_allclose(of_kind(got, 0, "attn"), model.strengths, rtol=0, atol=1e-6)


def test_donors_have_other_answers():
    for name in RECIPES:
        model = planted(name)
        targets = np.array(model.targets)
        assert (targets[model.donors] != targets).all()
        assert len(set(model.strengths)) == len(model.prompts)
        assert len({len(prompt) for prompt in model.prompts}) > 2
