"""The worst sets of each size, as far as a search finds them.

Greedy: the part is added whose loss is worst beside those chosen. Then, from the worst of these and of all other
measured sets of that size, each part is tried against all others, until no swap leaves less. There may be worse sets
all the same, so that what is found is a bound. The search sees one half of the groups of prompts, and what it finds is
told on the other half, where luck in the search does not count.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from hydrascope.analysis import Resampling, add_estimate, mean_estimate, resample
from hydrascope.resilience._values import SetValues

Set = Bool[np.ndarray, " parts"]
Candidates = Bool[np.ndarray, "_ parts"]


def extended(members: Set) -> Candidates:
    """A set with each other part added."""
    found = np.repeat(members[None], int((~members).sum()), 0)
    found[np.arange(len(found)), np.flatnonzero(~members)] = True
    return found


def swapped(members: Set) -> Candidates:
    """A set with each of its parts in turn replaced by each other part."""
    found = [
        np.where(np.arange(len(members)) == out, False, one)
        for out in np.flatnonzero(members)
        for one in extended(members)
    ]
    return np.array(found, bool).reshape(-1, len(members))


def halves(groups: Sequence[Any]) -> tuple[Bool[np.ndarray, " prompts"], Bool[np.ndarray, " prompts"]]:
    """Prompts that are searched on, and those that what was found is judged on; no group is in both.

    Args:
        groups: label of the group of each prompt.
    """
    labels, codes = np.unique([str(group) for group in groups], return_inverse=True)
    even = codes % 2 == 0 if len(labels) > 1 else np.arange(len(codes)) % 2 == 0
    return even, ~even


def search(values: SetValues, largest: int, weight: Float[np.ndarray, " prompts"]) -> tuple[list[Set], Candidates]:
    """Search as far as sets are measured.

    Args:
        values: values of the sets, those of single parts among them.
        largest: largest size of a set.
        weight: how much each prompt counts in the search.

    Returns:
        The worst set found of each size from 1, and the sets to measure before the search can go on; none when it is
        done.
    """
    count = len(values.parts)
    found: list[Set] = []
    before = np.zeros(count, bool)
    for _ in range(min(largest, count)):
        greedy = extended(before)
        if len(missing := _unmeasured(values, greedy)):
            return found, missing
        # a pair that backs each other up is nothing to a greedy search: sets measured for another reason may show it
        before = _worst_of(values, np.concatenate([greedy, values.of_size(len(found) + 1)]), weight)
        if len(missing := _unmeasured(values, swapped(before))):
            return found, missing
        found.append(before)
    return found, np.zeros((0, count), bool)


def _unmeasured(values: SetValues, candidates: Candidates) -> Candidates:
    return candidates[[not values.has(one) for one in candidates]]


def _worst_of(values: SetValues, candidates: Candidates, weight: Float[np.ndarray, " prompts"]) -> Set:
    """The candidate with the least mean value; the first of several."""
    means = weight @ values.of(candidates) / weight.sum()
    found: Set = candidates[int(means.argmin())]
    return found


def worst_table(
    values: SetValues,
    found: Sequence[Set],
    random: Sequence[Candidates],
    groups: Sequence[Any],
    weight: Float[np.ndarray, " prompts"],
) -> pd.DataFrame:
    """The worst sets found, beside random ones of the same size.

    Args:
        values: values of the sets.
        found: the worst set found of each size from 1.
        random: random sets of the same sizes.
        groups: label of the group of each prompt.
        weight: how much each prompt counts.

    Returns:
        One row per size: `size`; `parts`, the worst set found; `value`, its value on the half of the groups that was
        not searched, with `value_lo` and `value_hi`, and `random`, the mean of the random sets there, with `random_lo`
        and `random_hi`, the ends of the middle 95 % of these sets.
    """
    judged = halves(groups)[1]
    some = SetValues(values.parts, values.clean[judged], values.values[judged], values.place)
    resampling: Resampling = resample(np.asarray(groups)[judged], weight=weight[judged])
    rows = []
    for size, (members, others) in enumerate(zip(found, random, strict=True), start=1):
        row: dict[str, Any] = {"size": size, "parts": "+".join(np.array(values.parts, object)[members])}
        ends = mean_estimate(some.of(members[None]), resampling).interval
        add_estimate(row, "value", tuple(float(end[0]) for end in ends))  # type: ignore[arg-type]
        means = resampling.mean(some.of(others))
        add_estimate(row, "random", (float(means.mean()), *np.quantile(means, [0.025, 0.975])))
        rows.append(row)
    return pd.DataFrame(rows)


def next_sets(parts: int, largest: int) -> Candidates:
    """About as many sets as a search asks for, before anything is known.

    Args:
        parts: number of parts.
        largest: largest size of a set.
    """
    found = [np.zeros((0, parts), bool)]
    for size in range(2, 1 + min(largest, parts)):
        members = np.arange(parts) < size
        found += [extended(np.arange(parts) < size - 1), swapped(members)]
    return np.concatenate(found)
