"""Which prompt lends its activation to which: donors for resample ablation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from hydrascope.errors import TooFewDonors

Indices = Int[np.ndarray, " prompts"]


def choose_donors(
    targets: Sequence[int] | Indices,
    n: int,
    seed: int,
    *,
    foils: Sequence[int | None] | None = None,
    numbers: Sequence[int] | None = None,
) -> Int[np.ndarray, "{n} prompts"]:
    """Choose `n` donors for every prompt.

    Resample ablation (McGrath et al. 2023, arXiv 2307.15771, eq. 38) replaces an activation by
    that on another prompt of the same set. A donor with the same target would put back what is
    to be removed, so none is allowed, and no prompt gets a donor twice. Each round is a
    derangement, so that every prompt lends exactly once and the ablated activations have the
    distribution of the clean ones. Where none exists (say, because more than half of the prompts
    share a target), the donors of that round are drawn independently and uniformly among those
    still allowed.

    Foils are shunned like targets if every prompt then still has `n` donors: a donor whose answer is
    this prompt's foil would not remove a logit difference but turn it round, and one with the same
    foil would leave half of it. Otherwise, as where there are but two answers, only targets count.

    The first m rounds do not depend on `n` (as long as it does not decide about foils), so that more
    donors continue fewer.

    Args:
        targets: target token of each of P prompts.
        n: donors per prompt, at least 1.
        seed: the same seed gives the same donors.
        foils: each prompt's foil, or None for a prompt without one.
        numbers: what an error calls each prompt by; its position in `targets` if left out.

    Returns:
        Positions in `targets`, shape [n, P]: entry [r, i] is the donor of prompt i in round r.

    Raises:
        TooFewDonors: a prompt has fewer than `n` others with another target.
    """
    target = np.asarray(targets, dtype=np.int64)
    _check_enough(target, n, range(len(target)) if numbers is None else numbers)
    named = _Named((target,))
    if foils is not None:
        both = _Named.both(target, foils)
        named = both if both.enough(n) else named
    rng = np.random.default_rng(seed)
    rounds = np.empty((n, len(target)), dtype=np.int64)
    for r in range(n):
        draw = _Round(named, rounds[:r], rng)
        balanced = draw.derangement()
        rounds[r] = draw.independent() if balanced is None else balanced
    return rounds


def count_shared_answers(
    targets: Sequence[int] | Indices, foils: Sequence[int | None], donors: Int[np.ndarray, "draws prompts"]
) -> int:
    """How many of the chosen donors name the target or the foil of their prompt, as target or foil of their own.

    Such a donor turns the logit difference round, or leaves half of it, instead of taking it away.

    Args:
        targets: target token of each prompt.
        foils: each prompt's foil, or None.
        donors: what `choose_donors` returned for them.
    """
    named = _Named.both(np.asarray(targets, dtype=np.int64), foils)
    return sum(int(named.meet(chosen).sum()) for chosen in donors)


def _check_enough(target: Indices, n: int, numbers: Sequence[int]) -> None:
    if n < 1:
        raise TooFewDonors(f"{n} donors per prompt were asked for; ask for at least 1")
    _, which, counts = np.unique(target, return_inverse=True, return_counts=True)
    allowed = len(target) - counts[which]
    if len(target) and (fewest := int(allowed.min())) < n:
        worst = int(allowed.argmin())
        remedy = f"take at most {fewest}, or add" if fewest else "add"
        raise TooFewDonors(
            f"prompt {numbers[worst]} (counted from 0) has too few donors: {fewest} with another target than its token "
            f"{target[worst]}, {n} asked for; {remedy} prompts with other targets"
        )


@dataclass(frozen=True)
class _Named:
    """The tokens that each prompt names, its target first; no donor may name any of them."""

    tokens: tuple[Indices, ...]

    @classmethod
    def both(cls, target: Indices, foils: Sequence[int | None]) -> _Named:
        """Targets, and foils where there are such."""
        second = [token if foil is None else foil for token, foil in zip(target, foils, strict=True)]
        return cls((target, np.array(second, dtype=np.int64)))

    def __len__(self) -> int:
        return len(self.tokens[0])

    def meet(self, prompts: int | Indices) -> Bool[np.ndarray, " prompts"]:
        """Which prompts share a token with the given one, or with the one given in their place."""
        found: Bool[np.ndarray, " prompts"] = np.zeros(len(self), dtype=bool)
        for mine in self.tokens:
            for other in self.tokens:
                found |= mine == other[prompts]
        return found

    def enough(self, n: int) -> bool:
        """Whether every prompt has that many others that it does not meet."""
        return all(int((~self.meet(i)).sum()) >= n for i in range(len(self)))


class _Round:
    """One round of choices, given the rounds before."""

    def __init__(self, named: _Named, used: Int[np.ndarray, "rounds prompts"], rng: np.random.Generator) -> None:
        self.named = named
        self.used = used
        self.rng = rng

    def independent(self) -> Indices:
        """A uniform choice for each prompt by itself."""
        return np.array(
            [self.rng.choice(np.flatnonzero(self._donors_of(i))) for i in range(len(self.named))],
            dtype=np.int64,
        )

    def derangement(self) -> Indices | None:
        """A permutation that gives every prompt an allowed donor, or None if there is none.

        A random permutation is repaired: a prompt with a forbidden donor swaps with a random
        prompt such that both end well; where no swap helps, an augmenting path of the bipartite
        graph prompts - allowed donors does, and where there is no such path, no permutation
        exists (Berge 1957).
        """
        size = len(self.named)
        if size and np.unique(self.named.tokens[0], return_counts=True)[1].max() * 2 > size:
            return None
        donor = self.rng.permutation(size)
        bad = self.named.meet(donor) | (self.used == donor).any(axis=0)
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
        """Give `start` an allowed donor by shifting donors along a shortest augmenting path."""
        owner = np.argsort(donor)
        reached_from = np.full(len(donor), -1)
        queue = [start]
        for prompt in queue:  # grows as donors are reached
            new = np.flatnonzero(self._donors_of(prompt) & (reached_from < 0))
            reached_from[new] = prompt
            # The donors that badly served prompts hold are the free ones.
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
        allowed = ~self.named.meet(prompt)
        allowed[self.used[:, prompt]] = False
        return allowed

    def _takers_of(self, donor: int) -> Bool[np.ndarray, " prompts"]:
        takers = ~self.named.meet(donor)
        takers &= ~(self.used == donor).any(axis=0)
        return takers
