"""`hydrascope models` and `hydrascope tasks`: what to run, and what to run it on."""

from __future__ import annotations

from hydrascope.cli._streams import say


def models() -> None:
    """List the bundled models."""
    from hydrascope import zoo

    for model in zoo.bundled():
        say(f"{model.name}: {model.description}")


def tasks() -> None:
    """List what --prompts takes beside files: built-in sets and tasks."""
    from hydrascope.prompts import builtin_names, listed_tasks, load

    for name in builtin_names():
        say(f"{name}: {len(load(name))} prompts")
    for line in listed_tasks():
        say(line)
