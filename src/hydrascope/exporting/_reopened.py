"""The written folder opened by the plain library, and held to the model without the parts."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope.anatomy import Model, precision
from hydrascope.components import Component
from hydrascope.engine import Constants, Trunk
from hydrascope.errors import ExportRefused

TOKENS, GENERATED = 12, 6
"""Length of the random texts, and how many tokens each is continued by."""
ALIKE = {torch.float64: 1e-5, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}
"""Largest difference of two logits that count as equal, as a share of the largest logit."""


@dataclass(frozen=True)
class Reopened:
    """What was seen of the written folder.

    Attributes:
        error: largest difference from the model without the parts, as a share of the largest logit.
        network: what the library opened.
    """

    error: float
    network: Any


@dataclass(frozen=True)
class Trimmed:
    """A model without some of its parts, as it was judged.

    Attributes:
        model: the whole model.
        missing: the parts that went.
        constants: what they leave in their places; a part that is not among them leaves nothing.
    """

    model: Model
    missing: Collection[Component]
    constants: Mapping[Component, Constants]

    def logits(self, ids: Int[Tensor, "texts tokens"]) -> Float[Tensor, "texts tokens vocab"]:
        """Its logits at every position."""
        return Trunk.grow(self.model, ids, constants=self.constants).logits(self.model, *self.missing)

    @property
    def reason(self) -> str:
        """What can make a folder differ, and what to do."""
        if any(part.kind == "layer" for part in self.missing):
            return "something in it depends on the number of its blocks; nothing was kept, so remove heads or neurons"
        return "a part writes by more than one projection; nothing was kept, so remove others"


def require_same(trimmed: Trimmed, folder: Path, texts: Sequence[Int[Tensor, "1 _"]]) -> Reopened:
    """Refuse a folder that computes something else than the model without the parts.

    Args:
        trimmed: the model without the parts.
        folder: what was written.
        texts: real texts, each tensor of one length.

    Returns:
        What the library opened, and the largest difference of logits that was met.

    Raises:
        ExportRefused: it does not open, or its logits are others, with or without a cache.
    """
    model = trimmed.model
    opened = _open(model, folder)
    generator, label = torch.Generator().manual_seed(0), model.source.label
    few = min(TOKENS, max(2, model.context - GENERATED))
    random = torch.randint(3, max(4, model.anatomy.n_vocab - 1), (2, few), generator=generator)
    worst = 0.0
    for ids in (random, *texts):
        ids = ids.to(model.device)
        with torch.no_grad():
            found = opened(input_ids=ids, use_cache=False).logits
        worst = max(worst, _difference(trimmed.logits(ids), found))
    if worst <= (allowed := ALIKE[precision(model.network)]) and opened.can_generate():
        worst = max(worst, _generated(trimmed, opened, random.to(model.device)))
    if not worst <= allowed:
        raise ExportRefused(
            f"'{label}' without {_named(trimmed.missing)} and the folder that was written for it differ by {worst:.0e} "
            f"of the largest logit, since {trimmed.reason} instead"
        )
    return Reopened(worst, opened)


def _named(missing: Collection[Component]) -> str:
    names = [str(part) for part in sorted(missing)]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _open(model: Model, folder: Path) -> Any:
    kind: Any = getattr(transformers, type(model.network).__name__, transformers.AutoModelForCausalLM)
    try:
        opened, info = kind.from_pretrained(
            folder, dtype=model.dtype, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # a config that no longer fits can make the library fail in any way
        said = " ".join(str(error).split())[:200]
        raise ExportRefused(
            f"the library cannot open '{model.source.label}' with fewer parts ({type(error).__name__}: {said}); "
            "nothing was kept, so remove heads or neurons instead"
        ) from error
    lost = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
    if lost:
        raise ExportRefused(
            f"the library opens '{model.source.label}' with fewer parts otherwise than it was written, first "
            f"'{sorted(map(str, lost))[0]}'; nothing was kept, so remove heads or neurons instead"
        )
    return opened.to(model.device).eval()


def _difference(right: Tensor, found: Tensor) -> float:
    if right.shape != found.shape or not torch.isfinite(found).all():
        return float("inf")
    return float((right.double() - found.double()).abs().max() / right.double().abs().max().clamp_min(1e-30))


def _generated(trimmed: Trimmed, opened: Any, ids: Int[Tensor, "texts tokens"]) -> float:
    """How far logits of a continuation that is made with a cache differ from those of whole texts without one."""
    try:
        made = opened.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=GENERATED,
            min_new_tokens=GENERATED,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            pad_token_id=0,
            output_logits=True,
            return_dict_in_generate=True,
        )
    except Exception as error:  # likewise
        raise ExportRefused(
            f"the folder written for '{trimmed.model.source.label}' cannot continue a text ({type(error).__name__}); "
            "nothing was kept, so remove heads or neurons instead"
        ) from error
    right = trimmed.logits(made.sequences)
    return _difference(right[:, ids.shape[1] - 1 : -1], torch.stack(made.logits, 1).to(right))
