"""Puts an adapter, such as LoRA, into the model that it was trained on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from transformers.utils import find_adapter_config_file

from hydrascope.anatomy._checkpoint import Checkpoint, counted, reason
from hydrascope.anatomy._unwrap import PROMPT_LEARNING
from hydrascope.errors import ModelError, PickleRefused, UnknownModel


@dataclass(frozen=True)
class Adapter:
    """An adapter that has been found and not yet been put in.

    Attributes:
        name: its folder or its id on the hub.
        base: the model that it says it was trained on; empty where it does not say.
    """

    name: str
    base: str


def find_adapter(name: str) -> Adapter | None:
    """The adapter in a folder or under an id of the hub; None where there is none.

    Args:
        name: folder or id.

    Raises:
        ModelError: its config cannot be read.
    """
    try:
        path = find_adapter_config_file(name, local_files_only=Path(name).is_dir())
    except (OSError, ValueError):  # no id at all, or one that cannot be had; whoever opens the model says so
        return None
    if path is None:
        return None
    try:
        base = json.loads(Path(path).read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise ModelError(f"the adapter_config.json of '{name}' cannot be read: {reason(error)}; get it anew") from error
    return Adapter(name, base if isinstance(base, str) else "")


def require_adapter(name: str) -> Adapter:
    """The adapter in a folder or under an id of the hub.

    Raises:
        UnknownModel: there is none.
    """
    found = find_adapter(name)
    if found is None:
        raise UnknownModel(f"no adapter '{name}': it is no folder with an adapter_config.json, and none on the hub")
    return found


def base_of(adapter: Adapter, checkpoint: Checkpoint) -> Checkpoint:
    """Where the weights are that an adapter found under a model's name belongs to.

    They lie beside it, or are those of the model that it names.

    Raises:
        ModelError: it names none.
    """
    beside = checkpoint.holds("config.json") and (checkpoint.holds("model*.safetensors*") or checkpoint.holds("*.bin"))
    if beside:
        return checkpoint
    if not adapter.base:
        raise ModelError(f"the adapter '{adapter.name}' names no base model; open its base model with it (--adapter)")
    return Checkpoint(f"{adapter.base}' of the adapter '{adapter.name}", adapter.base, checkpoint.trust)


def put_in(network: Any, adapter: Adapter, *, merge: bool) -> Any:
    """The model with an adapter.

    Args:
        network: the model that the adapter was trained on; it is changed.
        adapter: the adapter.
        merge: whether to add it to the weights; otherwise its parts stay modules of their own.

    Returns:
        The model, of the class that it had.

    Raises:
        ModelError: peft is not installed, or the adapter does not fit the model or changes more than its weights.
        PickleRefused: the adapter has no safetensors.
    """
    name = adapter.name
    if find_spec("peft") is None:
        raise ModelError(
            f"'{name}' is an adapter, which peft puts in, and which is not installed; "
            "run pip install 'hydrascope[adapters]'"
        )
    folder = Path(name)
    if folder.is_dir() and not (folder / "adapter_model.safetensors").is_file():
        if pickles := sorted(folder.glob("adapter_model*.bin")):
            raise PickleRefused(
                f"the adapter '{name}' is pickled ('{pickles[0].name}'), and a pickle can run code when opened; "
                "convert it to safetensors first"
            )
        raise UnknownModel(f"the adapter '{name}' has no weights: there is no adapter_model.safetensors")
    from peft import PeftConfig, get_peft_model

    try:
        config = PeftConfig.from_pretrained(name)
        if config.is_prompt_learning:
            raise ModelError(
                f"'{name}' is {config.peft_type.value}: {PROMPT_LEARNING}; take one that changes the model"
            )
        config.inference_mode = True
        wrapped = get_peft_model(network, config)
        found = wrapped.load_adapter(name, "default", torch_device="cpu", use_safetensors=True)
        odd = sorted(found.missing_keys), sorted(found.unexpected_keys)
        for what, tensors in zip(("lacks", "holds"), odd, strict=True):
            if tensors:
                so = "which the model would keep untrained" if what == "lacks" else "which the model has no place for"
                raise ModelError(
                    f"the adapter '{name}' {what} {counted(tensors)}, first '{tensors[0]}', {so}; "
                    "it was made for another model or another version of peft"
                )
        return wrapped.merge_and_unload(safe_merge=True) if merge else wrapped.get_base_model()
    except ModelError:
        raise
    except Exception as error:  # an adapter of another model can make the library fail in any way
        raise ModelError(f"the adapter '{name}' does not fit its base model: {reason(error)}") from error
