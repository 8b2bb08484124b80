"""Which prompts a run keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hydrascope.errors import EmptyPrompts
from hydrascope.prompts.encode import Encoded, EncodedPrompt


@dataclass(frozen=True)
class Kept:
    """What a filter left.

    Attributes:
        encoded: the prompts that stay; each keeps its index in the whole set.
        dropped_wrong: number of prompts whose target was not the model's top token.
    """

    encoded: Encoded
    dropped_wrong: int

    @property
    def prompts(self) -> tuple[EncodedPrompt, ...]:
        """The prompts that stay."""
        return self.encoded.prompts

    def describe(self) -> str:
        """One sentence: how many prompts were kept and why the others were not."""
        kept, total = len(self.prompts), len(self.prompts) + self.dropped_wrong
        return (
            f"Kept {kept} of {total} prompts, those for which the model's most probable token is the target"
            f" (the filter of McGrath et al. 2023); dropped {self.dropped_wrong} that it completes otherwise."
        )


def answered_correctly(encoded: Encoded, clean_top: Sequence[int]) -> Kept:
    """Keep the prompts that the model completes correctly.

    McGrath et al. (2023), arXiv 2307.15771, restrict their prompts to those the model completes
    correctly, so that the direct effects concern a fact it knows: kept if argmax of the clean
    next-token distribution = target. A prompt without a target has the model's top token as its
    target and is always kept.

    Args:
        encoded: N prompts.
        clean_top: N token ids, the most probable next token of the clean run, in the same order.

    Returns:
        The prompts kept, in order, and how many were dropped.

    Raises:
        EmptyPrompts: no prompt is completed correctly.
        ValueError: the lengths differ.
    """
    kept = tuple(
        prompt
        for prompt, top in zip(encoded.prompts, clean_top, strict=True)
        if prompt.target_id is None or prompt.target_id == top
    )
    total = len(encoded.prompts)
    if not kept:
        raise EmptyPrompts(
            f"the model's most probable next token is the target in none of the {total} prompts; "
            "give prompts that it completes correctly, or take its top token as the target (--target top)"
        )
    return Kept(replace(encoded, prompts=kept), total - len(kept))
