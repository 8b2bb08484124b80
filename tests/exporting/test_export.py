"""Pruned models on disk: the plain library computes what the model without the parts does, or nothing is kept."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, GPTNeoConfig, GPTNeoForCausalLM

import hydrascope as hs
from hydrascope.anatomy import examine
from hydrascope.errors import ComponentError, ExportRefused, HydrascopeError, OutputError
from hydrascope.exporting import _speed
from tests.support import registry, tiny
from tests.support.families import FAMILIES, build

SAVED = (
    *("bloom", "falcon", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "gptj", "granite", "llama", "mamba", "mistral"),
    *("mixtral", "olmo2", "opt", "phi3", "qwen2", "qwen3", "qwen3_moe", "smollm3", "stablelm"),
)
"""Model types whose middle block can go."""
REFUSED = {
    "diffllama": "differ",  # weighs the second attention by a number that grows with the block's index
    "minicpm3": "differ",  # scales what a block adds by the number of blocks
    "jamba": "otherwise than it was written",  # which block has experts follows from a period
}


class Passing(nn.Module):
    """A block that passes on what it is given, made by hand."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.block, name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        hidden = args[0] if args else kwargs["hidden_states"]
        returned = self.block(*args, **kwargs)
        return hidden if isinstance(returned, torch.Tensor) else (hidden, *returned[1:])


def passing(network: Any, path: str) -> Any:
    """A copy of a network one of whose blocks does nothing."""
    masked = copy.deepcopy(network)
    holder, _, name = path.rpartition(".")
    container: Any = masked.get_submodule(holder)
    container[int(name)] = Passing(container[int(name)])
    return masked


def some_ids(vocabulary: int = registry.VOCABULARY, tokens: int = 9) -> torch.Tensor:
    return torch.randint(3, vocabulary, (2, tokens), generator=torch.Generator().manual_seed(7))


def logits(network: Any, ids: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = network(input_ids=ids, use_cache=False).logits
    return found


@pytest.mark.parametrize("model_type", SAVED)
def test_without_a_block_the_library_computes_what_the_model_does(model_type: str, tmp_path: Path) -> None:
    network = registry.build(model_type)
    model = examine(network, None, name=model_type)
    found = hs.export(model, "layer.1", tmp_path / "small")
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype=torch.float32)
    ids = some_ids()
    right = logits(passing(network, model.anatomy.layers[1]), ids)
    torch.testing.assert_close(logits(small, ids), right, rtol=0, atol=1e-4 * float(right.abs().max()))
    assert (right - logits(network, ids)).abs().max() > 1e-2  # the block matters, so that a wrong one is seen
    assert found.removed == ("layer.1",)
    assert found.bytes[0] > found.bytes[1] == sum(weight.nbytes for weight in small.parameters())


def test_kinds_of_blocks_that_are_saved_as_repeated_lists_follow(tmp_path: Path) -> None:
    kinds = {"attention_types": [[["global", "local"], 2]], "num_layers": 4, "window_size": 3}
    torch.manual_seed(0)
    network = GPTNeoForCausalLM(GPTNeoConfig(vocab_size=97, hidden_size=32, num_heads=4, **kinds)).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(8)
    model = examine(network, None, name="neo")
    hs.export(model, "layer.1", tmp_path / "small")
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype=torch.float32)
    assert small.config.attention_layers == ["global", "global", "local"]
    right = logits(passing(network, model.anatomy.layers[1]), some_ids())
    torch.testing.assert_close(logits(small, some_ids()), right, rtol=0, atol=1e-4 * float(right.abs().max()))
    small.config.attention_layers[1] = "local"
    other = GPTNeoForCausalLM(small.config).eval()
    other.load_state_dict(small.state_dict(), strict=False)
    assert (logits(other, some_ids()) - right).abs().max() > 1e-2  # kinds matter, so that wrong ones are seen


@pytest.mark.parametrize("model_type", ["llama", "gemma3_text", "gpt2", "mixtral", "mamba"])
def test_with_a_cache_it_continues_as_without(model_type: str, tmp_path: Path) -> None:
    network = registry.build(model_type)
    model = examine(network, None, name=model_type)
    hs.export(model, "layer.0", tmp_path / "small")
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype=torch.float32)
    masked, ids = passing(network, model.anatomy.layers[0]), some_ids(tokens=4)
    made = small.generate(ids, max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=None)
    for _ in range(8):
        ids = torch.cat([ids, logits(masked, ids)[:, -1:].argmax(-1)], 1)
    torch.testing.assert_close(made, ids)


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_would_compute_something_else_is_refused(model_type: str, tmp_path: Path) -> None:
    model = examine(registry.build(model_type), None, name=model_type)
    with pytest.raises(ExportRefused, match=REFUSED[model_type]):
        hs.export(model, "layer.1", tmp_path / "small")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "gpt_neox", "phi", "granite"])
@pytest.mark.parametrize(
    "components", ["attn.1", "mlp.0,head.2.1", "head.0.*,neuron.1.3,neuron.1.7", "layer.0,head.1.2"]
)
def test_smaller_parts_are_zeroed(name: str, components: str, tmp_path: Path) -> None:
    network, family = build(name), FAMILIES[name]
    model = examine(network, None, name=name)
    found = hs.export(model, components, tmp_path / "small")
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype=torch.float32)
    masked: Any = passing(network, family.path(0, "").rstrip(".")) if "layer.0" in components else network
    width, ids = family.head_dim, some_ids()

    def silence(path: str, start: int, stop: int) -> Any:
        def hook(_: nn.Module, args: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
            inside = args[0].clone()
            inside[..., start:stop] = 0
            return (inside,)

        return masked.get_submodule(path).register_forward_pre_hook(hook)

    handles = []
    for part in components.split(","):
        kind, layer, *unit = part.split(".")
        if kind == "head":
            first, count = (0, family.n_heads) if unit[0] == "*" else (int(unit[0]), 1)
            handles.append(silence(family.path(int(layer), family.o_proj), first * width, (first + count) * width))
        elif kind == "neuron":
            handles.append(silence(model.anatomy.neuron_site(int(layer)).module, int(unit[0]), int(unit[0]) + 1))
        elif kind != "layer":
            inside = family.attn if kind == "attn" else family.mlp

            def nothing(_: nn.Module, __: Any, output: Any) -> Any:
                return torch.zeros_like(output) if isinstance(output, torch.Tensor) else (output[0] * 0, *output[1:])

            handles.append(masked.get_submodule(family.path(int(layer), inside)).register_forward_hook(nothing))
    right = logits(masked, ids)
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(logits(small, ids), right, rtol=0, atol=1e-4 * float(right.abs().max()))
    assert (right - logits(network, ids)).abs().max() > 1e-2
    assert ("layer.0" in components) == (found.bytes[0] > found.bytes[1])
    assert found.parameters[1] < found.parameters[0]


NARROWED = ("llama", "qwen2", "qwen3", "gemma2", "gemma3_text", "mistral", "granite", "mixtral", "smollm3")
"""Model types whose attention can have fewer key-value groups."""


def grouped(model_type: str, n_heads: int = 8, n_kv: int = 4) -> Any:
    """A random model with several query heads to a group, which no group shares."""
    config = registry.build(model_type).config
    config.num_attention_heads, config.num_key_value_heads = n_heads, n_kv
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
    return network


@pytest.mark.parametrize("model_type", NARROWED)
def test_with_as_few_groups_in_every_block_attention_is_narrower(model_type: str, tmp_path: Path) -> None:
    """Other groups in each block, with a whole block gone beside them."""
    network = grouped(model_type)
    model = examine(network, None, name=model_type)
    depth, ids = model.anatomy.n_layers, some_ids()
    groups = {layer: (layer % 4, (layer + 1) % 4) for layer in range(depth) if layer != 1}
    names = [f"kv.{layer}.{group}" for layer, some in groups.items() for group in some]
    found = hs.export(model, ",".join(["layer.1", *names]), tmp_path / "small")
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype=torch.float32)
    masked = passing(network, model.anatomy.layers[1])
    for layer, some in groups.items():
        site = model.anatomy.head_site(layer)
        projection = masked.get_submodule(site.module)
        for group in some:
            span = slice(2 * group * site.head_dim, 2 * (group + 1) * site.head_dim)
            with torch.no_grad():
                projection.weight[:, span] = 0
    right = logits(masked, ids)
    torch.testing.assert_close(logits(small, ids), right, rtol=0, atol=1e-4 * float(right.abs().max()))
    config = small.config.get_text_config()
    assert (config.num_attention_heads, config.num_key_value_heads, found.groups) == (4, 2, 2)
    shortened = passing(network, model.anatomy.layers[1])
    assert (right - logits(shortened, ids)).abs().max() > 1e-2
    assert found.bytes[1] == sum(weight.nbytes for weight in small.parameters())
    assert "narrower by 2 of the key-value groups of every block" in (tmp_path / "small" / "README.md").read_text()
    assert "1 block shorter and narrower" in (tmp_path / "small" / "README.md").read_text()


@pytest.mark.parametrize(
    ("model_type", "parts"),
    [
        ("llama", "kv.0.1,kv.1.0"),  # the third block keeps all
        ("llama", "kv.*.1,kv.0.0"),
        ("phi3", "kv.*.1"),  # one projection for queries, keys and values
        ("olmo2", "kv.*.1"),  # its norm goes over all heads
        ("llama", "kv.*.1"),  # with six heads the library refuses the width of its stream
    ],
)
def test_groups_that_cannot_be_cut_out_are_zeroed(model_type: str, parts: str, tmp_path: Path) -> None:
    model = examine(grouped(model_type), None, name=model_type)
    found = hs.export(model, parts, tmp_path / "small")
    assert (found.groups, found.bytes[0], found.speed) == (0, found.bytes[1], None)
    text = (tmp_path / "small" / "README.md").read_text()
    assert "as large and as fast" in text
    assert ("zeroed instead of cut out, because: " in text) == bool(found.zeroed)
    assert found.zeroed in text
    if (model_type, parts) == ("llama", "kv.*.1"):
        assert "(32) is not a multiple of the number of attention heads (6)" in found.zeroed


def test_heads_that_make_up_whole_groups_are_cut_out_too(tmp_path: Path) -> None:
    model = examine(grouped("llama", 4, 4), None, name="llama")
    found = hs.export(model, "head.*.2,head.*.3", tmp_path / "small")
    assert found.groups == 2
    assert found.bytes[1] < found.bytes[0]


def test_moments_that_slow_one_forward_do_not_make_the_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every third round one forward waits ten times as long, and the machine slows down all along."""
    model, small, calls = examine(tiny.network(), None, name="tiny"), tiny.network(n_layer=1), [0]

    def seconds(network: Any, ids: torch.Tensor) -> float:
        calls[0] += 1
        forward, in_round = calls[0] - 3, (calls[0] - 3) % 4
        late = 10 if (forward // 4) % 3 == 2 and in_round == 1 else 1
        return late * (1 + forward / 1000) * (0.03 if network is model.network else 0.02)

    monkeypatch.setattr(_speed, "_seconds", seconds)
    found = _speed.speed_of(model, small)
    assert found.rounds == _speed.MOST
    assert found.lower < found.ratio == pytest.approx(1.5, rel=1e-6) == found.upper
    assert found.own < found.whole  # a ratio of sums would have told a slower model
    monkeypatch.setattr(_speed, "SECONDS", 0)
    assert _speed.speed_of(model, small).rounds == _speed.FEWEST


def test_per_layer_lists_are_trimmed_to_the_blocks_that_stay(tmp_path: Path) -> None:
    """Gemma's blocks alternate: without block 1 a window meets a window."""
    model = examine(build("gemma2"), None, name="gemma2")
    hs.export(model, "layer.1", tmp_path / "small")
    config = json.loads((tmp_path / "small" / "config.json").read_text())
    assert config["layer_types"] == ["sliding_attention", "sliding_attention", "full_attention"]
    assert config["num_hidden_layers"] == 3


def test_the_whole_model_stays_as_it_was(tmp_path: Path) -> None:
    network = build("llama")
    before, model = copy.deepcopy(network.state_dict()), examine(network, None, name="llama")
    hs.export(model, "layer.0,mlp.1", tmp_path / "small")
    assert network.config.num_hidden_layers == 3
    for name, weight in network.state_dict().items():
        assert torch.equal(weight, before[name])
    model.require_unchanged()


def test_tokenizer_generation_config_and_card_go_along(model_folder: Path, tmp_path: Path) -> None:
    model = hs.load(model_folder)
    model.network.generation_config.max_new_tokens = 3
    texts = [[1, 5, 6, 7, 9]]
    found = hs.export(model, "layer.1", tmp_path / "small", texts=texts, measured={"perplexity": "1 to 2"})
    assert found.speed is not None
    small = tmp_path / "small"
    assert AutoTokenizer.from_pretrained(small)("w4 w7")["input_ids"] == [1, 4, 7]
    assert transformers.GenerationConfig.from_pretrained(small).max_new_tokens == 3
    card = (small / "README.md").read_text()
    assert "layer.1" in card
    assert "| perplexity | 1 to 2 |" in card
    assert "1 block shorter" in card
    assert "tokens a second in place of" in card
    assert f"{found.speed.ratio:.2f} times as fast (half of {found.speed.rounds} rounds: " in card
    assert hs.load(small).anatomy.n_layers == model.anatomy.n_layers - 1
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_card_says_what_went_and_not_where_it_lay(model_folder: Path, tmp_path: Path) -> None:
    model = hs.load(model_folder)
    found = hs.export(model, "layer.1,attn.1,head.1.0,head.0.1", tmp_path / "small")
    assert found.removed == ("head.0.1", "layer.1")  # the rest lies in the block
    text = (tmp_path / "small" / "README.md").read_text()
    assert "without 1 of its 6 heads and 1 of its 3 blocks\n" in text
    assert "base_model" not in text
    assert str(model_folder) not in text
    assert f"Made from `{model.source.label}` by" in text
    assert f"with hydrascope {hs.__version__}" in text
    hub = replace(model, source=replace(model.source, name="team/model@main", revision="abc123"))
    hs.export(hub, "layer.1", tmp_path / "of-hub")
    text = (tmp_path / "of-hub" / "README.md").read_text()
    assert "tags: [pruned, hydrascope]\nbase_model: team/model\n---\n" in text
    assert "Made from `team/model` at abc123 by" in text


def test_a_card_tells_what_had_gone_before(model_folder: Path, tmp_path: Path) -> None:
    model = hs.load(model_folder)
    hub = replace(model, source=replace(model.source, name="team/model@main", revision="abc123"))
    hs.export(hub, "layer.1", tmp_path / "once")
    hs.export(tmp_path / "once", "layer.0", tmp_path / "twice")
    hs.export(tmp_path / "twice", "head.0.1", tmp_path / "thrice")
    text = (tmp_path / "thrice" / "README.md").read_text()
    assert "base_model: team/model\n" in text
    paragraphs = text.split("# twice without 1 of its 2 heads\n\n")[1].split("\n\n")
    assert paragraphs[0].startswith("Made from `twice` by")
    assert paragraphs[0].endswith("counted from 0 in `twice`: head.0.1.")
    assert paragraphs[1].startswith("It is as large")
    before = "The model that it was made from, to which costs are held, had lost parts before. Made from "
    assert paragraphs[2].startswith(f"{before}`once` by")
    assert paragraphs[2].endswith("counted from 0 in `once`: layer.0.")
    assert paragraphs[3].startswith(f"{before}`team/model` at abc123 by")
    assert paragraphs[3].endswith("counted from 0 in `tiny`: layer.1.")
    assert paragraphs[4] == "## What that cost"


def test_python_takes_what_is_natural(model_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    transformers.utils.logging.enable_progress_bar()  # which a command before, in the same process, keeps away
    model = hs.load(model_folder)
    capfd.readouterr()
    right = hs.export(model, "layer.1,head.0.1", tmp_path / "right").removed
    given: list[dict[str, Any]] = [
        {"components": ["layer.1", "head.0.1"]},
        {"components": iter(("layer.1", "head.0.1"))},
        {"model": str(model_folder)},
        {"model": model_folder, "folder": str(tmp_path / "a")},
        {"texts": ["w4 w5", [1, 5, 6], torch.tensor([1, 7, 8])]},
        {"texts": hs.load_prompts(["w4 w5", "w9 w7 w8"])},
        {"texts": [*["w4 w5"] * 4, "", 3]},  # only the first four are looked at
    ]
    for number, more in enumerate(given):
        asked = {"model": model, "components": "layer.1,head.0.1", "folder": tmp_path / str(number), **more}
        assert hs.export(**asked).removed == right
    assert capfd.readouterr().err.count("Writing model shards") == 0
    assert transformers.utils.logging.is_progress_bar_enabled()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"components": 3}, "3 names no parts"),
        ({"components": []}, "names no parts"),
        ({"components": [6]}, "names no parts"),
        ({"folder": None}, "None names no folder"),
        ({"folder": 3}, "3 names no folder"),
        ({"model": 3}, "an object of type int is no"),
        ({"texts": 3}, "3 is no set of prompts"),
        ({"texts": [3]}, "3 is no text"),
        ({"texts": [[1, 10**6]]}, "1000000"),
    ],
)
def test_what_is_none_of_these_is_refused_in_a_sentence(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    asked = {"model": examine(tiny.network(), None, name="tiny"), "components": "layer.1", "folder": tmp_path / "small"}
    with pytest.raises(HydrascopeError, match=said):
        hs.export(**{**asked, **more})
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    model = examine(tiny.network(), None, name="tiny")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    for name, said in {"full": "not empty", "full/mine.txt": "is a file", "dangling": "is a link to nothing"}.items():
        with pytest.raises(OutputError, match=said):
            hs.export(model, "layer.1", tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dangling", "full"]
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_written_to_through_a_link_too(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    hs.export(examine(tiny.network(), None, name="tiny"), "layer.1", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "config.json").exists()


def test_parents_that_were_made_go_again_when_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ExportRefused):
        hs.export(
            examine(registry.build("diffllama"), None, name="it"), "layer.1", tmp_path / "new" / "newer" / "small"
        )
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        hs.export(examine(tiny.network(), None, name="tiny"), "layer.1", tmp_path / "file" / "small")


@pytest.mark.parametrize(
    ("components", "kind", "said"),
    [
        ("layer", ExportRefused, "without any block"),
        ("attn.0->mlp.2", ExportRefused, "no part that a model can go without"),
        ("layer.9", ComponentError, "layer.9"),
        ("expert.0.1", ExportRefused, "no column of a projection"),
        ("mlp.1", ExportRefused, "no single output projection"),
    ],
)
def test_parts_that_cannot_go_are_refused(components: str, kind: type[Exception], said: str, tmp_path: Path) -> None:
    model = examine(build("mixtral"), None, name="mixtral")
    with pytest.raises(kind, match=said):
        hs.export(model, components, tmp_path / "small")
    assert not list(tmp_path.iterdir())


def test_a_wrong_folder_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison itself: a column that is not zeroed leaves nothing behind."""
    from hydrascope.exporting import _smaller

    monkeypatch.setattr(_smaller, "_cut", lambda module, cuts, path: None)
    with pytest.raises(ExportRefused, match="differ by"):
        hs.export(examine(build("llama"), None, name="llama"), "head.1.2", tmp_path / "small")
    assert not list(tmp_path.iterdir())
