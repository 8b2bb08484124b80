from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from zoo.model import add_ingredient, build_model, draw_donors, read_out_early
from zoo.recipe import Recipe, load_recipe
from zoo.train import Run, learning_rate

ROOT = Path(__file__).parents[2]
TINY = Recipe(
    name="tiny",
    ingredient="attention_drop",
    drop=0.2,
    layers=2,
    width=16,
    heads=2,
    mlp_width=24,
    rows=2,
    steps=12,
    warmup=3,
    schedule="plateau",
    decay=6,
    precision="float32",
    compiled=False,
    evaluate_every=1000,
    checkpoint_every=3,
)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _logits(run: Run) -> torch.Tensor:
    run.model.eval()
    with torch.no_grad():
        return run.model(torch.arange(10)[None]).logits


@pytest.mark.parametrize("optimiser", ["adamw", "muon"])
def test_resumed_run_repeats_the_losses_of_an_uninterrupted_one(tmp_path: Path, optimiser: Any) -> None:
    recipe = replace(TINY, optimiser=optimiser)
    whole = Run(recipe, tmp_path / "whole", CPU)
    losses = whole.train(until=10)
    Run(recipe, tmp_path / "parts", CPU).train(until=8)  # its last checkpoint is that of step 6
    resumed = Run(recipe, tmp_path / "parts", CPU)
    assert resumed.step == 6
    assert resumed.train(until=10) == losses[6:]
    assert torch.equal(_logits(resumed), _logits(whole))
    assert resumed.tokens == whole.tokens


def test_run_killed_at_any_moment_ends_in_the_same_weights(tmp_path: Path) -> None:
    file = tmp_path / "tiny.toml"
    lines = {key: value for key, value in TINY.as_dict().items() if key != "mixture"}
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in (lines | {"steps": 300}).items()))
    recipe = load_recipe(file)
    command = [sys.executable, "-m", "zoo.train", str(file), "--folder", str(tmp_path), "--device", "cpu"]
    folder = tmp_path / "tiny"
    with subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        while not (folder / "checkpoint.pt").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    resumed = Run(recipe, folder, CPU)
    assert 0 < resumed.step < 300
    until = resumed.step + 4
    resumed.train(until=until)
    whole = Run(recipe, tmp_path / "whole", CPU)
    whole.train(until=until)
    assert torch.equal(_logits(resumed), _logits(whole))


def test_log_holds_every_step_once_after_a_kill(tmp_path: Path) -> None:
    recipe = replace(TINY, steps=120, checkpoint_every=40, layers=1)
    Run(recipe, tmp_path, CPU).train(until=110)  # logged up to 100, saved at 80
    Run(recipe, tmp_path, CPU).train()
    steps = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps if "train_loss" in line] == [50, 100, 120]
    assert {"facts", "retrieval", "indirect", "loss"} <= set(steps[-1])


def test_run_of_another_recipe_is_refused(tmp_path: Path) -> None:
    Run(TINY, tmp_path, CPU).train(until=3)
    with pytest.raises(SystemExit, match="another recipe"):
        Run(replace(TINY, seed=1), tmp_path, CPU)


@pytest.mark.parametrize("norm", ["rms", "layer"])
@pytest.mark.parametrize("ingredient", ["none", "dropout", "attention_drop", "attention_swap", "layer_drop"])
def test_ingredients_act_in_training_only(norm: Any, ingredient: Any) -> None:
    recipe = replace(TINY, norm=norm, ingredient=ingredient, drop=0.0 if ingredient == "none" else 0.5)
    model = build_model(recipe)
    tokens = torch.arange(12)[None]
    clean = model.eval()(tokens).logits
    add_ingredient(model, recipe).prepare(tokens, recipe.drop)
    assert torch.equal(model.eval()(tokens).logits, clean)
    differs = not torch.allclose(model.train()(tokens).logits, clean, atol=1e-6)
    assert differs == (ingredient != "none")


def test_dropped_attention_is_absent_as_a_whole() -> None:
    recipe = replace(TINY, drop=0.5)
    model = build_model(recipe)
    add_ingredient(model, recipe)
    seen: list[torch.Tensor] = []
    model.model.layers[0].self_attn.register_forward_hook(lambda *call: seen.append(call[2][0]))
    model.train()(torch.arange(3, 43).reshape(2, 20))
    absent = (seen[0] == 0).all(-1)
    assert torch.equal(absent, (seen[0] == 0).any(-1))
    assert 5 < int(absent.sum()) < 35


def _attention_outputs(recipe: Recipe, tokens: torch.Tensor, *, training: bool) -> list[torch.Tensor]:
    """What every attention sub-layer hands on, hooks included, each (rows, length, width)."""
    model = build_model(recipe)
    add_ingredient(model, recipe).prepare(tokens, recipe.drop)
    seen: list[torch.Tensor] = []
    for block in model.model.layers:
        block.self_attn.register_forward_hook(lambda *call: seen.append(call[2][0]))
    model.train(training)(tokens)
    return seen


def test_swapped_attention_is_that_of_another_token_of_the_batch() -> None:
    recipe = replace(TINY, ingredient="attention_swap", drop=0.5)
    tokens = torch.arange(3, 43).reshape(2, 20)
    clean = _attention_outputs(recipe, tokens, training=False)[0].flatten(0, 1)
    swapped = _attention_outputs(recipe, tokens, training=True)[0].flatten(0, 1)
    distance = (swapped[:, None] - clean).abs().amax(-1)
    assert distance.min(1).values.max() < 1e-5
    kept = distance.argmin(1) == torch.arange(40)
    assert 10 < int(kept.sum()) < 32
    # every one is drawn from the whole batch, not from its own row
    assert ((distance.argmin(1) // 20 != torch.arange(40) // 20) & ~kept).any()


def test_swapped_attention_teaches_nothing_to_where_it_came_from() -> None:
    recipe = replace(TINY, ingredient="attention_swap", drop=0.999, layers=1)
    model = build_model(recipe)
    tokens = torch.arange(3, 43).reshape(2, 20)
    add_ingredient(model, recipe).prepare(tokens, recipe.drop)
    model.train()(tokens).logits.square().sum().backward()
    values = model.model.layers[0].self_attn.v_proj.weight.grad
    assert values is not None
    assert float(values.abs().max()) == 0.0


def test_donors_are_other_tokens_of_the_same_word() -> None:
    tokens = torch.tensor([5, 9, 5, 7, 5, 9, 7, 9] * 8).reshape(4, 16)
    donors = draw_donors(tokens)
    assert sorted(donors.tolist()) == list(range(64))
    words = tokens.flatten()
    assert int((words[donors] != words).sum()) == 3  # one of each word
    assert not (donors == torch.arange(64)).any()
    assert not torch.equal(draw_donors(tokens), donors)


@pytest.mark.parametrize("ingredient", ["attention_drop", "attention_swap"])
def test_layers_before_the_first_are_left_alone(ingredient: Any) -> None:
    recipe = replace(TINY, ingredient=ingredient, drop=0.5, first_layer=1)
    tokens = torch.arange(3, 43).reshape(2, 20)
    clean, trained = (_attention_outputs(recipe, tokens, training=training) for training in (False, True))
    assert torch.equal(clean[0], trained[0])
    assert not torch.allclose(clean[1], trained[1], atol=1e-6)


def test_early_readout_takes_one_layer_for_every_row() -> None:
    model = build_model(replace(TINY, layers=4)).eval()
    tokens = torch.arange(3, 83).reshape(16, 5)
    states = model(tokens, output_hidden_states=True).hidden_states
    torch.manual_seed(0)
    early = read_out_early(model, states)
    expected = [model.lm_head(model.model.norm(state)) for state in states[1:4]]
    taken = [[torch.allclose(early[row], layer[row], atol=1e-6) for layer in expected] for row in range(16)]
    assert all(sum(row) == 1 for row in taken)
    assert {row.index(True) for row in taken} == {0, 1, 2}


def test_supervision_adds_the_loss_of_an_early_layer(tmp_path: Path) -> None:
    losses = {}
    for weight in (0.0, 0.5, 1.0):
        run = Run(replace(TINY, ingredient="none", drop=0.0, supervision=weight), tmp_path / str(weight), CPU)
        losses[weight] = run.advance()
    assert losses[0.5] - losses[0.0] == pytest.approx((losses[1.0] - losses[0.0]) / 2, rel=1e-4)
    assert losses[1.0] > 1.5 * losses[0.0]


def test_saved_model_is_plain_and_computes_the_same(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    run = Run(replace(TINY, ingredient="dropout", drop=0.1), tmp_path, CPU)
    run.save_model(tmp_path / "saved")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "saved", dtype=torch.float32)
    assert model.config.attention_dropout == 0.0
    tokens = AutoTokenizer.from_pretrained(tmp_path / "saved")("The capital of France is", return_tensors="pt")
    run.model.eval()
    expected = run.model(tokens.input_ids).logits
    assert torch.allclose(model(tokens.input_ids).logits, expected, atol=1e-2)


@pytest.mark.parametrize(("schedule", "decay"), [("cosine", 0), ("plateau", 6)])
def test_learning_rate_warms_up_and_ends_near_zero(schedule: Any, decay: int) -> None:
    recipe = replace(TINY, steps=40, schedule=schedule, decay=decay)
    rates = [learning_rate(recipe, step) for step in range(recipe.steps)]
    assert rates.index(max(rates)) in (TINY.warmup - 1, TINY.warmup)
    assert max(rates) == pytest.approx(TINY.learning_rate)
    assert rates[-1] < 0.2 * TINY.learning_rate
    assert rates[TINY.warmup :] == sorted(rates[TINY.warmup :], reverse=True)


def test_run_may_be_made_longer_until_its_decay_begins(tmp_path: Path) -> None:
    Run(TINY, tmp_path, CPU).train(until=6)
    longer = Run(replace(TINY, steps=20), tmp_path, CPU)
    assert longer.step == 6
    whole = Run(replace(TINY, steps=20), tmp_path / "whole", CPU)
    assert longer.train(until=9) == whole.train(until=9)[6:]
    Run(TINY, tmp_path / "late", CPU).train(until=9)
    with pytest.raises(SystemExit, match="another recipe"):
        Run(replace(TINY, steps=20), tmp_path / "late", CPU)


def test_recipe_refuses_a_drop_without_ingredient(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'drop'"):
        Recipe(name="wrong", drop=0.2)
    file = tmp_path / "wrong.toml"
    file.write_text('name = "wrong"\ndepth = 3\n')
    with pytest.raises(ValueError, match="depth"):
        load_recipe(file)
