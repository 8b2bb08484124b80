"""Adapters: put in as peft puts them in, merged or not, by name or as a folder that is one, and recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import hydrascope as hs
from hydrascope.anatomy import _adapters, load
from hydrascope.errors import HydrascopeError, ModelError, PickleRefused, UnknownModel
from hydrascope.run import open_model, recorded_request
from tests.conftest import Cli
from tests.support import tiny
from tests.support.families import FAMILIES, build

peft = pytest.importorskip("peft")

IDS = (5, 60, 11, 30, 8)
PROMPTS = hs.PromptSet("one", (hs.Prompt(input_ids=IDS, target_id=7),))
PARTS = ["q_proj", "o_proj", "down_proj"]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("base") / "base", build("llama"), with_tokenizer=False)


def adapted(network: Any, **config: Any) -> Any:
    """The network inside peft's own wrapper, with an adapter that changes it much."""
    torch.manual_seed(3)
    how = peft.LoraConfig(r=2, target_modules=PARTS, task_type="CAUSAL_LM", **config)
    wrapped = peft.get_peft_model(network, how)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                parameter.normal_(std=0.3)
    return wrapped.eval()


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter") / "tuned"
    wrapped = adapted(build("llama"))
    wrapped.peft_config["default"].base_model_name_or_path = str(base)
    wrapped.save_pretrained(folder)
    assert not (folder / "config.json").exists()
    return folder


@torch.no_grad()
def by_plain_forwards(network: Any) -> dict[str, float]:
    """What zeroing a part at the last token does to the target's logit minus the mean, in float64."""
    wrapped = adapted(network).double()
    inside = wrapped.get_base_model()
    inside.set_attn_implementation("eager")

    def logit() -> float:
        logits = wrapped(input_ids=torch.tensor([IDS])).logits[0, -1]
        return float(logits[7] - logits.mean())

    def last_to_zero(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
        output = output.clone()
        output[:, -1] = 0
        return output

    clean, effects = logit(), {}
    for layer, block in enumerate(inside.model.layers):
        for kind, path in (("attn", FAMILIES["llama"].attn), ("mlp", FAMILIES["llama"].mlp)):
            handle = block.get_submodule(path).register_forward_hook(last_to_zero)
            effects[f"{kind}.{layer}"] = logit() - clean
            handle.remove()
    return effects


def hold(model: hs.Model) -> None:
    options = hs.Options(keep_wrong=True, null_draws=1)
    found = hs.knock_out(model, PROMPTS, "attn,mlp", hs.Zero(), options=options, freeze=False).dataset
    for name, effect in by_plain_forwards(build("llama")).items():
        np.testing.assert_allclose(found.total_effect.sel(ablated=name).values, effect, rtol=0, atol=2e-5, err_msg=name)


@pytest.mark.parametrize("merge", [True, False])
def test_an_adapter_is_measured_as_part_of_its_model(merge: bool, base: Path, adapter: Path) -> None:
    model = load(base, adapter=adapter, merge=merge)
    assert (model.source.adapter, model.source.merged, model.source.label) == (str(adapter), merge, "base+tuned")
    assert any("lora_" in path for path, _ in model.network.named_modules()) is not merge
    plain = load(base).anatomy
    assert [w.modules for w in model.anatomy.writers] == [w.modules for w in plain.writers]
    assert len(model.anatomy.heads) == len(plain.heads) and len(model.anatomy.neurons) == len(plain.neurons)
    hold(model)


def test_every_form_is_another_model(base: Path, adapter: Path) -> None:
    opened = [load(base), load(base, adapter=adapter), load(base, adapter=adapter, merge=False)]
    assert len({model.source.weight_digest for model in opened}) == 3
    assert opened[1].source.family == "llama"


def test_a_folder_that_is_an_adapter_opens_its_base(adapter: Path) -> None:
    model = load(adapter)
    assert (model.source.label, model.source.adapter) == ("tuned", str(adapter))
    hold(model)


def test_a_folder_with_base_and_adapter_is_the_tuned_model(base: Path, adapter: Path, tmp_path: Path) -> None:
    both = tmp_path / "both"
    shutil.copytree(base, both)
    shutil.copytree(adapter, both, dirs_exist_ok=True)
    model = load(both)
    assert model.source.weight_digest == load(adapter).source.weight_digest
    hold(model)
    with pytest.raises(ModelError, match="is or carries an adapter itself"):
        load(both, adapter=adapter)


def test_a_module_in_memory_with_its_adapter(base: Path) -> None:
    hold(load(adapted(build("llama"))))


def test_what_opens_it_again_is_recorded(base: Path, adapter: Path, tmp_path: Path) -> None:
    options = hs.Options(keep_wrong=True, null_draws=1)
    for name, model in (("named", load(base, adapter=adapter, merge=False)), ("carried", load(adapter))):
        hs.knock_out(model, PROMPTS, "attn.1", hs.Zero(), options=options, freeze=False, out=tmp_path / name)
        assert open_model(recorded_request(tmp_path / name)).source == model.source
        record = json.loads((tmp_path / name / "run.json").read_text())
        assert (record["model"]["adapter"], record["model"]["merged"]) == (str(adapter), name == "carried")
        assert (f"--adapter {adapter} --no-merge" in record["command"]) is (name == "named")


def test_inspect_tells_the_adapter(base: Path, adapter: Path, cli: Cli) -> None:
    assert f"with the adapter '{adapter}' beside the weights" in " ".join(
        cli("inspect", base, "--adapter", adapter, "--no-merge").out.split()
    )


def without_peft(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_adapters, "find_spec", lambda name: None)


def of_another_size(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file({name: torch.ones(5, 5) for name in tensors}, folder / "adapter_model.safetensors")


def with_less(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    tensors.pop(next(name for name in sorted(tensors) if "layers.1.mlp" in name))
    save_file(tensors, folder / "adapter_model.safetensors")


def with_more(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = load_file(folder / "adapter_model.safetensors")
    some = next(name for name in sorted(tensors) if "layers.1.mlp" in name)
    save_file(
        tensors | {some.replace("layers.1", "layers.9"): tensors[some].clone()}, folder / "adapter_model.safetensors"
    )


def pickled(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def without_weights(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "adapter_model.safetensors").unlink()


def without_base(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))


def of_a_base_that_is_gone(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "nobody/gone"}))


def broken(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "adapter_config.json").write_text("{")


def of_a_kind_that_is_unknown(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "peft_type": "HYDRA"}))


def of_vectors_before_the_prompt(base: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder)
    how = peft.PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    peft.get_peft_model(build("llama"), how).save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": str(base)}))


REFUSED: list[tuple[Callable[..., None], type[HydrascopeError], str]] = [
    (without_peft, ModelError, "not installed; run pip install 'hydrascope[adapters]'"),
    (of_another_size, ModelError, "does not fit its base model"),
    (with_less, ModelError, "lacks 1 tensor"),
    (with_more, ModelError, "holds 1 tensor"),
    (pickled, PickleRefused, "is pickled ('adapter_model.bin')"),
    (without_weights, UnknownModel, "there is no adapter_model.safetensors"),
    (without_base, ModelError, "names no base model; open its base model with it (--adapter)"),
    (of_a_base_that_is_gone, UnknownModel, "no model 'nobody/gone' of the adapter '"),
    (broken, ModelError, "the adapter_config.json of '"),
    (of_a_kind_that_is_unknown, ModelError, "HYDRA"),
    (of_vectors_before_the_prompt, ModelError, "puts vectors before the prompt"),
]


@pytest.mark.parametrize(("spoil", "kind", "says"), REFUSED, ids=[spoil.__name__ for spoil, _, _ in REFUSED])
def test_adapters_that_cannot_be_put_in_are_refused_in_a_sentence(
    spoil: Callable[..., None],
    kind: type[HydrascopeError],
    says: str,
    base: Path,
    adapter: Path,
    tmp_path: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "spoilt"
    shutil.copytree(adapter, folder)
    spoil(base, folder, monkeypatch)
    assert says in cli("inspect", folder).refusal()
    with pytest.raises(kind):
        load(folder)


def test_a_name_that_is_no_adapter(base: Path, cli: Cli) -> None:
    assert "no adapter 'nowhere'" in cli("inspect", base, "--adapter", "nowhere").refusal()
