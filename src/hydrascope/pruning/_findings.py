"""What pruning found, as tables: every ranking at every size, on text that no ranking saw.

A cost is the mean over tokens, nats; its interval is the jackknife's over documents, of a ratio of two sums, drawn out
where documents are skewed one way. Two rankings are compared text by text, so that what makes a document hard for both
is no part of their difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy import stats

from hydrascope.analysis import FEWEST_RANKED, Array, Resampling, resample, unskewed_ratio_interval
from hydrascope.engine import Constants
from hydrascope.pruning._request import Replace
from hydrascope.pruning._store import Cost, Store
from hydrascope.pruning._tasks import TaskAnswers, table_of

Sets = tuple[tuple[str, ...], ...]
"""What a ranking removes at one size: a set, or one for each draw."""


@dataclass(frozen=True)
class Chosen:
    """What a ranking chose.

    Attributes:
        meaning: what goes first, in words.
        repairs: whether it knows that other parts go too, if only those that went before.
        sets: by size.
        scores: score of each part, the lowest of which goes first; empty where it has none.
    """

    meaning: str
    repairs: bool
    sets: Mapping[int, Sets]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Judged:
    """One part of the text with what is known of sets on it.

    Attributes:
        store: costs.
        documents: document of each text.
        predicted: predicted tokens of each text.
    """

    store: Store
    documents: tuple[str, ...]
    predicted: Float[np.ndarray, " texts"]

    @cached_property
    def resampling(self) -> Resampling:
        """Documents, of which every text counts as it is."""
        return resample(self.documents, weight=np.ones(len(self.documents)))

    def cost(self, sets: Sets) -> Cost:
        """Cost of a set, or the mean over several."""
        found = [self.store.known["+".join(parts)].rows for parts in sets]
        measures = min(map(len, found))
        return Cost(*np.mean([rows[:measures] for rows in found], axis=0))

    @property
    def clean(self) -> Cost:
        """Cost of the untouched model."""
        return self.cost(((),))

    def mean(self, values: Array) -> tuple[float, float, float]:
        """A sum over tokens of each text as a mean over tokens, with the ends of its interval."""
        found = unskewed_ratio_interval(values[:, None], self.predicted[:, None], self.resampling)
        value, lo, hi = (float(one[0]) for one in found)
        return value, lo, hi


@dataclass(frozen=True)
class Findings:
    """Every table of one pruning.

    Attributes:
        units: what could go: blocks, sublayers, kvgroups, heads or neurons.
        parts: addresses of the parts that could go, in the order of the forward pass.
        chosen: what each ranking chose, by its name.
        calibration: text that the rankings saw.
        test: text that they did not see.
        keep_loss: largest loss, as a multiple of the whole model's, that is accepted; None if not asked for.
        exhaustive: largest size of which all sets were judged; 0 for none.
        replace: what a part leaves in its place, as it was asked for.
        constants: what parts leave in their places, by address.
        answered: what was answered on tasks, by their names.
    """

    units: str
    parts: tuple[str, ...]
    chosen: Mapping[str, Chosen]
    calibration: Judged
    test: Judged
    keep_loss: float | None = None
    exhaustive: int = 0
    replace: Replace = "removal"
    constants: Mapping[str, Constants] = field(default_factory=dict)
    answered: Mapping[str, TaskAnswers] = field(default_factory=dict)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many parts went, ascending."""
        return tuple(sorted(next(iter(self.chosen.values())).sets))

    @cached_property
    def costs(self) -> pd.DataFrame:
        """Every ranking at every size on both parts of the text."""
        return pd.DataFrame([self._row(name, size) for size in self.sizes for name in self.chosen])

    def _row(self, name: str, size: int) -> dict[str, Any]:
        sets, test, clean = self.chosen[name].sets[size], self.test, self.test.clean
        cost = test.cost(sets)
        assert cost.kl is not None and cost.agreed is not None
        loss = cost.loss.sum() / test.predicted.sum()
        whole = clean.loss.sum() / test.predicted.sum()
        seen = self.calibration.cost(sets).loss - self.calibration.clean.loss
        calibrated = seen.sum() / self.calibration.predicted.sum()
        rise = test.mean(cost.loss - clean.loss)
        spread = {
            name: value
            for measure, values in (("rise", rise), ("kl", test.mean(cost.kl)), ("agreed", test.mean(cost.agreed)))
            for name, value in zip((measure, f"{measure}_lo", f"{measure}_hi"), values, strict=True)
        }
        return {
            "ranking": name,
            "size": size,
            "share": size / len(self.parts),
            "removed": "+".join(sets[0]) if len(sets) == 1 else f"{len(sets)} draws",
            **spread,
            "loss": loss,
            "perplexity": float(np.exp(loss)),
            "whole_perplexity": float(np.exp(whole)),
            "loss_ratio": loss / whole,
            "calibration_rise": calibrated,
            "gap": rise[0] - calibrated,
            "repairs": self.chosen[name].repairs,
        }

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Loss of every ranking minus that of every other one, on the same texts."""
        rows = []
        for size in self.sizes:
            for name in self.chosen:
                for other in self.chosen:
                    if name != other:
                        mine, theirs = (self.test.cost(self.chosen[one].sets[size]).loss for one in (name, other))
                        value, lo, hi = self.test.mean(mine - theirs)
                        row = {"size": size, "ranking": name, "other": other}
                        rows.append({**row, "difference": value, "difference_lo": lo, "difference_hi": hi})
        return pd.DataFrame(rows, columns=_DIFFERENCES)

    @cached_property
    def order(self) -> pd.DataFrame:
        """When each ranking removes each part: the smallest size at which it is gone, and its score."""
        rows = []
        for name, chosen in self.chosen.items():
            if any(len(sets) > 1 for sets in chosen.sets.values()):
                continue
            for part in self.parts:
                gone = [size for size in self.sizes if part in chosen.sets[size][0]]
                rows.append(
                    {
                        "ranking": name,
                        "part": part,
                        "gone_at": min(gone, default=np.nan),
                        "score": chosen.scores.get(part, np.nan),
                    }
                )
        return pd.DataFrame(rows, columns=["ranking", "part", "gone_at", "score"])

    @cached_property
    def exposure(self) -> pd.DataFrame:
        """Whose cheapness rests on others: the cost alone, and the cost beside the removed, of every part that goes.

        Beside the removed is measured for the last part of each ranking's order that goes at a size: what the loss of
        the set is above that of the set without it, where that set was run.
        """
        rows = []
        seen, tokens = self.calibration.store.known, self.calibration.predicted.sum()
        for name, chosen in self.chosen.items():
            for size, sets in chosen.sets.items():
                for part in sets[0] if len(sets) == 1 else ():
                    rest = "+".join(one for one in sets[0] if one != part)
                    if part in seen and rest in seen and size > 1:
                        alone = (seen[part].loss - seen[""].loss).sum() / tokens
                        beside = (seen["+".join(sets[0])].loss - seen[rest].loss).sum() / tokens
                        row = {"ranking": name, "size": size, "part": part, "alone": alone, "beside": beside}
                        rows.append({**row, "exposure": beside - alone})
        return pd.DataFrame(rows, columns=["ranking", "size", "part", "alone", "beside", "exposure"])

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """How well each ranking's scores foretell what random sets cost: rank correlation over the random draws.

        A set is foretold by the sum of its parts' scores, and measured on text that no ranking saw.
        """
        rows = []
        for size in self.sizes if "random" in self.chosen else ():
            drawn = self.chosen["random"].sets[size]
            measured = [self.test.store.known["+".join(parts)].loss.sum() for parts in drawn]
            for name, chosen in self.chosen.items():
                if chosen.scores and len(drawn) >= FEWEST_RANKED:
                    foretold = [sum(chosen.scores[part] for part in parts) for parts in drawn]
                    rho = float(stats.spearmanr(foretold, measured).statistic)
                    rows.append({"ranking": name, "size": size, "sets": len(drawn), "spearman": rho})
        return pd.DataFrame(rows, columns=["ranking", "size", "sets", "spearman"])

    @cached_property
    def regret(self) -> pd.DataFrame:
        """What each ranking misses at small sizes: its cost above that of the best of all sets, on unseen text."""
        rows = []
        for size in (size for size in self.sizes if size <= self.exhaustive):
            losses = {some: self.test.cost((some,)).loss.sum() for some in combinations(self.parts, size)}
            best = min(losses, key=losses.__getitem__)
            for name, chosen in self.chosen.items():
                mine = self.test.cost(chosen.sets[size])
                value, lo, hi = self.test.mean(mine.loss - self.test.cost((best,)).loss)
                row = {"ranking": name, "size": size, "regret": value, "regret_lo": lo, "regret_hi": hi}
                better = sum(loss < mine.loss.sum() for loss in losses.values())
                rows.append({**row, "better_sets": better, "sets": len(losses), "best": "+".join(best)})
        return pd.DataFrame(rows, columns=_REGRETS)

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """Right answers and logit differences on tasks, beside those of the whole model."""
        return table_of(self.answered, {name: chosen.sets for name, chosen in self.chosen.items()})

    def best(self, size: int) -> str:
        """The ranking whose set moves the distribution least on the text that rankings may see."""
        return min(self._single, key=lambda name: float(self._divergence(name, size)))

    def size_kept(self) -> int | None:
        """The largest size whose loss stays within `keep_loss` on the text that rankings may see, if any does."""
        assert self.keep_loss is not None
        most = self.keep_loss * self.calibration.clean.loss.sum()
        return max((size for size in self.sizes if self._least(size) <= most), default=None)

    def _least(self, size: int) -> float:
        return float(self.calibration.cost(self.chosen[self.best(size)].sets[size]).loss.sum())

    def _divergence(self, name: str, size: int) -> float:
        kl = self.calibration.cost(self.chosen[name].sets[size]).kl
        assert kl is not None
        return float(kl.sum())

    @property
    def _single(self) -> list[str]:
        """Rankings that choose one set, which can be exported."""
        found = [name for name, chosen in self.chosen.items() if all(len(sets) == 1 for sets in chosen.sets.values())]
        return found or list(self.chosen)


_REGRETS = ["ranking", "size", "regret", "regret_lo", "regret_hi", "better_sets", "sets", "best"]
_DIFFERENCES = ["size", "ranking", "other", "difference", "difference_lo", "difference_hi"]
