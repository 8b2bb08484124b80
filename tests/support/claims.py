"""The verdict of a stress test counted over again, clause by clause, from the values that its ledgers hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import networkx as nx
import numpy as np
from scipy import stats

from hydrascope.analysis import digits, listed, percent
from hydrascope.resilience import Resilience, verdict

Sample = np.ndarray
"""One number for each prompt and mask, or for each prompt."""


@dataclass(frozen=True)
class Anew:
    """A stress test counted over again from the stored values, one step at a time and without any of its tables."""

    found: Resilience
    counted: dict[tuple[str, float], tuple[Sample, int]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return list(self.found.parts)

    @property
    def groups(self) -> np.ndarray:
        return np.unique(self.found.groups, return_inverse=True)[1]

    def mean(self, sample: Sample) -> Any:
        """The mean of the groups' means."""
        return np.mean([sample[self.groups == group].mean(0) for group in set(self.groups)], axis=0)

    def left(self, sets: np.ndarray, value: str = "logit") -> np.ndarray:
        """Values of some sets, looked up one by one. [P, S]"""
        stored = self.found.values(value)
        return np.stack(
            [stored.values[:, stored.place[np.packbits(s).tobytes()]] if s.any() else stored.clean for s in sets], 1
        )

    def set(self, *parts: str) -> np.ndarray:
        return np.array([[name in parts for name in self.names]])

    def lost(self, *parts: str) -> np.ndarray:
        """Loss of the logit without some parts. [P]"""
        return self.found.values().clean - self.left(self.set(*parts))[:, 0]

    def masks(self, rate: float) -> np.ndarray:
        faults = self.found.faults
        return faults.uniforms < rate

    def estimate(self, sample: Sample, telling: int | None = None) -> tuple[float, float, float]:
        """Mean, error over groups and over masks, Satterthwaite's degrees of freedom."""
        by_group = np.array([sample[self.groups == group].mean(0) for group in sorted(set(self.groups))])
        by_group = by_group.reshape(len(by_group), -1)
        groups, masks = by_group.shape
        telling = telling or masks
        over_groups, over_masks = by_group.mean(1).var(ddof=1) / groups, 0.0
        if masks > 1 < telling:
            over_masks = by_group.mean(0).var() / masks / (1 - 1 / telling)
        error = np.sqrt(over_groups + over_masks)
        if masks > 1 and telling < 2:
            return float(by_group.mean()), np.nan, 1.0
        if error <= 1e-7 * abs(by_group.mean()):
            return float(by_group.mean()), 0.0, 1.0
        freedom = error**4 / (over_groups**2 / (groups - 1) + over_masks**2 / max(1, telling - 1))
        return float(by_group.mean()), float(error), max(1.0, float(freedom))

    def interval(self, sample: Sample, telling: int | None = None) -> tuple[float, float, float]:
        mean, error, freedom = self.estimate(sample, telling)
        half = float(stats.t.ppf(0.975, freedom)) * error
        return mean, mean - half, mean + half

    def p(self, sample: Sample, telling: int | None = None) -> float:
        mean, error, freedom = self.estimate(sample, telling)
        return float(2 * stats.t.sf(abs(mean) / error, freedom)) if error else float(mean == 0)

    def at(self, part: str, rate: float) -> tuple[Sample, int | None]:
        """A part's importance at a node of the curve, ends included."""
        if rate == 0:
            return self.lost(part)[:, None], None
        if rate == 1:
            others = [name for name in self.names if name != part]
            return (self.lost(*self.names) - self.lost(*others))[:, None], None
        if (part, rate) not in self.counted:
            self.counted[part, rate] = self.importance(part, rate)
        return self.counted[part, rate]

    def importance(self, part: str, rate: float) -> tuple[Sample, int]:
        """A part's importance by prompt and mask, with what control variates take out; and how many masks tell."""
        i, failed = self.names.index(part), self.masks(rate)
        alone = np.stack([-self.lost(name) for name in self.names], 1)
        count, q, fold = len(self.names), rate, np.arange(len(failed)) % 5
        mean = np.array([self.mean(alone[:, k]) for k in range(count)])
        pair = {"product": np.outer(mean, mean) * (1 - np.eye(count)), "measured": np.zeros((count, count))}
        for k, j in combinations(range(count), 2):
            both = -self.mean(self.lost(self.names[k], self.names[j])) - mean[k] - mean[j]
            pair["measured"][k, j] = pair["measured"][j, k] = both
        columns = [failed - q] + [
            np.array([[sum(m[k, j] for k, j in combinations(np.flatnonzero(s), 2))] for s in failed])
            for m in pair.values()
        ]
        # how each column goes with the weight of the part: itself, and every pair that the part is in
        expected = np.concatenate([np.eye(count)[:, i], [q * m[i].sum() for m in pair.values()]])
        features = np.concatenate(columns, 1)
        size = np.maximum(features.std(0), 1e-12)
        features, expected = features / size, expected / size
        rest = self.left(failed) - alone @ failed.T
        weight = (failed[:, i] - q) / (q * (1 - q))
        cell = np.empty_like(rest)
        for number in range(5):
            fit, use = fold != number, fold == number
            slopes = np.zeros((len(rest), len(expected)))
            if len(failed) >= 60:
                slopes = self.ridge(features[fit], rest[:, fit])
            middle = rest[:, fit].mean(1, keepdims=True)
            residual = rest[:, use] - middle - slopes @ (features[use] - features[fit].mean(0)).T
            cell[:, use] = -alone[:, [i]] - (slopes @ expected)[:, None] - residual * weight[use]
        telling = min(int(failed[:, i].sum()), int((~failed[:, i]).sum()))
        return cell, telling

    def ridge(self, features: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Slopes of every prompt under the penalty that predicts the mean of all best when left out."""
        x, y = features - features.mean(0), values - values.mean(1, keepdims=True)
        mean, largest = self.mean(y), np.linalg.eigvalsh(x.T @ x).max()
        tried = []
        for share in 10.0 ** np.arange(-6, 2):
            solve = np.linalg.solve(x.T @ x + share * largest * np.eye(x.shape[1]), x.T)
            free = 1 - np.trace(x @ solve) / len(x)
            missed = ((mean - x @ solve @ mean) ** 2).sum() / free**2 if free > 0.05 else np.inf
            tried.append((missed, (solve @ y.T).T))
        return min(tried, key=lambda one: one[0])[1]


def told(estimate: Sequence[float], form: Callable[[float], str] = digits) -> str:
    value, lo, hi = map(form, estimate)
    return f"{value} [{lo}, {hi}]"


def claims(anew: Anew, numbers: Mapping[str, Any]) -> Iterator[str]:
    """Every clause of the verdict with a number in it, each number from the stored values.

    Args:
        anew: the stress test.
        numbers: numbers of the verdict, of which names of parts alone are used, to know what is spoken of.
    """
    found, names = anew.found, anew.names
    nodes, clean = (0.0, *found.plan.rates, 1.0), found.values().clean[:, None]
    yield from survival(anew, nodes)

    failed = anew.masks(0.3)
    alone = sum((anew.mean(anew.lost(name)) for name in names), 0.0)
    damage = anew.interval(clean - anew.left(failed))
    beyond = anew.interval(clean - anew.left(failed) - 0.3 * np.sum([anew.lost(n) for n in names], 0)[:, None])
    side = "too little" if beyond[1] > 0 else "too much" if beyond[2] < 0 else "cannot be told from"
    yield f"Where each fails with probability 30 %, the target's logit falls by {told(damage)}; "
    yield f"the losses of single parts add up to {digits(0.3 * alone)}, {'which it ' if side[0] == 'c' else 'so that'}"
    yield side

    under = {name: anew.interval(*anew.at(name, 0.3)) for name in names}
    clear = {name: ends for name, ends in under.items() if ends[1] > 0}
    first = max(clear, key=lambda name: clear[name][0])
    yield f"When 30 % of the others fail, {first} matters most: losing it costs {told(under[first])} logits, "
    yield f"alone {told(anew.interval(anew.lost(first)))}."
    yield from exposure(anew)
    yield from crossing(anew, nodes)
    yield from orders(anew, nodes)
    yield from pairs(anew)
    yield from divided(anew)
    yield from faults(anew, numbers)
    yield from worst(anew, numbers["worst"])
    yield from additivity(anew)
    yield from load(anew)


def survival(anew: Anew, nodes: Sequence[float]) -> Iterator[str]:
    right = anew.found.values("accuracy")
    cells = [right.clean, *(anew.left(anew.masks(rate), "accuracy") for rate in nodes[1:-1])]
    curve = np.array([anew.interval(one) for one in (*cells, anew.left(anew.set(*anew.names), "accuracy"))])
    crossed = []
    for values in curve.T:
        first = next((i for i, value in enumerate(values) if value < 0.5), None)
        share = 0.0 if first is None else (values[first - 1] - 0.5) / (values[first - 1] - values[first])
        crossed.append(1.0 if first is None else nodes[first - 1] + share * (nodes[first] - nodes[first - 1]))
    if crossed[0] == 1:
        yield f"At least 50 % of the prompts stay right at every failure rate of the {len(anew.names)} "
    else:
        yield f"At least 50 % of the prompts stay right until {told(crossed, percent)} of the {len(anew.names)} "


def interaction(anew: Anew, part: str, other: str) -> Sample:
    return anew.lost(part) + anew.lost(other) - anew.lost(part, other)


def exposure(anew: Anew) -> Iterator[str]:
    found = {}
    for name in anew.names:
        grown = -sum((interaction(anew, name, other) for other in anew.names if other != name), np.zeros(()))
        found[name] = anew.interval(grown / 10)
    clear = {name: ends for name, ends in found.items() if ends[1] > 0}
    if clear:
        part = max(clear, key=lambda name: clear[name][0])
        yield f"The most exposed part is {part}: for each tenth of the others that fail, its loss grows by "
        yield f"{told(clear[part])} logits at first."


def crossing(anew: Anew, nodes: Sequence[float]) -> Iterator[str]:
    pairs = list(combinations(anew.names, 2))
    cells = {(*pair, rate): [anew.at(part, rate) for part in pair] for pair in pairs for rate in nodes}
    differ = {at: (b[0] - a[0], min(a[1] or 10**6, b[1] or 10**6)) for at, (a, b) in cells.items()}
    p = np.array([anew.p(x, n if x.shape[1] > 1 else None) for x, n in differ.values()])
    known = ~np.isnan(p)
    p[known] = stats.false_discovery_control(p[known])
    sign = {at: int(np.sign(x.mean())) * (q < 0.05) for (at, (x, _)), q in zip(differ.items(), p, strict=True)}
    overtaken: dict[str, list[tuple[str, float]]] = {}
    for a, b in pairs:
        turned = [rate for rate in nodes if sign[a, b, 0.0] * sign[a, b, rate] < 0]
        if turned:
            below, above = (a, b) if sign[a, b, 0.0] > 0 else (b, a)
            overtaken.setdefault(below, []).append((above, turned[0]))
    if overtaken:
        part = max(overtaken, key=lambda name: len(overtaken[name]))
        others = overtaken[part]
        rates = sorted({rate for _, rate in others})
        told = [listed([name for name, at in others if at == rate]) for rate in rates]
        first, *later = (f"{some} ({percent(rate)}" for some, rate in zip(told, rates, strict=True))
        first = first.replace(" (", " (when ", 1)
        yield f"underrates {part} most: alone it clearly matters less, and among failures clearly more, than {first}"
        yield from later


def orders(anew: Anew, nodes: Sequence[float]) -> Iterator[str]:
    weights = np.linalg.solve(np.vander(nodes, increasing=True).T, 1 / np.arange(1, len(nodes) + 1))
    assert (weights >= 0).all()
    shapley = [sum(w * anew.at(name, q)[0].mean() for w, q in zip(weights, nodes, strict=True)) for name in anew.names]
    ds = anew.found.ds
    written = [anew.mean(ds["direct_effect"].sel(writer=name).values.astype(float)) for name in anew.names]
    ends = {
        (row["order"], row["other"]): (row["tau_lo"], row["tau_hi"]) for row in anew.found.agreement.to_dict("records")
    }
    for what, order, name in (
        ("osses alone order the parts as the Shapley values do", [anew.lost(n).mean() for n in anew.names], "alone"),
        ("irect effects", written, "direct effect"),
    ):
        tau = stats.kendalltau(order, shapley).statistic
        if not np.isnan(tau):
            said = f"with tau {told((tau, *ends[name, 'Shapley value']))}"
            yield f"{what} {said}" if len(what) > 20 else said


def pairs(anew: Anew) -> Iterator[str]:
    every = list(combinations(anew.names, 2))
    cells = [interaction(anew, *pair) for pair in every]
    clear = stats.false_discovery_control([anew.p(cell) for cell in cells]) < 0.05
    worse = [pair for pair, cell, sure in zip(every, cells, clear, strict=True) if sure and cell.mean() < 0]
    less = sum(clear) - len(worse)
    yield f"Of {len(every)} pairs, "
    for number, word in ((len(worse), "more"), (less, "less")):
        if number:
            yield f"{number} clearly {'costs' if number == 1 else 'cost'} {word}"
    kinds = {"active": 0, "passive": 0}
    for part, other in worse:
        # what the later part gives back, as a share of the interaction; nothing where it is not clear
        clear_answers = anew.found.account.who_repairs.set_index(["ablated", "writer"])["significant"]
        ds = anew.found.ds.sel(ablated=part, writer=other)
        answer = anew.mean(ds["change"].values.astype(float)) if clear_answers[part, other] else 0.0
        share = answer / -anew.mean(interaction(anew, part, other))
        kinds["active"] += share >= 0.5
        kinds["passive"] += share < 0.25
    for kind, number in kinds.items():
        if number and len(worse) > 1:
            yield f"{number} {'is' if number == 1 else 'are'} {kind}"
        elif number:
            yield f"it is {kind}"
    if worse:
        part, other = min(worse, key=lambda pair: anew.mean(interaction(anew, *pair)))
        yield f"{part} and {other} depend on each other most"
        yield f"together they cost {told(anew.interval(anew.lost(part, other)))} logits, "
        yield f"alone {digits(anew.mean(anew.lost(part)))} and {digits(anew.mean(anew.lost(other)))}."


def divided(anew: Anew) -> Iterator[str]:
    every = list(combinations(anew.names, 2))
    ds = anew.found.ds
    answers = [anew.mean(ds["change"].sel(ablated=k, writer=j).values.astype(float)) for k, j in every]
    networks = {"interaction": [anew.mean(interaction(anew, *pair)) for pair in every], "answer": answers}
    for name, some in anew.found.communities.groupby("network"):
        graph = nx.Graph()
        for (part, other), weight in zip(every, networks[str(name)], strict=True):
            graph.add_edge(part, other, weight=abs(weight))
        parts = [members.split("+") for members in some["parts"]]
        q = nx.community.modularity(graph, parts)
        shuffled, p = some["shuffled"].iloc[0], some["p"].iloc[0]
        yield f"(modularity {digits(round(q, 9))}, of shuffled ones {digits(shuffled)}, p = {p:.2f})"
        if p <= 0.02:
            yield f"fall into {len(parts)} communities"
            yield f"the largest holds {listed(max(parts, key=len)[:4])}"


def faults(anew: Anew, numbers: Mapping[str, Any]) -> Iterator[str]:
    secure = [name for name in anew.names if anew.mean(anew.lost(name) >= 0.5) <= 0.1]
    many = len(anew.names)
    which = {0: f"None of the {many} parts", 1: f"1 of {many} parts", many: f"All {many} parts"}
    yield f"{which.get(len(secure), f'{len(secure)} of {many} parts')} can be lost"
    yield "10 % of the prompts lose 0.50 logits or more"
    hit = {pair: anew.mean(anew.lost(*pair) >= 0.5) for pair in combinations(secure, 2)}
    hidden = sorted((pair for pair, share in hit.items() if share > 0.1), key=lambda pair: -hit[pair])
    assert numbers["secure"] == len(secure)
    assert numbers.get("hidden", 0) == len(hidden)
    if len(hit) > 1 and hidden:
        yield f"of the {len(hit)} measured pairs of such parts, {len(hidden)} cannot be lost together"
    elif len(hit) > 1:
        yield f"all {len(hit)} measured pairs"
    for pair in hidden[:4]:
        yield " with ".join(pair)


def worst(anew: Anew, named: str) -> Iterator[str]:
    place = {group: i for i, group in enumerate(sorted(set(anew.found.groups)))}
    judged = np.array([place[group] % 2 == 1 for group in anew.found.groups])
    parts = named.split("+")
    seen = {pair: anew.lost(*pair)[~judged].mean() for pair in combinations(anew.names, 2)}
    swaps = [pair for pair in seen if set(pair) & set(parts)]
    assert seen[tuple(parts)] >= max(seen[pair] for pair in swaps) - 1e-9, "a swap costs more"  # type: ignore[index]
    left = (anew.found.values().clean - anew.lost(*parts))[judged]
    half = stats.t.ppf(0.975, len(left) - 1) * left.std(ddof=1) / np.sqrt(len(left))
    random = anew.left(anew.found.plan.random(len(anew.names))[1])[judged].mean()
    yield f"Without the worst 2 parts that a search found, {', '.join(parts)}, the target's logit is "
    yield f"{told((left.mean(), left.mean() - half, left.mean() + half))}, without random ones {digits(random)}"


def additivity(anew: Anew) -> Iterator[str]:
    sets = np.array([s for rate in anew.found.plan.rates for s in anew.masks(rate) if s.sum() > 1])
    lost = anew.mean(anew.found.values().clean[:, None] - anew.left(sets))
    alone = np.array([anew.mean(anew.lost(name)) for name in anew.names])
    both = np.zeros((len(alone), len(alone)))
    for (k, part), (j, other) in combinations(enumerate(anew.names), 2):
        both[k, j] = -anew.mean(interaction(anew, part, other))
    by_singles = sets @ alone
    by_pairs = by_singles + np.array([s @ both @ s for s in sets.astype(float)])
    row = anew.found.additivity.iloc[-1]
    for what, predicted in (("singles", by_singles), ("pairs", by_pairs)):
        r2 = 1 - ((lost - predicted) ** 2).sum() / ((lost - lost.mean()) ** 2).sum()
        yield f"R² {told((r2, row[f'{what}_lo'], row[f'{what}_hi']))}"
    if by_singles.std() > 0:
        residual = lost - np.polyval(np.polyfit(by_singles, lost, 1), by_singles)
        yield f"reaches {digits(1 - residual.var() / lost.var())}."


def load(anew: Anew) -> Iterator[str]:
    ds, account = anew.found.ds, anew.found.account
    repair = account.repair.set_index("ablated")
    found = {}
    for row in account.who_repairs.to_dict("records"):
        part, taker = row["ablated"], row["writer"]
        lost = anew.mean(own := ds["own_change"].sel(ablated=part).values.astype(float))
        if not row["is_own"] and repair["meaningful"][part] and lost < 0:
            given = ds["change"].sel(ablated=part, writer=taker).values.astype(float)
            share = -anew.mean(given) / lost
            left_out = np.array([-np.delete(given, i).sum() / np.delete(own, i).sum() for i in range(len(own))])
            error = np.sqrt((len(own) - 1) / len(own) * ((left_out - share) ** 2).sum())
            half = stats.t.ppf(0.975, len(own) - 1) * error if error > 1e-7 * abs(share) else 0.0
            found[part, taker] = (share, share - half, share + half, row["significant"])
    clear = {pair: ends for pair, ends in found.items() if ends[1] > 0 and ends[3]}
    if clear:
        part, taker = max(clear, key=lambda pair: clear[pair][0])
        taken = np.array([max(0, ends[0]) for (one, _), ends in found.items() if one == part])
        yield f"taken over by {taker}, {told(clear[part, taker][:3], percent)} of what {part} loses; "
        yield f"the effective number of writers that take some of it is {1 / ((taken / taken.sum()) ** 2).sum():.1f}."


def hold(found: Resilience) -> None:
    """Every clause with a number in it is what the stored values say, and no number is left that was not counted."""
    said = verdict(found)
    text = " ".join((said.headline, *said.sentences))
    for claim in claims(Anew(found), said.numbers):
        assert claim in text, claim
        text = text.replace(claim, "", 1)
    for part in found.parts:
        text = text.replace(part, "")
    assert not re.search(r"\d", text), text
