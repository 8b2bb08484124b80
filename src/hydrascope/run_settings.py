"""Where the settings of two runs differ, in the words of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NO_OPTIONS = {"weights": "other weights", "prompts": "other prompts", "engine": "another engine"}
"""Settings that no option says; they are told only where no option differs, since they may follow from one."""

_SWITCHED_OFF = ("distribution", "freeze", "merge")
"""Options that are on unless `--no-...` is given."""

_LONGEST = 40
"""Most characters of a value."""


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Tell how two runs differ.

    Args:
        before: settings of the run that is there.
        now: settings of the run that is asked for.

    Returns:
        A part of a sentence, such as `--seed 0 there, 1 now`; empty where they do not differ.
    """
    changed = sorted(key for key in {*before, *now} if before.get(key) != now.get(key))
    options = [key for key in changed if key not in _NO_OPTIONS]
    if not options:
        return " and ".join(f"of {_NO_OPTIONS[key]}" for key in changed)
    return ", and ".join(_told(key, before.get(key), now.get(key)) for key in options)


def _told(key: str, before: Any, now: Any) -> str:
    flag = f"--{key.replace('_', '-')}"
    if isinstance(before, bool) and isinstance(now, bool):
        if key in _SWITCHED_OFF:
            flag, before, now = f"--no-{flag[2:]}", not before, not now
        return f"{flag} there, not now" if before else f"{flag} now, not there"
    return f"{flag} {_spelled(before)} there, {_spelled(now)} now"


def _spelled(value: Any) -> str:
    if value is None:
        return "not given"
    if isinstance(value, Mapping):  # an ablation
        fields = ", ".join(f"{name} {_spelled(one)}" for name, one in value.items() if name != "name")
        name = str(value.get("name", ""))  # scores of parts have none
        return f"{name} ({fields})".lstrip() if fields else name
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
