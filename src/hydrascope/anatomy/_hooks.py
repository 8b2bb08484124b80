"""Forward hooks that count their calls and are always removed.

Modules take and return tensors in tuples, dictionaries and model outputs. Hooks here see the hidden state alone: the
first tensor among the arguments, or the first one in the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from hydrascope.errors import HookDidNotFire

Edit = Callable[[torch.Tensor], torch.Tensor | None]
"""Gets a tensor; returns its replacement, or None to leave it."""

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments of a module's call."""

WholeCall = Callable[[Arguments, torch.Tensor], None]
"""Gets all arguments of a call and its first output tensor, which it may change in place."""


def first_tensor(value: Any) -> torch.Tensor | None:
    """The first tensor in a module's output, whatever contains it."""
    if isinstance(value, torch.Tensor):
        return value
    if isinstance(value, tuple | list):
        return next((found for item in value if (found := first_tensor(item)) is not None), None)
    if isinstance(value, dict):
        return first_tensor(tuple(value.values()))
    return None


def replace_first_tensor(value: Any, tensor: torch.Tensor) -> Any:
    """Replace the first tensor of a container."""
    if isinstance(value, torch.Tensor):
        return tensor
    items = list(value)
    position = next(i for i, item in enumerate(items) if first_tensor(item) is not None)
    items[position] = replace_first_tensor(items[position], tensor)
    return tuple(items) if isinstance(value, tuple) else items


def hidden_argument(args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor | None:
    """The hidden state among arguments: the first tensor, positional ones first."""
    found = first_tensor(args)
    return first_tensor(kwargs.get("hidden_states", tuple(kwargs.values()))) if found is None else found


class Hooks:
    """Forward hooks, with a count of how often each fired.

    Attributes:
        fired: calls of each counted hook by its name.
    """

    def __init__(self) -> None:
        self._handles: list[RemovableHandle] = []
        self._expected: dict[str, int] = {}
        self.fired: dict[str, int] = {}

    def on_output(self, module: nn.Module, name: str, edit: Edit, times: int = 1) -> None:
        """Replace the first tensor of a module's output.

        Args:
            module: the module to watch.
            name: unique name of the hook, for errors.
            edit: gets the tensor; returns its replacement, or None to leave it.
            times: calls that `require_fired` expects.
        """
        self._expect(name, times)

        def hook(_: nn.Module, __: Any, output: Any) -> Any:
            self.fired[name] += 1
            tensor = first_tensor(output)
            replacement = None if tensor is None else edit(tensor)
            return None if replacement is None else replace_first_tensor(output, replacement)

        self._handles.append(module.register_forward_hook(hook))

    def on_input(self, module: nn.Module, name: str, edit: Edit, times: int = 1) -> None:
        """Replace the hidden state that a module is called with.

        Args:
            module: the module to watch.
            name: unique name of the hook, for errors.
            edit: gets the hidden state; returns its replacement, or None to leave it.
            times: calls that `require_fired` expects.
        """
        self._expect(name, times)

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            self.fired[name] += 1
            tensor = hidden_argument(args, kwargs)
            replacement = None if tensor is None else edit(tensor)
            if replacement is None:
                return None
            if first_tensor(args) is not None:
                return replace_first_tensor(args, replacement), kwargs
            key = next(key for key, value in kwargs.items() if value is tensor)
            return args, {**kwargs, key: replacement}

        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def on_return(self, module: nn.Module, name: str, see: Callable[[Any], None]) -> None:
        """Pass the module's whole output to `see`, once."""
        self._expect(name, 1)

        def hook(_: nn.Module, __: Any, output: Any) -> None:
            self.fired[name] += 1
            see(output)

        self._handles.append(module.register_forward_hook(hook))

    def on_call(self, module: nn.Module, see: Callable[[torch.Tensor | None, torch.Tensor | None], None]) -> None:
        """Pass hidden state and first output tensor to `see`, uncounted."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            see(hidden_argument(args, kwargs), first_tensor(output))

        self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def watch_call(self, module: nn.Module, see: WholeCall) -> None:
        """Pass all arguments and the first output tensor to `see`, uncounted."""

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            if (tensor := first_tensor(output)) is not None:
                see((args, kwargs), tensor)

        self._handles.append(module.register_forward_hook(hook, with_kwargs=True))

    def on_whole_call(self, module: nn.Module, name: str, see: WholeCall) -> None:
        """Pass all arguments and the first output tensor to `see`, once."""
        self._expect(name, 1)

        def counted(arguments: Arguments, output: torch.Tensor) -> None:
            self.fired[name] += 1
            see(arguments, output)

        self.watch_call(module, counted)

    def on_arguments(self, module: nn.Module, name: str, change: Callable[[Arguments], Arguments]) -> None:
        """Call the module with the arguments that `change` returns, once."""
        self._expect(name, 1)

        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
            self.fired[name] += 1
            return change((args, kwargs))

        self._handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    def require_fired(self) -> None:
        """Refuse a forward pass in which a hook fired too often or too rarely.

        Raises:
            HookDidNotFire: a count is wrong; the error names the hook.
        """
        for name, times in self.fired.items():
            if times != self._expected[name]:
                planned = self._expected[name]
                raise HookDidNotFire(
                    f"the hook on {name} fired {times} times instead of {planned}, so nothing can be trusted"
                )

    def _expect(self, name: str, times: int) -> None:
        if name in self._expected:
            raise HookDidNotFire(f"two hooks are both called {name}, so their firing cannot be checked")
        self._expected[name], self.fired[name] = times, 0

    def remove(self) -> None:
        """Remove all hooks."""
        while self._handles:
            self._handles.pop().remove()


@contextmanager
def hooked() -> Iterator[Hooks]:
    """Hooks that are removed when the block ends, also by an error."""
    hooks = Hooks()
    try:
        yield hooks
    finally:
        hooks.remove()
