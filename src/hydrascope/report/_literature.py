"""What other people measured, to stand beside each figure.

The values are references, not targets: McGrath et al. studied one 7B model on one data set, with whole layers and the
answer the model itself gives; Rushing and Nanda studied heads, on web text, at the positions where a head matters most.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper: its name in the text, and its address on the web."""

    name: str
    url: str


@dataclass(frozen=True)
class Reference:
    """One line of literature: the claim, in our words, and its paper."""

    text: str
    source: Paper


MCGRATH = Paper("McGrath et al. 2023, arXiv 2307.15771", "https://arxiv.org/abs/2307.15771")
RUSHING = Paper("Rushing & Nanda 2024, arXiv 2402.15390", "https://arxiv.org/abs/2402.15390")
GONG = Paper("Gong et al. 2026, arXiv 2607.01940", "https://arxiv.org/abs/2607.01940")

ZHANG = Paper("Zhang & Nanda 2023, arXiv 2309.16042", "https://arxiv.org/abs/2309.16042")
LI = Paper("Li & Janson 2024, arXiv 2409.09951", "https://arxiv.org/abs/2409.09951")
PLATEAUS = Paper("arXiv 2606.24964", "https://arxiv.org/abs/2606.24964")

SCOPE = (
    "McGrath et al. report one 7B model with 32 layers on one data set (1,209 facts it completes correctly, 15 "
    "donors); Rushing & Nanda study heads of seven models on web text, at the 2 % of positions where each head "
    "matters most. Values marked ≈ are read off a figure. They are references, not targets."
)

SCOPE_OF_TOKENS = (
    "Rushing & Nanda study single heads of GPT-2, Pythia and Llama models on The Pile, in pieces of 128 tokens, at the "
    "2 % of tokens where each head's direct effect is largest, with one donor at all positions. Their shares are of "
    "the direct effect, those of this page of what a part really lost. Numbers by depth were computed from the "
    "authors’ result files of about 100,000 tokens. They are references, not targets."
)

STRETCHES: dict[str, tuple[float, ...]] = {
    "gpt2-small": (-0.13, -0.32, 0.23, 0.48, 0.33, 0.40),
    "gpt2-medium": (0.12, 0.17, 0.45, 0.41, -0.09, 0.50),
    "pythia-160m": (-1.53, -0.10, 0.25, 0.29, 0.16, 0.30),
    "pythia-410m": (0.16, 0.63, 0.51, 0.51, 0.24, 0.52),
}
"""Self-repair over direct effect on top tokens, summed over heads, by stretch of depth."""

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
            "loss for ≈ 75–90 % of prompts in most layers (Fig. 2c, d).",
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
            "13 (Fig. 7). The paper draws it against the clean direct effect, so that repair is positive there "
            "and negative here.",
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
    "freeze": (
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
    "mcgrath": (),
    "routing": (),
    "attention-split": (),
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
    "self-repair": (
        Reference(
            "Early layers tend to breakage, late ones to repair: of the heads from the middle to the last layer but "
            "one, 72 to 98 % are repaired on their top tokens, by 31 to 48 % in the median (Fig. 1).",
            RUSHING,
        ),
        Reference(
            "Over all tokens instead of the top ones, mean self-repair of GPT-2 small and Pythia 160M is zero or below "
            "in nearly every layer (−0.26 to +0.015 logits).",
            RUSHING,
        ),
    ),
    "mechanisms": (
        Reference(
            "Of what comes back in late layers, heads, MLPs and final norm give 50, −32 and 82 % in GPT-2 small, "
            "37, 11 and 52 % in GPT-2 medium, −17, 63 and 53 % in Pythia 160M, 7, 66 and 27 % in Pythia 410M.",
            RUSHING,
        ),
        Reference("At middle layers later attention and MLPs together restore about 70 % of the loss.", MCGRATH),
    ),
    "tokens": (
        Reference(
            "Heads of Pythia 1B scatter above the line of no repair where their direct effect is large, and around or "
            "below it elsewhere.",
            RUSHING,
        ),
    ),
    "norm": (
        Reference(
            "Most tokens lie above 1: without a head the stream shrinks and the norm makes more of the rest. This "
            "restores up to about 30 % of a head’s direct effect (17 to 25 % on average in the last layer but one).",
            RUSHING,
        ),
    ),
    "comparison": (),
    "survival": (),
    "importance": (),
    "pairs": (
        Reference(
            "There, parts that back each other up are found by knocking one out while the other is out already; a "
            "single knock-out finds few of them (area under the curve 0.94 against 0.60 on indirect objects).",
            GONG,
        ),
    ),
    "load": (),
    "worst": (),
}
"""Section to its references; every section has an entry."""
