"""What parts that go leave in their place: nothing, zeros, their mean output, or the constant that does the least harm.

Constants are made on the text that rankings may see, each for its part alone. Only a constant that a bias can hold
leaves a smaller model (`exporting`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path

import torch

from hydrascope.ablations import ExtraRun, Optimal
from hydrascope.anatomy import Model, Place
from hydrascope.components import Component, Knockout
from hydrascope.engine import (
    Budget,
    Constants,
    FromBlock,
    KLObjective,
    Origin,
    Positions,
    batches_of_texts,
    learn,
    statistics_of_texts,
    texts_at_once,
)
from hydrascope.ledger import read_record, write_record
from hydrascope.pruning._request import Replace
from hydrascope.pruning._texts import Texts

LEFT: Mapping[Replace, str] = {
    "removal": "nothing",
    "zero": "zeros",
    "mean": "its mean output",
    "optimal": "the constant that does the least harm",
}
"""What a part leaves in its place, in words."""


def constants_of(
    model: Model,
    texts: Texts,
    parts: Sequence[Component],
    replace: Replace,
    budget: Budget,
    progress: Callable[[int, int], None],
) -> dict[Component, Constants]:
    """What each part leaves in its places; a part that is not among them is left out.

    Args:
        model: the model.
        texts: text that rankings may see.
        parts: the parts.
        replace: what takes their place.
        budget: memory for what constants are learned from.
        progress: takes how many constants are done, and how many there are.
    """
    places = {part: model.anatomy.places(part) for part in parts}
    if replace == "zero":  # a block that writes zeros and one that is skipped differ where it rescales the stream
        whole = [part for part in parts if part.kind == "layer"]
        return {part: tuple(torch.zeros(place.width) for place in places[part]) for part in whole}
    if replace == "removal":
        return {}
    origins = _origins(model, texts, places)
    if replace == "mean":
        return {part: tuple(origin.mean for origin in some) for part, some in origins.items()}
    widest = max(Counter(part.layer for part in parts).values())
    batches = batches_of_texts(model, texts.ids, Positions("all", "each", 0), widest, 0, budget)
    found: dict[Component, Constants] = {}
    for layer, same in groupby(parts, lambda part: part.layer):
        here = list(same)
        for first in range(0, len(here), batches.together):
            some = here[first : first + batches.together]
            strategy = FromBlock(enters=False).at(layer)
            knockouts = [Knockout((part,)) for part in some]
            objective = KLObjective(model, strategy, knockouts, [places[part] for part in some], batches)
            learned = learn(objective, [origins[part] for part in some], Optimal().learning)
            found |= dict(zip(some, learned, strict=True))
            progress(len(found), len(parts))
    return found


def _origins(
    model: Model, texts: Texts, places: Mapping[Component, Sequence[Place]]
) -> dict[Component, tuple[Origin, ...]]:
    sites = list({place.site: None for some in places.values() for place in some})
    at_once = texts_at_once(model.device, max(map(len, texts.ids)), 1)
    found = statistics_of_texts(model, [ExtraRun(ids) for ids in texts.ids], sites, lambda tokens: at_once)
    return {part: tuple(Origin.at(place, found) for place in some) for part, some in places.items()}


def write_constants(path: Path, constants: Mapping[str, Constants]) -> None:
    """Keep constants, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    numbers = {part: [value.tolist() for value in some] for part, some in constants.items()}
    write_record(path, {"settings": {}, "constants": numbers})


def read_constants(path: Path) -> dict[str, Constants]:
    """Constants by address.

    Raises:
        OutputError: the file cannot be read, or is not what was written.
    """
    found = read_record(path)["constants"]
    return {part: tuple(torch.tensor(value) for value in some) for part, some in found.items()}
