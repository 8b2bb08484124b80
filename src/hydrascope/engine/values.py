"""The activations that replacements are made of, kept on disk so that a killed run need not make them again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import zarr
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope.ablations import ExtraRun
from hydrascope.anatomy import Model, Site
from hydrascope.engine.budget import Budget, Footprint, prompts_at_once
from hydrascope.engine.capture import Clean, capture
from hydrascope.prompts import LEADING, CleanAnswers

CHUNK = 32


@runtime_checkable
class Keeper(Protocol):
    """Keeps clean passes in memory."""

    needs_prefix: bool

    def keep(self, rows: Sequence[int], clean: Clean) -> None:
        """Keep a pass under its rows if it fits."""


@dataclass(frozen=True)
class ValueStore:
    """Last-token values of many runs, one row a run, in a Zarr group.

    Attributes:
        group: one array per site; `top`, the model's top token per run, which is -1 until a run is done; `leading`,
            its most probable tokens, best first; `margin`, by how much the first logit of the run's pair is higher.
    """

    group: zarr.Group

    @classmethod
    def create(cls, group: zarr.Group, sites: Sequence[Site], runs: int, vocabulary: int) -> ValueStore:
        """An empty store for a number of runs; an existing one is left as it is."""
        if "top" not in group:
            for site in sites:
                group.require_array(str(site), shape=(runs, site.width), chunks=(CHUNK, site.width), dtype="float32")
            ranks = min(LEADING, vocabulary)
            group.require_array("leading", shape=(runs, ranks), chunks=(CHUNK, ranks), dtype="int64")
            group.require_array("margin", shape=(runs,), chunks=(CHUNK,), dtype="float32")
            group.create_array("top", shape=(runs,), chunks=(CHUNK,), dtype="int64", fill_value=-1)
        return cls(group)

    @property
    def top(self) -> Int[np.ndarray, " runs"]:
        """The model's most likely next token of each run."""
        return np.asarray(self.group["top"][:])

    @property
    def answers(self) -> CleanAnswers:
        """What the model says at the end of each run."""
        return CleanAnswers(self.top, np.asarray(self.group["leading"][:]), np.asarray(self.group["margin"][:]))

    def values(self, site: Site) -> Float[Tensor, "runs width"]:
        """All runs' values at a site."""
        return torch.from_numpy(np.asarray(self.group[str(site)][:]))

    def fill(
        self,
        model: Model,
        runs: Sequence[ExtraRun],
        sites: Sequence[Site],
        budget: Budget,
        done: Callable[[int], None],
        keeper: Keeper | None = None,
    ) -> None:
        """Run what has not been run yet, chunk by chunk, and write each chunk when it is whole.

        Args:
            model: the model.
            runs: what to run, in row order.
            sites: whose values are kept.
            budget: memory budget.
            done: told the number of runs after each chunk.
            keeper: handed every clean pass with its rows, to keep those that fit.
        """
        finished = self.top >= 0
        for first in range(0, len(runs), CHUNK):
            rows = range(first, min(first + CHUNK, len(runs)))
            if not finished[rows.start : rows.stop].all():
                self._fill_chunk(model, runs, rows, sites, budget, keeper)
            done(len(rows))

    def _fill_chunk(
        self,
        model: Model,
        runs: Sequence[ExtraRun],
        rows: range,
        sites: Sequence[Site],
        budget: Budget,
        keeper: Keeper | None,
    ) -> None:
        found = {site: np.empty((len(rows), site.width), "float32") for site in sites}
        top = np.empty(len(rows), "int64")
        leading = np.empty((len(rows), self.group["leading"].shape[1]), "int64")
        margin = np.full(len(rows), np.nan, "float32")
        for batch in same_length_batches(model, [runs[row].ids for row in rows], budget):
            noisy = any(runs[rows[i]].noise for i in batch)
            ids = torch.tensor([runs[rows[i]].ids for i in batch])
            noise = (
                torch.stack([embedding_noise(runs[rows[i]], model.anatomy.d_model) for i in batch]) if noisy else None
            )
            clean = capture(
                model, ids, sites, keep_prefix=keeper is not None and keeper.needs_prefix, embedding_noise=noise
            )
            for site in sites:
                found[site][batch] = clean.values[site].float().cpu().numpy()
            top[batch] = clean.logits.argmax(-1).cpu().numpy()
            leading[batch] = clean.logits.float().topk(leading.shape[1]).indices.cpu().numpy()
            for logits, i in zip(clean.logits, batch, strict=True):
                if (pair := runs[rows[i]].pair) is not None:
                    margin[i] = float(logits[pair[0]]) - float(logits[pair[1]])
            if keeper is not None:
                keeper.keep([rows[i] for i in batch], clean)
        for site in sites:
            self.group[str(site)][rows.start : rows.stop] = found[site]
        self.group["leading"][rows.start : rows.stop] = leading
        self.group["margin"][rows.start : rows.stop] = margin
        self.group["top"][rows.start : rows.stop] = top


def same_length_batches(model: Model, prompts: Sequence[Sequence[int]], budget: Budget) -> list[list[int]]:
    """Indices of prompts of one length, as many together as the budget holds; nothing is ever padded.

    Raises:
        OutOfBudget: a single prompt does not fit.
    """
    lengths: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        lengths.setdefault(len(prompt), []).append(i)
    batches = []
    for tokens, members in sorted(lengths.items()):
        size = prompts_at_once(budget, Footprint.of(model, tokens, copies_prefix=False))
        batches += [members[i : i + size] for i in range(0, len(members), size)]
    return batches


def embedding_noise(run: ExtraRun, width: int) -> Float[Tensor, "tokens d"]:
    """A run's own noise, which depends on nothing but its seed, in units of the spread of its embeddings."""
    generator = np.random.default_rng(run.seed or (0,))
    return torch.from_numpy(generator.standard_normal((len(run.ids), width), "float32") * run.noise)
