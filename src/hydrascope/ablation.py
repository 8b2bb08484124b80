"""What takes the place of an ablated output.

Every ablation names the runs whose last-token activations it needs (`donate`) and turns those into replacement values
(`replace`). The clean runs of the prompt set come first in the pool, the extra runs behind them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope.errors import AblationError, MissingCounterfactual, TooFewDonors
from hydrascope.prompts import EncodedPrompt, choose_donors, count_shared_answers


@dataclass(frozen=True)
class ExtraRun:
    """A run besides the clean ones whose activations are needed.

    Attributes:
        ids: its tokens.
        noise: standard deviation of Gaussian noise on the embeddings, in units of the prompt's own embedding spread.
        seed: of that noise.
        pair: target and foil, whose logits are compared.
    """

    ids: tuple[int, ...]
    noise: float = 0.0
    seed: tuple[int, ...] = ()
    pair: tuple[int, int] | None = None


@dataclass(frozen=True)
class Donation:
    """Where each draw's replacement comes from.

    Attributes:
        table: index into the pool (clean runs first, extra runs behind), one row per draw.
        runs: the extra runs.
        sharing: how many of the table's donors name a token of the prompt's pair of target and foil; see
            `prompts.donors.sharing`.
    """

    table: Int[np.ndarray, "draws prompts"]
    runs: tuple[ExtraRun, ...] = ()
    sharing: int = 0


@runtime_checkable
class Ablation(Protocol):
    """A way to replace a component's output."""

    name: ClassVar[str]

    @property
    def draws(self) -> int:
        """Replacement values per prompt; effects are averaged over them."""

    def donate(self, prompts: Sequence[EncodedPrompt], targets: Sequence[int], seed: int) -> Donation:
        """Choose the runs that replacement values come from."""

    def replace(
        self, pool: Float[Tensor, "pool *edited width"], chosen: Int[np.ndarray, "draws prompts"], n_clean: int
    ) -> Float[Tensor, "draws prompts *edited width"]:
        """Replacement values for some prompts, given the activations of all runs."""


class _OneValue:
    """Needs no runs but the clean ones, and gives every prompt a single value."""

    @property
    def draws(self) -> int:
        """One value."""
        return 1

    def donate(self, prompts: Sequence[EncodedPrompt], targets: Sequence[int], seed: int) -> Donation:
        """No donors are needed."""
        return Donation(np.arange(len(prompts))[None])


class _FromRuns:
    """Puts in place what the chosen runs have there."""

    def replace(
        self, pool: Float[Tensor, "pool *edited width"], chosen: Int[np.ndarray, "draws prompts"], n_clean: int
    ) -> Float[Tensor, "draws prompts *edited width"]:
        """The chosen runs' activations."""
        return pool[torch.as_tensor(chosen, device=pool.device)]


@dataclass(frozen=True)
class Zero(_OneValue):
    """z~ = 0 (McGrath et al. 2023, appendix A). Output biases go with the component."""

    name: ClassVar[str] = "zero"

    def replace(
        self, pool: Float[Tensor, "pool *edited width"], chosen: Int[np.ndarray, "draws prompts"], n_clean: int
    ) -> Float[Tensor, "draws prompts *edited width"]:
        """Zeros."""
        return pool.new_zeros(*chosen.shape, *pool.shape[1:])


@dataclass(frozen=True)
class Mean(_OneValue):
    """z~ = E[Z] over the last tokens of the prompt set (McGrath et al. 2023, eq. 36), or over all tokens of texts."""

    name: ClassVar[str] = "mean"

    def replace(
        self, pool: Float[Tensor, "pool *edited width"], chosen: Int[np.ndarray, "draws prompts"], n_clean: int
    ) -> Float[Tensor, "draws prompts *edited width"]:
        """The mean of the clean runs, the same for every prompt."""
        return pool[:n_clean].mean(0).expand(*chosen.shape, *pool.shape[1:])


@dataclass(frozen=True)
class PositionMean(Mean):
    """z~_t = E[Z_t], the mean at each position by itself, over texts of one length.

    At the last token alone it is the mean. Per position as in Wang et al. 2022 (arXiv 2211.00593).
    """

    name: ClassVar[str] = "position-mean"


@dataclass(frozen=True)
class Optimal(Mean):
    """z~ = a*, the constant that does the least harm (Li & Janson 2024, arXiv 2409.09951).

        a* = argmin_a E[KL(clean || ablated with Z = a)]

    over the next-token distribution at what is read: the last token of the prompts, or every read position of the
    texts. Each knock-out has a constant of its own, at all edited positions and for all lengths the same. It is learned
    by gradient (Adam) from the better of zero and the mean and kept only if it beats both, so its loss on the prompts
    it was learned from is never above theirs. Means by position and donors are no constants: they can cost less where a
    part writes by position. On other prompts none of this is certain. What another ablation costs beyond it is the
    harm of a misleading value, not of a missing one.

    A knock-out of all prompts is passed forwards and backwards in every step, which takes about 180 times as long as
    one donor; of texts a step sees about a thousand read positions, so that long runs take less.

    Attributes:
        steps: of gradient descent.
        rate: of the first step, in units of the spread of the values over the prompts; it falls to zero.
    """

    name: ClassVar[str] = "optimal"
    steps: int = 60
    rate: float = 0.2


@dataclass(frozen=True)
class Resample(_FromRuns):
    """z~ = Z(u~), u~ another prompt of the set with another target (McGrath et al. 2023, eq. 38; 15 donors there).

    Attributes:
        donors: donors per prompt. Each round is a seeded derangement of the set.
    """

    name: ClassVar[str] = "resample"
    donors: int = 15

    @property
    def draws(self) -> int:
        """One value a donor."""
        return self.donors

    def donate(self, prompts: Sequence[EncodedPrompt], targets: Sequence[int], seed: int) -> Donation:
        """Deal the prompts out as each other's donors.

        Raises:
            TooFewDonors: a prompt has fewer prompts with another target than donors are asked for.
        """
        numbers, foils = [prompt.index for prompt in prompts], [prompt.foil_id for prompt in prompts]
        table = choose_donors(targets, self.donors, seed, foils=foils, numbers=numbers)
        return Donation(table, sharing=count_shared_answers(targets, foils, table))


def with_donors(texts: Sequence[EncodedPrompt], ablation: Ablation) -> list[EncodedPrompt]:
    """Texts that have donors where whole texts are replaced: only others of their own length can be.

    Args:
        texts: those that there are.
        ablation: what replaces; only `resample` needs others.

    Returns:
        The texts that have as many as it draws.

    Raises:
        TooFewDonors: none has.
    """
    needed = ablation.donors if isinstance(ablation, Resample) else 0
    lengths = Counter(len(text.ids) for text in texts)
    found = [text for text in texts if lengths[len(text.ids)] > needed]
    if not found:
        tokens, count = lengths.most_common(1)[0]
        raise TooFewDonors(
            f"a donor at several positions must be as long as the text, and {count} have {tokens} tokens, so each has "
            f"{count - 1} donors and {needed} were asked for; take fewer, or give more texts of one length"
        )
    return found


@dataclass(frozen=True)
class Noise(_FromRuns):
    """z~ = Z(u + eps), Gaussian noise on the prompt's embeddings (McGrath et al. 2023, eq. 37).

    Noise on the part itself, as long as the displacement by a donor, is no ablation of its own: it is the negative
    control that every run carries beside its ablation (`null_draws`), and is read as what the ablation must exceed.

    Attributes:
        donors: noise draws per prompt.
        scale: standard deviation of the noise in units of the spread of the prompt's own embeddings; three, as in
            causal tracing (Meng et al. 2022, arXiv 2202.05262).
    """

    name: ClassVar[str] = "noise"
    donors: int = 5
    scale: float = 3.0

    @property
    def draws(self) -> int:
        """One value a noise draw."""
        return self.donors

    def donate(self, prompts: Sequence[EncodedPrompt], targets: Sequence[int], seed: int) -> Donation:
        """One noisy run per prompt and draw."""
        runs = tuple(
            ExtraRun(prompt.ids, self.scale, (seed, prompt.index, draw))
            for draw in range(self.donors)
            for prompt in prompts
        )
        table = len(prompts) + np.arange(len(runs)).reshape(self.donors, len(prompts))
        return Donation(table, runs)


def require_equal_lengths(prompts: Sequence[EncodedPrompt]) -> None:
    """Refuse counterfactuals that are not as long as their prompts, so that positions do not belong to each other.

    Raises:
        AblationError: naming the first.
    """
    pairs = [(one, one.counterfactual_ids) for one in prompts if one.counterfactual_ids is not None]
    unequal = [(one, other) for one, other in pairs if len(one.ids) != len(other)]
    if unequal:
        one, other = unequal[0]
        raise AblationError(
            f"{len(unequal)} of {len(prompts)} counterfactuals are not as long as their prompts, which they must be to "
            f"be put in place at several positions (prompt {one.index}, counted from 0, has {len(one.ids)} tokens and "
            f"its counterfactual {len(other)}); leave these prompts out, or knock out with --positions last"
        )


@dataclass(frozen=True)
class Counterfactual(_FromRuns):
    """z~ = Z(u'), u' the counterfactual that comes with the prompt (Wang et al. 2022, arXiv 2211.00593)."""

    name: ClassVar[str] = "counterfactual"

    @property
    def draws(self) -> int:
        """One value."""
        return 1

    def donate(self, prompts: Sequence[EncodedPrompt], targets: Sequence[int], seed: int) -> Donation:
        """One run per counterfactual prompt.

        Raises:
            MissingCounterfactual: a prompt has none.
        """
        runs = []
        for prompt in prompts:
            if prompt.counterfactual_ids is None:
                raise MissingCounterfactual(
                    f"prompt {prompt.index} (counted from 0) has no counterfactual; add a 'counterfactual' to every "
                    "prompt or choose another ablation"
                )
            runs.append(ExtraRun(prompt.counterfactual_ids))
        return Donation(len(prompts) + np.arange(len(prompts))[None], tuple(runs))


ABLATIONS: dict[str, type[Zero] | type[Mean] | type[Resample] | type[Noise] | type[Counterfactual]] = {
    kind.name: kind for kind in (Zero, Mean, PositionMean, Optimal, Resample, Noise, Counterfactual)
}
"""Ablations by the name the command line uses."""

DRAWN = (Resample.name, Noise.name)
"""Those that draw several values per prompt."""


def listed(names: str, donors: int | None = None, resampled: int | None = None) -> tuple[Ablation, ...]:
    """Ablations by their names with commas between.

    Args:
        names: such as `resample,zero,mean`.
        donors: values per prompt, for those among them that draw several; None for their default.
        resampled: the default of `resample`, if another than its own.

    Raises:
        AblationError: no such name, or a number of donors that makes no sense for any of them.
    """
    wanted = [name.strip() for name in names.split(",")]
    default = {name: donors for name in wanted if name in DRAWN} or dict.fromkeys(wanted, donors)
    if donors is None:
        default |= {Resample.name: resampled}
    return tuple(ablation(name, default.get(name)) for name in wanted)


def ablation(name: str, donors: int | None = None) -> Ablation:
    """An ablation by name.

    Args:
        name: `zero`, `mean`, `resample`, `noise` or `counterfactual`.
        donors: values per prompt, for those that draw several; None for their default.

    Raises:
        AblationError: no such name, or a number of donors that makes no sense for it.
    """
    if name not in ABLATIONS:
        raise AblationError(f"no ablation '{name}'; choose {', '.join(ABLATIONS)}")
    kind = ABLATIONS[name]
    if donors is None:
        return kind()
    if donors < 1:
        raise AblationError(f"{donors} donors cannot be averaged over; ask for at least 1")
    if kind is Resample or kind is Noise:
        return kind(donors=donors)
    if donors > 1:
        raise AblationError(f"the {name} ablation has one value per prompt, not {donors}; leave --donors out")
    return kind()
