"""Constants in the place of removed parts: against plain loops, learned ones against zeros and means, and exported."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

import hydrascope as hs
from hydrascope.anatomy import Model, Place, examine
from hydrascope.components import Component
from hydrascope.engine import Budget, Constants
from hydrascope.errors import ExportRefused, OutputError
from hydrascope.pruning import Judge, Store, Texts, constants_of
from tests.exporting.test_export import logits, some_ids
from tests.pruning.test_rankings import with_two_backups
from tests.support import texts as support
from tests.support.families import build

TWO = {
    "layer": (Component("layer", 1), Component("layer", 2)),
    "attn": (Component("attn", 0), Component("mlp", 2)),
    "head": (Component("head", 0, 1), Component("head", 2, 3)),
    "neuron": (Component("neuron", 1, 5), Component("neuron", 1, 6)),
}


@functools.cache
def opened(name: str) -> Model:
    """A tiny model with weights large enough that every part counts."""
    return examine(build(name), None, name=name)


@functools.cache
def texts() -> Texts:
    """Eight random texts of two lengths."""
    drawn = torch.Generator().manual_seed(2)
    ids = [tuple(torch.randint(3, 97, (9 if i < 5 else 12,), generator=drawn).tolist()) for i in range(8)]
    return Texts(tuple(ids), tuple(f"document {i % 4}" for i in range(8)))


def constants(name: str, parts: Sequence[Component], replace: Any) -> dict[Component, Constants]:
    return constants_of(opened(name), texts(), parts, replace, Budget.read("1 GB"), lambda done, total: None)


@contextmanager
def at(model: Model, places: Sequence[Place], do: Callable[[Tensor, Place], Tensor | None]) -> Iterator[None]:
    """Watch or change module inputs and outputs by torch's own hooks."""
    handles = []
    for place in places:
        module: Any = model.network.get_submodule(place.site.module)
        if place.site.side == "input":

            def before(_: Any, args: Any, place: Place = place) -> Any:
                changed = do(args[0], place)
                return None if changed is None else (changed, *args[1:])

            handles.append(module.register_forward_pre_hook(before))
        else:

            def behind(_: Any, __: Any, out: Any, place: Place = place) -> Any:
                changed = do(out[0] if isinstance(out, tuple) else out, place)
                return (changed, *out[1:]) if changed is not None and isinstance(out, tuple) else changed

            handles.append(module.register_forward_hook(behind))
    yield
    for handle in handles:
        handle.remove()


def replaced(model: Model, values: Mapping[Component, Constants], ids: Tensor) -> Tensor:
    """Logits of a plain forward in which constants stand in the places of parts."""
    given = {
        place: value
        for part, some in values.items()
        for place, value in zip(model.anatomy.places(part), some, strict=True)
    }

    def put(tensor: Tensor, place: Place) -> Tensor:
        changed = tensor.clone()
        changed[..., place.span] = given[place]
        return changed

    with at(model, list(given), put):
        return logits(model.network, ids)


@pytest.mark.parametrize("kind", TWO)
@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_means_are_those_of_plain_forwards_and_so_are_costs(name: str, kind: str) -> None:
    model, parts = opened(name), TWO[kind]
    found = constants(name, parts, "mean")
    seen: dict[Place, list[Tensor]] = {place: [] for part in parts for place in model.anatomy.places(part)}
    with at(model, list(seen), lambda tensor, place: seen[place].append(tensor[0, :, place.span].clone())):
        for text in texts().ids:
            logits(model.network, torch.tensor([list(text)]))
    for part in parts:
        for place, value in zip(model.anatomy.places(part), found[part], strict=True):
            torch.testing.assert_close(value, torch.cat(seen[place]).mean(0), rtol=1e-4, atol=1e-5)
    judge = Judge(model, texts(), Store(None, "calibration"), constants=found)
    total = []
    for text in texts().ids:
        ids = torch.tensor([list(text)])
        said = replaced(model, found, ids)[0, :-1].log_softmax(-1)
        total.append(float(-said.gather(-1, ids[0, 1:, None]).sum()))
    np.testing.assert_allclose(judge.cost(parts).loss, total, rtol=1e-5)
    plain = Judge(model, texts(), Store(None, "calibration"))
    assert abs(plain.loss(parts) - judge.loss(parts)) > 1e-5  # a constant is not nothing
    judge.stand_on(parts[:1])
    standing = Judge(model, texts(), Store(None, "calibration"), constants=found)
    standing.stand_on(parts[:1])
    np.testing.assert_allclose(standing.cost(parts).loss, total, rtol=1e-5)


@pytest.mark.parametrize("kind", ["layer", "head"])
def test_a_learned_constant_costs_less_than_zeros_and_means(kind: str) -> None:
    part = TWO[kind][0]
    zero = (torch.zeros(place.width) for place in opened("gpt2").anatomy.places(part))
    tried = {"zero": {part: tuple(zero)}} | {of: constants("gpt2", [part], of) for of in ("mean", "optimal")}
    kl = {
        of: Judge(opened("gpt2"), texts(), Store(None, "calibration"), constants=found).kl([part])
        for of, found in tried.items()
    }
    assert kl["optimal"] < 0.99 * min(kl["zero"], kl["mean"])


def test_the_mean_stands_in_for_parts_that_always_write_the_same() -> None:
    """Two backups raise an axis alike on every text: a blind ranking removes both, which their means make good."""
    table = {of: with_two_backups("kl", remove=6, replace=of).costs().iloc[0] for of in ("removal", "mean")}
    assert all({"attn.1", "attn.2"} <= set(row["removed"].split("+")) for row in table.values())
    assert table["removal"]["rise"] > 0.9
    assert table["mean"]["rise"] < 0.1


def test_zeros_in_a_blocks_places_are_its_absence_where_nothing_rescales_the_stream() -> None:
    found = constants("gpt2", TWO["layer"], "zero")
    with_zeros = Judge(opened("gpt2"), texts(), Store(None, "c"), constants=found)
    skipped = Judge(opened("gpt2"), texts(), Store(None, "c"))
    np.testing.assert_allclose(with_zeros.loss(TWO["layer"]), skipped.loss(TWO["layer"]), rtol=1e-5)
    assert constants("gpt2", TWO["head"], "zero") == {}  # zero is what a removed head is


@pytest.mark.parametrize("kind", ["attn", "head", "neuron"])
@pytest.mark.parametrize("name", ["gpt2", "phi", "gpt_neox"])
def test_a_bias_holds_the_constant_in_the_smaller_model(name: str, kind: str, tmp_path: Path) -> None:
    found = constants(name, TWO[kind], "mean")
    by_name = {str(part): some for part, some in found.items()}
    hs.export(opened(name), ",".join(by_name), tmp_path / "small", constants=by_name)
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype=torch.float32)
    right = replaced(opened(name), found, some_ids())
    torch.testing.assert_close(logits(small, some_ids()), right, rtol=0, atol=1e-4 * float(right.abs().max()))
    hs.export(opened(name), ",".join(by_name), tmp_path / "zeroed")
    zeroed = AutoModelForCausalLM.from_pretrained(tmp_path / "zeroed", dtype=torch.float32)
    assert (logits(zeroed, some_ids()) - right).abs().max() > 1e-3 * right.abs().max()


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        ("llama", "head", "has no bias"),
        ("gpt2", "layer", "no bias for the constant that layer.1"),
        ("gemma2", "attn", "no bias"),
    ],
)
def test_a_constant_that_no_bias_holds_is_refused(name: str, kind: str, said: str, tmp_path: Path) -> None:
    by_name = {str(part): some for part, some in constants(name, TWO[kind], "mean").items()}
    with pytest.raises(ExportRefused, match=said):
        hs.export(opened(name), ",".join(by_name), tmp_path / "small", constants=by_name)
    assert not list(tmp_path.iterdir())


def test_a_pruning_keeps_its_constants_and_exports_with_them(tmp_path: Path) -> None:
    def pruned(**more: Any) -> hs.Prune:
        asked = {"remove": 2, "calibrate": 60, "test": 90, "replace": "mean", "out": tmp_path / "p"}
        return hs.prune(support.tiny_model(), support.tiny_texts(), "heads", "loss,last", **{**asked, **more})

    found = pruned()
    exported = found.export(support.tiny_model(), tmp_path / "small")
    assert exported.error < 1e-4
    assert "| left in its place | its mean output |" in (tmp_path / "small" / "README.md").read_text()
    kept = (tmp_path / "p" / "constants.json").read_text()
    (tmp_path / "p" / "costs.jsonl").unlink()
    assert pruned(overwrite=True).costs().equals(found.costs())
    assert (tmp_path / "p" / "constants.json").read_text() == kept
    assert not pruned(replace="removal", overwrite=True).costs().equals(found.costs())
    assert not (tmp_path / "p" / "constants.json").exists()
    pruned(overwrite=True)
    (tmp_path / "p" / "constants.json").write_text(kept.replace("1", "2", 1))
    with pytest.raises(OutputError, match="not what was written"):
        hs.Prune.open(tmp_path / "p")
