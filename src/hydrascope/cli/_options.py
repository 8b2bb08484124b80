"""Options of the command line, made from the fields of a run's request."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from hydrascope.run import RunRequest

Finished = Annotated[Path, typer.Argument(help="The folder of a finished run.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the weights.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


_PANELS = {
    "What is run": ("prompts", "length", "texts", "protocol", "target", "keep_wrong", "bos"),
    "What is knocked out": ("components", "positions", "ablation", "donors", "dose", "freeze"),
    "What is measured": ("read", "skip", "null_draws", "writers", "detail", "distribution", "split_attention"),
    "Machine": ("device", "dtype", "memory", "seed"),
}
"""Heading in a verb's help to the options below it; all others stand under no heading of their own."""

_LATE: dict[str, Callable[[], None]] = {}
"""Verb to what adds its options, which is late since a list of verbs should not wait for it."""


def _of_a_run() -> type[RunRequest]:
    from hydrascope.run import RunRequest

    return RunRequest


def with_options(
    names: Sequence[str] | None = None,
    usual: str | None = None,
    request: Callable[[], type[RunRequest]] = _of_a_run,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a verb options that its `**given` takes.

    Args:
        names: fields of `RunRequest`, the model as the argument; None for all of them.
        usual: text of the help for options left out, instead of each one's default.
        request: gives the class with the fields, a request of a run unless told otherwise.
    """

    def with_them(verb: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(verb, eval_str=True)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        arguments = [one for one in own if one.default is one.empty]

        def add(made: Sequence[inspect.Parameter]) -> None:
            ordered = [*arguments, *made, *(one for one in own if one not in arguments)]
            keywords = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in ordered]
            verb.__signature__ = signature.replace(parameters=keywords)  # type: ignore[attr-defined]

        add([])
        _LATE[verb.__name__] = lambda: add(_parameters(request(), names, usual))
        return verb

    return with_them


def add_options(verb: str) -> None:
    """Add a verb's own options, if it has any."""
    _LATE.get(verb, lambda: None)()


def _parameters(request: type[RunRequest], names: Sequence[str] | None, usual: str | None) -> list[inspect.Parameter]:
    from hydrascope.run import options_of

    fields = options_of(request, without=()) if names is None else {n: request.model_fields[n] for n in names}
    return [_parameter(name, field, usual) for name, field in fields.items()]


def _parameter(name: str, field: FieldInfo, usual: str | None) -> inspect.Parameter:
    flag, default = f"--{name.replace('_', '-')}", None if usual else _default(field)
    panel = next((heading for heading, names in _PANELS.items() if name in names), None)
    if name == "model":
        spelled: Any = typer.Argument(help=field.description, show_default=False)
    elif field.annotation is bool:
        both = flag if default is False else f"{flag}/--no-{flag[2:]}"
        spelled = typer.Option(both, help=field.description, rich_help_panel=panel)
    else:
        spelled = typer.Option(flag, help=field.description, show_default=usual or True, rich_help_panel=panel)
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=Annotated[_typed(field), spelled])


def _typed(field: FieldInfo) -> Any:
    """The type that the command line reads; the request judges texts."""
    kinds = {field.annotation, *get_args(field.annotation)}
    return next((one | None for one in (bool, int) if one in kinds), str | None)


def _default(field: FieldInfo) -> Any:
    """The default on the command line; None where it depends on others, or there is none."""
    if field.default_factory is not None or not isinstance(field.default, tuple):
        return field.default if field.default_factory is None else None
    return ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in field.default)
