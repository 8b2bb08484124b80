"""What Rushing & Nanda 2024 measured on web text, to stand beside the figures of a run over ordinary text."""

from __future__ import annotations

from hydrascope.report.literature import MCGRATH, RUSHING, Reference

SCOPE = (
    "Rushing & Nanda study single heads of GPT-2, Pythia and Llama models on The Pile, in pieces of 128 tokens, at the "
    "2 % of tokens where each head's direct effect is largest, with one donor at all positions. Their shares are of "
    "the direct effect, those of this page of what a part really lost. Numbers by depth were computed from the "
    "authors’ result files of about 100,000 tokens. They are references, not targets."
)

QUARTERS: dict[str, tuple[float, ...]] = {
    "gpt2-small": (-0.13, -0.32, 0.23, 0.48, 0.33, 0.40),
    "gpt2-medium": (0.12, 0.17, 0.45, 0.41, -0.09, 0.50),
    "pythia-160m": (-1.53, -0.10, 0.25, 0.29, 0.16, 0.30),
    "pythia-410m": (0.16, 0.63, 0.51, 0.51, 0.24, 0.52),
}
"""Self-repair over direct effect on top tokens, summed over heads, by stretch of depth."""

REFERENCES: dict[str, tuple[Reference, ...]] = {
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
}
"""Section to its references."""
