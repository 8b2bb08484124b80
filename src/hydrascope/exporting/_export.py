"""Writes the folder of a pruned model in one step, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hydrascope.anatomy import Model
from hydrascope.components import Component, in_order, parse_knockouts
from hydrascope.engine import Constants
from hydrascope.errors import ExportRefused, OutputError
from hydrascope.exporting._card import card
from hydrascope.exporting._reopened import Trimmed, require_same
from hydrascope.exporting._smaller import smaller

_AT_ONCE = 4
"""Real texts that are compared."""


@dataclass(frozen=True)
class Exported:
    """A pruned model on disk.

    Attributes:
        path: its folder.
        removed: addresses of the parts that it lacks, in the whole model.
        error: largest difference from the model without them, as a share of the largest logit.
        parameters: weights of the whole model, and those of its own that are not zero.
        bytes: bytes of all weights of the whole model, and of its own.
        speed: tokens a second of the whole model and its own, in forwards without a cache on this machine.
    """

    path: Path
    removed: tuple[str, ...]
    error: float
    parameters: tuple[int, int]
    bytes: tuple[int, int]
    speed: tuple[float, float]


def export(
    model: Model,
    components: str,
    folder: str | Path,
    *,
    texts: Collection[Sequence[int]] = (),
    measured: Mapping[str, str] | None = None,
    constants: Mapping[str, Constants] | None = None,
) -> Exported:
    """Write a model without some of its parts.

    Whole blocks (`layer.5`) make it shorter and faster. Attention layers, MLPs, heads and neurons are zeroed: exactly
    what their removal computes, and no faster. The folder is opened again by the plain library and compared, on random
    tokens and on texts, with a cache and without, with the model whose parts are left out.

    Args:
        model: model that `hydrascope.load` opened.
        components: addresses with commas between, such as `layer.20,layer.21` or `head.9.6`.
        folder: where to write; nothing may be there.
        texts: token ids of real texts to compare on.
        measured: what removing the parts cost, by what was measured, for the card.
        constants: what parts leave in their places, by address, place by place; others leave nothing. The bias of the
            projection that wrote a part must hold it.

    Raises:
        OutputError: there is something in the folder, or it cannot be written.
        ExportRefused: the folder would compute something else; nothing is left behind.
    """
    path = Path(folder)
    missing = parts_of(model, components)
    require_free(path)
    model.require_unchanged()
    left = {part: constants[str(part)] for part in missing if constants and str(part) in constants}
    network = smaller(model, missing, left)
    draft = path.with_name(f".{path.name}.new")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        _write(model, network, draft)
        seen = require_same(Trimmed(model, missing, left), draft, _stacked(texts))
        found = Exported(
            path,
            tuple(map(str, missing)),
            seen.error,
            (model.source.n_parameters, _not_zero(network)),
            (_nbytes(model.network), _nbytes(network)),
            seen.speed,
        )
        (draft / "README.md").write_text(
            card(model.source, missing, saving(found, missing), measured or {}), encoding="utf-8"
        )
        if path.is_dir():
            path.rmdir()
        os.replace(draft, path)
    except OSError as error_of_disk:
        raise OutputError(
            f"'{path}' cannot be written: {error_of_disk.strerror or error_of_disk}; choose another folder"
        ) from error_of_disk
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return found


def require_free(folder: Path) -> None:
    """Refuse a folder that has something in it.

    Raises:
        OutputError: it has.
    """
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputError(f"'{folder}' exists and is not empty; choose another folder for the smaller model")


def parts_of(model: Model, components: str) -> tuple[Component, ...]:
    """The parts that addresses name, each once, in the order of the forward pass.

    Raises:
        ComponentError: an address names no part of the model.
        ExportRefused: it names no part that can be removed.
    """
    found: dict[Component, None] = {}
    for knockout in parse_knockouts(components, model.anatomy.inventory):
        if knockout.sender is not None or knockout.frozen:
            raise ExportRefused(f"'{knockout}' is no part that a model can go without; name blocks, heads or neurons")
        found |= dict.fromkeys(knockout.parts)
    return in_order(found)


def saving(exported: Exported, missing: Sequence[Component]) -> str:
    """What a pruned model saves, in a sentence."""
    before, after = exported.bytes
    if before == after:
        zero = exported.parameters[0] - exported.parameters[1]
        return f"It is as large and as fast as the whole model: {zero:,} of its weights are zero."
    blocks = sum(part.kind == "layer" for part in missing)
    zeroed = "" if blocks == len(missing) else " Parts smaller than a block are zeroed and save nothing."
    many = "1 block" if blocks == 1 else f"{blocks} blocks"
    whole, own = exported.speed
    return (
        f"It is {many} shorter: {(before - after) / 2**20:,.1f} of {before / 2**20:,.1f} MB are gone, and where it was "
        f"made it takes {own:,.0f} tokens a second in place of {whole:,.0f}.{zeroed}"
    )


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


def _stacked(texts: Collection[Sequence[int]]) -> list[torch.Tensor]:
    return [torch.tensor([list(ids)]) for ids, _ in zip(texts, range(_AT_ONCE), strict=False)]


def _not_zero(network: nn.Module) -> int:
    return sum(int(torch.count_nonzero(weight)) for weight in network.parameters())


def _nbytes(network: nn.Module) -> int:
    return sum(weight.nbytes for weight in network.parameters())
