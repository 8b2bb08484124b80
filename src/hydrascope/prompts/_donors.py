"""Chooses donors for resample ablation: whose activation replaces whose."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from hydrascope.errors import TooFewDonors

Indices = Int[np.ndarray, " prompts"]
"""A token id or a donor's position for each prompt."""


def choose_donors(
    targets: Sequence[int] | Indices,
    n: int,
    seed: int,
    *,
    foils: Sequence[int | None] | None = None,
    inputs: Sequence[Hashable] | None = None,
    numbers: Sequence[int] | None = None,
) -> Int[np.ndarray, "{n} prompts"]:
    """Choose `n` donors for every prompt.

    Resample ablation (McGrath et al. 2023, arXiv 2307.15771, eq. 38) replaces an activation by that on another prompt
    of the set. A donor with the same target would restore what is to be removed, and one with the same tokens remove
    nothing, so neither is allowed, and no prompt gets a donor twice. Each round is a derangement: every prompt is a
    donor exactly once, so that the ablated activations have the distribution of the clean ones. Where no derangement
    exists (say, because more than half of the prompts share a target), the donors of that round are drawn independently
    and uniformly from those still allowed.

    If every prompt then still has `n` donors, foils count like targets: a donor whose target is the prompt's foil would
    invert a logit difference instead of removing it, and one with the same foil would leave half of it. Otherwise, as
    where there are only two answers, only targets count.

    The first m rounds do not depend on `n` (as long as it does not decide about foils), so that a run with more donors
    extends one with fewer.

    Args:
        targets: target token id of each prompt.
        n: donors for each prompt, at least 1.
        seed: seed of the choice.
        foils: foil token id of each prompt, None for a prompt without one; None for a set without any.
        inputs: tokens of each prompt, or what tells them apart; None where all differ.
        numbers: number by which an error names each prompt; by default its position in `targets`.

    Returns:
        Positions in `targets`: entry [r, i] is the donor of prompt i in round r.

    Raises:
        TooFewDonors: a prompt has fewer than `n` others with another target and other tokens.
    """
    target, given = np.asarray(targets, dtype=np.int64), _numbered(range(len(targets)) if inputs is None else inputs)
    require_donors(target, n, inputs=given.tolist(), numbers=numbers)
    answers = _Answers((target,), given)
    if foils is not None:
        both = _Answers.both(target, foils, given)
        answers = both if both.enough(n) else answers
    rng = np.random.default_rng(seed)
    rounds = np.empty((n, len(target)), dtype=np.int64)
    for r in range(n):
        draw = _Round(answers, rounds[:r], rng)
        balanced = draw.derangement()
        rounds[r] = draw.independent() if balanced is None else balanced
    return rounds


def count_shared_answers(
    targets: Sequence[int] | Indices, foils: Sequence[int | None], donors: Int[np.ndarray, "donors prompts"]
) -> int:
    """Count donors that share a target or foil with their prompt.

    Such a donor inverts the logit difference, or leaves half of it, instead of removing it.

    Args:
        targets: target token id of each prompt.
        foils: foil token id of each prompt, None for a prompt without one.
        donors: positions in `targets`, as `choose_donors` returns them.

    Returns:
        The number of such entries in `donors`.
    """
    answers = _Answers.both(np.asarray(targets, dtype=np.int64), foils, np.arange(len(targets)))
    return sum(int(answers.shared_with(chosen).sum()) for chosen in donors)


def require_donors(
    targets: Sequence[int] | Indices,
    n: int,
    *,
    inputs: Sequence[Hashable],
    numbers: Sequence[int] | None = None,
    shown: Callable[[int], str] = str,
) -> None:
    """Require that every prompt has `n` others with another target and other tokens.

    Args:
        targets: target token id of each prompt.
        n: donors for each prompt, at least 1.
        inputs: tokens of each prompt, or what tells them apart.
        numbers: number by which an error names each prompt; by default its position in `targets`.
        shown: how an error writes a token.

    Raises:
        TooFewDonors: a prompt has fewer.
    """
    if n < 1:
        raise TooFewDonors(f"{n} donors per prompt were asked for; ask for at least 1")
    target, given = np.asarray(targets, dtype=np.int64), _numbered(inputs)
    if not len(target):
        return
    pairs = np.stack([target, given], 1)
    shared = _counts(target) + _counts(given) - _counts(np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1))
    allowed = len(target) - shared
    if (fewest := int(allowed.min())) < n:
        named = np.arange(len(target)) if numbers is None else np.asarray(numbers)
        worst = int(np.lexsort((named, allowed))[0])
        remedy = f"take at most {fewest} (--donors {fewest}), or add" if fewest else "add"
        alike = " and other tokens" if shared[worst] > int((target == target[worst]).sum()) else ""
        raise TooFewDonors(
            f"prompt {named[worst]} (counted from 0) has too few donors: {fewest} with another target than its token "
            f"{shown(int(target[worst]))}{alike}, {n} asked for; {remedy} prompts with other targets"
        )


def _numbered(keys: Sequence[Hashable]) -> Indices:
    """A number for each key, equal where the keys are."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(key, len(known)) for key in keys], dtype=np.int64)


def _counts(values: Indices) -> Indices:
    """How often each value occurs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    found: Indices = counts[which]
    return found


@dataclass(frozen=True)
class _Answers:
    """What no donor may share: each prompt's target, its foil where foils count, and all its tokens.

    Attributes:
        tokens: token ids of the targets, then of the foils.
        inputs: a number for each prompt, equal where their tokens are.
    """

    tokens: tuple[Indices, ...]
    inputs: Indices

    @classmethod
    def both(cls, target: Indices, foils: Sequence[int | None], inputs: Indices) -> _Answers:
        """Targets and foils; the target again for a prompt without a foil."""
        second = [token if foil is None else foil for token, foil in zip(target, foils, strict=True)]
        return cls((target, np.array(second, dtype=np.int64)), inputs)

    def __len__(self) -> int:
        return len(self.tokens[0])

    def shared_with(self, prompts: int | Indices) -> Bool[np.ndarray, " prompts"]:
        """Whether each prompt shares an answer, or all its tokens, with a given one, or with one of its own."""
        found: Bool[np.ndarray, " prompts"] = self.inputs == self.inputs[prompts]
        for mine in self.tokens:
            for other in self.tokens:
                found |= mine == other[prompts]
        return found

    def enough(self, n: int) -> bool:
        """Whether every prompt shares nothing with at least `n` others."""
        return all(int((~self.shared_with(i)).sum()) >= n for i in range(len(self)))


class _Round:
    """One donor for every prompt, other than those of earlier rounds."""

    def __init__(self, answers: _Answers, used: Int[np.ndarray, "rounds prompts"], rng: np.random.Generator) -> None:
        self.answers = answers
        self.used = used
        self.rng = rng

    def independent(self) -> Indices:
        """A uniform choice for each prompt independently."""
        return np.array(
            [self.rng.choice(np.flatnonzero(self._donors_of(i))) for i in range(len(self.answers))],
            dtype=np.int64,
        )

    def derangement(self) -> Indices | None:
        """A permutation that gives every prompt an allowed donor, or None.

        A random permutation is repaired: a prompt with a forbidden donor swaps with a random prompt such that both get
        an allowed one. Where no swap does, donors are shifted along an augmenting path of the bipartite graph of
        prompts and allowed donors; if there is no such path, there is no permutation (Berge 1957).
        """
        size = len(self.answers)
        if size and np.unique(self.answers.tokens[0], return_counts=True)[1].max() * 2 > size:
            return None
        donor = self.rng.permutation(size)
        bad = self.answers.shared_with(donor) | (self.used == donor).any(axis=0)
        for i in self.rng.permutation(np.flatnonzero(bad)).tolist():
            if not bad[i]:
                continue
            partners = np.flatnonzero(self._donors_of(i)[donor] & self._takers_of(int(donor[i])))
            if len(partners):
                j = self.rng.choice(partners)
                donor[i], donor[j] = donor[j], donor[i]
                bad[i] = bad[j] = False
        return donor if all(self._augment(donor, bad, int(i)) for i in np.flatnonzero(bad)) else None

    def _augment(self, donor: Indices, bad: Bool[np.ndarray, " prompts"], start: int) -> bool:
        """Give `start` an allowed donor along a shortest augmenting path."""
        owner = np.argsort(donor)
        reached_from = np.full(len(donor), -1)
        queue = [start]
        for prompt in queue:  # grows as donors are reached
            new = np.flatnonzero(self._donors_of(prompt) & (reached_from < 0))
            reached_from[new] = prompt
            # A donor is free if the prompt that has it may not keep it.
            free = new[bad[owner[new]]]
            if len(free):
                self._shift(donor, reached_from, start, int(self.rng.choice(free)))
                bad[start] = False
                return True
            queue.extend(owner[new].tolist())
        return False

    @staticmethod
    def _shift(donor: Indices, reached_from: Indices, start: int, free: int) -> None:
        loser, given_up, taken = int(np.flatnonzero(donor == free)[0]), int(donor[start]), free
        while True:
            prompt = int(reached_from[taken])
            left = int(donor[prompt])
            donor[prompt] = taken
            if prompt == start:
                break
            taken = left
        if loser != start:
            donor[loser] = given_up

    def _donors_of(self, prompt: int) -> Bool[np.ndarray, " prompts"]:
        allowed = ~self.answers.shared_with(prompt)
        allowed[self.used[:, prompt]] = False
        return allowed

    def _takers_of(self, donor: int) -> Bool[np.ndarray, " prompts"]:
        takers = ~self.answers.shared_with(donor)
        takers &= ~(self.used == donor).any(axis=0)
        return takers
