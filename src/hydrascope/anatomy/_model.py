"""A model with its tokenizer, its anatomy and its source."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from hydrascope._card import card
from hydrascope.anatomy._anatomy import Anatomy
from hydrascope.anatomy._precision import CLOSING, precision
from hydrascope.anatomy._weights import describe_devices, devices, model_dtype, weight_digest
from hydrascope.errors import ModelError


@dataclass(frozen=True)
class ModelSource:
    """Where a model came from and in which form it runs.

    Attributes:
        name: name of the model as the user wrote it.
        label: short name for charts and folders.
        family: transformers' model type, for example `llama`.
        weight_digest: sha256 over names, shapes and evenly spaced values of all weights.
        dtype: dtype that the model computes in, for example `float32`.
        device: where the weights are, for example `cpu` or `cuda:0, cpu until used`.
        n_parameters: number of weights.
        revision: commit of a hub model, or empty.
        packing: how the weights are quantised, for example `bitsandbytes 4-bit`; empty where they are not.
        sibling: bundled model that differs from this one in one ingredient of training, or empty.
        adapter: folder or hub id of the adapter that is in it, or empty.
        merged: whether the adapter is added to the weights, and is not modules of its own.
        gguf: GGUF file that the weights were read from, or empty.
        unused: tensors of the checkpoint that the model does not use.
        random_weights: seed of the weights where they were drawn at random and never trained, or None.
    """

    name: str
    label: str
    family: str
    weight_digest: str
    dtype: str
    device: str
    n_parameters: int
    revision: str = ""
    packing: str = ""
    sibling: str = ""
    adapter: str = ""
    merged: bool = False
    gguf: str = ""
    unused: tuple[str, ...] = ()
    random_weights: int | None = None


@dataclass(frozen=True)
class Model:
    """A model whose anatomy is known and proved.

    Attributes:
        network: the Hugging Face module, in eval mode; it is run and never changed.
        tokenizer: its tokenizer, or None if prompts come as token ids.
        anatomy: its writers, units and tail.
        source: its name, revision, dtype and device.
    """

    network: Any
    tokenizer: Any
    anatomy: Anatomy
    source: ModelSource

    def _repr_html_(self) -> str:
        source, anatomy = self.source, self.anatomy
        facts = {
            "family": f"{source.family}, {source.n_parameters:,} parameters",
            "blocks": f"{anatomy.n_layers} of width {anatomy.d_model}, {len(anatomy.writers)} writers proved",
            "numbers": f"{source.dtype} on {source.device}",
            "weights": source.packing,
        }
        return card(source.label, facts)

    @property
    def device(self) -> torch.device:
        """The device on which its embedding computes."""
        return self.devices[0]

    @cached_property
    def devices(self) -> tuple[torch.device, ...]:
        """Every device on which a part of it computes, the embedding's first."""
        return devices(self.network)

    @cached_property
    def dtype(self) -> torch.dtype:
        """The dtype that it computes in; of several the coarsest."""
        return model_dtype(self.network)

    @cached_property
    def all_float32(self) -> bool:
        """Whether all weights are float32, so that different passes round nearly alike."""
        return all(weight.dtype == torch.float32 for weight in self.network.parameters())

    @cached_property
    def closing_tolerance(self) -> float:
        """Largest |remainder| / max(1, |total effect|) of an account that closes."""
        return CLOSING[precision(self.network)]

    def require_unchanged(self) -> None:
        """Refuse to go on if its numbers are no longer those that were proved and are recorded.

        Raises:
            ModelError: a weight was changed, cast or moved after the model was opened.
        """
        then, now = self.source, self.network
        seen = {
            "number format": (then.dtype, str(model_dtype(now)).removeprefix("torch.")),
            "device": (then.device, describe_devices(now)),
            "weights' digest": (then.weight_digest, weight_digest(now)),
        }
        for what, (before, after) in seen.items():
            if before != after:
                raise ModelError(
                    f"the model '{then.label}' was changed after it was opened: its {what} was {before} and is "
                    f"{after}; open it again with hydrascope.load"
                )

    @property
    def mend(self) -> str:
        """What a user can do where its rounding may be to blame, for the end of an error."""
        if not self.all_float32:
            return "try more exact numbers (--dtype float32)"
        return "it is float32 already, so please report it with what `hydrascope inspect` says"

    @property
    def context(self) -> int:
        """Most tokens of a prompt; 2^30 if the config names no limit."""
        config = self.network.config.get_text_config()
        limits = (getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "n_ctx"))
        return next((int(limit) for limit in limits if limit), 1 << 30)
