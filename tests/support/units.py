"""What the tests of heads, neurons and groups share: models with random weights, prompts of mixed lengths, a ledger."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import xarray as xr

import hydrascope as hs
from hydrascope.anatomy import examine
from tests.support.families import FAMILIES, VOCABULARY, build_from

_BIASED = {"attention_bias": True}
ALL = FAMILIES | {
    "olmo2_biased": replace(FAMILIES["olmo2"], config={**FAMILIES["olmo2"].config, **_BIASED}),
    "llama_biased": replace(FAMILIES["llama"], config={**FAMILIES["llama"].config, **_BIASED, "mlp_bias": True}),
}


@functools.cache
def model(name: str) -> hs.Model:
    """A model of a family; treat it as read-only."""
    return examine(build_from(ALL[name]), None, name=name)


@dataclass(frozen=True)
class Asked:
    """Random prompts and their targets, and the options that a file's ledgers have unless told otherwise."""

    prompts: tuple[tuple[int, ...], ...]
    targets: tuple[int, ...]
    options: dict[str, Any]

    @classmethod
    def of(cls, seed: int, lengths: Sequence[int], targets: Sequence[int], **options: Any) -> Asked:
        """Prompts of these lengths."""
        generator = torch.Generator().manual_seed(seed)
        drawn = [tuple(torch.randint(3, VOCABULARY, (n,), generator=generator).tolist()) for n in lengths]
        return cls(tuple(drawn), tuple(targets), options)

    def prompt_set(self) -> hs.PromptSet:
        """As a run takes them."""
        rows = zip(self.prompts, self.targets, strict=True)
        return hs.PromptSet("random", tuple(hs.Prompt(input_ids=ids, target_id=target) for ids, target in rows))

    def ledger(self, name: str, components: str, ablation: Any = None, **more: Any) -> xr.Dataset:
        """A run on them, with zeros unless another ablation is given."""
        options = hs.Options(components=components, keep_wrong=True, **{"null_draws": 0, **self.options, **more})
        return hs.knock_out(model(name), self.prompt_set(), ablation=ablation or hs.Zero(), options=options).dataset
