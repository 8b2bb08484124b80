"""A model with its tokenizer, its anatomy, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from hydrascope.anatomy._anatomy import Anatomy
from hydrascope.anatomy._precision import CLOSING, precision
from hydrascope.anatomy._weights import devices, model_dtype


@dataclass(frozen=True)
class ModelSource:
    """Where a model came from and in which form it runs.

    Attributes:
        name: as the user wrote it.
        label: short name for pictures and folders.
        revision: commit of a hub model, or empty.
        family: the library's model type.
        weight_digest: sha256 over names, shapes and evenly spaced values of all weights.
        dtype: number format that is computed in, for example `float32`.
        device: where the weights are, for example `cpu` or `cuda:0, cpu until used`.
        n_parameters: number of weights.
        packing: how they are quantised, for example `bitsandbytes 4-bit`; empty where they are not.
        sibling: bundled model that differs from this one in one ingredient of training, or empty.
    """

    name: str
    label: str
    revision: str
    family: str
    weight_digest: str
    dtype: str
    device: str
    n_parameters: int
    packing: str = ""
    sibling: str = ""


@dataclass(frozen=True)
class Model:
    """A model ready to be knocked out.

    Attributes:
        network: the Hugging Face module, in eval mode; never changed, only run.
        tokenizer: its tokenizer, or None when prompts come as token ids.
        anatomy: its writers, heads and tail, proved.
        source: where it came from.
    """

    network: Any
    tokenizer: Any
    anatomy: Anatomy
    source: ModelSource

    @property
    def device(self) -> torch.device:
        """Where its embedding computes."""
        return self.devices[0]

    @cached_property
    def devices(self) -> tuple[torch.device, ...]:
        """Every device on which some of it computes."""
        return devices(self.network)

    @cached_property
    def dtype(self) -> torch.dtype:
        """The number format that it computes in; of several the coarsest."""
        return model_dtype(self.network)

    @cached_property
    def all_float32(self) -> bool:
        """Whether every weight is kept in float32, so that rows of different passes round nearly alike."""
        return all(weight.dtype == torch.float32 for weight in self.network.parameters())

    @cached_property
    def closing_tolerance(self) -> float:
        """Largest |remainder| / max(1, |total effect|) of an account that counts as closed."""
        return CLOSING[precision(self.network)]

    @property
    def context(self) -> int:
        """Most tokens it can read; a very large number when its config names no limit."""
        config = self.network.config.get_text_config()
        limits = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "n_ctx"))
        return next((int(limit) for limit in limits if limit), 1 << 30)
