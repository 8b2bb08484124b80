"""What pruning found, as tables: every ranking at every size, on text that no ranking saw.

A cost is the mean over tokens, nats, with an interval over documents (`_judged`). Two rankings are compared text by
text, so that what makes a document hard for both is no part of their difference. What `random` says is a mean over all
sets of a size; its intervals allow for which sets were drawn, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations, permutations
from math import comb
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hydrascope.analysis import FEWEST_RANKED, add_estimate, simultaneous_means, with_ends
from hydrascope.engine import Constants
from hydrascope.pruning._judged import Judged, Sets, gap, share_drawn
from hydrascope.pruning._request import Replace
from hydrascope.pruning._tasks import TaskAnswers, table_of
from hydrascope.pruning.rankings import Ranking


@dataclass(frozen=True)
class Chosen:
    """What a ranking chose.

    Attributes:
        kind: the ranking's class.
        sets: by size.
        scores: score of each part, the lowest of which goes first; empty where it has none.
    """

    kind: type[Ranking]
    sets: Mapping[int, Sets]
    scores: Mapping[str, float]

    @property
    def meaning(self) -> str:
        """What goes first, in words."""
        return self.kind.meaning


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

    @property
    def size_asked(self) -> int | None:
        """The largest size, or the largest that `keep_loss` allows; None where it allows none."""
        return self.sizes[-1] if self.keep_loss is None else self.size_kept()

    @cached_property
    def costs(self) -> pd.DataFrame:
        """Every ranking at every size on both parts of the text."""
        return pd.DataFrame([self._row(name, size) for size in self.sizes for name in self.chosen])

    def _row(self, name: str, size: int) -> dict[str, Any]:
        sets, test, seen, clean = self.chosen[name].sets[size], self.test, self.calibration, self.test.clean.loss
        share, (losses, kl, agreed) = self._share(name, size), test.rows(sets)
        rises = losses - clean, seen.rises(sets)
        rise = test.mean(rises[0], share=share)
        row: dict[str, Any] = {
            "ranking": name,
            "size": size,
            "share": size / len(self.parts),
            "removed": self._removed(sets, size),
        }
        add_estimate(row, "rise", rise)
        # neither can be below 0, and no share above 1, whatever an interval says that is the same on both sides
        add_estimate(row, "kl", tuple(np.maximum(test.mean(kl, share=share), 0)))
        add_estimate(row, "agreed", tuple(np.clip(test.mean(agreed, share=share), 0, 1)))
        whole = clean.sum() / test.predicted.sum()
        row |= {
            "loss": whole + rise[0],
            "perplexity": float(np.exp(whole + rise[0])),
            "whole_perplexity": float(np.exp(whole)),
        }
        add_estimate(row, "loss_ratio", test.mean(losses, clean, share))
        row["calibration_rise"] = seen.mean(rises[1])[0]
        add_estimate(row, "gap", gap(test, seen, rises, share))
        return {**row, "repairs": self.chosen[name].kind.repairs}

    def _removed(self, sets: Sets, size: int) -> str:
        if len(sets) == 1:
            return "+".join(sets[0])
        return f"{'all ' if len(sets) == comb(len(self.parts), size) else ''}{len(sets)} sets"

    def _share(self, name: str, size: int) -> float:
        """Share of what a ranking's sets stand for that was judged: all, but where they were drawn at random."""
        chosen = self.chosen[name]
        return share_drawn(chosen.sets[size], len(self.parts)) if chosen.kind.draws else 1.0

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Loss of every ranking minus that of every other one, on the same texts."""
        rows = []
        for size in self.sizes:
            for name, other in permutations(self.chosen, 2):
                mine, theirs = (self.test.rows(self.chosen[one].sets[size])[0] for one in (name, other))
                share = self._share(name, size) * self._share(other, size)
                row = {"size": size, "ranking": name, "other": other}
                add_estimate(row, "difference", self.test.mean(mine - theirs, share=share))
                rows.append(row)
        return pd.DataFrame(rows, columns=["size", "ranking", "other", *with_ends("difference")])

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
        """Whose cheapness rests on others: cost alone, and beside the other parts that go, of every part that goes.

        Beside the others is what the loss of the set is above that of the set without the part, where that was run.
        Two parts that go together have one interaction; the row is of the one that is cheaper alone.
        """
        rows: list[dict[str, Any]] = []
        for name, chosen in self.chosen.items():
            for size, sets in chosen.sets.items():
                if size > 1 and len(sets) == 1:
                    some = self._exposed(sets[0])
                    some = some if size > 2 else sorted(some, key=lambda row: float(row["alone"]))[:1]
                    rows += [{"ranking": name, "size": size, **row} for row in some]
        return pd.DataFrame(rows, columns=_EXPOSURES)

    def _exposed(self, parts: tuple[str, ...]) -> list[dict[str, Any]]:
        """What each part of a set costs alone and beside the others, and whether it is clear that it costs more."""
        seen, without = self.calibration, {one: tuple(other for other in parts if other != one) for one in parts}
        known = [one for one in parts if {one, "+".join(without[one])} <= seen.store.known.keys()]
        if not known:
            return []
        alone = np.stack([seen.rises(((one,),))[0] for one in known])
        beside = np.stack([seen.cost((parts,)).loss - seen.cost((without[one],)).loss for one in known])
        clear = simultaneous_means((beside - alone).T, seen.resampling)
        rows = []
        for number, one in enumerate(known):
            row: dict[str, Any] = {"part": one}
            for name, values in (("alone", alone), ("beside", beside), ("exposure", beside - alone)):
                add_estimate(row, name, seen.mean(values[number]))
            # of several parts the dearest is looked for, so that the intervals have to hold together
            rows.append({**row, "significant": bool(clear.significant[number] and row["exposure_lo"] > 0)})
        return rows

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
                mine = self.test.rows(chosen.sets[size])[0]
                row = {"ranking": name, "size": size}
                above = mine - self.test.cost((best,)).loss
                add_estimate(row, "regret", self.test.mean(above, share=self._share(name, size)))
                better = sum(loss < mine.mean(0).sum() for loss in losses.values())
                rows.append({**row, "better_sets": better, "sets": len(losses), "best": "+".join(best)})
        return pd.DataFrame(rows, columns=_REGRETS)

    @cached_property
    def tasks(self) -> pd.DataFrame:
        """Right answers and logit differences on tasks, beside those of the whole model."""
        return table_of(self.answered, {name: chosen.sets for name, chosen in self.chosen.items()})

    def best(self, size: int) -> str:
        """The ranking whose set moves the distribution least on the text that rankings may see."""
        return min(self._single, key=lambda name: float(self._divergence(name, size)))

    def row(self, ranking: str, size: int) -> dict[Any, Any]:
        """A ranking's row of `costs`."""
        found: dict[Any, Any] = self.costs.query("ranking == @ranking and size == @size").to_dict("records")[0]
        return found

    def alike(self, size: int, ranking: str) -> list[str]:
        """Names of all rankings that chose the very set of this one, it among them."""
        return [name for name, one in self.chosen.items() if one.sets[size] == self.chosen[ranking].sets[size]]

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


_EXPOSURES = ["ranking", "size", "part", *with_ends("alone", "beside", "exposure"), "significant"]
_REGRETS = ["ranking", "size", *with_ends("regret"), "better_sets", "sets", "best"]
