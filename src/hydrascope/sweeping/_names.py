"""Names cells by what varies among them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydrascope.run import RunRequest, options_of

_FIRST = ("model", "random_weights", "prompts", "ablation")

LONGEST = 120
"""Most characters of a name; a file system takes 255, and a draft or a claim adds a few."""


def named(requests: Sequence[RunRequest]) -> list[str]:
    """A name for each request, made of the first options that tell all of them apart.

    Names and texts stand for themselves, numbers and switches behind their option: `lerna-facts-zero-seed-1`.

    Args:
        requests: what is asked, no two alike.
    """
    given = [{name: getattr(request, name) for name in options_of(RunRequest, without=())} for request in requests]
    varying = _telling_apart(given) or ["model", "prompts"]
    short = {name: _short([one[name] for one in given]) for name in varying}
    made = ["-".join(filter(None, (_part(name, short[name][i]) for name in varying))) for i in range(len(given))]
    made = [re.sub(r"[^\w.,+@=-]+", "_", name).strip("-._")[:LONGEST] or "cell" for name in made]
    return [name if made.index(name) == i else f"{name}-{made[: i + 1].count(name)}" for i, name in enumerate(made)]


def _telling_apart(given: Sequence[Mapping[str, Any]]) -> list[str]:
    """Options that tell requests apart, without those that follow from others, as donors may from the ablation."""
    found: list[str] = []
    apart = 1
    for name in (*_FIRST, *(name for name in given[0] if name not in _FIRST)):
        more = len({tuple(_hashable(one[name]) for name in (*found, name)) for one in given})
        if more > apart:
            found, apart = [*found, name], more
    return found


def _short(values: Sequence[Any]) -> list[Any]:
    """Paths by their ends, where those tell as many apart as the paths do."""
    ends = [re.sub(r"\.(jsonl?|csv|txt)$", "", Path(one).name) if isinstance(one, str) else one for one in values]
    return ends if len({*map(_hashable, ends)}) == len({*map(_hashable, values)}) else list(values)


def _part(name: str, value: Any) -> str:
    flag = name.replace("_", "-")
    if value is None:
        return "" if name == "random_weights" else "usual" if name in ("model", "prompts") else f"usual-{flag}"
    if isinstance(value, bool):
        return flag if value else f"no-{flag}"
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return "+".join(f"{one:g}" if isinstance(one, float) else str(one) for one in value)
    return f"{flag}-{value:g}" if isinstance(value, float) else f"{flag}-{value}"


def _hashable(value: Any) -> Hashable:
    return value if isinstance(value, Hashable) else repr(value)
