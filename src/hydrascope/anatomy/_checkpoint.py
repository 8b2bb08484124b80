"""Opens what a model's name stands for: config, weights and tokenizer, from a folder, a file or the hub.

Only safetensors and GGUF are read, and code that comes with weights is run only if the user allows it. Libraries may
fail here in any way, so every failure is put into one sentence that says what was seen.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import constants, try_to_load_from_cache
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from hydrascope import zoo
from hydrascope.anatomy._gguf import GGUF, require_gguf, unread_tensors
from hydrascope.errors import ModelError, NotCausalLM, OutOfBudget, PickleRefused, RemoteCodeRefused, UnknownModel

MOST_LAYERS = 10_000
"""A config with more blocks than this is broken; building them would fill the memory before anything else fails."""

LONGEST_NAME = 4096
"""Most characters of a name; no system has longer paths."""

_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_MASKS = re.compile(r"(.*)\.(bias|masked_bias|causal_mask)")


@dataclass(frozen=True)
class Checkpoint:
    """Where a model is read from.

    Attributes:
        name: the model as the user wrote it.
        where: its folder, or its id on the hub.
        trust: whether to run code that comes with the weights.
        gguf: file with the weights, in the folder or under the id; empty for safetensors.
        revision: branch, tag or commit under the hub's id; empty for the usual one.
    """

    name: str
    where: str
    trust: bool = False
    gguf: str = ""
    revision: str = ""

    @property
    def offline(self) -> bool:
        """Whether it is a folder, so that the hub is never asked."""
        return Path(self.where).is_dir()

    @property
    def arguments(self) -> dict[str, Any]:
        """Arguments of the library for config, weights and tokenizer alike."""
        # in full, since a file of that name where the process runs would go first
        path = str((Path(self.where) / self.gguf).resolve()) if self.offline else self.gguf
        file = {"gguf_file": path} if self.gguf else {}
        revision = {"revision": self.revision} if self.revision else {}
        return {"local_files_only": self.offline, "trust_remote_code": self.trust, **file, **revision}

    @property
    def commit(self) -> str:
        """Commit of a hub model that has been read, by where the hub's cache keeps it; empty for a folder."""
        if self.offline:
            return ""
        revision, cache = self.revision or None, constants.HF_HUB_CACHE
        kept = try_to_load_from_cache(self.where, "config.json", cache_dir=cache, revision=revision)
        return Path(kept).parent.name if isinstance(kept, str) else ""

    def holds(self, pattern: str) -> bool:
        """Whether it is a folder with such a file."""
        return self.offline and any(Path(self.where).glob(pattern))


def locate(name: str, *, trust: bool = False, gguf: str = "") -> Checkpoint:
    """Find what a name stands for: a folder, a GGUF file, a bundled model, or else an id on the hub, or `ID@REVISION`.

    Args:
        name: the model as the user wrote it.
        trust: whether to run code that comes with the weights.
        gguf: name of a GGUF file in the folder or under the id.

    Raises:
        UnknownModel: it is no name at all.
        ModelError: the file is not there, or GGUF cannot be read here.
    """
    if not name.strip() or len(name) > LONGEST_NAME:
        raise UnknownModel(f"'{name[:20]}' is no name of a model; write a folder, a bundled name or a hub id")
    path, bundled = Path(name), zoo.find(name)
    try:
        if path.suffix.lower() == GGUF and path.is_file() and not gguf:
            path, gguf = path.parent, path.name
        is_folder = path.is_dir() and not (bundled is not None and _holds_no_model(path))
    except OSError as error:  # a part of it is too long
        raise UnknownModel(f"no model '{name[:20]}...': {reason(error)}") from error
    if gguf:
        require_gguf(name, path if is_folder else None, gguf)
    if is_folder or bundled is not None:
        return Checkpoint(name, str(path if bundled is None or is_folder else bundled.path), trust, gguf)
    where, _, revision = name.partition("@")
    return Checkpoint(name, where, trust, gguf, revision)


def _holds_no_model(folder: Path) -> bool:
    """Whether a folder has nothing that a model is opened from, so that a bundled name may mean the bundled model."""
    return not any(folder.glob("*config.json")) and not any(folder.glob(f"*{GGUF}"))


def open_config(checkpoint: Checkpoint) -> Any:
    """Read a model's config.

    Raises:
        UnknownModel: there is none, or it cannot be understood.
        RemoteCodeRefused: it needs code of its own, which is not allowed.
    """
    name = checkpoint.name
    if checkpoint.offline and not checkpoint.gguf:
        _require_readable(Path(checkpoint.where) / "config.json", name)
    try:
        config = AutoConfig.from_pretrained(checkpoint.where, **checkpoint.arguments)
    except (OSError, KeyError) as error:
        if checkpoint.gguf:
            raise _unreadable(checkpoint, error) from error
        known = ", ".join(model.name for model in zoo.bundled()) or "none"
        raise UnknownModel(
            f"no model '{name}': it is no folder with a config.json, no bundled model ({known}) and cannot be had "
            "from the hub; check the name and the network"
        ) from error
    except Exception as error:  # a broken value can make the library fail in any way
        if "trust_remote_code" in str(error):
            raise RemoteCodeRefused(
                f"'{name}' wants to run code that came with its weights; "
                "let it (--trust-remote-code) if you trust its author, or choose another model"
            ) from error
        if checkpoint.gguf:
            raise _unreadable(checkpoint, error) from error
        raise UnknownModel(
            f"transformers {transformers.__version__} does not understand the config.json of '{name}': {reason(error)}"
        ) from error
    layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    if isinstance(layers, int) and layers > MOST_LAYERS:
        raise UnknownModel(f"the config.json of '{name}' says that it has {layers} layers; get it anew")
    return config


def _unreadable(checkpoint: Checkpoint, error: Exception) -> UnknownModel:
    return UnknownModel(
        f"the GGUF file '{checkpoint.gguf}' of '{checkpoint.name}' cannot be read: {reason(error)}; get it anew"
    )


def _require_readable(path: Path, name: str) -> None:
    """Say what is wrong with a config that is no JSON object with a known type."""
    if not path.is_file():
        raise UnknownModel(f"no model '{name}': the folder has no config.json")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UnknownModel(f"the config.json of '{name}' is no readable JSON: {reason(error)}") from error
    if not isinstance(content, dict) or not isinstance(content.get("model_type"), str):
        raise UnknownModel(f"the config.json of '{name}' names no model_type, so nothing tells what the model is")


def open_weights(
    checkpoint: Checkpoint, config: Any, dtype: str, placing: dict[str, Any], allow_unused: bool
) -> tuple[Any, tuple[str, ...]]:
    """Read a model's weights, every one of which has to be there and in use.

    Args:
        checkpoint: where they are.
        config: the model's config.
        dtype: number format, or `auto` for that of the weights.
        placing: arguments that say on which device they go.
        allow_unused: go on where the checkpoint has tensors that the model does not use.

    Returns:
        The model, and the names of the tensors that it does not use.

    Raises:
        PickleRefused: there are only pickled weights.
        NotCausalLM: nothing in transformers makes a language model of this config.
        OutOfBudget: the device does not hold them.
        ModelError: they cannot be read, or do not fit the config.
    """
    name = checkpoint.name
    kind = _model_class(checkpoint, config)
    if checkpoint.offline and not checkpoint.gguf:
        _require_weights(Path(checkpoint.where), name)
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")  # the library would ask a web service otherwise
    try:
        network, info = kind.from_pretrained(
            checkpoint.where,
            config=config,
            dtype=dtype if dtype == "auto" else _dtype(dtype),
            use_safetensors=None if checkpoint.gguf else True,
            ignore_mismatched_sizes=True,  # reported below, by name
            output_loading_info=True,
            adapter_kwargs={"subfolder": "nowhere"},  # an adapter beside the weights is ours to put in, and to record
            **checkpoint.arguments,
            **placing,
        )
    except ModelError:
        raise
    except ImportError as error:
        raise ModelError(
            f"the weights of '{name}' need a library that is not installed: {reason(error)}; install it, or "
            "take a copy of the model that is not quantised"
        ) from error
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfBudget(
            f"'{name}' does not fit on its device; spread it (--device map), or choose a number format with fewer "
            "bytes (--dtype) or another device"
        ) from error
    except Exception as error:  # broken weights, or values of a config, can make the library fail in any way
        raise ModelError(
            f"the weights of '{name}' cannot be read as its config says: {reason(error)}; get both anew"
        ) from error
    unused = _unused(network, info["unexpected_keys"])
    if checkpoint.gguf:
        del network.config.quantization_config  # its weights have been made plain numbers
        unused = unread_tensors(network, checkpoint.where, checkpoint.gguf)
    for what, tensors in (
        ("lack", sorted(info["missing_keys"])),
        ("have other shapes than its config says for", sorted(key for key, *_ in info["mismatched_keys"])),
    ):
        if tensors:
            raise ModelError(
                f"the weights of '{name}' {what} {counted(tensors)}, first '{tensors[0]}', which would be random; "
                "the file belongs to another architecture or is incomplete"
            )
    if unused and not allow_unused:
        raise ModelError(
            f"the weights of '{name}' hold {counted(unused)} that its config has no place for, first "
            f"'{unused[0]}', so another model was trained; mend the config, or go on without them (--allow-unused)"
        )
    return network, unused


def random_network(checkpoint: Checkpoint, config: Any, dtype: str, seed: int) -> Any:
    """Make a model of a config's shape whose weights the library's own initialisation draws.

    They are drawn in float32 on the CPU, so that they do not depend on device or number format.

    Args:
        checkpoint: where the config is from.
        config: the model's config.
        dtype: number format, or `auto` for that of the config.
        seed: seed of the weights.

    Raises:
        NotCausalLM: nothing in transformers makes a language model of this config.
        ModelError: its weights are quantised, or the config's values do not fit together.
    """
    if hasattr(config, "quantization_config"):
        raise ModelError(
            f"'{checkpoint.name}' has quantised weights, which cannot be drawn at random; name a copy without"
        )
    kind = _model_class(checkpoint, config)
    wanted = getattr(config.get_text_config(), "dtype", None) or torch.float32 if dtype == "auto" else _dtype(dtype)
    make = kind.from_config if kind is AutoModelForCausalLM else kind._from_config
    trusting = {"trust_remote_code": checkpoint.trust} if kind is AutoModelForCausalLM else {}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        try:
            network = make(config, dtype=torch.float32, **trusting)
        except Exception as error:  # values of a config can make the library fail in any way
            raise ModelError(f"no model can be made of the config of '{checkpoint.name}': {reason(error)}") from error
    return network.to(wanted)


def counted(names: Sequence[str]) -> str:
    """How many tensors there are, in words."""
    return f"{len(names)} tensor{'' if len(names) == 1 else 's'}"


def _unused(network: nn.Module, tensors: Any) -> tuple[str, ...]:
    """Names of tensors that were learned and are not used.

    Older checkpoints keep the causal mask beside the weights. It lies at the attention module itself, which has no
    weight of its own, so that a `bias` there is not that of a projection.
    """
    modules = dict(network.named_modules())

    def is_mask(name: str) -> bool:
        found = _MASKS.fullmatch(name)
        owners = [m for path, m in modules.items() if found is not None and f".{path}".endswith(f".{found[1]}")]
        return any(any(owner.children()) and getattr(owner, "weight", None) is None for owner in owners)

    return tuple(sorted(name for name in tensors if not is_mask(name)))


def _model_class(checkpoint: Checkpoint, config: Any) -> Any:
    """The class that makes a model of a config.

    A model around a text model, such as one that also sees, is opened as what its config names, all others by their
    type. Whether it predicts the next token is found out by experiment later.
    """
    named = next(iter(getattr(config, "architectures", None) or ()), None)
    found = getattr(transformers, named, None) if isinstance(named, str) else None
    known = isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)
    of_its_type = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    if checkpoint.trust or (of_its_type and not (known and config.get_text_config() is not config)):
        return AutoModelForCausalLM
    if not known:
        raise NotCausalLM(
            f"'{checkpoint.name}' is a '{config.model_type}' model, of which transformers {transformers.__version__} "
            f"makes no language model{f' ({named})' if named else ''}; choose another model"
        )
    return found


def _require_weights(folder: Path, name: str) -> None:
    """Say which file of a folder's weights is missing."""
    if (folder / "model.safetensors").is_file():
        return
    if (folder / _INDEX).is_file():
        try:
            shards = sorted(set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
            lost = [shard for shard in shards if not (folder / shard).is_file()]
        except Exception as error:
            raise ModelError(f"the '{_INDEX}' of '{name}' cannot be read: {reason(error)}; get it anew") from error
        if lost:
            raise ModelError(
                f"the weights of '{name}' cannot be read: {len(lost)} of the {len(shards)} files that its index lists "
                f"are missing, first '{lost[0]}'; get them anew"
            )
        return
    pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
    if pickles:
        raise PickleRefused(
            f"'{name}' has pickled weights ('{pickles[0]}') and no safetensors, and a pickle can run code when opened; "
            "convert them to safetensors first"
        )
    ggufs = sorted(file.name for file in folder.glob(f"*{GGUF}"))
    if ggufs:
        raise ModelError(f"'{name}' has GGUF weights and no safetensors; choose the file (--gguf {ggufs[0]})")
    raise UnknownModel(f"'{name}' has a config.json but no weights: there is no model.safetensors beside it")


def open_tokenizer(checkpoint: Checkpoint) -> Any:
    """The tokenizer beside the weights; None if there is none that can be read."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.where, **checkpoint.arguments)
    except Exception:  # the tokenizers' own code may fail in any way
        return None  # prompts may come as token ids; a prompt with text then gets its own clear error
    # Where no tokenizer lies beside the weights, the library may make an empty one of the model's usual kind.
    return tokenizer if set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens) else None


def _dtype(name: str) -> torch.dtype:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
    if name not in known:
        raise ModelError(f"no number format '{name}'; choose {', '.join(known)} or auto")
    return known[name]


def reason(error: BaseException, most: int = 300) -> str:
    """What an error of a library says, in one sentence that is never empty."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    heading = lines[0].endswith(":") and len(lines) > 1
    said = re.split(r"[.!?](?:\s|$)", " ".join(lines[: 1 + heading]))[0][:most]
    unclear = not said or isinstance(error, LookupError | AttributeError | TypeError | AssertionError)
    return f"{type(error).__name__} {said}".strip() if unclear else said
