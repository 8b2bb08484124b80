"""What is said of a stress test: every claim computed anew, and sentences that read well whatever was found."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest

from hydrascope.resilience import Resilience, verdict
from tests.support import games
from tests.support.claims import hold
from tests.support.synthetic import Plant

PARTS = ("attn.4", "attn.6", "attn.7", "mlp.7")
PROMPTS = 14


def on_prompts(value: np.ndarray, noise: float = 0.02) -> np.ndarray:
    """A set function on prompts that differ a little. [P, 2^n]"""
    return value + np.random.default_rng(0).normal(0, noise, (PROMPTS, len(value)))


def out(parts: int) -> np.ndarray:
    return games.every_set(parts).astype(float)


def additive(*alone: float) -> np.ndarray:
    return 3 - out(len(alone)) @ np.array(alone)


def backups(*pairs: tuple[int, int]) -> np.ndarray:
    """Four parts of which some pairs cost 2 logits together and nothing alone."""
    failed = out(4)
    return 3 - 2 * sum((failed[:, k] * failed[:, j] for k, j in pairs), np.zeros(16))


def paths(*pairs: tuple[int, int]) -> np.ndarray:
    """Four parts of which some pairs cost no more than each of them."""
    failed = out(4)
    return 5 - 2 * sum((np.maximum(failed[:, k], failed[:, j]) for k, j in pairs), np.zeros(16))


ACTIVE = Plant("attn.4", "attn.6", 0.6)
SHAPES: dict[str, tuple[Callable[[], Resilience], list[str]]] = {
    "nothing interacts, none can be lost": (
        lambda: games.measured(on_prompts(additive(1, 1, 1, 1)), PARTS),
        ["Of 6 pairs, none clearly costs more or less together than alone.", "None of the 4 parts can be lost, even"],
    ),
    "one can be lost": (
        lambda: games.measured(on_prompts(additive(1, 1, 1, 0)), PARTS),
        ["1 of 4 parts can be lost: without it, at most 10 % of the prompts lose 0.50 logits or more."],
    ),
    "two can be lost together": (
        lambda: games.measured(on_prompts(additive(1, 1, 0, 0)), PARTS),
        ["2 of 4 parts can be lost one at a time", "such parts, attn.7 with mlp.7, can be lost together."],
    ),
    "all can be lost together": (
        lambda: games.measured(on_prompts(additive(0.1, 0.1, 0.1, 0.1)), PARTS),
        ["All 4 parts can be lost one at a time", "; all 6 measured pairs of such parts can be lost together."],
    ),
    "one pair": (
        lambda: games.measured(on_prompts(backups((0, 1))), PARTS),
        [
            "Of 6 pairs, 1 clearly costs more together than alone; it is passive redundancy (neither answers",
            "of the 6 measured pairs of such parts, 1 cannot be lost together: attn.4 with attn.6.",
        ],
    ),
    "one on a path": (
        lambda: games.measured(on_prompts(paths((0, 1))), PARTS),
        ["Of 6 pairs, 1 clearly costs less together than alone."],
    ),
    "more and less": (
        lambda: games.measured(on_prompts(backups((0, 1), (0, 2)) + paths((2, 3))), PARTS),
        [
            "Of 6 pairs, 2 clearly cost more and 1 clearly costs less together than alone; of those that cost more, "
            "2 are passive redundancy (neither answers the other)."
        ],
    ),
    "more than are named": (
        lambda: games.measured(on_prompts(backups((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))), PARTS),
        ["6 clearly cost more together", "of such parts, 6 cannot be lost together, attn", " first of all."],
    ),
    "both kinds": (
        lambda: games.measured(on_prompts(backups((0, 1), (1, 2), (1, 3)) * 0.3), PARTS, ACTIVE),
        ["1 is active repair (the later part answers as much) and 2 are passive redundancy (neither answers"],
    ),
    "two parts": (
        lambda: games.measured(on_prompts(additive(0, 0)), PARTS[:2]),
        ["Of 1 pair, none clearly costs more or less together than alone.", "such parts, attn.4 with attn.6, can be"],
    ),
    "nothing costs anything": (lambda: games.measured(on_prompts(additive(0, 0, 0, 0), 0), PARTS), []),
    "six prompts are too few groups": (lambda: games.measured(on_prompts(additive(1, 0, 1, 0))[:5], PARTS), []),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_sentences_read_well_whatever_was_found(shape: str) -> None:
    made, expected = SHAPES[shape]
    said = verdict(made())
    text = " ".join((said.headline, *said.sentences))
    for fragment in expected:
        assert fragment in text
    for sentence in (said.headline, *said.sentences):
        assert re.match("[A-Z0-9]|attn|mlp", sentence) and re.search(r"[^.]\.$", sentence), sentence
        assert not re.search(r"nan|  |\[\]|\(\)| ,| \.|−0 ", sentence), sentence
        assert not re.search(r"\b1 (pairs|are|clearly cost\b|[a-z]+ pairs|others)", sentence), sentence
        assert not re.search(r"(?<![\d.])(0|[2-9]|\d\d+) (pair\b|is\b|clearly costs)", sentence), sentence
        assert not re.search(r"(?<![\d.])0 (of|are|cannot|pairs)", sentence), sentence


def crossed() -> Resilience:
    """attn.4 costs little unless attn.6 fails too, mlp.7 always the same; some prompts go wrong before others."""
    first, second, _, fourth = out(4).T
    value = 3.5 - 0.1 * first - 1.2 * fourth - 4 * first * second
    level = np.random.default_rng(3).normal(0, 1, (PROMPTS, 1))
    return games.measured(on_prompts(value, 0.3) + level, PARTS, Plant("attn.4", "attn.6", 0.6), masks=80)


def test_every_claim_is_that_of_the_stored_values() -> None:
    said = verdict(found := crossed())
    assert {"underrated", "exposed", "pair", "hidden", "taker"} <= set(said.numbers)
    assert 0 < said.numbers["survived"] < 1
    hold(found)
