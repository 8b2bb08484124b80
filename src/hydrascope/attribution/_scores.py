"""The scores: what each estimates, by which formula, and what it is blind to.

L is the read-out of the clean run, x a part's clean value and x' what the ablation puts in its place under one draw,
both at all replaced positions; every score is a mean over draws. Scores have the sign of the total effect, L with x'
minus L with x, unless they are absolute values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from hydrascope.errors import RunError, did_you_mean

Score = Literal["attribution_patching", "grad_drop", "query_key", "activation_gradient"]

Value = Literal["logit", "log_prob"]
"""The read-out: the account's logit (centred, or target minus foil), or the target's log-probability."""

SCORES: dict[Score, str] = {
    "attribution_patching": "<x' - x, dL/dx>: one backward pass; blind to saturation, and to effects that cancel",
    "grad_drop": "sum over blocks l of |<x' - x, dL/dx without the gradient through what block l writes>| / (blocks "
    "- 1), a mean of absolute values: one backward pass a block; sees effects that cancel (Kramar et al. 2024)",
    "query_key": "attribution patching, but later attention that reads the part's write computes its weights anew from "
    "changed queries and keys, and only what follows the softmax is linear: sees saturation (Kramar et al. 2024)",
    "activation_gradient": "-<x, dL/dx>: one backward pass; attribution patching of a part that is zeroed",
}
"""Formula of every score."""


@dataclass(frozen=True)
class Scores:
    """Which estimates are made.

    Attributes:
        kinds: the scores, in the order of the result.
        value: what is read.
    """

    kinds: tuple[Score, ...] = ("attribution_patching", "grad_drop", "activation_gradient")
    value: Value = "logit"

    def __post_init__(self) -> None:
        for kind in self.kinds:
            if kind not in SCORES:
                raise RunError(f"there is no score '{kind}'{did_you_mean(kind, SCORES)}; choose {', '.join(SCORES)}")
        if not self.kinds or len(set(self.kinds)) < len(self.kinds):
            raise RunError("scores are given once each, and at least one of them")
        if self.value not in get_args(Value):
            raise RunError(f"scores of '{self.value}' cannot be taken; choose logit or log_prob")
