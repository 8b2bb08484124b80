"""The arithmetic that closes the account, summed over draws.

For every prompt, knock-out and draw (McGrath et al. 2023, with the final norm's term kept):

    change_j = (<write_j ablated, w> - <write_j clean, w>) / sigma_clean
    norm     = (sigma_clean / sigma_ablated - 1) * (sum_j direct_j + sum_j change_j)      biases do not scale
    total    = centred target logit ablated - clean (or target minus foil), from the model's logits
    total    = sum_j change_j + norm + remainder

All of it is linear in the tokens that are read, so the account of an answer of several tokens is the sum of theirs, and
closes as they do. So are log-probabilities, KL divergences and ranks; the norm's scale is their mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from hydrascope.anatomy import Directions
from hydrascope.engine._attention_split import CHECK, MEND, AttentionSplit
from hydrascope.engine._forward import Readings
from hydrascope.engine._plan import Job, Plan
from hydrascope.engine._routing import Routing
from hydrascope.errors import AnatomyRefused, LedgerDoesNotClose

Arrays = dict[str, np.ndarray]

SCALARS = (
    "own_change",
    "norm_effect",
    "total_effect",
    "remainder",
    "scale_ratio",
    "log_prob_change",
    "kl",
    "rank_change",
    "target_first",
)
"""Numbers kept beside the writers' changes, in the order of `Account.scalars`."""


class Account:
    """Sums over draws, and the check that each draw closes.

    Args:
        plan: the run's plan.
        tolerance: largest |remainder| / max(1, |total|) that counts as closed.
        names: name of each item (a prompt, or a position of one) in an error.
        read: read-out direction of each item.
        edited: items that are read where something is replaced, and frozen parts are held.
        mend: what a user can do about an account that does not close.
        with_distribution: whether the next-token distribution is measured, not only the target's logit.
        together: so many consecutive items are summed in one row: the tokens of an answer.
    """

    def __init__(
        self,
        plan: Plan,
        tolerance: float,
        names: Sequence[str],
        read: Directions,
        edited: Bool[np.ndarray, " items"],
        *,
        mend: str,
        with_distribution: bool = True,
        together: int = 1,
    ) -> None:
        self.together = together
        self.plan, self.tolerance, self.names, self.with_distribution = plan, tolerance, names, with_distribution
        self.edited, self.mend, self.against_foil = edited, mend, read.foils is not None
        self.constants = read.constants.cpu().double().numpy()
        rows = len(names) // together
        shape = (rows, len(plan.knockouts))
        account = (*shape, len(plan.aggregation.entries))
        self.change = np.zeros((2, *account))  # by half: even and odd draws
        self.change_square = np.zeros(account)
        self.scalars = np.zeros((len(SCALARS), *shape))
        self.total_square = np.zeros(shape)
        self.rerouted, self.moved = np.zeros((2, *(account if plan.routed else (0,))))
        self.pattern_effect = np.zeros(account if plan.heads else 0)
        self.moved_weight = np.zeros(account if plan.heads and plan.detail == "full" else 0)
        self.null_change = np.zeros(account if plan.null_draws else 0)
        self.null_scalars = np.zeros((2, *shape))
        self.clean: Arrays = {}
        self.worst = np.zeros(rows)
        self.parity = np.zeros(rows)

    def enter_clean(self, readings: Readings, logits: Float[Tensor, "items vocab"]) -> None:
        """Book the clean run of a forward, checked against the untouched model's logits."""
        found = readings.distribution
        assert found.probe is not None
        direct = self._direct(readings)
        logit = found.logit[0].double().numpy()
        parity = (found.probe - logits.float().cpu()).abs().amax(-1).numpy()
        self.parity = np.maximum(self.parity, self._apart(parity).max(-1))
        # a padded row may be at -1e9, beside which everything else looks equal
        size = self.plan.anatomy.tail.of_tokens(logits)
        self._require_untouched(parity, size.float().abs().amax(-1).cpu().numpy())
        self._require_summed(logit - direct.sum(1), logit)
        direct, logit = self._summed(direct, 0), self._summed(logit)
        self.clean = {
            "direct_effect": self.plan.aggregation.direct(direct),
            "clean_logit": logit,
            "clean_remainder": logit - direct.sum(1),
        }
        if self.plan.detail != "full":  # where writers are kept, it is the sum of their direct effects
            own = direct @ self.plan.masks.own.T
            self.clean["own_direct_effect"] = np.where(self.plan.read_apart, own, np.nan)
        if self.with_distribution:
            self.clean["clean_prob"] = np.exp(self._summed(found.log_prob[0].double().numpy()))
            self.clean["clean_target_first"] = self._first(found.logit[0].double().numpy(), found.rank[0].numpy())

    def enter(self, jobs: Sequence[Job], readings: Readings) -> None:
        """Book one forward, of knock-outs or of their controls but not of both."""
        plan = self.plan
        sigma = readings.sigma.double().numpy()
        reads = readings.reads.double().numpy() / sigma[0]
        direct = self._direct(readings)
        logit = readings.distribution.logit.double().numpy()
        log_prob = readings.distribution.log_prob.double().numpy()
        rank = readings.distribution.rank.double().numpy()
        knockouts = [job.knockout for job in jobs]
        own = plan.masks.own[knockouts]
        change = np.zeros((len(jobs), *direct.shape))
        change[..., :-1] = (reads[1:] - reads[0]).transpose(0, 2, 1) * self._moves(knockouts)[..., :-1]
        ratio = sigma[0] / sigma[1:]
        norm = (ratio - 1) * (direct[:, :-1].sum(1) + change.sum(2))
        total = logit[1:] - logit[0]
        remainder = total - change.sum(2) - norm
        self._require_closed(jobs, remainder, total)
        if readings.routing is not None and not jobs[0].null:
            self._enter_routing(knockouts, readings.routing, sigma[0])
        if readings.pattern is not None and not jobs[0].null:
            self._enter_pattern(jobs, readings.pattern, sigma[0], change, direct)
        change, direct = self._summed(change, 1), self._summed(direct, 0)
        norm, total, remainder = map(self._summed, (norm, total, remainder))
        booked = plan.aggregation.change(change, own, direct)
        if jobs[0].null:
            for row, job in enumerate(jobs):
                self.null_change[:, job.knockout] += booked[row]
                self.null_scalars[:, :, job.knockout] += np.stack([norm[row], total[row]])
            return
        scalars = np.stack(
            [
                (change * own[:, None]).sum(2),
                norm,
                total,
                remainder,
                self._apart(ratio).mean(-1),
                self._summed(log_prob[1:] - log_prob[0]),
                self._summed(readings.distribution.kl[1:].double().numpy()),
                self._summed(rank[1:] - rank[0]),
                self._first(logit[1:], rank[1:]),
            ]
        )
        for row, job in enumerate(jobs):
            self.change[job.draw % 2, :, job.knockout] += booked[row]
            self.change_square[:, job.knockout] += booked[row] ** 2
            self.total_square[:, job.knockout] += total[row] ** 2
            self.scalars[:, :, job.knockout] += scalars[:, row]

    def _first(
        self, logit: Float[np.ndarray, "*_ items"], rank: Float[np.ndarray, "*_ items"]
    ) -> Float[np.ndarray, "*_ rows"]:
        """1 where every token of the answer is the most probable one, or the answer above its foil; otherwise 0."""
        right = np.asarray(self._summed(logit) > 0 if self.against_foil else self._summed(rank) == 0)
        return right.astype(np.float64)

    def _apart(self, values: Float[np.ndarray, "*_ items"]) -> Float[np.ndarray, "*_ rows tokens"]:
        """Values by row and token."""
        return values.reshape(*values.shape[:-1], -1, self.together)

    def _summed(self, values: Float[np.ndarray, "*_"], axis: int = -1) -> Float[np.ndarray, "*_"]:
        """Values of a row's items, summed along an axis of items."""
        summed: np.ndarray = self._apart(np.moveaxis(values, axis, -1)).sum(-1)
        return np.moveaxis(summed, -1, axis)

    def _responds(self, knockouts: Sequence[int]) -> Bool[np.ndarray, "jobs _ columns"]:
        """What can respond to each knock-out, item by item where parts are frozen and thus still at some."""
        found = self.plan.masks.downstream[knockouts][:, None]
        if self.plan.immovable:
            found = found.repeat(len(self.edited), 1)
            for row, knockout in enumerate(knockouts):
                if knockout in self.plan.immovable:
                    found[row] &= ~(self.edited[:, None] & self.plan.immovable[knockout])
        return found

    def _moves(self, knockouts: Sequence[int]) -> Bool[np.ndarray, "jobs _ columns"]:
        moves: Bool[np.ndarray, "jobs _ columns"] = self._responds(knockouts) | self.plan.masks.own[knockouts][:, None]
        return moves

    def _direct(self, readings: Readings) -> Float[np.ndarray, "items columns"]:
        reads, sigma = readings.reads[0].double().numpy(), readings.sigma[0].double().numpy()
        direct: Float[np.ndarray, "items columns"] = np.concatenate([(reads / sigma).T, self.constants[:, None]], 1)
        return direct

    def _require_untouched(self, parity: Float[np.ndarray, " items"], size: Float[np.ndarray, " items"]) -> None:
        """Hold the items to what was proved on a few short random prompts."""
        allowed = self.tolerance * np.maximum(1.0, size)
        bad = int((parity / allowed).argmax())
        if not parity[bad] <= allowed[bad]:
            raise AnatomyRefused(
                "untouched logits",
                f"on prompt {self.names[bad]} the clean row's logits differ from the untouched model's by "
                f"{parity[bad]:.1e}, allowed {allowed[bad]:.0e}; {self.mend}",
            )

    def _require_summed(self, remainder: Float[np.ndarray, " items"], logit: Float[np.ndarray, " items"]) -> None:
        error = np.abs(remainder) / np.maximum(1.0, np.abs(logit))
        bad = int(error.argmax())
        if not error[bad] <= self.tolerance:
            raise LedgerDoesNotClose(
                f"the clean run on prompt {self.names[bad]} does not close: the target's logit {logit[bad]:.4f} and "
                f"the sum of direct effects differ by {remainder[bad]:.4f} (tolerance {self.tolerance:g}); "
                f"{self.mend}"
            )

    def _require_closed(
        self,
        jobs: Sequence[Job],
        remainder: Float[np.ndarray, "jobs items"],
        total: Float[np.ndarray, "jobs items"],
    ) -> None:
        error = np.abs(remainder) / np.maximum(1.0, np.abs(total))
        self.worst = np.maximum(self.worst, self._apart(error.max(0)).max(-1))
        job, bad = divmod(int(error.argmax()), error.shape[1])
        if not error[job, bad] <= self.tolerance:
            raise LedgerDoesNotClose(
                f"the account of {self.plan.knockouts[jobs[job].knockout]} on prompt {self.names[bad]} does not "
                f"close: total effect {total[job, bad]:.4f} and the sum of its parts differ by "
                f"{remainder[job, bad]:.4f} (tolerance {self.tolerance:g}); {self.mend}"
            )

    def _enter_routing(self, knockouts: Sequence[int], routing: Routing, sigma: Float[np.ndarray, " items"]) -> None:
        """Book re-routed changes where routers can respond."""
        columns = list(self.plan.routed)
        responds = self._responds(knockouts)[..., columns].transpose(0, 2, 1)
        rerouted = routing.rerouted[1:].double().numpy() / sigma * responds
        moved = routing.moved[1:].double().numpy() * responds
        for row, knockout in enumerate(knockouts):
            self.rerouted[:, knockout, columns] += self._summed(rerouted[row]).T
            self.moved[:, knockout, columns] += self._apart(moved[row]).mean(-1).T

    def _enter_pattern(
        self,
        jobs: Sequence[Job],
        pattern: AttentionSplit,
        sigma: Float[np.ndarray, " items"],
        change: Float[np.ndarray, "jobs items columns"],
        direct: Float[np.ndarray, "items columns"],
    ) -> None:
        """Book pattern effects of attention that can respond, if with value effects they make up its change."""
        plan, columns = self.plan, list(self.plan.attending)
        knockouts = [job.knockout for job in jobs]
        responds = self._responds(knockouts)[..., columns]
        looked, found, share = (
            part[1:].double().numpy().transpose(0, 2, 1) * responds
            for part in (pattern.pattern_effect, pattern.value_effect, pattern.moved)
        )
        looked, found = looked / sigma[:, None], found / sigma[:, None]
        missed = np.abs(looked + found - change[..., columns]) * responds
        error = missed / np.maximum(1.0, np.abs(change[..., columns]))
        if not error.max(initial=0.0) <= self.tolerance:
            job, item, column = map(int, np.unravel_index(int(error.argmax()), error.shape))
            raise AnatomyRefused(
                CHECK,
                f"without {plan.knockouts[knockouts[job]]}, moved weights and changed values miss the change of "
                f"{plan.columns[columns[column]].name} on prompt {self.names[item]} by {missed[job, item, column]:.4f} "
                f"(tolerance {self.tolerance:g}); {MEND}",
            )
        whole = np.zeros_like(change)
        whole[..., columns] = looked
        summed = self._summed(whole, 1), plan.masks.own[knockouts], self._summed(direct, 0)
        booked = plan.aggregation.change(*summed)
        for row, knockout in enumerate(knockouts):
            self.pattern_effect[:, knockout] += booked[row]
            if plan.detail == "full":
                self.moved_weight[:, knockout, columns] += self._apart(share[row].T).mean(-1).T

    def arrays(self) -> Arrays:
        """The ledger's variables: means over draws, prompt first."""
        draws, nulls = self.plan.ablation.draws, self.plan.null_draws
        change = self.change.sum(0) / draws
        scalars = dict(zip(SCALARS, self.scalars / draws, strict=True))
        found: Arrays = {
            **self.clean,
            "change": change,
            "change_sd": _spread(self.change_square, change, draws),
            "total_effect_sd": _spread(self.total_square, scalars["total_effect"], draws),
            **scalars,
            "worst_remainder": self.worst,
            "parity_error": self.parity,
        }
        if draws > 1:
            halves = np.array([(draws + 1) // 2, draws // 2])
            found["change_by_half"] = self.change / halves[:, None, None, None]
        if self.plan.routed:
            found["rerouted_change"], found["routing_change"] = self.rerouted / draws, self.moved / draws
        if self.plan.heads:
            found["pattern_effect"] = self.pattern_effect / draws
            if self.plan.detail == "full":
                found["moved_weight"] = self.moved_weight / draws
        if nulls:
            found["null_change"] = self.null_change / nulls
            found["null_norm_effect"], found["null_total_effect"] = self.null_scalars / nulls
        return found


def _spread(
    squares: Float[np.ndarray, "*entries"], mean: Float[np.ndarray, "*entries"], draws: int
) -> Float[np.ndarray, "*entries"]:
    """Sample standard deviation over draws, from the sum of squares; 0 with one draw, which shows no spread."""
    spread: Float[np.ndarray, "*entries"] = np.sqrt(np.maximum(squares - draws * mean**2, 0.0) / max(1, draws - 1))
    return spread
