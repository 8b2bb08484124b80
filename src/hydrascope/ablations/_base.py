"""The base of every ablation, which declares what it needs.

Engine, runner, estimate and report know ablations by these declarations alone, never by type or name. A subclass with a
`name` can be asked for by that name on the command line as soon as it is imported.
"""

from __future__ import annotations

import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope.errors import AblationError, shown
from hydrascope.prompts import EncodedPrompt

Basis = Literal["runs", "tokens", "positions"]
"""What `Ablation.replace` gets: single runs, the mean over all tokens, or means by position."""

REGISTRY: dict[str, type[Ablation]] = {}
"""Ablations by the name that the command line uses."""


@dataclass(frozen=True)
class ExtraRun:
    """A run besides the clean ones whose activations are needed.

    Attributes:
        ids: token ids.
        noise: standard deviation of Gaussian noise on the embeddings, in units of the prompt's own embedding spread.
        seed: seed of the noise.
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
        table: index into the pool, clean runs before extra runs; one row per draw.
        runs: extra runs.
        sharing: donors that name a token of the prompt's pair of target and foil; see `prompts.count_shared_answers`.
    """

    table: Int[np.ndarray, "draws prompts"]
    runs: tuple[ExtraRun, ...] = ()
    sharing: int = 0


@dataclass(frozen=True)
class Learning:
    """Gradient descent (Adam) for constants that an ablation learns.

    Attributes:
        steps: number of steps.
        rate: size of the first step, in units of the spread of the values; it falls to zero.
    """

    steps: int
    rate: float


def require_count(ablation: Ablation, name: str) -> None:
    """Refuse a field that is no whole number from 1 on; numpy's become Python's, which a record can keep.

    Raises:
        AblationError: it is something else.
    """
    value = getattr(ablation, name)
    try:
        count = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = 0
    if count < 1:
        raise AblationError(f"{name} cannot be {shown(value)}; give a whole number, 1 or more")
    object.__setattr__(ablation, name, count)


def require_positive(ablation: Ablation, name: str) -> None:
    """Refuse a field that is no finite number above 0; numpy's become Python's, which a record can keep.

    Raises:
        AblationError: it is something else.
    """
    value = getattr(ablation, name)
    try:
        number = math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not 0 < number < math.inf:
        raise AblationError(f"{name} cannot be {shown(value)}; give a number above 0")
    object.__setattr__(ablation, name, number)


class Ablation(ABC):
    """A way to replace a part's output; a frozen dataclass whose fields are its settings.

    Attributes:
        name: name on the command line.
        basis: what replacements of whole texts are made of; at the last token they are made of the runs.
        deals: values come from other prompts of the set, so that each needs as many others as it has draws.
    """

    name: ClassVar[str]
    basis: ClassVar[Basis] = "runs"
    deals: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "name" in cls.__dict__:
            REGISTRY[cls.name] = cls

    @property
    def draws(self) -> int:
        """Replacement values per prompt; effects are averaged over them."""
        return 1

    @property
    def extra_runs(self) -> int:
        """Runs per prompt besides the clean one whose activations are needed."""
        return 0

    @property
    def learning(self) -> Learning | None:
        """How constants are learned, for an ablation that learns them; `replace` is not called then."""
        return None

    @property
    def settings(self) -> dict[str, Any]:
        """Name and fields, as a run's record keeps them."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]

    def check(self, prompts: Sequence[EncodedPrompt], *, last_token: bool) -> None:
        """Refuse prompts that this ablation cannot take, before anything is computed.

        Args:
            prompts: all prompts of the run.
            last_token: parts are replaced at the last token alone.

        Raises:
            AblationError: a prompt does not fit; the message names it.
        """
        return

    def donate(
        self, prompts: Sequence[EncodedPrompt], targets: Sequence[int], seed: int, *, block: int | None = None
    ) -> Donation:
        """Choose the runs that replacement values come from; without donors, each prompt's own.

        Args:
            prompts: prompts that may be each other's donors.
            targets: target token of each prompt.
            seed: seed of the run.
            block: number of the first prompt among all, where donors come from blocks of one length.
        """
        return Donation(np.arange(len(prompts))[None])

    @abstractmethod
    def replace(
        self, pool: Float[Tensor, "pool *edited width"], chosen: Int[np.ndarray, "draws prompts"], n_clean: int
    ) -> Float[Tensor, "draws prompts *edited width"]:
        """Replacement values for some prompts.

        Args:
            pool: activations of all runs, clean ones first; with another `basis`, one row of means.
            chosen: rows of the pool, from `donate`.
            n_clean: number of clean runs.
        """

    def replaced_by(self, noun: str) -> str:
        """What is put in place, in words; `noun` is `prompt` or `text`."""
        return self.name

    def caveat(self, noun: str) -> str:
        """What a reader should bear in mind, as a sentence; empty if nothing."""
        return ""
