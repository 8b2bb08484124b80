"""Large models: weights in half formats, put away until used, spread by a map, or quantised."""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

import hydrascope as hs
from hydrascope.analysis import rounding
from hydrascope.anatomy import CLOSING, _device, load, weights_loaded
from hydrascope.anatomy._weights import weight_digest
from hydrascope.errors import AnatomyRefused
from tests.conftest import Cli
from tests.support.families import VOCABULARY, build

accelerate = pytest.importorskip("accelerate")

SOME = ("llama", "gpt2", "qwen2_moe")
KNOCKOUTS = "attn,mlp,head.1.0"
GENERATOR = torch.Generator().manual_seed(2)
PROMPTS = hs.PromptSet(
    "random",
    tuple(
        hs.Prompt(input_ids=tuple(torch.randint(3, VOCABULARY, (n,), generator=GENERATOR).tolist()), target_id=7 + n)
        for n in (4, 7, 7)
    ),
)


def ledger(model: hs.Model, components: str = KNOCKOUTS, writers: str = "layers") -> xr.Dataset:
    options = hs.Options(keep_wrong=True, null_draws=1, writers=writers)
    return hs.knock_out(model, PROMPTS, components, hs.Zero(), options=options).dataset


@functools.cache
def whole(name: str, dtype: torch.dtype, writers: str = "layers") -> xr.Dataset:
    return ledger(load(build(name, dtype=dtype)), writers=writers)


def in_memory(network: nn.Module, folder: Path) -> nn.Module:
    return accelerate.cpu_offload(network)


def on_disk(network: nn.Module, folder: Path) -> nn.Module:
    accelerate.disk_offload(network, folder)
    return network


def by_map(network: PreTrainedModel, folder: Path) -> nn.Module:
    """The first block stays, the others and the unembedding are put on disk."""
    blocks = next(p for p, m in network.named_modules() if isinstance(m, nn.ModuleList))
    rest = [path for path, module in network.named_modules() if module._parameters and not path.startswith(blocks)]
    places = dict.fromkeys(rest, "cpu") | {f"{blocks}.{i}": "disk" for i in range(1, 3)} | {f"{blocks}.0": "cpu"}
    head = next(p for p, m in network.named_modules() if m is network.get_output_embeddings())
    return accelerate.dispatch_model(
        network, places | {head: "disk"}, main_device="cpu", offload_dir=folder, force_hooks=True
    )


@pytest.mark.parametrize(("put_away", "dtype"), [(in_memory, torch.float32), (on_disk, torch.bfloat16)])
@pytest.mark.parametrize("name", SOME)
def test_weights_that_are_put_away_give_the_same_ledger(name, put_away, dtype, tmp_path):
    network = put_away(build(name, dtype=dtype), tmp_path)
    assert all(parameter.is_meta for parameter in network.parameters())
    model = load(network)
    found, right = ledger(model), whole(name, dtype)
    assert model.source.device == "put away until used"
    assert model.source.weight_digest == right.attrs["weight_digest"]
    assert found.attrs["engine"] == right.attrs["engine"]
    for variable in right.data_vars:
        np.testing.assert_array_equal(found[variable], right[variable])
    assert all(parameter.is_meta for parameter in network.parameters()), "nothing stays behind"


@pytest.mark.parametrize(("name", "writers"), [("llama", "heads"), ("gpt2", "layers")])
def test_a_map_over_memory_and_disk_gives_the_same_ledger(name, writers, tmp_path):
    model = load(by_map(build(name), tmp_path))
    assert model.source.device == "cpu, disk until used"
    found, right = ledger(model, writers=writers), whole(name, torch.float32, writers)
    for variable in right.data_vars:
        np.testing.assert_array_equal(found[variable], right[variable])


def test_a_hook_among_several_is_found_too() -> None:
    network = build("llama")
    right = weight_digest(network)
    projection = network.model.layers[1].mlp.down_proj
    weight = projection.weight.detach().clone()
    fetch = accelerate.hooks.AlignDevicesHook(execution_device="cpu", offload=True)
    both = accelerate.hooks.SequentialHook(accelerate.hooks.ModelHook(), fetch)
    accelerate.hooks.add_hook_to_module(projection, both)
    assert projection.weight.is_meta
    with weights_loaded(projection):
        assert torch.equal(projection.weight, weight)
    assert projection.weight.is_meta
    assert weight_digest(network) == right


@pytest.mark.parametrize(
    ("dtype", "close"), [(torch.bfloat16, 0.06), (torch.float16, 0.008), (torch.float32, 1e-4)], ids=str
)
@pytest.mark.parametrize("name", SOME)
def test_half_formats_agree_with_float32_to_their_rounding_and_say_so(name, dtype, close):
    """The same weights, rounded once: float32 arithmetic on them is the reference."""
    rounded = build(name, dtype=dtype)
    found, right = ledger(load(rounded)), ledger(load(copy.deepcopy(rounded).float()))
    assert found.attrs["closing_tolerance"] == CLOSING[dtype]
    assert found.attrs["closing_error"] < CLOSING[dtype] / 3
    size = float(np.abs(right["total_effect"]).max())
    assert np.abs(found["total_effect"] - right["total_effect"]).max() < close * size
    sentence = rounding(found)
    if dtype == torch.float32:
        assert sentence is None
    else:
        assert sentence is not None
        assert str(dtype).removeprefix("torch.") in sentence
        assert "--dtype float32" in sentence
        assert f"held to {CLOSING[dtype]:g} instead of 0.001" in sentence


# --- the command line ---------------------------------------------------------------------------


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose memory holds only a part of the tiny model."""
    from transformers.integrations import accelerate as integration

    monkeypatch.setattr(integration, "get_max_memory", lambda max_memory=None: {"cpu": 12_000})


@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_larger_than_memory_is_read_from_its_own_file(
    dtype: str, model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli
) -> None:
    arguments = ("--prompts", prompt_file, "--components", "attn", "--keep-wrong", "--ablation", "mean", "--json")
    spread = cli("run", model_folder, *arguments, "--dtype", dtype, "--device", "map", "--out", tmp_path / "a")
    plain = cli("run", model_folder, *arguments, "--dtype", dtype, "--device", "cpu", "--out", tmp_path / "b")
    one, other = json.loads(spread.out), json.loads(plain.out)
    assert "disk until used" in one["attributes"]["device"]
    assert one["numbers"] == other["numbers"]
    assert (one["rounding"] is None) == (dtype == "float32")


def test_inspect_states_what_accounts_are_held_to(model_folder: Path, cli: Cli) -> None:
    assert "Accounts must close to 0.001 of" in cli("inspect", model_folder).out
    said = cli("inspect", model_folder, "--dtype", "bfloat16").out
    assert "Accounts must close to 0.3 of" in " ".join(said.split())
    assert "--dtype float32 is held to 0.001" in " ".join(said.split())
    found = json.loads(cli("inspect", model_folder, "--dtype", "float16", "--json").out)["precision"]
    assert found == {"arithmetic": "float16", "anatomy_tolerance": 4e-3, "closing_tolerance": 5e-2}


def test_spreading_without_accelerate_is_refused(model_folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_device, "find_spec", lambda name: None)
    assert "pip install 'hydrascope[large]'" in cli("inspect", model_folder, "--device", "map").refusal()


@pytest.mark.parametrize("method", ["awq", "hqq", "compressed-tensors"])
def test_a_quantised_checkpoint_without_its_library_is_refused(
    method: str, model_folder: Path, tmp_path: Path, cli: Cli
) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for file in model_folder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    assert "need a library that is not installed" in cli("inspect", folder).refusal()


# --- quantised weights --------------------------------------------------------------------------


def packable() -> LlamaForCausalLM:
    """A model wide enough for blocks of quantised weights."""
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=128,
        vocab_size=VOCABULARY, initializer_range=0.15, attention_bias=True, tie_word_embeddings=False,
    )  # fmt: skip
    network = LlamaForCausalLM(config).eval()
    torch.random.set_rng_state(state)
    return network


@pytest.fixture(scope="module", params=[4, 8])
def packed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with weights of so many bits."""
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    plain, folder = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("packed")
    packable().save_pretrained(plain)
    settings = BitsAndBytesConfig(**{f"load_in_{request.param}bit": True})
    AutoModelForCausalLM.from_pretrained(plain, quantization_config=settings, device_map="cpu").save_pretrained(folder)
    return folder


def test_quantised_weights_are_taken_apart_and_close(packed: Path) -> None:
    model = load(packed)
    bits = model.source.packing.split()[-1]
    assert model.source.packing == f"bitsandbytes {bits}"
    assert bits in ("4-bit", "8-bit")
    assert model.source.n_parameters == sum(p.numel() for p in packable().parameters())
    assert model.source.dtype == "float32"
    assert len(model.anatomy.heads) == len(model.anatomy.neurons) == 2
    found = ledger(model, "attn,mlp,head.1.0,neuron.0.5")
    assert found.attrs["closing_tolerance"] == CLOSING[torch.bfloat16]
    assert found.attrs["closing_error"] < 1e-4, "writes are measured, so their sum is exact"
    assert found.attrs["packing"] in str(rounding(found))
    assert float(np.abs(found["total_effect"]).min()) > 0


def test_heads_of_quantised_projections_sum_to_what_these_write(packed: Path) -> None:
    """Their pull-back cannot be differentiated, or not exactly: it is measured, and held to the model's rounding."""
    found = ledger(load(packed), "attn,mlp", writers="heads")
    assert found.attrs["closing_error"] < 0.05


def test_knock_outs_of_a_quantised_model_are_those_of_plain_forwards(packed: Path) -> None:
    model = load(packed)
    found = ledger(model, "mlp.0")
    module = model.network.get_submodule(model.anatomy.writers[1].modules[0])
    for row, prompt in enumerate(PROMPTS):
        ids = torch.tensor([prompt.input_ids])

        def last_to_zero(module: nn.Module, args: Any, output: torch.Tensor) -> torch.Tensor:
            return torch.cat([output[:, :-1], torch.zeros_like(output[:, -1:])], 1)

        with torch.no_grad():
            clean = model.network(ids).logits[0, -1]
            handle = module.register_forward_hook(last_to_zero)
            ablated = model.network(ids).logits[0, -1]
            handle.remove()
        effect = (ablated - ablated.mean() - clean + clean.mean())[prompt.target_id]
        measured = found["total_effect"].sel(prompt=row, ablated="mlp.0")
        assert abs(float(measured) - float(effect)) < 0.02 * float(clean.abs().max())


def test_a_quantised_unembedding_is_refused_by_name(packed: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(packed).eval()
    network.lm_head.weight.requires_grad_(False)
    network.lm_head.weight.data = network.lm_head.weight.data.to(torch.float8_e4m3fn)
    network.lm_head.forward = lambda x: x @ network.lm_head.weight.float().T
    with pytest.raises(AnatomyRefused, match="'lm_head' is quantised") as refused:
        load(network)
    assert refused.value.check == "linear head"
