"""GGUF files: the weights arrive where they belong, as plain numbers, and what is passed over is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import hydrascope as hs
from hydrascope.anatomy import CLOSING, _gguf, load
from hydrascope.run import open_model, recorded_request
from tests.conftest import Cli
from tests.support import gguf_file
from tests.support.families import build

pytest.importorskip("gguf")

IDS = torch.tensor([[5, 60, 11, 30, 8]])
PROMPTS = hs.PromptSet("one", (hs.Prompt(input_ids=tuple(IDS[0].tolist()), target_id=7),))
OPTIONS = hs.Options(keep_wrong=True, null_draws=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("gguf")
    gguf_file.write(made / "plain.gguf", build("llama"))
    gguf_file.write(made / "small.gguf", build("llama"), in_eight_bits=True)
    return made


def test_a_file_is_the_model_that_it_was_made_from(folder: Path) -> None:
    model, right = load(folder / "plain.gguf"), load(build("llama"))
    with torch.no_grad():
        assert torch.equal(model.network(IDS).logits, right.network(IDS).logits)
    assert model.source.weight_digest == right.source.weight_digest
    assert (model.source.label, model.source.gguf) == ("plain", "plain.gguf")
    found, expected = (
        hs.knock_out(one, PROMPTS, "attn,mlp", hs.Zero(), options=OPTIONS, freeze=False).dataset
        for one in (model, right)
    )
    np.testing.assert_array_equal(found.total_effect, expected.total_effect)


def test_eight_bits_become_plain_numbers_that_are_held_to_float32(folder: Path) -> None:
    model = load(folder, gguf="small.gguf")
    assert (model.source.dtype, model.source.packing) == ("float32", "")
    assert model.closing_tolerance == CLOSING[torch.float32]
    with torch.no_grad():
        difference = (model.network(IDS).logits - build("llama")(IDS).logits).abs().max()
    assert 0 < difference < 0.5


def test_what_opens_it_again_is_recorded(folder: Path, tmp_path: Path, cli: Cli) -> None:
    for name, model in (("file", load(folder / "small.gguf")), ("folder", load(folder, gguf="small.gguf"))):
        hs.knock_out(model, PROMPTS, "attn.1", hs.Zero(), options=OPTIONS, freeze=False, out=tmp_path / name)
        assert open_model(recorded_request(tmp_path / name)).source == model.source
        record = json.loads((tmp_path / name / "run.json").read_text())
        assert record["model"]["gguf"] == "small.gguf"
        assert ("--gguf small.gguf" in record["command"]) is (name == "folder")
    assert "weights of 'small.gguf' made plain numbers" in cli("inspect", folder, "--gguf", "small.gguf").out


def test_tensors_that_are_passed_over_are_refused(tmp_path: Path, cli: Cli) -> None:
    """Llama 3 keeps the scaling of its rotary frequencies in such a tensor, and transformers does not read it."""
    path = gguf_file.write(tmp_path / "m.gguf", build("llama"), more={"rope_freqs.weight": np.ones(4, np.float32)})
    assert "hold 1 tensor that its config has no place for, first 'rope_freqs.weight'" in cli("inspect", path).refusal()
    assert load(path, allow_unused=True).source.unused == ("rope_freqs.weight",)


def test_a_file_of_the_same_name_here_is_not_taken_instead(
    folder: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = load(folder / "plain.gguf").source.weight_digest
    gguf_file.write(tmp_path / "plain.gguf", build("llama", seed=1))
    monkeypatch.chdir(tmp_path)
    assert load(folder / "plain.gguf").source.weight_digest == right
    assert load(folder, gguf="plain.gguf").source.weight_digest == right
    assert load("plain.gguf").source.weight_digest != right
    assert "is both a file here and" in cli("inspect", "some/one", "--gguf", "plain.gguf").refusal()


def no_library(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    monkeypatch.setattr(_gguf, "find_spec", lambda name: None)
    return (folder / "plain.gguf",)


def no_such_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    return folder, "--gguf", "other.gguf"


def not_chosen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    (folder / "config.json").write_text(build("llama").config.to_json_string())
    return (folder,)


def no_gguf(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    (folder / "plain.gguf").write_bytes(b"PK not this")
    return (folder / "plain.gguf",)


def cut_short(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    path = folder / "plain.gguf"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return (path,)


def garbage(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    (folder / "plain.gguf").write_bytes(b"GGUF" + bytes(range(256)) * 8)
    return (folder / "plain.gguf",)


REFUSED: list[tuple[Callable[..., tuple[object, ...]], str]] = [
    (no_library, "is not installed; run pip install 'hydrascope[gguf]'"),
    (no_such_file, "has no file 'other.gguf'; its GGUF files are: plain.gguf"),
    (not_chosen, "choose the file (--gguf plain.gguf)"),
    (no_gguf, "does not begin with the letters GGUF"),
    (cut_short, "the GGUF file 'plain.gguf' of '"),
    (garbage, "cannot be read: "),
]


@pytest.mark.parametrize(("spoil", "says"), REFUSED, ids=[spoil.__name__ for spoil, _ in REFUSED])
def test_files_that_cannot_be_read_are_refused_in_a_sentence(
    spoil: Callable[..., tuple[object, ...]], says: str, folder: Path, tmp_path: Path, cli: Cli, monkeypatch
) -> None:
    here = tmp_path / "m"
    here.mkdir()
    (here / "plain.gguf").write_bytes((folder / "plain.gguf").read_bytes())
    assert says in cli("inspect", *spoil(here, monkeypatch)).refusal()
