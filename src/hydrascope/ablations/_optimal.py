"""The constant that does the least harm, learned by gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from hydrascope.ablations._base import Learning, require_count, require_positive
from hydrascope.ablations._mean import Mean


@dataclass(frozen=True)
class Optimal(Mean):
    """z~ = a*, the constant that does the least harm (Li & Janson 2024, arXiv 2409.09951).

        a* = argmin_a E[KL(clean || ablated with Z = a)]

    over the next-token distribution at what is read: the last token of the prompts, or every read position of the
    texts. Each knock-out has a constant of its own, one for all edited positions and lengths. It is learned by gradient
    (Adam) from the better of zero and the mean and kept only if it beats both, so its loss on the prompts it was
    learned from is never above theirs; on other prompts nothing is certain. Means by position and donors are no
    constants: they can cost less where a part writes by position. What another ablation costs beyond it is the harm of
    a misleading value, not of a missing one.

    A knock-out of all prompts is passed forwards and backwards in every step, which takes about 180 times as long as
    one donor; of texts a step sees about a thousand read positions, so that long runs take less.

    Attributes:
        steps: steps of gradient descent.
        rate: size of the first step, in units of the spread of the values over the prompts; it falls to zero.
    """

    name: ClassVar[str] = "optimal"
    steps: int = 60
    rate: float = 0.2

    def __post_init__(self) -> None:
        require_count(self, "steps")
        require_positive(self, "rate")

    @property
    def learning(self) -> Learning:
        """Gradient descent from the better of zero and the mean."""
        return Learning(self.steps, self.rate)

    def replaced_by(self, noun: str) -> str:
        """A learned constant."""
        return "the constant that does the least harm"

    def caveat(self, noun: str) -> str:
        """Least harm is only certain where the constant was learned."""
        return f"A learned constant is the least harmful one on these {noun}s; on others it may do more harm."
