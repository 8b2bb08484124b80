"""What removed sets cost, on disk, a line for each as soon as it is known: a killed run loses one forward at most."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hydrascope._digests import digest_rows
from hydrascope.components import Component, in_order
from hydrascope.errors import OutputError

Removed = frozenset[Component]


@dataclass(frozen=True)
class Cost:
    """What the model without some parts does on every text.

    Attributes:
        loss: cross-entropy of the text's own tokens, summed, nats.
        kl: KL divergence of its next-token distributions from the whole model's, summed, nats; None if not asked for.
        agreed: number of tokens at which its first choice is the whole model's; None if not asked for.
    """

    loss: Float[np.ndarray, " texts"]
    kl: Float[np.ndarray, " texts"] | None = None
    agreed: Float[np.ndarray, " texts"] | None = None

    @property
    def rows(self) -> Float[np.ndarray, "measures texts"]:
        """What is known, one below the other."""
        return np.stack([one for one in (self.loss, self.kl, self.agreed) if one is not None])


def name_of(removed: Collection[Component]) -> str:
    """A set as text: its parts in the order of the forward pass."""
    return "+".join(map(str, in_order(removed)))


@dataclass
class Store:
    """Costs of sets on one part of the text.

    Attributes:
        path: file; None keeps them in memory only.
        split: the part of the text.
        known: cost by name of the set.
    """

    path: Path | None
    split: str
    known: dict[str, Cost] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.path is None or not self.path.exists():
            return
        whole = self.path.read_bytes()
        if not whole.endswith(b"\n"):  # a killed write
            whole = whole[: whole.rfind(b"\n") + 1]
            self.path.write_bytes(whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                split, name, digest, rows = json.loads(line)
                array = np.array(rows, np.float64)
                sound = digest == _digest(array) and len(array) in (1, 3)
            except (ValueError, TypeError):
                sound = False
            if not sound:
                raise OutputError(
                    f"line {number} of '{self.path}' is not what was written; put the file back, or use --overwrite"
                )
            if split == self.split:
                self.known[name] = Cost(*array)

    def enter(self, removed: Collection[Component], cost: Cost) -> None:
        """Keep a cost."""
        self.known[name_of(removed)] = cost
        if self.path is None:
            return
        line = json.dumps([self.split, name_of(removed), _digest(cost.rows), cost.rows.tolist()])
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OutputError(f"'{self.path}' cannot be written: {error.strerror or error}") from error


def _digest(rows: Float[np.ndarray, "measures texts"]) -> int:
    return int(digest_rows(rows[None])[0])
