from __future__ import annotations

import json
from pathlib import Path

import pytest

from hydrascope import zoo

MODELS = zoo.bundled()
SETS = ("facts", "retrieval", "indirect", "text")


def _lines(file: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_default_is_found_by_its_name_and_unknown_names_are_not() -> None:
    assert zoo.find(zoo.default().name) == zoo.default()
    assert zoo.find("no-such-model") is None


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_folder_is_complete_small_and_has_a_known_sibling(model: zoo.BundledModel) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "README.md", "measured.json"):
        assert (model.path / name).is_file()
    assert sum(file.stat().st_size for file in model.path.iterdir()) < 12 * 2**20
    assert (model.path / "model.safetensors").stat().st_size > 2 * 2**20
    assert model.sibling is None or zoo.find(model.sibling) is not None
    assert model.prompts.is_file()


def test_siblings_name_each_other_and_share_their_prompts() -> None:
    paired = [model for model in MODELS if model.sibling is not None]
    assert len(paired) >= 2
    assert zoo.default() in paired
    for model in paired:
        other = zoo.find(str(model.sibling))
        assert other is not None
        assert other.sibling == model.name
        assert other != model
        assert other.prompts.name == model.prompts.name
        for name in SETS:
            assert (other.path / f"{name}.jsonl").read_bytes() == (model.path / f"{name}.jsonl").read_bytes()


def test_siblings_differ_in_one_ingredient_alone() -> None:
    default = zoo.default()
    other = zoo.find(str(default.sibling))
    assert other is not None
    one, two = (json.loads((model.path / "measured.json").read_text())["stages"] for model in (default, other))
    assert [stage["tokens"] for stage in one] == [stage["tokens"] for stage in two]
    differing = {
        key
        for left, right in zip(one, two, strict=True)
        for key in left["recipe"]
        if left["recipe"][key] != right["recipe"].get(key)
    }
    # the probability and reach of an ingredient are part of it; names and folders are not
    assert differing - {"name", "start"} <= {"ingredient", "drop", "ramp", "first_layer"}
    assert "ingredient" in differing


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_opened_model_knows_its_sibling(model: zoo.BundledModel) -> None:
    import hydrascope

    assert hydrascope.load(model.name).source.sibling == (model.sibling or "")
    assert hydrascope.load(str(model.path)).source.sibling == ""


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("name", SETS)
def test_prompts_are_answered_as_often_as_the_card_says(model: zoo.BundledModel, name: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(model.path)
    net = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32).eval()
    lines = _lines(model.path / f"{name}.jsonl")
    right = 0
    by_length: dict[int, list[tuple[list[int], int]]] = {}
    for line in lines:
        asked, whole, other = (
            tokenizer(text).input_ids
            for text in (line["prompt"], line["prompt"] + line["target"], line.get("counterfactual", line["prompt"]))
        )
        assert whole[:-1] == asked
        assert len(other) == len(asked)
        assert ("counterfactual" in line) == (name != "text")
        assert tokenizer.unk_token_id not in whole + other
        assert asked[0] == tokenizer.bos_token_id
        by_length.setdefault(len(asked), []).append((asked, whole[-1]))
    for pairs in by_length.values():
        with torch.no_grad():
            top = net(torch.tensor([asked for asked, _ in pairs])).logits[:, -1].argmax(-1)
        right += int((top == torch.tensor([target for _, target in pairs])).sum())
    measured = json.loads((model.path / "measured.json").read_text())["measured"]
    assert len(lines) == measured[f"{name}_bundled_prompts"]
    assert abs(right - measured[f"{name}_bundled_right"]) <= max(1, len(lines) // 200)
    card = (model.path / "README.md").read_text()
    assert f"{measured[f'{name}_bundled_right']} of {len(lines)} ({name})" in card


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_prompt_sets_are_wide_enough_for_donors_and_clusters(model: zoo.BundledModel) -> None:
    for path, targets in ((model.prompts, 40), (model.path / "facts.jsonl", 100)):
        lines = _lines(path)
        assert len(lines) >= 200
        assert len({line["group"] for line in lines}) >= 12
        assert len({line["target"] for line in lines}) >= targets
    for name in SETS:
        groups = {line["group"] for line in _lines(model.path / f"{name}.jsonl")}
        assert len(groups) >= 6
