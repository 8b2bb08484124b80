"""The tables of one ranking, each computed once, on first use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
import xarray as xr
from jaxtyping import Float

from hydrascope.analysis import Findings, Resampling, ablated_direct, bootstrap, divide
from hydrascope.errors import PromptError, RunError
from hydrascope.significance import _circuit, _conditional, _detection, _flips, _freezing, _scores
from hydrascope.significance._flips import Flip
from hydrascope.significance._scores import EXACT, Score, ScoreElsewhere

RESAMPLES = 200
"""Bootstrap resamples of groups, for rank correlations and areas."""
OWN = "own change"
"""The score that leaves repair out."""
STRESS_SCORES = {
    "under_failure": "importance under failure",
    "shapley": "Shapley value",
    "exposure": "exposure",
}
"""Column of a stress test's ranking to the name of its score."""
SIZES = ("grad_drop",)
"""Cheap scores without sign, which order the parts but estimate no effect."""


@dataclass(frozen=True)
class Significance:
    """Ledgers of a ranking and what they show.

    Attributes:
        parts: addresses of the parts, in the order of the forward pass.
        primaries: those whose backups are sought.
        later: those that read the primaries.
        account: tables of the knock-outs of single parts: the exact sweep.
        joint: ledger of the primaries together, and of each candidate beside them.
        frozen: ledger of the primaries' knock-out with candidates frozen, if any can be.
        cheap: cheap scores of the same prompts and parts, if any.
        labels: address to whether a part is one to be found, given by the user.
        top: parts of a set that is frozen together, and of the first ones that are compared.
        seed: of the random sets.
        stress: scores of a stress test of the same parts, if any: `value`, `lo` and `hi` (score, ablated), what they
            are in each group and mask, `by_group` and `by_mask`, and the numbers of its prompts.
        flips: of prompts by their number, ledgers of the sets whose loss was tried on their answers.
    """

    parts: tuple[str, ...]
    primaries: tuple[str, ...]
    later: tuple[str, ...]
    account: Findings
    joint: xr.Dataset
    frozen: xr.Dataset | None = None
    cheap: xr.Dataset | None = None
    labels: Mapping[str, bool] = field(default_factory=dict)
    top: int = 3
    seed: int = 0
    stress: xr.Dataset | None = None
    flips: Mapping[int, Sequence[xr.Dataset]] = field(default_factory=dict)

    @property
    def ds(self) -> xr.Dataset:
        """Ledger of the knock-outs of single parts."""
        return self.account.ds

    @cached_property
    def resampling(self) -> Resampling:
        """What is independent: groups of prompts, or documents."""
        return bootstrap(self.ds, RESAMPLES)

    @cached_property
    def effects(self) -> _conditional.Effects:
        """Effects of each candidate, alone and beside the primaries."""
        return _conditional.Effects.read((self.ds, self.joint), self.primaries, self.parts)

    @cached_property
    def backups(self) -> pd.DataFrame:
        """Whose loss matters more once the primaries are out; see `backups`."""
        return _conditional.backups(self.effects, self.resampling)

    @cached_property
    def orders(self) -> Mapping[str, Float[np.ndarray, " candidates"]]:
        """What candidates are ordered by to be frozen: their conditional score, and as a control their co-activation.

        Co-activation is the squared correlation over prompts of a candidate's clean direct effect with that of the
        primaries: who writes when they write.
        """
        known = ablated_direct(self.ds)
        place = {part: column for column, part in enumerate(self.parts)}
        primary = known[:, [place[part] for part in self.primaries]].sum(1, keepdims=True)
        mine = known[:, [place[part] for part in self.effects.parts]]
        a, b = (one - self.resampling.mean(one) for one in (primary, mine))
        together = divide(self.resampling.mean(a * b) ** 2, self.resampling.mean(a * a) * self.resampling.mean(b * b))
        return {"conditional score": self.backups["conditional"].to_numpy(float), "co-activation": together}

    @cached_property
    def sets(self) -> dict[tuple[str, ...], str]:
        """Candidates that are frozen together; see `chosen_sets`."""
        return _freezing.chosen_sets(self.orders, self.effects.parts, self.later, self.top, self.seed)

    @cached_property
    def freezing(self) -> pd.DataFrame:
        """What of the repair goes while candidates are frozen; see `freezing`. Empty where none can be."""
        if self.frozen is None:
            return pd.DataFrame(columns=["frozen", "chosen_by", "removed", "needed"])
        return _freezing.freezing((self.ds, self.joint), self.frozen, self.primaries, self.sets, self.resampling)

    @cached_property
    def scores(self) -> tuple[Score, ...]:
        """All scores of all parts, the exact one first."""
        ds = self.ds
        total, own = (np.asarray(ds[name].values, np.float64) for name in ("total_effect", "own_change"))
        alone, given = (self._of_all(one) for one in (self.effects.alone, self.effects.given))
        made = [
            Score(EXACT, total),
            Score(OWN, own),
            Score("direct effect", -ablated_direct(ds), cheap=True),
            Score("conditional score", given**2 - alone**2),
            Score("coupling", (given - alone) ** 2),
            Score("amplification", given**2, alone**2),
        ]
        for name in () if self.cheap is None else self.cheap["score"].values:
            values = np.asarray(self.cheap["estimate"].sel(score=name).values, np.float64)  # type: ignore[index]
            made.append(Score(str(name).replace("_", " "), values, cheap=True, signed=str(name) not in SIZES))
        return tuple(score for score in (*made, *self._of_stress()) if np.isfinite(score.values).any())

    def _of_stress(self) -> Iterator[Score]:
        """Scores of the stress test, in the order of the parts."""
        if self.stress is None:
            return
        found = self.stress.sel(ablated=list(self.parts))
        alike = np.array_equal(found["prompt"].values, self.ds["prompt"].values)
        for column, name in STRESS_SCORES.items():
            one = {str(key): np.asarray(values) for key, values in found.sel(score=column).data_vars.items()}
            yield ScoreElsewhere(
                name,
                one["value"][None],
                signed=False,
                ends=np.stack([one["lo"], one["hi"]]),
                by_group=one["by_group"] if alike else one["by_group"][:0],
                by_mask=one["by_mask"],
            )

    def _of_all(self, values: Float[np.ndarray, "prompts candidates"]) -> Float[np.ndarray, "prompts parts"]:
        """Values of the candidates among those of all parts; NaN for the primaries."""
        found = np.full((len(values), len(self.parts)), np.nan)
        found[:, [self.parts.index(part) for part in self.effects.parts]] = values
        return found

    @cached_property
    def ranking(self) -> pd.DataFrame:
        """Every part by every score; see `score_table`."""
        return _scores.score_table(self.scores, self.parts, self.resampling)

    @cached_property
    def agreement(self) -> pd.DataFrame:
        """How far each two scores order the parts alike; see `agreement`."""
        return _scores.agreement(self.scores, self.resampling, self.top)

    @cached_property
    def misjudged(self) -> pd.DataFrame:
        """Where cheap scores miss the total effect; see `misjudged`."""
        total, own = (np.asarray(self.ds[name].values, np.float64) for name in ("total_effect", "own_change"))
        return _scores.misjudged(self.scores, self.parts, own, total, self.resampling)

    @cached_property
    def calibration(self) -> pd.DataFrame:
        """How far the sizes of cheap scores can be believed; see `calibration`."""
        return _scores.calibration(self.scores, np.asarray(self.ds["total_effect"].values, np.float64), self.resampling)

    @cached_property
    def needed(self) -> Mapping[str, bool]:
        """Each candidate that was frozen alone to whether repair clearly goes with it."""
        table = self.freezing[self.freezing["chosen_by"] == "alone"]
        return dict(zip(table["frozen"], map(bool, table["needed"]), strict=True))

    @cached_property
    def detection(self) -> pd.DataFrame:
        """How well each score finds the candidates on which the repair depends, and those that were labelled."""
        given = {part: label for part, label in self.labels.items() if part not in self.primaries}
        made = [("repair depends on it", self.needed), ("given", given)]
        found = [
            _detection.detection(self.scores, self.parts, labels, self.resampling).assign(labels=name)
            for name, labels in made
        ]
        return pd.concat(found, ignore_index=True)

    def flip(self, prompt: int) -> Flip:
        """The search for the smallest set of parts whose loss flips the answer of a prompt, as far as it went.

        Args:
            prompt: number of the prompt.

        Raises:
            PromptError: the model does not give this answer to begin with, or there is no such prompt.
        """
        known = [int(one) for one in self.ds["prompt"].values]
        right = np.asarray(self.ds["clean_target_first"].values) >= 0.5
        if prompt not in known or not right[known.index(prompt)]:
            there = [str(one) for one, is_right in zip(known, right, strict=True) if is_right]
            raise PromptError(
                f"prompt {prompt} is not among those that the model answers as wanted, so there is no answer to flip; "
                f"name one of {', '.join(there[:8])}{' ...' if len(there) > 8 else ''}"
            )
        return Flip.read((self.ds, self.joint, *self.flips.get(prompt, ())), self.parts, known.index(prompt))

    @cached_property
    def flip_table(self) -> pd.DataFrame:
        """Steps to the sets whose loss flips an answer; see `flip_table`."""
        return _flips.flip_table([self.flip(prompt) for prompt in self.flips], self.ds)

    def circuit(self, score: str = EXACT, keep: int | None = None) -> str:
        """A score as a circuit file; see `circuit_text`.

        Args:
            score: name of a score of all parts.
            keep: nodes in the circuit; by default those whose loss clearly costs something.

        Raises:
            RunError: there is no such score.
            ComponentError: a part has no node in the format.
        """
        known = {one.name: one for one in self.scores if np.isfinite(one.order(self.resampling)).all()}
        if score not in known:
            raise RunError(f"there is no score '{score}' of all parts; choose from {', '.join(known)}")
        table = self.ranking.set_index("part").loc[list(self.parts)]
        # effects are below zero where the answer loses
        is_effect = score in (EXACT, OWN) or (known[score].cheap and known[score].signed)
        value = -table[score] if is_effect else table[score]
        scores = pd.DataFrame({"part": self.parts, "score": value.to_numpy(), "direct": -table[OWN].to_numpy()})
        clear = int((table[f"{EXACT}_hi"] < 0).sum())
        return _circuit.circuit_text(scores, self.ds.attrs, clear if keep is None else keep)
