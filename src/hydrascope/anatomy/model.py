"""A model with its tokenizer, its anatomy, and where it came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from hydrascope.anatomy.spec import Anatomy


@dataclass(frozen=True)
class Source:
    """Where a model came from and in which form it runs.

    Attributes:
        name: as the user wrote it.
        label: short name for pictures and folders.
        revision: commit of a hub model, or empty.
        family: the library's model type.
        weight_digest: sha256 over names, shapes and evenly spaced values of all weights.
        dtype: number format of the weights, for example `float32`.
        device: for example `cpu`.
        n_parameters: number of weights.
    """

    name: str
    label: str
    revision: str
    family: str
    weight_digest: str
    dtype: str
    device: str
    n_parameters: int


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
    source: Source

    @property
    def device(self) -> torch.device:
        """Where its embedding lives."""
        return next(iter(self.network.parameters())).device  # type: ignore[no-any-return]

    @property
    def dtype(self) -> torch.dtype:
        """Number format of its weights."""
        return next(iter(self.network.parameters())).dtype  # type: ignore[no-any-return]

    @property
    def context(self) -> int:
        """Most tokens it can read; a very large number when its config names no limit."""
        config = self.network.config.get_text_config()
        limits = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "n_ctx"))
        return next((int(limit) for limit in limits if limit), 1 << 30)


def weight_digest(network: nn.Module, samples: int = 4096) -> str:
    """A fingerprint of all weights from evenly spaced values of each, quick even for large models.

    Args:
        network: the model.
        samples: values read per tensor.

    Returns:
        The first 16 hexadecimal digits of a sha256.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        flat = tensor.detach().flatten()
        step = max(1, flat.numel() // samples)
        digest.update(flat[::step].double().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
