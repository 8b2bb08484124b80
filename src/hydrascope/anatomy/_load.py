"""Opens a model by name or from memory, and proves it.

Every model's anatomy is found and proved before it is returned, which costs some twenty forward passes of a few tokens.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hydrascope import zoo
from hydrascope.anatomy._adapters import base_of, find_adapter, put_in, require_adapter
from hydrascope.anatomy._checkpoint import (
    Checkpoint,
    locate,
    open_config,
    open_tokenizer,
    open_weights,
    random_network,
    reason,
)
from hydrascope.anatomy._device import SPREAD, UNTESTED, destination
from hydrascope.anatomy._discover import discover, random_ids
from hydrascope.anatomy._model import Model, ModelSource
from hydrascope.anatomy._precision import ANATOMY, precision
from hydrascope.anatomy._proof import prove_anatomy, require
from hydrascope.anatomy._trace import forward
from hydrascope.anatomy._unwrap import of_its_own, unwrap
from hydrascope.anatomy._weights import describe_devices, model_dtype, parameters, quantization, weight_digest
from hydrascope.errors import AnatomyRefused, ModelError, NonFinite, NotCausalLM, OutOfBudget


def load(
    model: str | Path | nn.Module | Any,
    *,
    tokenizer: Any = None,
    device: str = "auto",
    dtype: str = "float32",
    trust_remote_code: bool = False,
    adapter: str | Path | None = None,
    merge: bool = True,
    gguf: str | None = None,
    allow_unused: bool = False,
    random_weights: int | None = None,
) -> Model:
    """Open a causal language model, find its anatomy and prove it.

    Args:
        model: a folder, a GGUF file, a bundled name, a hub id (`ID@REVISION` for another revision), or a Hugging Face
            module already in memory, also inside torch.compile, DataParallel, PEFT, TransformerLens's bridge or
            nnsight. The module is taken as it is on its device, and left as it is, in train mode too; its numbers are
            shared.
        tokenizer: tokenizer of a module in memory; by default the one beside the weights.
        device: `cpu`, `cuda`, `cuda:1` ...; `mps` and `xpu` are proved like these and were never tried by this
            package's authors; `auto` takes a CUDA GPU if there is one; `map` spreads the model over all GPUs,
            then main memory, then disk.
        dtype: `float32`, `bfloat16`, `float16`, `float64`, or `auto` for the dtype that the weights are stored in.
        trust_remote_code: whether to run code that comes with the weights; only for authors you trust.
        adapter: folder or hub id of an adapter to put into the model; a folder that is an adapter needs none.
        merge: whether to add the adapter to the weights; otherwise its parts stay modules of their own.
        gguf: GGUF file in the folder or under the hub id.
        allow_unused: whether to go on where the checkpoint holds tensors that the model does not use.
        random_weights: seed of weights drawn at random in place of the trained ones, a control of the same shape; only
            the config is read, and no weights need to be there.

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
    if not isinstance(model, str | Path):
        if (device, dtype, adapter, gguf, random_weights) != ("auto", "float32", None, None, None):
            raise ModelError(
                "a module in memory is taken as it is; move or cast it, or put its adapter in, before hydrascope.load"
            )
        network, held = unwrap(model)
        tokenizer = held if tokenizer is None else tokenizer
        return examine(of_its_own(network), tokenizer, name=type(network).__name__)
    checkpoint = locate(str(model), trust=trust_remote_code, gguf=gguf or "")
    found = None if checkpoint.gguf else find_adapter(checkpoint.where)
    if found is not None and adapter is not None:
        raise ModelError(
            f"'{model}' is or carries an adapter itself; leave the adapter '{adapter}' out (--adapter), or name "
            "its base"
        )
    base = checkpoint if found is None else base_of(found, checkpoint)
    found = found if adapter is None else require_adapter(str(adapter))
    config = open_config(base)
    arguments, target = destination(device, not base.gguf and hasattr(config, "quantization_config"))
    if random_weights is None:
        network, unused = open_weights(base, config, dtype, arguments, allow_unused)
    else:
        if found is not None or base.gguf or device == SPREAD:
            raise ModelError(
                f"--random-weights draws weights of a plain model on one device; leave {_in_the_way(base, found)} out"
            )
        network, unused = random_network(base, config, dtype, random_weights), ()
    network = network if found is None else put_in(network, found, merge=merge)
    try:
        network = network if target is None else network.to(target)
    except RuntimeError as error:
        raise ModelError(
            f"'{model}' cannot be moved to {target}: {reason(error)}; try the cpu (--device cpu)"
        ) from error
    if tokenizer is None and found is not None:
        tokenizer = open_tokenizer(Checkpoint(found.name, found.name))
    if tokenizer is None:
        tokenizer = open_tokenizer(base)
    try:
        opened = examine(network.eval(), tokenizer, name=checkpoint.name)
    except (TypeError, RuntimeError) as error:
        if target is None or target.type not in UNTESTED:
            raise
        raise ModelError(
            f"'{model}' cannot be proved on {target}: {reason(error)}; try the cpu (--device cpu)"
        ) from error
    bundled = zoo.find(checkpoint.name)
    label = Path(checkpoint.gguf).stem if checkpoint.gguf else opened.source.label
    as_bundled = bundled is not None and str(bundled.path) == checkpoint.where
    as_bundled = as_bundled and found is None and random_weights is None
    beside = "" if adapter is None else f"+{Path(adapter).name}"
    source = replace(
        opened.source,
        label=label + (beside if random_weights is None else f"+random-{random_weights}"),
        revision=base.commit,
        sibling=bundled.sibling or "" if bundled is not None and as_bundled else "",
        adapter="" if found is None else found.name,
        merged=found is not None and merge,
        gguf=checkpoint.gguf,
        unused=unused,
        random_weights=random_weights,
    )
    return replace(opened, source=source)


def _in_the_way(base: Checkpoint, adapter: object) -> str:
    return "the adapter" if adapter is not None else "the GGUF file" if base.gguf else f"--device {SPREAD}"


def examine(network: Any, tokenizer: Any, *, name: str) -> Model:
    """Find and prove the anatomy of a network in memory.

    Args:
        network: a Hugging Face causal language model in eval mode.
        tokenizer: its tokenizer, or None if prompts come as token ids.
        name: name for reports and errors.

    Returns:
        The model with its anatomy.

    Raises:
        NonFinite: the logits are NaN or infinite.
        NotCausalLM: it returns no logits of tokens, or a later token changes those of an earlier position.
        AnatomyRefused: a named check failed, or the network cannot take a few tokens.
        OutOfBudget: the device has no room for a few tokens.
    """
    _require_finite_and_causal(network, name)
    anatomy = discover(network, set(tokenizer.get_vocab().values()) if tokenizer is not None else ())
    require(prove_anatomy(network, anatomy))
    source = ModelSource(
        name=name,
        label=Path(name.rstrip("/")).name or name,
        family=str(network.config.get_text_config().model_type),
        weight_digest=weight_digest(network),
        dtype=str(model_dtype(network)).removeprefix("torch."),
        device=describe_devices(network),
        n_parameters=parameters(network),
        packing=quantization(network),
    )
    return Model(network, tokenizer, anatomy, source)


def _require_finite_and_causal(network: nn.Module, name: str) -> None:
    ids = _few_tokens(network, name)
    with torch.no_grad():
        logits = _first_pass(network, ids, name)
    if not torch.isfinite(logits).all():
        broken = (path for path, tensor in network.named_parameters() if not torch.isfinite(tensor).all())
        where = next((f"; its weight '{path}' is not finite" for path in broken), ", so its activations overflow")
        raise NonFinite(
            f"'{name}' returns NaN or infinite logits{where}; try another number format (--dtype) or another copy of it"
        )
    changed = ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % int(changed.max() + 1)
    difference = (forward(network, changed)[:, :-1] - logits[:, :-1]).float().abs().max()
    if difference > max(1e-2, 5 * ANATOMY[precision(network)]) * logits.float().abs().max():
        raise NotCausalLM(
            f"'{name}' reads tokens to the right of the one it predicts from, so it is no causal language model; "
            "choose a left-to-right model"
        )


def _few_tokens(network: nn.Module, name: str) -> torch.Tensor:
    try:
        return random_ids(network, batch=2, tokens=7, seed=1)
    except (AttributeError, NotImplementedError, TypeError) as error:
        raise NotCausalLM(
            f"'{name}' ({type(network).__name__}) has no embedding of tokens, so it reads something else than text; "
            "choose a language model"
        ) from error


def _first_pass(network: Any, ids: torch.Tensor, name: str) -> torch.Tensor:
    kind = type(network).__name__
    said = f"'{name}'" if name == kind else f"'{name}' ({kind})"
    try:
        logits = getattr(network(input_ids=ids, use_cache=False), "logits", None)
    except torch.cuda.OutOfMemoryError as error:
        raise OutOfBudget(
            f"'{name}' leaves no room on {ids.device} for a few tokens to pass through it; free memory there, or "
            "choose another device (--device) or a number format with fewer bytes (--dtype)"
        ) from error
    except Exception as error:  # foreign code may fail in any way
        raise AnatomyRefused("forward pass", f"{said} cannot take seven tokens: {reason(error)}") from error
    if not isinstance(logits, torch.Tensor):
        raise NotCausalLM(
            f"{said} returns no logits, as a model without its unembedding does; open it with AutoModelForCausalLM"
        )
    if logits.shape[:2] != ids.shape or network.get_output_embeddings() is None:
        raise NotCausalLM(
            f"{said} returns logits of shape {tuple(logits.shape)} for {tuple(ids.shape)} tokens and has no "
            "unembedding, as a classifier does, and so predicts no next token; open it with AutoModelForCausalLM"
        )
    return logits
