"""Activations of other prompts, the donors, in place of a part's output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from hydrascope.ablations._base import Ablation, Donation, require_count
from hydrascope.ablations._runs import FromRuns
from hydrascope.errors import TooFewDonors
from hydrascope.prompts import EncodedPrompt, choose_donors, count_shared_answers

FEW = 4
"""Number of donors below which a caveat is given."""


@dataclass(frozen=True)
class Resample(FromRuns):
    """z~ = Z(u~), u~ another prompt of the set with another target (McGrath et al. 2023, eq. 38; 15 donors there).

    A prompt of the same tokens is no other prompt.

    Who lends to whom depends on the set and the seed, and not on the order of the set.

    Attributes:
        donors: donors per prompt. Each round is a seeded derangement of the set.
    """

    name: ClassVar[str] = "resample"
    deals: ClassVar[bool] = True
    donors: int = 15

    def __post_init__(self) -> None:
        require_count(self, "donors")

    @property
    def draws(self) -> int:
        """One value a donor."""
        return self.donors

    def donate(
        self, prompts: Sequence[EncodedPrompt], targets: Sequence[int], seed: int, *, block: int | None = None
    ) -> Donation:
        """Deal the prompts out as each other's donors, in an order that is theirs and not that of their file.

        Raises:
            TooFewDonors: a prompt has fewer prompts with another target and other tokens than donors are asked for.
        """
        if block is not None:
            seed = int(np.random.SeedSequence((seed, block)).generate_state(1)[0])
        order = sorted(range(len(prompts)), key=lambda i: prompts[i].content)
        dealt = choose_donors(
            [targets[i] for i in order],
            self.donors,
            seed,
            foils=[prompts[i].foil_id for i in order],
            inputs=[prompts[i].ids for i in order],
            numbers=[prompts[i].index for i in order],
        )
        table = np.empty_like(dealt)
        table[:, order] = np.array(order)[dealt]
        foils = [prompt.foil_id for prompt in prompts]
        return Donation(table, sharing=count_shared_answers(targets, foils, table))

    def replaced_by(self, noun: str) -> str:
        """Values of other prompts."""
        return f"{self.donors} other {noun}s’ values" if self.donors > 1 else f"another {noun}’s values"

    def caveat(self, noun: str) -> str:
        """Few donors are noisy."""
        if self.donors >= FEW:
            return ""
        donors = "1 donor" if self.donors == 1 else f"{self.donors} donors"
        return (
            f"With {donors} per {noun} single effects are noisy (McGrath et al. used 15), and a writer that wanders "
            "from one side of zero to the other shows as letting go in one place and as new writing in another; means "
            "over many are what to read."
        )


def with_donors(texts: Sequence[EncodedPrompt], ablation: Ablation) -> list[EncodedPrompt]:
    """Keep the texts that have enough donors, which must be of their length and not of the same tokens.

    Of texts with the same tokens, which could only lend to each other what they have, the first is kept.

    Args:
        texts: all texts.
        ablation: what replaces; only one that deals needs donors.

    Returns:
        The texts that have as many others of their length as the ablation draws.

    Raises:
        TooFewDonors: no text has.
    """
    if not ablation.deals:
        return list(texts)
    different = list({text.ids: text for text in reversed(texts)}.values())[::-1]
    lengths = Counter(len(text.ids) for text in different)
    found = [text for text in different if lengths[len(text.ids)] > ablation.draws]
    if not found:
        tokens, count = lengths.most_common(1)[0]
        raise TooFewDonors(
            f"a donor at several positions must be as long as the text, and {count} different ones have {tokens} "
            f"tokens, so each has {count - 1} to draw from and {ablation.draws} were asked for; take fewer (--donors), "
            "or give more texts of one length"
        )
    return found
