"""What a set of removed parts costs on some texts, each set once.

The clean stream of every text stays in memory, and as many of its log-probabilities as there is room for. A set costs
the blocks from its first removed part on that are left, and the unembedding. A search that removes one part after the
other stands on what it has removed so far, and pays from the next part on; so do many sets with the same first part.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope.anatomy import Model
from hydrascope.components import Component, in_order
from hydrascope.engine import Constants, Trunk, logit_bytes
from hydrascope.pruning._store import Cost, Removed, Store, name_of
from hydrascope.pruning._texts import Texts

LOGIT_BYTES = 2**27
"""Bytes of logits that a forward may make; a single text may make more."""

KEPT_BYTES = 2**30
"""Bytes of clean log-probabilities that are kept where nothing else is said."""

Told = Callable[[int], None]
"""Takes how many sets have been judged so far."""


@dataclass
class Judge:
    """Judges sets of parts on some texts.

    Attributes:
        model: the model.
        texts: the texts.
        store: what is known already.
        told: takes the number of sets that were run, after each.
        constants: what removed parts leave in their places; a part that is not among them leaves nothing.
        kept: bytes of clean log-probabilities that are kept; others are made again.
    """

    model: Model
    texts: Texts
    store: Store
    told: Told = lambda sets: None
    constants: Mapping[Component, Constants] = field(default_factory=dict)
    kept: int = KEPT_BYTES
    ran: int = field(default=0, init=False)
    _clean: list[Trunk] = field(default_factory=list, init=False)
    _standing: list[Trunk] = field(default_factory=list, init=False)
    _kept: list[Tensor] = field(default_factory=list, init=False)

    @property
    def batches(self) -> list[range]:
        """Texts that go through the model together."""
        return self.texts.batches(LOGIT_BYTES // (4 * self.model.anatomy.n_vocab))

    @property
    def trunks(self) -> list[Trunk]:
        """The texts in the untouched model, batch by batch."""
        if not self._clean:
            self._clean = [Trunk.grow(self.model, self.ids(batch), constants=self.constants) for batch in self.batches]
        return self._clean

    def ids(self, batch: range) -> Tensor:
        """Token ids of a batch."""
        return torch.tensor([self.texts.ids[i] for i in batch], device=self.model.device)

    def loss(self, removed: Iterable[Component] = ()) -> float:
        """Mean cross-entropy of a token, nats, without some parts."""
        return float(self.cost(removed).loss.sum() / self.texts.tokens)

    def kl(self, removed: Iterable[Component]) -> float:
        """Mean KL divergence from the whole model's next-token distribution, nats, without some parts."""
        found = self.cost(removed, whole=True).kl
        assert found is not None
        return float(found.sum() / self.texts.tokens)

    def cost(self, removed: Iterable[Component] = (), *, whole: bool = False) -> Cost:
        """What the model does on every text without some parts.

        Args:
            removed: the parts; none for the untouched model.
            whole: also compare distributions with the untouched model's, which costs its unembedding once more.
        """
        without = frozenset(removed)
        if not self._knows(without, whole):
            self.store.enter(without, self._run(without, whole))
            self.ran += 1
            self.told(self.ran)
        return self.store.known[name_of(without)]

    def costs(self, sets: Iterable[Collection[Component]], *, whole: bool = False) -> list[Cost]:
        """What the model does on every text without some parts, for many sets.

        Sets with the same first part stand on it where that spares more blocks than it takes.

        Args:
            sets: the sets.
            whole: as of `cost`.
        """
        wanted = [in_order(one) for one in sets]
        depth = self.model.anatomy.n_layers
        for first, same in groupby(sorted(one for one in wanted if one), key=lambda one: one[0]):
            waiting = [one for one in dict.fromkeys(same) if not self._knows(one, whole)]
            spared = sum((one[1].layer if len(one) > 1 else depth) - first.layer for one in waiting)
            if len(waiting) > 1 and spared > depth - first.layer:
                self.stand_on([first])
            for one in waiting:
                self.cost(one, whole=whole)
            self.stand_clear()
        return [self.cost(one, whole=whole) for one in wanted]

    def _knows(self, removed: Collection[Component], whole: bool) -> bool:
        known = self.store.known.get(name_of(removed))
        return known is not None and not (whole and known.kl is None)

    def on_fewer(self, tokens: int) -> Judge:
        """A judge on about so many tokens of these texts, or this one where there are no more."""
        some = self.texts.some(tokens)
        if len(some.ids) == len(self.texts.ids):
            return self
        known = Store(self.store.path, f"{self.store.split}, {tokens} tokens")
        return Judge(self.model, some, known, self.told, self.constants, self.kept)

    def stand_on(self, removed: Collection[Component]) -> None:
        """Begin forwards of larger sets at what they add to this one."""
        self._standing = [
            Trunk.grow(self.model, trunk.ids, trunk, *frozenset(removed) - trunk.missing)
            for trunk in self._nearest(frozenset(removed))
        ]

    def stand_clear(self) -> None:
        """Forget the set that was stood on."""
        self._standing = []

    def _run(self, removed: Removed, whole: bool) -> Cost:
        rows = np.zeros((3 if whole else 1, len(self.texts.ids)))
        for number, (batch, trunk) in enumerate(zip(self.batches, self._nearest(removed), strict=True)):
            logits = trunk.logits(self.model, *(removed - trunk.missing))
            rows[:, batch.start : batch.stop] = _measures(logits, trunk.ids, self._whole(number) if whole else None)
        return Cost(*rows)

    def _nearest(self, removed: Removed) -> list[Trunk]:
        """What a forward without some parts begins with."""
        return self._standing if self._standing and self._standing[0].missing <= removed else self.trunks

    def _whole(self, number: int) -> Float[Tensor, "texts predicted vocab"]:
        """The untouched model's log-probabilities on a batch, which are as large as its logits."""
        if number < len(self._kept):
            return self._kept[number]
        found = self.trunks[number].logits(self.model)[:, :-1].float().log_softmax(-1)
        if number == len(self._kept) and sum(one.nbytes for one in self._kept) + found.nbytes <= self.kept:
            self._kept.append(found)
        return found


def _measures(
    logits: Float[Tensor, "texts tokens vocab"], ids: Tensor, whole: Float[Tensor, "texts predicted vocab"] | None
) -> Float[np.ndarray, "measures texts"]:
    """Loss, and with the untouched model's log-probabilities KL divergence and agreement, summed over each text."""
    found, after = logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()
    together = max(1, logit_bytes(found.device) // (4 * found.shape[-1]))
    before: Iterable[Tensor | None] = [None] * len(found) if whole is None else whole.flatten(0, 1).split(together)
    parts = zip(found.split(together), after.split(together), before, strict=False)
    rows = torch.cat([_of_tokens(some.float(), next_one[:, None], known) for some, next_one, known in parts], dim=-1)
    summed: np.ndarray = rows.double().unflatten(-1, (len(ids), -1)).sum(-1).cpu().numpy()
    return summed


def _of_tokens(
    logits: Float[Tensor, "tokens vocab"], after: Int[Tensor, "tokens 1"], whole: Float[Tensor, "tokens vocab"] | None
) -> Float[Tensor, "measures tokens"]:
    if whole is None:
        return (logits.logsumexp(-1) - logits.gather(-1, after)[:, 0])[None]
    found = logits.log_softmax(-1)
    kl = (whole.exp() * (whole - found)).sum(-1)
    return torch.stack([-found.gather(-1, after)[:, 0], kl, (whole.argmax(-1) == found.argmax(-1)).float()])
