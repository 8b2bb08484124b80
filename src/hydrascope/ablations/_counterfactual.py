"""Activations of the prompt's counterfactual in place of a part's output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hydrascope.ablations._base import Donation, ExtraRun
from hydrascope.ablations._runs import FromRuns
from hydrascope.errors import AblationError, MissingCounterfactual
from hydrascope.prompts import EncodedPrompt


@dataclass(frozen=True)
class Counterfactual(FromRuns):
    """z~ = Z(u'), u' the counterfactual that comes with the prompt (Wang et al. 2022, arXiv 2211.00593)."""

    name: ClassVar[str] = "counterfactual"

    @property
    def extra_runs(self) -> int:
        """The counterfactual's own run."""
        return 1

    def check(self, prompts: Sequence[EncodedPrompt], *, last_token: bool) -> None:
        """Refuse counterfactuals of other lengths where several positions are replaced.

        Raises:
            AblationError: a counterfactual does not fit; the message names its prompt.
        """
        if last_token:
            return
        pairs = [(one, one.counterfactual_ids) for one in prompts if one.counterfactual_ids is not None]
        unequal = [(one, other) for one, other in pairs if len(one.ids) != len(other)]
        if unequal:
            one, other = unequal[0]
            raise AblationError(
                f"{len(unequal)} of {len(prompts)} counterfactuals are not as long as their prompts, which they must "
                f"be to be put in place at several positions (prompt {one.index}, counted from 0, has {len(one.ids)} "
                f"tokens and its counterfactual {len(other)}); leave these prompts out, or knock out at the "
                "last position (--positions last)"
            )

    def donate(
        self, prompts: Sequence[EncodedPrompt], targets: Sequence[int], seed: int, *, block: int | None = None
    ) -> Donation:
        """Make one run per counterfactual prompt.

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

    def replaced_by(self, noun: str) -> str:
        """Values of the counterfactual."""
        return f"the counterfactual {noun}’s values"
