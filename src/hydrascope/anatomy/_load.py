"""Opens a model from a folder, a bundled name, a hub id or memory.

Only safetensors are read, and code that comes with weights is run only if the user allows it. Every model's anatomy is
found and proved before it is returned, which costs some twenty forward passes of a few tokens.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hydrascope import zoo
from hydrascope.anatomy._device import destination
from hydrascope.anatomy._discover import discover, random_ids
from hydrascope.anatomy._model import Model, ModelSource
from hydrascope.anatomy._precision import ANATOMY, precision
from hydrascope.anatomy._proof import prove_anatomy, require
from hydrascope.anatomy._trace import forward
from hydrascope.anatomy._weights import describe_devices, model_dtype, parameters, quantization, weight_digest
from hydrascope.errors import (
    AnatomyRefused,
    ModelError,
    NonFinite,
    NotCausalLM,
    OutOfBudget,
    PickleRefused,
    RemoteCodeRefused,
    UnknownModel,
)


def load(
    model: str | Path | nn.Module,
    *,
    tokenizer: Any = None,
    device: str = "auto",
    dtype: str = "float32",
    trust_remote_code: bool = False,
) -> Model:
    """Open a causal language model, find its anatomy and prove it.

    Args:
        model: a folder, a bundled name, a hub id, or a Hugging Face module already in memory.
        tokenizer: tokenizer of a module in memory; by default the one beside the weights.
        device: `cpu`, `cuda`, `cuda:1` ...; `auto` takes a GPU if there is one; `map` spreads the model over all GPUs,
            then main memory, then disk.
        dtype: `float32`, `bfloat16`, `float16`, `float64`, or `auto` for the dtype that the weights are stored in.
        trust_remote_code: whether to run code that comes with the weights; only for authors you trust.

    Returns:
        The model with its anatomy.

    Raises:
        UnknownModel: nothing has this name.
        RemoteCodeRefused: the model needs code of its own and `trust_remote_code` is off.
        PickleRefused: the model has no safetensors weights.
        NonFinite: its logits are NaN or infinite.
        NotCausalLM: it does not predict the next token.
        AnatomyRefused: a named check failed.
        OutOfBudget: the device does not hold the model.
    """
    if isinstance(model, nn.Module):
        return examine(model.eval(), tokenizer, name=type(model).__name__)
    name = str(model)
    bundled = zoo.find(name)
    place = bundled.path if bundled is not None and not Path(name).is_dir() else Path(name)
    where = str(place) if place.is_dir() else name
    offline = place.is_dir()
    config = _open_config(where, name, offline, trust_remote_code)
    arguments, target = destination(device, hasattr(config, "quantization_config"))
    network = _open_weights(where, name, config, offline, dtype, trust_remote_code, arguments)
    try:
        network = network if target is None else network.to(target)
    except RuntimeError as error:
        raise ModelError(f"'{name}' cannot be moved to {target}: {_first_sentence(error)}; try --device cpu") from error
    if tokenizer is None:
        tokenizer = _open_tokenizer(where, offline, trust_remote_code)
    revision = getattr(config, "_commit_hash", None) or ""
    sibling = (bundled.sibling if bundled is not None and place == bundled.path else None) or ""
    return examine(network.eval(), tokenizer, name=name, revision=revision, sibling=sibling)


def examine(network: Any, tokenizer: Any, *, name: str, revision: str = "", sibling: str = "") -> Model:
    """Find and prove the anatomy of a network in memory.

    Args:
        network: a Hugging Face causal language model in eval mode.
        tokenizer: its tokenizer, or None if prompts come as token ids.
        name: name for reports and errors.
        revision: commit of a hub model, or empty.
        sibling: bundled model that differs in one ingredient of training, or empty.

    Returns:
        The model with its anatomy.

    Raises:
        NonFinite: the logits are NaN or infinite.
        NotCausalLM: a later token changes the logits of an earlier position.
        AnatomyRefused: a named check failed, or the network cannot take a few tokens.
        OutOfBudget: the device has no room for a few tokens.
    """
    _require_finite_and_causal(network, name)
    anatomy = discover(network, set(tokenizer.get_vocab().values()) if tokenizer is not None else ())
    require(prove_anatomy(network, anatomy))
    source = ModelSource(
        name=name,
        label=Path(name.rstrip("/")).name or name,
        revision=revision,
        family=str(network.config.get_text_config().model_type),
        weight_digest=weight_digest(network),
        dtype=str(model_dtype(network)).removeprefix("torch."),
        device=describe_devices(network),
        n_parameters=parameters(network),
        packing=quantization(network),
        sibling=sibling,
    )
    return Model(network, tokenizer, anatomy, source)


def _require_finite_and_causal(network: nn.Module, name: str) -> None:
    ids = random_ids(network, batch=2, tokens=7, seed=1)
    logits = _first_pass(network, ids, name)
    if not torch.isfinite(logits).all():
        broken = (path for path, tensor in network.named_parameters() if not torch.isfinite(tensor).all())
        where = next((f"; its weight '{path}' is not finite" for path in broken), ", so its activations overflow")
        raise NonFinite(f"'{name}' returns NaN or infinite logits{where}; try another --dtype or another copy of it")
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % int(changed.max() + 1)
    difference = (forward(network, changed)[:, :-1] - logits[:, :-1]).float().abs().max()
    if difference > max(1e-2, 5 * ANATOMY[precision(network)]) * logits.float().abs().max():
        raise NotCausalLM(
            f"'{name}' reads tokens to the right of the one it predicts from, so it is no causal language model; "
            "choose a left-to-right model"
        )


def _first_pass(network: nn.Module, ids: torch.Tensor, name: str) -> torch.Tensor:
    try:
        return forward(network, ids)
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfBudget(
            f"'{name}' leaves no room on {ids.device} for a few tokens to pass through it; free memory there, or "
            "choose another --device or a --dtype with fewer bytes"
        ) from error
    except Exception as error:  # foreign code may fail in any way
        what = _first_sentence(error) or type(error).__name__
        raise AnatomyRefused("forward pass", f"'{name}' cannot take seven tokens: {what}") from error


def _open_config(where: str, name: str, offline: bool, trust: bool) -> Any:
    try:
        config = AutoConfig.from_pretrained(where, local_files_only=offline, trust_remote_code=trust)
    except ValueError as error:
        if "trust_remote_code" in str(error):
            raise RemoteCodeRefused(
                f"'{name}' wants to run code that came with its weights; "
                "add --trust-remote-code if you trust its author, or choose another model"
            ) from error
        raise UnknownModel(
            f"'{name}' has no config.json that transformers {transformers.__version__} understands; "
            "choose another model, or another version of transformers"
        ) from error
    except (OSError, KeyError) as error:
        known = ", ".join(model.name for model in zoo.bundled()) or "none"
        raise UnknownModel(
            f"no model '{name}': it is no folder with a config.json, no bundled model ({known}) and cannot be had "
            "from the hub; check the name and the network"
        ) from error
    masked = any("MaskedLM" in architecture for architecture in getattr(config, "architectures", None) or [])
    if (config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not trust) or masked:
        raise NotCausalLM(
            f"'{name}' is a '{config.model_type}' model, which does not predict the next token; "
            "choose a left-to-right language model"
        )
    return config


def _open_weights(
    where: str, name: str, config: Any, offline: bool, dtype: str, trust: bool, placing: dict[str, Any]
) -> nn.Module:
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")  # the library would ask a web service otherwise
    try:
        network, info = AutoModelForCausalLM.from_pretrained(
            where,
            config=config,
            dtype=dtype if dtype == "auto" else _dtype(dtype),
            local_files_only=offline,
            trust_remote_code=trust,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported below, by name
            output_loading_info=True,
            **placing,
        )
    except ImportError as error:
        raise ModelError(
            f"the weights of '{name}' need a library that is not installed: {_first_sentence(error)}; install it, or "
            "take a copy of the model that is not quantised"
        ) from error
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfBudget(
            f"'{name}' does not fit on its device; choose --device map, a --dtype with fewer bytes or another --device"
        ) from error
    except OSError as error:
        if _has_pickle(where, offline) or "safetensors" in str(error):
            raise PickleRefused(
                f"'{name}' has no safetensors weights, and pickled weights can run code when opened; "
                "convert them to safetensors first"
            ) from error
        raise UnknownModel(
            f"the weights of '{name}' cannot be read: {_first_sentence(error)}; get them anew"
        ) from error
    except (RuntimeError, ValueError, KeyError, AttributeError, SafetensorError) as error:
        raise ModelError(f"the weights of '{name}' cannot be read: {_first_sentence(error)}; get them anew") from error
    for what, tensors in (
        ("lack", sorted(info["missing_keys"])),
        ("have other shapes than its config says for", sorted(key for key, *_ in info["mismatched_keys"])),
    ):
        if tensors:
            raise ModelError(
                f"the weights of '{name}' {what} {len(tensors)} tensors, first '{tensors[0]}', which would be random; "
                "the file belongs to another architecture or is incomplete"
            )
    return network  # type: ignore[no-any-return]


def _open_tokenizer(where: str, offline: bool, trust: bool) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(where, local_files_only=offline, trust_remote_code=trust)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ImportError):
        return None  # prompts may come as token ids; a prompt with text then gets its own clear error
    # Where no tokenizer lies beside the weights, the library may make an empty one of the model's usual kind.
    return tokenizer if set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens) else None


def _has_pickle(where: str, offline: bool) -> bool:
    return offline and any(Path(where).glob("*.bin")) and not any(Path(where).glob("*.safetensors"))


def _dtype(name: str) -> torch.dtype:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
    if name not in known:
        raise ModelError(f"no number format '{name}'; choose {', '.join(known)} or auto")
    return known[name]


def _first_sentence(error: BaseException) -> str:
    return re.split(r"\n|[.!?](?:\s|$)", str(error).strip())[0]
