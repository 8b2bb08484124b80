"""Finds counterfactuals in a task's own prompts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence


def partners(
    answers: Sequence[str], *kinds: Sequence[Hashable], alike: Callable[[int, int], bool] = lambda i, j: True
) -> list[int | None]:
    """For each prompt, find the next of the same kind with another answer.

    Args:
        answers: answer of each prompt.
        kinds: kind of each prompt, once for each way to group prompts, from the narrowest to the widest; the narrowest
            kind with a partner decides.
        alike: whether two prompts, given by their positions, are of one length; such partners go before others of the
            same kind.

    Returns:
        Position of each prompt's partner; None if even the widest kind has no other answer.
    """
    found: list[int | None] = [None] * len(answers)
    for kind in kinds:
        members: dict[Hashable, list[int]] = defaultdict(list)
        for i, key in enumerate(kind):
            members[key].append(i)
        for rows in members.values():
            if len({answers[i] for i in rows}) < 2:
                continue
            for place, i in enumerate(rows):
                if found[i] is None:
                    others = [j for j in rows[place + 1 :] + rows[:place] if answers[j] != answers[i]]
                    found[i] = next((j for j in others if alike(i, j)), others[0])
    return found
