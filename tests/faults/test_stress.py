"""Stress tests: what random sets cost by a plain loop, planted models, continuing, refusing."""

from __future__ import annotations

import copy
import functools
import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import hydrascope as hs
from hydrascope.anatomy import examine
from hydrascope.errors import AblationError, ComponentError, RunError, SettingsChanged
from tests.support import planted as plant
from tests.support.claims import hold
from tests.support.reference import double_copy
from tests.support.tiny import WORDS, network

PARTS = ("attn.0", "mlp.0", "attn.1", "mlp.1", "attn.2", "mlp.2")
USUAL: dict[str, Any] = {"rates": (0.3, 0.6), "masks": 10, "worst": 2}


def tiny_prompts(count: int = 14, length: int = 6) -> hs.PromptSet:
    drawn = torch.randint(4, WORDS, (count, length), generator=torch.Generator().manual_seed(2))
    return hs.PromptSet("random", tuple(hs.Prompt(input_ids=tuple(ids)) for ids in drawn.tolist()))


@functools.cache
def tiny_model() -> hs.Model:
    return examine(network(), None, name="tiny")


@functools.cache
def zeroed() -> hs.Stress:
    """A tiny GPT-2 whose sub-layers are zeroed; treat it as read-only."""
    options = hs.Options(target="top")
    return hs.stress(tiny_model(), tiny_prompts(), "writers", hs.Zero(), options=options, **USUAL)


def logits_without(parts: Sequence[str], ids: Sequence[int], at: slice) -> torch.Tensor:
    """Logits in float64 with parts zeroed at some positions: one plain forward. [length, vocabulary]"""
    model = double_copy(network())
    hooks = []
    for part in parts:
        kind, layer = part.split(".")
        block = model.transformer.h[int(layer)]

        def zero(module: Any, inputs: Any, output: Any) -> Any:
            first = (output[0] if isinstance(output, tuple) else output).clone()
            first[:, at] = 0
            return (first, *output[1:]) if isinstance(output, tuple) else first

        hooks.append((block.attn if kind == "attn" else block.mlp).register_forward_hook(zero))
    with torch.no_grad():
        found: torch.Tensor = model(torch.tensor([ids])).logits[0]
    for hook in hooks:
        hook.remove()
    return found


def test_every_set_is_that_of_a_plain_loop() -> None:
    found = zeroed().findings
    failed = found.faults.failed.reshape(-1, len(PARTS))[::3]
    assert found.parts == PARTS
    assert len({tuple(one) for one in failed.tolist()}) > 5
    measured = {value: found.values(value).of(failed) for value in ("logit", "log_prob", "kl", "accuracy")}
    for prompt, one in enumerate(tiny_prompts().prompts[:4]):
        assert one.input_ids is not None
        clean = logits_without((), one.input_ids, slice(-1, None))[-1]
        target, log_p = int(clean.argmax()), clean.log_softmax(-1)
        for number, members in enumerate(failed):
            out = logits_without(
                [part for part, gone in zip(PARTS, members, strict=True) if gone], one.input_ids, slice(-1, None)
            )[-1]
            log_q = out.log_softmax(-1)
            right: dict[str, Any] = {
                "logit": out[target] - out.mean(),
                "log_prob": log_q[target],
                "kl": -(log_p.exp() * (log_p - log_q)).sum(),
                "accuracy": float(out.argmax() == target),
            }
            for value, expected in right.items():
                np.testing.assert_allclose(measured[value][prompt, number], float(expected), atol=2e-4, err_msg=value)


def test_texts_are_those_of_a_plain_loop() -> None:
    options = hs.Options(protocol="text", target="top")
    found = hs.stress(
        tiny_model(), tiny_prompts(8), "writers", hs.Zero(), rates=(0.4,), masks=10, worst=0, pairs=0, options=options
    ).findings
    failed = found.faults.failed[0][:4]
    measured, rows = found.values("log_prob").of(failed), found.ds["text"].values
    assert len(rows) == 8 * 4  # the first position is not read, nor the last
    for text, one in enumerate(tiny_prompts(8).prompts[:2]):
        ids = one.input_ids
        assert ids is not None
        for number, members in enumerate(failed):
            gone = [part for part, failed in zip(PARTS, members, strict=True) if failed]
            out = logits_without(gone, ids, slice(None))
            for position in range(1, len(ids) - 1):
                token = int(found.ds["target_token"].values[text * 4 + position - 1])
                expected = float(out[position].log_softmax(-1)[token])
                np.testing.assert_allclose(measured[text * 4 + position - 1, number], expected, atol=2e-4)


@functools.cache
def backup() -> hs.Stress:
    model = plant.planted("backup")
    opened = examine(model.model, None, name="backup")
    prompts = tuple(
        hs.Prompt(input_ids=tuple(ids), target_id=target)
        for ids, target in zip(model.prompts, model.targets, strict=True)
    )
    return hs.stress(opened, hs.PromptSet("planted", prompts), "attn,mlp", hs.Zero(), **{**USUAL, "masks": 60})


def test_an_exact_backup() -> None:
    """attn.3 writes what attn.1 does not: I = -K, all of the exposure, and the whole Shapley value shared."""
    strength = plant.planted("backup").strengths.mean()
    pairs = backup().pairs()
    together = (pairs["part"] == "attn.1") & (pairs["other"] == "attn.3")
    row: dict[Any, Any] = pairs[together].to_dict("records")[0]
    assert row["kind"] == "active repair"
    np.testing.assert_allclose([row["interaction"], -row["answer"]], -strength, atol=1e-3)
    np.testing.assert_allclose(row["unexplained"], 0, atol=1e-3)
    ranking = backup().ranking().set_index("part")
    for part in ("attn.1", "attn.3"):
        np.testing.assert_allclose(ranking["exposure"][part], strength, atol=1e-3)
        np.testing.assert_allclose(ranking["alone"][part], 0, atol=1e-3)
    assert ranking["covered_by"]["attn.1"] == "attn.3"
    np.testing.assert_allclose(pairs.loc[~together, "interaction"], 0, atol=1e-3)
    transfer = backup().transfers().set_index(["part", "taker"])["transfer"]
    np.testing.assert_allclose(transfer["attn.1", "attn.3"], 1, atol=1e-3)
    assert backup().loads().set_index("part").loc["attn.1", "takers"] == pytest.approx(1)
    shares = backup().shares().set_index(["part", "writer"])
    expected = {"attn.1": [1, 0, -1], "attn.3": [0, 1, 1]}
    for writer, carried in expected.items():
        for name, share in zip(("before", "after", "moved"), carried, strict=True):
            assert shares[name]["attn.1", writer] == pytest.approx(share, abs=1e-3)
    hidden = backup().hidden_pairs()
    assert hidden.loc[hidden["hidden"], ["part", "other"]].to_numpy().tolist() == [["attn.1", "attn.3"]]
    assert backup().worst()["parts"].iloc[1] == "attn.1+attn.3"
    importance = backup().importance().set_index(["part", "rate"])["importance"]
    for rate in (0.3, 0.6):
        np.testing.assert_allclose(importance["attn.1", rate], rate * strength, atol=0.1 * strength)


def test_a_vote_of_three_survives_one_fault_and_not_two() -> None:
    """Three copiers of 0.4 each against a token whose logit lies between one vote and two."""
    recipe = plant.Recipe(copiers={0: 0.4, 1: 0.4, 2: 0.4})
    model = plant.build_recipe(recipe)
    base = plant.planted("neither")
    with torch.no_grad():
        model.lm_head.weight[plant.FILLERS[0], plant.ONE] = 1.64 / plant.GAIN
    kept = [i for i, strength in enumerate(base.strengths) if 2.2 < strength < 3.8]
    prompts = tuple(hs.Prompt(input_ids=tuple(base.prompts[i]), target_id=base.targets[i]) for i in kept)
    voters = "attn.0,attn.1,attn.2"
    found = hs.stress(
        examine(model, None, name="vote"),
        hs.PromptSet("vote", prompts),
        voters,
        hs.Zero(),
        rates=(0.5,),
        masks=10,
        worst=3,
    )
    accuracy = found.findings.values("accuracy")
    for members in itertools.product([False, True], repeat=3):
        one = np.array([members])
        if any(members) and accuracy.has(one[0]):
            assert (accuracy.of(one)[:, 0] == (sum(members) <= 1)).all(), members
    assert accuracy.has(np.array([True, True, False]))
    np.testing.assert_allclose(found.pairs()["interaction"], 0, atol=1e-3)  # votes add up in the logit
    np.testing.assert_allclose(found.additivity()["singles"], 1, atol=1e-3)


def test_a_test_goes_on_where_it_stopped_and_opens_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hydrascope.run import execute_companions

    out: Path = tmp_path / "test"
    made: list[str] = []

    def broken(directory: Any, tasks: Any, *rest: Any, **more: Any) -> None:
        made.extend(tasks)
        if "sets" in tasks and made.count("sets") == 1:
            raise KeyboardInterrupt
        execute_companions(directory, tasks, *rest, **more)

    monkeypatch.setattr("hydrascope.faults._execution.execute_companions", broken)

    def stress(**more: Any) -> hs.Stress:
        options = hs.Options(target="top")
        return hs.stress(
            tiny_model(), tiny_prompts(), "writers", hs.Zero(), options=options, out=out, **{**USUAL, **more}
        )

    with pytest.raises(KeyboardInterrupt):
        stress()
    with pytest.raises(hs.OutputError, match="has not finished"):
        hs.Stress.open(out)
    stress()
    assert made[:3] == ["singles", "sets", "singles"]
    again = hs.Stress.open(out)
    for name, table in zeroed().tables().items():
        np.testing.assert_array_equal(again.tables()[name].columns, table.columns)
        np.testing.assert_allclose(
            again.tables()[name].select_dtypes("number"), table.select_dtypes("number"), err_msg=name
        )
    with pytest.raises(SettingsChanged, match="--masks 10 there, 12 now"):
        stress(masks=12)
    assert stress(accuracy=0.9, overwrite=False).findings.accuracy == 0.9
    with pytest.raises(hs.OutputError, match="no stress test in"):
        hs.Stress.open(tmp_path)


@pytest.mark.parametrize(
    ("components", "more", "error", "said"),
    [
        ("attn.0", {}, ComponentError, "parts can be lost together"),
        ("attn.0+attn.1,mlp.0", {}, ComponentError, "no single part"),
        ("attn,head.0.1", {}, ComponentError, "lie inside others"),
        ("attn", {"rates": (0.0, 0.5)}, RunError, "failure rate cannot be 0"),
        ("attn", {"masks": 3}, RunError, "masks cannot be 3; give 10 or more"),
        ("attn", {"ablation": hs.Optimal()}, AblationError, "learns a constant"),
    ],
)
def test_what_cannot_be_tested_is_refused(
    components: str, more: dict[str, Any], error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        hs.stress(tiny_model(), tiny_prompts(), components, out=tmp_path / "test", **more)
    assert not (tmp_path / "test").exists()


@pytest.mark.parametrize("lost", ["sets", "worst-1"])
def test_a_test_that_lost_some_of_its_sets_is_refused_and_made_whole(lost: str, tmp_path: Path) -> None:
    ask: Any = functools.partial(
        hs.stress, tiny_model(), tiny_prompts(), "writers", hs.Zero(), out=tmp_path / "test", **{**USUAL, "worst": 3}
    )
    options = hs.Options(target="top")
    whole = ask(options=options).worst()
    shutil.rmtree(tmp_path / "test" / "companions" / lost)
    with pytest.raises(hs.OutputError, match=f"lacks companions/{lost[:5]}.* give the command that made it again"):
        hs.Stress.open(tmp_path / "test")
    ask(options=options)
    pd.testing.assert_frame_equal(hs.Stress.open(tmp_path / "test").worst(), whole)


def test_it_takes_the_forms_that_a_run_takes() -> None:
    prompts = [{"input_ids": list(prompt.input_ids or ())} for prompt in tiny_prompts()]
    parts = ["attn", "mlp"]
    found = hs.stress(network(), prompts, parts, "zero", options={"target": "top"}, **USUAL)
    pd.testing.assert_frame_equal(found.curve(), zeroed().curve())


def test_a_model_that_was_changed_after_it_was_opened_is_refused() -> None:
    changed = examine(copy.deepcopy(network()), None, name="changed")
    with torch.no_grad():
        next(changed.network.parameters()).add_(1)
    with pytest.raises(hs.ModelError, match="was changed after it was opened"):
        hs.stress(changed, tiny_prompts(), "attn,mlp", hs.Zero())


def test_a_value_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(
        hs.DetailDropped, match="no value 'loss' in this run; it has logit, still_norm, log_prob, kl, acc"
    ):
        zeroed().curve("loss")


def test_every_claim_is_that_of_the_stored_values() -> None:
    hold(zeroed().findings)
    hold(backup().findings)
