"""What other people measured, to stand beside each figure.

The values are printed as references, not as targets: McGrath et al. studied one 7B model on one data set,
with whole layers and the answer the model itself gives; Rushing and Nanda studied heads, on web text, at the
positions where a head matters most.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """A paper: how it is named in the text, and where it is."""

    name: str
    url: str


@dataclass(frozen=True)
class Reference:
    """One line of literature: the claim, in our words, and the paper it comes from."""

    text: str
    source: Source


MCGRATH = Source("McGrath et al. 2023, arXiv 2307.15771", "https://arxiv.org/abs/2307.15771")
RUSHING = Source("Rushing & Nanda 2024, arXiv 2402.15390", "https://arxiv.org/abs/2402.15390")
GONG = Source("Gong et al. 2026, arXiv 2607.01940", "https://arxiv.org/abs/2607.01940")

ZHANG = Source("Zhang & Nanda 2023, arXiv 2309.16042", "https://arxiv.org/abs/2309.16042")
LI = Source("Li & Janson 2024, arXiv 2409.09951", "https://arxiv.org/abs/2409.09951")
PLATEAUS = Source("arXiv 2606.24964", "https://arxiv.org/abs/2606.24964")

SCOPE = (
    "McGrath et al. report one 7B model with 32 layers on one data set (1,209 facts it completes correctly, 15 "
    "donors); Rushing & Nanda study heads of seven models on web text, at the 2 % of positions where each head "
    "matters most. Values marked ≈ are read off a figure. They are references, not targets."
)

REFERENCES: dict[str, tuple[Reference, ...]] = {
    "balance": (
        Reference("There, compensation is attention plus MLPs, without the final norm.", MCGRATH),
        Reference("There, self-repair includes the final norm; both are given here, each under its name.", RUSHING),
    ),
    "effects": (
        Reference(
            "In a 7B model, early layers have large total effects with almost no direct effect; the very last "
            "layers have direct effects only (Fig. 2a, b).",
            MCGRATH,
        ),
    ),
    "agreement": (
        Reference(
            "R² near 0 in early and middle layers, up to ≈ 0.5 in the last ones; the direct effect exceeds the "
            "drop for ≈ 75–90 % of prompts in most layers (Fig. 2c, d).",
            MCGRATH,
        ),
    ),
    "prompts": (
        Reference(
            "Usually one later attention layer rises and the others barely move; the MLPs keep the shape of "
            "their curve, attenuated (Fig. 1, 3).",
            MCGRATH,
        ),
    ),
    "compensation": (
        Reference(
            "Best fit at attention layer 23 of 32: R² = 0.92, with a slope of ≈ 0.7; below 1 in every layer past "
            "13 (Fig. 7). The paper draws it against the clean direct effect.",
            MCGRATH,
        ),
    ),
    "kinds": (
        Reference(
            "Attention carries most of the response in early layers, MLPs nearly all of it at layer 23 of 32 "
            "(Fig. 8); in middle layers both together restore about 70 % of the loss.",
            MCGRATH,
        ),
        Reference("Rescaling by the final norm repairs up to about 30 % of a head's direct effect.", RUSHING),
    ),
    "responders": (
        Reference("One or two later attention layers carry most of the response to a prompt (Fig. 1, 3).", MCGRATH),
    ),
    "confirmation": (
        Reference(
            "With heads that name the answer ablated, freezing their backup heads at the clean output removes "
            "53–55 % of the repair, freezing random heads about 0 % (GPT-2 small, indirect objects).",
            GONG,
        ),
    ),
    "erasure": (
        Reference(
            "Late MLPs act against the token the model favours, and do so less once an attention layer is gone.",
            MCGRATH,
        ),
        Reference(
            "In the last MLP few neurons suffice for a prompt; the strongest usually wrote against the answer "
            "before and now does so less.",
            RUSHING,
        ),
    ),
    "routing": (),
    "redistribution": (),
    "ablations": (
        Reference(
            "Single components of GPT-2 small, indirect object task, ranked as counterfactual ablation ranks them: "
            "zero 0.59, mean 0.83, resample 0.83, optimal 0.91. Resample agrees with mean at 0.98, with optimal at "
            "0.92, with zero at 0.69 (read from their released plot).",
            LI,
        ),
        Reference(
            "Replacing tokens by like ones and adding noise single out different heads, whatever is measured.", ZHANG
        ),
    ),
    "dose": (
        Reference(
            "Small disturbances of the residual stream are absorbed: the response has a plateau and then grows faster "
            "than in proportion, less so along directions that features use.",
            PLATEAUS,
        ),
    ),
    "heads": (
        Reference(
            "On the tokens where each head matters most, heads of GPT-2 small get back 23 % of what they lose in the "
            "third quarter of the layers and 48 % in the last, final norm included; in the first half loss brings more "
            "loss (from the authors’ result files).",
            RUSHING,
        ),
    ),
    "neurons": (
        Reference(
            "In the last MLP a few neurons repair most of what a head loses on one prompt, and different ones on "
            "different prompts; the strongest usually wrote against the answer before and lets go, rather than newly "
            "writing for it.",
            RUSHING,
        ),
    ),
}
"""Figure to its references; every figure of the report has an entry."""
