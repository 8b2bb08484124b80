"""Writes the folder of a pruned model in one step, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.utils import logging

from hydrascope.anatomy import Model
from hydrascope.components import Component, in_order, parse_knockouts
from hydrascope.engine import Constants
from hydrascope.errors import ExportRefused
from hydrascope.exporting._card import card
from hydrascope.exporting._folder import drafted, require_free
from hydrascope.exporting._given import ComponentsLike, TextsLike, given_addresses, given_texts
from hydrascope.exporting._narrower import narrower
from hydrascope.exporting._reopened import Reopened, Trimmed, require_same
from hydrascope.exporting._smaller import smaller
from hydrascope.exporting._speed import Speed, speed_of
from hydrascope.run import ModelLike, PathLike, given_model
from hydrascope.run_directory import folder_named


@dataclass(frozen=True)
class Exported:
    """A pruned model on disk.

    Attributes:
        path: its folder.
        removed: addresses of the parts that it lacks, in the whole model.
        error: largest difference from the model without them, as a share of the largest logit.
        parameters: weights of the whole model, and those of its own that are not zero.
        bytes: bytes of all weights of the whole model, and of its own.
        speed: how much faster it is, measured on this machine; None where it has as many weights and is as fast.
        groups: key-value groups by which the attention of every block is narrower.
        zeroed: why they are zeroed instead, where the library would not have a narrower model.
    """

    path: Path
    removed: tuple[str, ...]
    error: float
    parameters: tuple[int, int]
    bytes: tuple[int, int]
    speed: Speed | None
    groups: int = 0
    zeroed: str = ""


def export(
    model: ModelLike,
    components: ComponentsLike,
    folder: PathLike,
    *,
    texts: TextsLike = (),
    measured: Mapping[str, str] | None = None,
    constants: Mapping[str, Constants] | None = None,
) -> Exported:
    """Write a model without some of its parts.

    Whole blocks (`layer.5`) make it shorter and faster; key-value groups (`kv.5.1`) make it narrower where every block
    loses the same number of them. Attention layers, MLPs, heads and neurons are zeroed: exactly what their removal
    computes, and no faster. The folder is opened again by the plain library and compared, on random tokens and on
    texts, with a cache and without, with the model whose parts are left out.

    Args:
        model: model that `hydrascope.load` opened, or what it takes: a name, a folder, a module.
        components: addresses with commas between, such as `layer.20,layer.21` or `head.9.6`, or a list of them.
        folder: where to write; nothing may be there.
        texts: real texts to compare on: prompts in any form, or lists of token ids; the first four are taken.
        measured: what removing the parts cost, by what was measured, for the card.
        constants: what parts leave in their places, by address, place by place; others leave nothing. The bias of the
            projection that wrote a part must hold it.

    Raises:
        OutputError: there is something in the folder, or it cannot be written.
        HydrascopeError: model, parts or texts are not there.
        ExportRefused: the folder would compute something else; nothing is left behind.
    """
    path, named = folder_named(folder), given_addresses(components)
    require_free(path)
    model = given_model(model)
    missing, some = parts_of(model, named), given_texts(texts, model)
    model.require_unchanged()
    left = {part: constants[str(part)] for part in missing if constants and str(part) in constants}
    network = smaller(model, missing, left)
    narrow, groups = narrower(model, network, missing)
    trimmed = Trimmed(model, missing, left)
    place = path.resolve() if path.is_dir() else path  # a link stays one
    with drafted(place) as draft:
        seen, why = None, ""
        if groups:
            try:
                seen = _written(trimmed, narrow, draft, some)
            except ExportRefused as error:  # zeros do as well
                why = " ".join(str(error.__cause__ or error).split())[:200]
        if seen is None:
            groups, seen = 0, _written(trimmed, network, draft, some)
        before, after = _nbytes(model.network), _nbytes(seen.network)
        found = Exported(
            path,
            tuple(map(str, missing)),
            seen.error,
            (model.source.n_parameters, _not_zero(seen.network)),
            (before, after),
            None if before == after else speed_of(model, seen.network),
            groups,
            why,
        )
        (draft / "README.md").write_text(card(model, missing, saving(found, missing), measured or {}), encoding="utf-8")
        if place.is_dir():
            place.rmdir()
        os.replace(draft, place)
    return found


def _written(trimmed: Trimmed, network: Any, draft: Path, texts: Sequence[Sequence[int]]) -> Reopened:
    """Write a folder and hold it to the model without the parts."""
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    with _without_bars():
        _write(trimmed.model, network, draft)
        return require_same(trimmed, draft, [torch.tensor([list(ids)]) for ids in texts])


@contextmanager
def _without_bars() -> Iterator[None]:
    """Keep the library's own bars away, for a moment."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def parts_of(model: Model, components: str) -> tuple[Component, ...]:
    """The parts that addresses name, each once, in the order of the forward pass; a block stands for all in it.

    Raises:
        ComponentError: an address names no part of the model.
        ExportRefused: it names no part that can be removed.
    """
    found: dict[Component, None] = {}
    for knockout in parse_knockouts(components, model.anatomy.inventory):
        if knockout.sender is not None or knockout.frozen:
            raise ExportRefused(f"'{knockout}' is no part that a model can go without; name blocks, heads or neurons")
        found |= dict.fromkeys(knockout.parts)
    blocks = {part.layer for part in found if part.kind == "layer"}
    return in_order(part for part in found if part.kind == "layer" or part.layer not in blocks)


def saving(exported: Exported, missing: Sequence[Component]) -> str:
    """What a pruned model saves, in a sentence."""
    before, after = exported.bytes
    if exported.speed is None:
        zero = exported.parameters[0] - exported.parameters[1]
        return (
            f"It is as large and as fast as the whole model, since it has as many weights: {zero:,} of them are zero."
            f"{_instead(exported)}"
        )
    blocks = sum(part.kind == "layer" for part in missing)
    many = "1 block shorter" if blocks == 1 else f"{blocks} blocks shorter"
    narrow = f"narrower by {exported.groups} of the key-value groups of every block"
    how = [said for said, is_so in ((many, blocks), (narrow, exported.groups)) if is_so]
    cut = ("layer", "kv", "head") if exported.groups else ("layer",)
    rest = any(part.kind not in cut for part in missing)
    zeroed = " Parts smaller than that are zeroed and save nothing." if rest else ""
    speed = exported.speed
    return (
        f"It is {' and '.join(how)}: {(before - after) / 2**20:,.1f} of {before / 2**20:,.1f} MB are gone, and where "
        f"it was made it is {speed.ratio:.2f} times as fast (half of {speed.rounds} rounds: {speed.lower:.2f} to "
        f"{speed.upper:.2f}): {speed.own:,.0f} tokens a second in place of {speed.whole:,.0f}.{zeroed}"
        f"{_instead(exported)}"
    )


def _instead(exported: Exported) -> str:
    """Why key-value groups were zeroed, if they could have gone."""
    return f" Its key-value groups are zeroed instead of cut out, because: {exported.zeroed}" if exported.zeroed else ""


def _write(model: Model, network: Any, folder: Path) -> None:
    try:
        network.save_pretrained(folder)
        if model.tokenizer is not None:
            model.tokenizer.save_pretrained(folder)
    except OSError:
        raise
    except Exception as error:  # a config that no longer fits can make the library fail in any way
        said = " ".join(str(error).split())[:200]
        raise ExportRefused(
            f"the library cannot save '{model.source.label}' with fewer parts ({type(error).__name__}: {said})"
        ) from error


def _not_zero(network: nn.Module) -> int:
    return sum(int(torch.count_nonzero(weight)) for weight in network.parameters())


def _nbytes(network: nn.Module) -> int:
    return sum(weight.nbytes for weight in network.parameters())
