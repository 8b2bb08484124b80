"""Models that cannot be used are refused in one sentence, and no code that came with weights is run."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertLMHeadModel,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    T5Config,
    T5ForConditionalGeneration,
    Wav2Vec2Config,
    Wav2Vec2ForCTC,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

import hydrascope as hs
from hydrascope import zoo
from hydrascope.anatomy import _device, _load, load
from hydrascope.anatomy._checkpoint import locate
from hydrascope.cli import _inspection
from hydrascope.errors import (
    HydrascopeError,
    ModelError,
    NonFinite,
    NotCausalLM,
    PickleRefused,
    RemoteCodeRefused,
    UnknownModel,
)
from tests.conftest import Cli
from tests.support import tiny
from tests.support.families import FAMILIES, build_from

Planted = tuple[str, type[HydrascopeError], str]


class Payload:
    """An object whose unpickling makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mknod, (str(self.mark),)


def copy_of(model: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


def weights_changed(model: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> Path:
    copy_of(model, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def config_changed(model: Path, folder: Path, **changes: object) -> Path:
    copy_of(model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


# --- what there is to refuse; each makes a folder, or names what is no model -------------------


def unknown_name(model: Path, here: Path) -> str:
    return "no-such-model"


def unknown_hub_id(model: Path, here: Path) -> str:
    return "nobody/no-such-model"


def no_such_path(model: Path, here: Path) -> str:
    return str(here / "a" / "b" / "c")


def a_weights_file(model: Path, here: Path) -> str:
    return str(model / "model.safetensors")


def no_name(model: Path, here: Path) -> str:
    return " "


def long_name(model: Path, here: Path) -> str:
    return "x" * 5000


def long_part(model: Path, here: Path) -> str:
    return str(here / ("x" * 1000))


def empty_folder(model: Path, here: Path) -> str:
    return str(here)


def broken_config(model: Path, here: Path) -> str:
    folder = copy_of(model, here / "m")
    (folder / "config.json").write_text("{not json")
    return str(folder)


def config_without_type(model: Path, here: Path) -> str:
    folder = copy_of(model, here / "m")
    (folder / "config.json").write_text("{}")
    return str(folder)


def unknown_type(model: Path, here: Path) -> str:
    return str(config_changed(model, here / "m", model_type="hydra9"))


def remote_code(model: Path, here: Path) -> str:
    folder = config_changed(
        model,
        here / "m",
        model_type="hydra9",
        auto_map={"AutoConfig": "planted.Config", "AutoModelForCausalLM": "planted.Model"},
    )
    (folder / "planted.py").write_text(f"import os\nos.mknod({str(here / 'mark')!r})\n")
    return str(folder)


def remote_model_only(model: Path, here: Path) -> str:
    """A type that is known elsewhere than here, with code for the model but none for its config."""
    folder = config_changed(model, here / "m", auto_map={"AutoModelForCausalLM": "planted.Model"}, model_type="hydra9")
    (folder / "planted.py").write_text(f"import os\nos.mknod({str(here / 'mark')!r})\n")
    return str(folder)


def pickled(model: Path, here: Path) -> str:
    folder = copy_of(model, here / "m")
    (folder / "model.safetensors").unlink()
    torch.save({"transformer.wte.weight": Payload(here / "mark")}, folder / "pytorch_model.bin")
    return str(folder)


def no_weights(model: Path, here: Path) -> str:
    folder = copy_of(model, here / "m")
    (folder / "model.safetensors").unlink()
    return str(folder)


def _bert(kind: Any, here: Path) -> str:
    config = BertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=tiny.WORDS,
        initializer_range=0.3,
    )  # fmt: skip
    torch.manual_seed(0)
    return str(tiny.save(here / "m", kind(config)))


def masked_model(model: Path, here: Path) -> str:
    return _bert(BertForMaskedLM, here)


def reads_right(model: Path, here: Path) -> str:
    """Named a causal language model, but built to look both ways."""
    return _bert(BertLMHeadModel, here)


def gemma_reads_right(model: Path, here: Path) -> str:
    """A decoder's blocks under a mask that lets them look both ways."""
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, head_dim=8,
        intermediate_size=32, vocab_size=tiny.WORDS, use_bidirectional_attention=True, initializer_range=0.3,
    )  # fmt: skip
    return str(tiny.save(here / "m", Gemma3ForCausalLM(config)))


def missing_tensors(model: Path, here: Path) -> str:
    def drop(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["transformer.h.1.mlp.c_proj.weight"], tensors["transformer.h.2.attn.c_attn.weight"]

    return str(weights_changed(model, here / "m", drop))


def wrong_shape(model: Path, here: Path) -> str:
    return str(config_changed(model, here / "m", n_embd=32))


def truncated(model: Path, here: Path) -> str:
    folder = copy_of(model, here / "m")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    return str(folder)


def garbage(model: Path, here: Path) -> str:
    folder = copy_of(model, here / "m")
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 40)
    return str(folder)


def not_a_number(model: Path, here: Path) -> str:
    def plant(tensors: dict[str, torch.Tensor]) -> None:
        tensors["transformer.h.1.mlp.c_proj.weight"][0, 0] = float("nan")

    return str(weights_changed(model, here / "m", plant))


def overflowing(model: Path, here: Path) -> str:
    def plant(tensors: dict[str, torch.Tensor]) -> None:
        tensors["transformer.h.1.mlp.c_proj.weight"][:] = 1e38

    return str(weights_changed(model, here / "m", plant))


def too_few_layers(model: Path, here: Path) -> str:
    return str(config_changed(model, here / "m", n_layer=2))


def biases_without_a_place(model: Path, here: Path) -> str:
    """The config says that attention has no biases, the checkpoint has them."""
    network = build_from(replace(FAMILIES["llama"], config={**FAMILIES["llama"].config, "attention_bias": True}))
    return str(config_changed(tiny.save(here / "whole", network), here / "m", attention_bias=False))


def lora_inside(model: Path, here: Path) -> str:
    def plant(tensors: dict[str, torch.Tensor]) -> None:
        tensors["transformer.h.0.attn.c_attn.lora_A.weight"] = torch.ones(2, 16)

    return str(weights_changed(model, here / "m", plant))


def speech_model(model: Path, here: Path) -> str:
    config = WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, vocab_size=tiny.WORDS, num_mel_bins=8, max_source_positions=16,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    return str(tiny.save(here / "m", WhisperForConditionalGeneration(config)))


def sound_model(model: Path, here: Path) -> str:
    config = Wav2Vec2Config(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, conv_dim=(8,),
        conv_stride=(2,), conv_kernel=(3,), num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    return str(tiny.save(here / "m", Wav2Vec2ForCTC(config)))


def two_sided_model(model: Path, here: Path) -> str:
    config = T5Config(d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=tiny.WORDS)
    return str(tiny.save(here / "m", T5ForConditionalGeneration(config)))


def missing_shard(model: Path, here: Path) -> str:
    folder = copy_of(model, here / "m")
    (folder / "model.safetensors").unlink()
    tiny.network().save_pretrained(folder, max_shard_size="10KB")
    sorted(folder.glob("model-*.safetensors"))[1].unlink()
    return str(folder)


def broken_index(model: Path, here: Path) -> str:
    folder = copy_of(model, here / "m")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    return str(folder)


def deep_config(model: Path, here: Path) -> str:
    folder = copy_of(model, here / "m")
    (folder / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000)
    return str(folder)


REFUSED = [
    (unknown_name, UnknownModel, "no model 'no-such-model'"),
    (unknown_hub_id, UnknownModel, "no model 'nobody/no-such-model'"),
    (no_such_path, UnknownModel, "no model '"),
    (a_weights_file, UnknownModel, "no model '"),
    (no_name, UnknownModel, "is no name of a model"),
    (long_name, UnknownModel, "is no name of a model"),
    (long_part, UnknownModel, "File name too long"),
    (empty_folder, UnknownModel, "has no config.json"),
    (broken_config, UnknownModel, "is no readable JSON: Expecting"),
    (config_without_type, UnknownModel, "names no model_type"),
    (unknown_type, UnknownModel, "hydra9"),
    (remote_code, RemoteCodeRefused, "--trust-remote-code"),
    (remote_model_only, HydrascopeError, "m'"),
    (pickled, PickleRefused, "has pickled weights ('pytorch_model.bin') and no safetensors"),
    (no_weights, UnknownModel, "has a config.json but no weights"),
    (masked_model, NotCausalLM, "to the right"),
    (reads_right, NotCausalLM, "to the right"),
    (gemma_reads_right, NotCausalLM, "to the right"),
    (missing_tensors, ModelError, "lack 2 tensors, first 'transformer.h.1.mlp.c_proj.weight'"),
    (wrong_shape, ModelError, "have other shapes than its config says for "),
    (
        too_few_layers,
        ModelError,
        "hold 11 tensors that its config has no place for, first 'transformer.h.2.attn.c_a",
    ),
    (biases_without_a_place, ModelError, "first 'model.layers.0.self_attn.k_proj.bias'"),
    (lora_inside, ModelError, "hold 1 tensor that its config has no place for, first 'transformer.h.0.attn.c_attn.lo"),
    (speech_model, ModelError, "has no place for, first 'model.encoder."),
    (sound_model, NotCausalLM, "(Wav2Vec2ForCTC) has no embedding of tokens"),
    (two_sided_model, ModelError, "(T5ForConditionalGeneration) cannot take seven tokens"),
    (missing_shard, ModelError, "files that its index lists are missing, first 'model-00002-of-"),
    (broken_index, ModelError, "the 'model.safetensors.index.json' of '"),
    (deep_config, UnknownModel, "is no readable JSON: maximum recursion depth"),
    (truncated, ModelError, "cannot be read"),
    (garbage, ModelError, "cannot be read"),
    (not_a_number, NonFinite, "its weight 'transformer.h.1.mlp.c_proj.weight' is not finite"),
    (overflowing, NonFinite, "activations overflow"),
]


@pytest.mark.parametrize(("make", "kind", "says"), REFUSED, ids=[make.__name__ for make, _, _ in REFUSED])
def test_refused_in_one_sentence_and_nothing_is_run_or_written(
    make: Callable[[Path, Path], str],
    kind: type[HydrascopeError],
    says: str,
    model_folder: Path,
    prompt_file: Path,
    tmp_path: Path,
    cli: Cli,
) -> None:
    here = tmp_path / "model"
    here.mkdir()
    name, out = make(model_folder, here), tmp_path / "out"
    sentence = cli("run", name, "--prompts", prompt_file, "--out", out).refusal()
    assert says in sentence
    assert not out.exists()
    assert not (here / "mark").exists()
    with pytest.raises(kind):
        load(name)


NONSENSE: tuple[Any, ...] = (None, -1, 0, 3, 1.5, 10**30, "x", "", [], [1], {"a": 1}, True, float("nan"))
NOT_WRITTEN = ("quantization_config", "rope_scaling", "auto_map", "_attn_implementation", "text_config", "layer_types")


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_nonsense_in_a_config_is_refused_in_a_sentence(family: str, tmp_path: Path) -> None:
    """Every key, each with a value that most cannot have."""
    folder = tiny.save(tmp_path / "m", build_from(FAMILIES[family]), with_tokenizer=False)
    config = json.loads((folder / "config.json").read_text())
    sentences = []
    for number, key in enumerate([*config, *NOT_WRITTEN]):
        nonsense = {**config, key: NONSENSE[number % len(NONSENSE)]}
        (folder / "config.json").write_text(json.dumps(nonsense))
        try:
            load(folder)
        except HydrascopeError as error:
            sentences.append(str(error))
    assert len(sentences) > len(config) / 2
    assert [sentence for sentence in sentences if not re.fullmatch(r"[^\n]{20,700}", sentence)] == []


def test_unused_tensors_are_left_out_where_the_user_says_so_and_are_recorded(
    model_folder: Path, tmp_path: Path, cli: Cli
) -> None:
    name, out = too_few_layers(model_folder, tmp_path), tmp_path / "out"
    model = load(name, allow_unused=True)
    assert model.anatomy.n_layers == 2
    assert len(model.source.unused) == 11 and model.source.unused[0] == "transformer.h.2.attn.c_attn.weight"
    prompts = hs.load_prompts([{"input_ids": [1, 5, 6], "target_id": 7}])
    options = hs.Options(keep_wrong=True, null_draws=1)
    hs.knock_out(model, prompts, "attn.1", hs.Zero(), options=options, freeze=False, out=out)
    record = json.loads((out / "run.json").read_text())
    assert record["model"]["unused"] == list(model.source.unused)
    assert "--allow-unused" in record["command"]
    assert "without 11 tensors of the checkpoint" in cli("inspect", name, "--allow-unused").out


def test_a_bias_without_a_place_is_another_model(tmp_path: Path) -> None:
    """What used to be passed over in silence: the knock-out of attn.1 of the model without its biases is another."""
    folder = biases_without_a_place(tmp_path, tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        whole = load(tmp_path / "whole").network(ids).logits
        without = load(folder, allow_unused=True).network(ids).logits
    assert (whole - without).abs().max() > 0.1


MASKS = {
    "gpt2": "transformer.h.0.attn.bias",
    "gptj": "transformer.h.0.attn.masked_bias",
    "gpt_neo": "transformer.h.0.attn.attention.masked_bias",
    "gpt_neox": "gpt_neox.layers.0.attention.rotary_emb.inv_freq",
    "llama": "model.layers.0.self_attn.rotary_emb.inv_freq",
}


@pytest.mark.parametrize("family", MASKS)
def test_masks_and_frequencies_of_older_checkpoints_are_no_weights(family: str, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "old", build_from(FAMILIES[family]), with_tokenizer=False)
    tensors = load_file(folder / "model.safetensors") | {MASKS[family]: torch.ones(1, 1, 4, 4).tril()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    assert load(folder).source.unused == ()


def test_code_beside_a_known_model_stays_unread(model_folder: Path, tmp_path: Path) -> None:
    auto_map = {"AutoConfig": "planted.Config", "AutoModelForCausalLM": "planted.Model"}
    folder = config_changed(model_folder, tmp_path / "m", auto_map=auto_map)
    (folder / "planted.py").write_text(f"import os\nos.mknod({str(tmp_path / 'mark')!r})\n")
    assert load(folder).source.family == "gpt2"
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--device", "toaster"), "no device 'toaster'"),
        (("--device", "cuda:x"), "no device 'cuda:x'"),
        (("--device", "meta"), "meta"),
        (("--dtype", "int8"), "no number format 'int8'"),
        (("--dtype", ""), "no number format ''"),
    ],
)
def test_wrong_device_or_format(arguments: tuple[str, str], says: str, model_folder: Path, cli: Cli) -> None:
    assert says in cli("inspect", model_folder, *arguments).refusal()


@pytest.mark.parametrize(("device", "what"), [("cuda", "CUDA GPU"), ("mps", "Apple GPU"), ("xpu:0", "Intel GPU")])
def test_a_gpu_that_is_not_there(device: str, what: str, model_folder: Path, cli: Cli) -> None:
    if _device._SEEN[torch.device(device).type][1]():
        pytest.skip(f"there is a {what}")
    assert (
        f"torch sees no {what}; use the cpu (--device cpu)"
        in cli("inspect", model_folder, "--device", device).refusal()
    )


def test_a_device_never_tried_is_proved_and_told(model_folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor plays its part: what holds there is used, what cannot be computed there is refused."""
    for module in (_load, _inspection):
        monkeypatch.setattr(module, "UNTESTED", ("cpu",))
    assert "on which this package was never tried" in cli("inspect", model_folder, "--device", "cpu").out

    def no_float64(*given: object, **more: object) -> None:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64.")

    monkeypatch.setattr(_load, "discover", no_float64)
    assert "cannot be proved on cpu: TypeError Cannot convert a MPS Tensor" in cli("inspect", model_folder).refusal()


def test_a_module_in_memory_needs_no_folder() -> None:
    model = load(tiny.network(), tokenizer=tiny.tokenizer())
    assert model.source.name == "GPT2LMHeadModel"
    assert model.anatomy.n_layers == 3


def test_a_folder_that_is_no_model_does_not_hide_a_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bundled = zoo.default()
    (tmp_path / bundled.name).mkdir()
    (tmp_path / bundled.name / "run.json").write_text("{}")
    assert locate(bundled.name).where == str(bundled.path)
    (tmp_path / bundled.name / "config.json").write_text("{}")
    assert locate(bundled.name).where == bundled.name
