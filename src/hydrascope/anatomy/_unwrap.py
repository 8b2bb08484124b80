"""Takes the Hugging Face module out of what people hold in memory, and leaves theirs as it is."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from hydrascope.anatomy._checkpoint import reason
from hydrascope.errors import ModelError

PROMPT_LEARNING = (
    "an adapter that puts vectors before the prompt and leaves the model as it is cannot be taken apart; take one that "
    "changes weights, such as LoRA"
)

_INSIDE = ("_orig_mod", "module", "original_model", "_module", "_model")
"""Where torch.compile, DataParallel, TransformerLens's bridge and nnsight, now and before, keep what they wrap."""


def unwrap(given: Any) -> tuple[nn.Module, Any]:
    """The Hugging Face module inside wrappers, and the tokenizer that came with one of them.

    Args:
        given: a module, or an object that holds one.

    Returns:
        The module, and a tokenizer or None.

    Raises:
        ModelError: there is no Hugging Face language model inside.
    """
    found, tokenizer = given, None
    while not _is_network(found):
        tokenizer = tokenizer or getattr(found, "tokenizer", None)
        inner = _inside(found)
        if inner is None:
            raise ModelError(
                f"an object of type {type(given).__name__} is no Hugging Face language model and holds none; give a "
                "name, a folder or a module of transformers' AutoModelForCausalLM"
            )
        found = inner
    return found, tokenizer


def _is_network(found: Any) -> bool:
    """Whether something has what a language model of transformers has; wrappers only pass it on."""
    return isinstance(found, nn.Module) and hasattr(type(found), "get_input_embeddings") and "config" in vars(found)


def _inside(wrapper: Any) -> nn.Module | None:
    """The module that something wraps, if any."""
    if callable(base := getattr(type(wrapper), "get_base_model", None)):
        if getattr(wrapper.active_peft_config, "is_prompt_learning", False):
            raise ModelError(PROMPT_LEARNING)
        return base(wrapper)  # type: ignore[no-any-return]
    held = {**getattr(wrapper, "__dict__", {}), **getattr(wrapper, "_modules", {})}
    return next((held[name] for name in _INSIDE if isinstance(held.get(name), nn.Module)), None)


def of_its_own(network: Any) -> Any:
    """A copy of a module in memory that shares all its numbers, in eval mode.

    The modules are copied and the tensors are not. So train mode, compilation and hooks of what was handed over stay as
    they are, a part that is used twice can be knocked out at one place alone, and changed numbers are changed in both.

    Raises:
        ModelError: the module cannot be copied, or its weights are not loaded.
    """
    tensors: dict[int, Tensor] = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    if any(tensor.is_meta for tensor in tensors.values()):
        if not any(hasattr(module, "_hf_hook") for module in network.modules()):
            raise ModelError(
                f"the weights of the {type(network).__name__} in memory are not loaded, only their shapes are (device "
                "meta); load them first, in nnsight with dispatch=True"
            )
        return network.eval()  # its weights are put away, by hooks that know their module
    try:
        own = copy.deepcopy(network, dict(tensors))
    except Exception as error:  # a module's own code may fail in any way
        raise ModelError(
            f"the {type(network).__name__} in memory cannot be copied ({reason(error)}); save it with save_pretrained "
            "and open the folder"
        ) from error
    own.eval()
    _divide(own, tensors)
    _number(own)
    return own


def _divide(network: nn.Module, tensors: dict[int, Tensor]) -> None:
    """Give every place a module of its own where one with weights stands at several."""
    configs = [config for module in network.modules() if (config := getattr(module, "config", None)) is not None]
    shared: dict[int, Any] = {**tensors, **{id(config): config for config in configs}}
    seen: set[int] = set()
    for path, child in list(network.named_modules(remove_duplicate=False)):
        parent, _, name = path.rpartition(".")
        if path and id(child) in seen and any(True for _ in child.parameters()):
            setattr(network.get_submodule(parent), name, copy.deepcopy(child, dict(shared)))
        seen.add(id(child))


def _number(network: nn.Module) -> None:
    """Give every block a place of its own in the cache, where blocks were left out, repeated or put elsewhere."""
    lists = [path for path, module in network.named_modules() if isinstance(module, nn.ModuleList)]
    for outermost in [path for path in lists if not any(path.startswith(f"{other}.") for other in lists)]:
        for index, block in enumerate(network.get_submodule(outermost).children()):
            parts: list[Any] = [part for part in block.modules() if isinstance(getattr(part, "layer_idx", None), int)]
            if len({part.layer_idx for part in parts}) == 1:
                for part in parts:
                    part.layer_idx = index
