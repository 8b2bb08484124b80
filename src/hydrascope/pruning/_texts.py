"""Text that rankings see, and text that they are judged on; no document is in both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby, zip_longest

import numpy as np
from jaxtyping import Int

from hydrascope.errors import EmptyPrompts
from hydrascope.prompts import EncodedPrompt

SPLITS = ("calibration", "test")


@dataclass(frozen=True)
class Texts:
    """Texts in tokens.

    Attributes:
        ids: token ids of each text, sorted by length.
        documents: the document that each text is from.
    """

    ids: tuple[tuple[int, ...], ...]
    documents: tuple[str, ...]

    @cached_property
    def predicted(self) -> Int[np.ndarray, " texts"]:
        """Number of tokens of each text that are predicted: all but the first."""
        return np.array([len(one) - 1 for one in self.ids])

    @property
    def tokens(self) -> int:
        """Number of tokens that are predicted."""
        return int(self.predicted.sum())

    def some(self, tokens: int) -> Texts:
        """About so many predicted tokens, evenly from all texts."""
        step = max(1, self.tokens // tokens)
        return Texts(self.ids[::step], self.documents[::step])

    def batches(self, most: int) -> list[range]:
        """Texts of one length that go through the model together.

        Args:
            most: largest number of tokens in a batch of several texts.
        """
        found, start = [], 0
        for length, same in groupby(self.ids, len):
            stop, size = start + len(list(same)), max(1, most // length)
            found += [range(first, min(stop, first + size)) for first in range(start, stop, size)]
            start = stop
        return found


def split(encoded: Sequence[EncodedPrompt], calibrate: int, test: int, seed: int) -> tuple[Texts, Texts]:
    """Choose texts to calibrate on and others to test on, from different documents.

    Half of the documents, at random, are for calibration. Each part takes its texts evenly over its documents, and a
    text that was met before, in whatever document, counts for neither.

    Args:
        encoded: texts with the documents as groups.
        calibrate: predicted tokens to calibrate on; fewer if there are no more.
        test: predicted tokens to test on; fewer if there are no more.
        seed: of the choice of documents.

    Raises:
        EmptyPrompts: there are not two documents.
    """
    documents: dict[str, list[tuple[int, ...]]] = defaultdict(list)
    met: set[tuple[int, ...]] = set()
    for text in encoded:
        if len(text.ids) > 1 and text.ids not in met:
            met.add(text.ids)
            documents[text.group].append(text.ids)
    if len(documents) < 2:
        raise EmptyPrompts(
            f"{len(documents)} document is too few to rank on one and to test on another; give a folder of text files, "
            "or one file with <|endoftext|> between its documents"
        )
    order = [list(documents)[i] for i in np.random.default_rng(seed).permutation(len(documents))]
    half = len(order) // 2
    return _take(documents, order[:half], calibrate), _take(documents, order[half:], test)


def _take(documents: dict[str, list[tuple[int, ...]]], names: list[str], tokens: int) -> Texts:
    """Texts of some documents, the first of each, then the second of each, until there are enough tokens."""
    found: list[tuple[tuple[int, ...], str]] = []
    for turn in zip_longest(*(documents[name] for name in names)):
        for name, ids in zip(names, turn, strict=True):
            if ids is not None and tokens > 0:
                found.append((ids, name))
                tokens -= len(ids) - 1
    found.sort(key=lambda one: len(one[0]))
    return Texts(tuple(ids for ids, _ in found), tuple(name for _, name in found))
