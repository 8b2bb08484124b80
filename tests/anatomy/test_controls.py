"""Models that stand beside the one in question: random weights of its shape, and its other revisions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import hydrascope as hs
from hydrascope.errors import ModelError, UnknownModel
from hydrascope.run import RunRequest, open_model
from tests.conftest import Cli
from tests.support import tiny


def test_random_weights_depend_on_the_seed_alone(model_folder: Path) -> None:
    state = torch.random.get_rng_state()
    one, other = hs.load(model_folder, random_weights=1), hs.load(model_folder, random_weights=1, dtype="float64")
    assert torch.equal(torch.random.get_rng_state(), state)
    for (name, value), (_, same) in zip(one.network.named_parameters(), other.network.named_parameters(), strict=True):
        assert torch.equal(value.double(), same), name
    assert one.tokenizer is not None and one.source.label == "tiny+random-1"
    assert one.source.weight_digest != hs.load(model_folder, random_weights=2).source.weight_digest


def test_random_weights_need_no_weights(tmp_path: Path, model_folder: Path, cli: Cli) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text((model_folder / "config.json").read_text())
    with pytest.raises(UnknownModel, match="no weights"):
        hs.load(tmp_path / "bare")
    assert hs.load(tmp_path / "bare", random_weights=0).source.n_parameters > 0
    told = " ".join(cli("inspect", tmp_path / "bare", "--random-weights", 0).out.split())
    assert "with random weights (seed 0), never trained" in told


def test_random_weights_are_not_mixed_with_trained_ones(tmp_path: Path, model_folder: Path) -> None:
    with pytest.raises(ModelError, match="leave --device map out"):
        hs.load(model_folder, random_weights=0, device="map")
    with pytest.raises(ModelError, match="a module in memory is taken as it is"):
        hs.load(tiny.network(), random_weights=0)
    (tmp_path / "packed").mkdir()
    config = json.loads((model_folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}
    (tmp_path / "packed" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="has quantised weights, which cannot be drawn at random"):
        hs.load(tmp_path / "packed", random_weights=0)


def test_a_revision_is_part_of_a_hub_model_s_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two revisions in the hub's own cache, which is all that is read without a network."""
    from huggingface_hub import constants

    cache = tmp_path / "models--owner--tiny"
    for revision, seed in (("main", 0), ("step3", 1)):
        commit = str(seed) * 40
        tiny.save(cache / "snapshots" / commit, tiny.network(seed=seed))
        (cache / "refs").mkdir(exist_ok=True)
        (cache / "refs" / revision).write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    found = {name: open_model(RunRequest(model=name)) for name in ("owner/tiny", "owner/tiny@step3")}
    labels = [(model.source.label, model.source.revision) for model in found.values()]
    assert labels == [("tiny", "0" * 40), ("tiny@step3", "1" * 40)]
    for model, seed in zip(found.values(), (0, 1), strict=True):
        assert torch.equal(model.network.lm_head.weight, tiny.network(seed=seed).lm_head.weight)
    again = RunRequest.of(
        found["owner/tiny@step3"],
        hs.load_prompts(["w4"]),
        (),
        1.0,
        hs.Options(target="top"),
        freeze=False,
        out=None,
    )
    assert again.model == "owner/tiny@step3"
