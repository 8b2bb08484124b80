"""Activations that replacements are made of: last tokens on disk, whole texts in memory.

Last-token values take one forward of every prompt, once a run. Values of whole texts are made block by block and are
never written: where only a mean is needed, `position_means` and `statistics_of_texts` keep sums alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
import zarr
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope._digests import digest_rows
from hydrascope.ablations import ExtraRun
from hydrascope.anatomy import Model, Place, Site
from hydrascope.engine._clean import CleanRun, Keep, record
from hydrascope.engine._clean_cache import CleanCache
from hydrascope.engine._memory import STORED_TOGETHER, Budget, prompts_at_once, same_length_batches
from hydrascope.engine._positions import Positions
from hydrascope.engine._scratch import open_or_renew
from hydrascope.prompts import LEADING, CleanAnswers

Values = dict[Site, Float[Tensor, "runs edited _"]]
"""By site, what a module takes or returns at the replaced positions of many runs."""


@dataclass(frozen=True)
class ValueStore:
    """Last-token values of many runs in a Zarr group, one row a run, to survive a kill.

    Attributes:
        group: one array per site; `top`, each run's most likely token, -1 until the run is done; `leading`, its most
            likely tokens, best first; `margin`, by how many logits target exceeds foil;
            `digest`, of a run's row in each of the others but `top`.
    """

    group: zarr.Group

    @classmethod
    def open(cls, scratch: Path, name: str, sites: Sequence[Site], runs: int, vocabulary: int) -> ValueStore:
        """Open a store, laid out if there is none or it is damaged.

        Args:
            scratch: the run's scratch folder.
            name: name of the store.
            sites: module inputs and outputs that are kept.
            runs: number of runs.
            vocabulary: number of tokens of the model.

        Raises:
            OSError: it cannot be read or written.
        """

        def lay_out() -> ValueStore:
            return cls._laid_out(zarr.open_group(scratch, mode="a").require_group(name), sites, runs, vocabulary)

        return open_or_renew(scratch, lay_out, cls.is_intact)

    @classmethod
    def _laid_out(cls, group: zarr.Group, sites: Sequence[Site], runs: int, vocabulary: int) -> ValueStore:
        if "top" not in group:
            rows = STORED_TOGETHER
            for site in sites:
                group.require_array(str(site), shape=(runs, site.width), chunks=(rows, site.width), dtype="float32")
            ranks = min(LEADING, vocabulary)
            group.require_array("leading", shape=(runs, ranks), chunks=(rows, ranks), dtype="int64")
            group.require_array("margin", shape=(runs,), chunks=(rows,), dtype="float32")
            digested = len(sites) + 2
            group.require_array("digest", shape=(runs, digested), chunks=(rows, digested), dtype="uint32")
            group.create_array("top", shape=(runs,), chunks=(rows,), dtype="int64", fill_value=-1)
        return cls(group)

    def is_intact(self) -> bool:
        """Whether every run that is done is what was written."""
        done, digests = self.top >= 0, np.asarray(self.group["digest"][:])
        names = sorted(name for name in self.group.array_keys() if name not in ("top", "digest"))
        found = [digest_rows(np.asarray(self.group[name][:])) for name in names]
        return np.array_equal(np.stack(found, 1)[done], digests[done])

    @property
    def top(self) -> Int[np.ndarray, " runs"]:
        """Most likely next token of each run; -1 while the run is not done."""
        return np.asarray(self.group["top"][:])

    @property
    def answers(self) -> CleanAnswers:
        """What the model says at the end of each run."""
        return CleanAnswers(self.top, np.asarray(self.group["leading"][:]), np.asarray(self.group["margin"][:]))

    def values(self, site: Site) -> Float[Tensor, "runs 1 width"]:
        """All runs' values at a site."""
        return torch.from_numpy(np.asarray(self.group[str(site)][:]))[:, None]

    def fill(
        self,
        model: Model,
        runs: Sequence[ExtraRun],
        sites: Sequence[Site],
        budget: Budget,
        done: Callable[[int], None],
        cache: CleanCache | None = None,
    ) -> None:
        """Run what has not been run yet, and write some runs at a time.

        Args:
            model: the model.
            runs: prompts to run, in row order.
            sites: module inputs and outputs to keep.
            budget: memory budget.
            done: takes the number of runs after each write.
            cache: takes clean runs, to keep those that fit.
        """
        finished = self.top >= 0
        for first in range(0, len(runs), STORED_TOGETHER):
            rows = range(first, min(first + STORED_TOGETHER, len(runs)))
            if not finished[rows.start : rows.stop].all():
                self._fill(model, runs, rows, sites, budget, cache)
            done(len(rows))

    def _fill(
        self,
        model: Model,
        runs: Sequence[ExtraRun],
        rows: range,
        sites: Sequence[Site],
        budget: Budget,
        cache: CleanCache | None,
    ) -> None:
        found = {site: np.empty((len(rows), site.width), "float32") for site in sites}
        top = np.empty(len(rows), "int64")
        leading = np.empty((len(rows), self.group["leading"].shape[1]), "int64")
        margin = np.full(len(rows), np.nan, "float32")
        keep: Keep = "nothing" if cache is None else cache.keep
        fitting = partial(prompts_at_once, model, budget=budget)
        for batch in same_length_batches([runs[row].ids for row in rows], fitting):
            clean = record_runs(model, [runs[rows[i]] for i in batch], Positions(), sites, keep)
            for site in sites:
                found[site][batch] = clean.values[site][:, 0].float().cpu().numpy()
            top[batch] = clean.logits.argmax(-1).cpu().numpy()
            leading[batch] = clean.logits.float().topk(leading.shape[1]).indices.cpu().numpy()
            for logits, i in zip(clean.logits, batch, strict=True):
                if (pair := runs[rows[i]].pair) is not None:
                    margin[i] = float(logits[pair[0]]) - float(logits[pair[1]])
            if cache is not None:
                cache.put([rows[i] for i in batch], clean)
        arrays = {**{str(site): values for site, values in found.items()}, "leading": leading, "margin": margin}
        for name, array in arrays.items():
            self.group[name][rows.start : rows.stop] = array
        digests = [digest_rows(array) for _, array in sorted(arrays.items())]
        self.group["digest"][rows.start : rows.stop] = np.stack(digests, 1)
        self.group["top"][rows.start : rows.stop] = top


def record_runs(
    model: Model, runs: Sequence[ExtraRun], positions: Positions, sites: Sequence[Site], keep: Keep = "nothing"
) -> CleanRun:
    """Run prompts of one length, with noise on the embeddings of those that have it."""
    ids = torch.tensor([list(run.ids) for run in runs])
    noise = None
    if any(run.noise for run in runs):
        noise = torch.stack([_embedding_noise(run, model.anatomy.d_model) for run in runs])
    return record(model, ids, sites, positions.layout(*ids.shape), keep=keep, embedding_noise=noise)


def _embedding_noise(run: ExtraRun, width: int) -> Float[Tensor, "tokens d"]:
    """Noise of a run in units of the spread of its embeddings; it depends on nothing but the run's seed."""
    generator = np.random.default_rng(run.seed or (0,))
    return torch.from_numpy(generator.standard_normal((len(run.ids), width), "float32") * run.noise)


def values_of(
    model: Model,
    runs: Sequence[ExtraRun],
    positions: Positions,
    sites: Sequence[Site],
    at_once: int,
    keep: Keep = "nothing",
) -> tuple[Values, list[CleanRun]]:
    """Run texts of one length and keep their values.

    Args:
        model: the model.
        runs: texts of one length.
        positions: where values are kept.
        sites: module inputs and outputs to keep.
        at_once: texts that go through the model together.
        keep: what later forwards need of the clean runs.

    Returns:
        Values on the CPU, and the clean runs in order unless `keep` is "nothing".
    """
    found: dict[Site, list[Tensor]] = {site: [] for site in sites}
    kept = []
    for clean in _recorded(model, runs, positions, sites, at_once, keep):
        for site, parts in found.items():
            parts.append(clean.values[site].cpu())
        kept += [clean.without_values()] if keep != "nothing" else []
    return {site: torch.cat(parts) for site, parts in found.items()}, kept


def position_means(
    model: Model, runs: Sequence[ExtraRun], positions: Positions, sites: Sequence[Site], at_once: int
) -> Values:
    """Average values at each position over texts of one length; the result has one row."""
    sums: dict[Site, Tensor] = {}
    for clean in _recorded(model, runs, positions, sites, at_once, "nothing"):
        for site, value in clean.values.items():
            total = value.double().sum(0).cpu()
            sums[site] = sums[site] + total if site in sums else total
    return {site: (total / len(runs))[None].float() for site, total in sums.items()}


def _recorded(
    model: Model,
    runs: Sequence[ExtraRun],
    positions: Positions,
    sites: Sequence[Site],
    at_once: int,
    keep: Keep,
) -> Iterator[CleanRun]:
    for first in range(0, len(runs), at_once):
        yield record_runs(model, runs[first : first + at_once], positions, sites, keep)


@dataclass(frozen=True)
class ActivationStatistics:
    """Mean and variance of a module's input or output by channel, in float64."""

    mean: Float[Tensor, " width"]
    variance: Float[Tensor, " width"]

    @classmethod
    def of(cls, values: Float[Tensor, "*tokens width"]) -> ActivationStatistics:
        """The statistics of values that are all in memory."""
        values = values.double().flatten(0, -2)
        return cls(values.mean(0), values.var(0, correction=0))


Statistics = Mapping[Site, ActivationStatistics]


@dataclass(frozen=True)
class Origin:
    """Start of the search for the constant of one place, and the size of its steps.

    Attributes:
        mean: mean activation, float32.
        spread: root mean square deviation from the mean; one where there is none.
    """

    mean: Float[Tensor, " width"]
    spread: float

    @classmethod
    def at(cls, place: Place, statistics: Statistics) -> Origin:
        """Take the place's stretch of its site's statistics."""
        site = statistics[place.site]
        return cls(site.mean[place.span].float(), float(site.variance[place.span].mean().sqrt()) or 1.0)


def statistics_of_texts(
    model: Model, runs: Sequence[ExtraRun], sites: Sequence[Site], at_once: Callable[[int], int]
) -> dict[Site, ActivationStatistics]:
    """Take statistics over all tokens of texts of any length.

    Args:
        model: the model.
        runs: texts.
        sites: module inputs and outputs to keep.
        at_once: gives the number of texts of a length that go through the model together.
    """
    sums: dict[Site, Tensor] = {site: torch.zeros(2, site.width, dtype=torch.float64) for site in sites}
    for batch in same_length_batches([run.ids for run in runs], at_once):
        clean = record_runs(model, [runs[i] for i in batch], Positions("all"), sites)
        for site, value in clean.values.items():
            value = value.double()
            sums[site] += torch.stack([value.sum((0, 1)), value.square().sum((0, 1))]).cpu()
    tokens = sum(len(run.ids) for run in runs)
    means = {site: total / tokens for site, total in sums.items()}
    return {
        site: ActivationStatistics(mean, (square - mean**2).clamp_min(0.0)) for site, (mean, square) in means.items()
    }
