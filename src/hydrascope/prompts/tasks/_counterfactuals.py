"""Counterfactuals out of the set itself: another question of the same kind with another answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence


def partners(
    answers: Sequence[str], *kinds: Sequence[Hashable], alike: Callable[[int, int], bool] = lambda i, j: True
) -> list[int | None]:
    """For each question the next one, counted round, of the same kind and with another answer.

    Args:
        answers: of N questions.
        kinds: the kind of each, from the narrowest to the widest; the narrowest with a partner decides.
        alike: whether a question has a partner's length; of one kind such a partner goes before others.

    Returns:
        N positions; None where even the widest kind has no other answer.
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
