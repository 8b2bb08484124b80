"""One batch of the ledger: all knock-outs of some prompts, and the arithmetic that closes the account.

For every prompt, knock-out and draw (science: McGrath et al. 2023 with the final norm's term kept):

    change_j = (<write_j ablated, w> - <write_j clean, w>) / sigma_clean
    norm     = (sigma_clean / sigma_ablated - 1) * (sum_j direct_j + sum_j change_j)      biases do not scale
    total    = centred target logit ablated - clean, from the model's logits
    total    = sum_j change_j + norm + remainder
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import Directions, Model, Site, directions
from hydrascope.engine.budget import Budget, Footprint, variants_at_once
from hydrascope.engine.capture import Clean, capture
from hydrascope.engine.heads import aims
from hydrascope.engine.last_token import Swept, sweep
from hydrascope.engine.plan import Job, Plan
from hydrascope.engine.strategy import Strategy
from hydrascope.engine.variants import Edit, Variant
from hydrascope.errors import AnatomyRefused, LedgerDoesNotClose
from hydrascope.prompts import EncodedPrompt

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
)
"""What is kept of every prompt and knock-out beside the change of each writer, in the order of `_Account.scalars`."""


@dataclass(frozen=True)
class Work:
    """What a batch is computed with.

    Attributes:
        model: the model.
        plan: the run's plan.
        strategy: how the engine comes by the prefix.
        pools: values of all runs at each site.
        n_clean: how many rows of the pools are clean runs of the prompt set.
        budget: memory budget.
        tolerance: largest |remainder| / max(1, |total|) that counts as closed.
    """

    model: Model
    plan: Plan
    strategy: Strategy
    pools: Mapping[Site, Float[Tensor, "pool _"]]
    n_clean: int
    budget: Budget
    tolerance: float


def run_batch(
    work: Work,
    rows: Sequence[int],
    prompts: Sequence[EncodedPrompt],
    targets: Sequence[int],
    kept: Callable[[int], Clean | None] = lambda index: None,
    done: Callable[[int], None] = lambda variants: None,
) -> Arrays:
    """All knock-outs of prompts of one length.

    Args:
        work: model, plan and values.
        rows: positions of the prompts in the plan's table.
        prompts: the prompts, all of one length.
        targets: their target tokens.
        kept: the clean pass of a prompt, by its index, if it is still in memory.
        done: told the number of variants of a prompt after each push.

    Returns:
        The ledger's variables for these prompts, in the ledger's order of dimensions.

    Raises:
        LedgerDoesNotClose: naming the component and the prompt that break it.
        AnatomyRefused: the clean row's logits are not those of the untouched model.
    """
    clean = _clean_pass(work, prompts, kept)
    tokens = torch.tensor(targets, device=clean.ids.device)
    read = directions(work.model.network, work.model.anatomy.tail, tokens)
    by_head = aims(work.model, work.plan.splits, read.vectors)
    account = _Account(work, [prompt.index for prompt in prompts], read)
    size = variants_at_once(
        work.budget, Footprint.of(work.model, clean.ids.shape[1], not work.strategy.staircase), len(rows)
    )
    for jobs in work.plan.pushes(size):
        variants = [_variant(work, job, rows) for job in jobs]
        # Of the null only effects are kept, so its distributions need not be measured.
        real = not jobs[0].null
        swept = sweep(work.model, clean, variants, read, strategy=work.strategy, full=real, aims=by_head)
        account.enter(jobs, swept, clean)
        done(len(jobs) * len(rows))
    return account.arrays()


def _clean_pass(work: Work, prompts: Sequence[EncodedPrompt], kept: Callable[[int], Clean | None]) -> Clean:
    passes = [kept(prompt.index) for prompt in prompts]
    if any(one is None for one in passes):
        ids = torch.tensor([prompt.ids for prompt in prompts])
        return capture(work.model, ids, keep_prefix=work.strategy.needs_prefix)
    found = [one for one in passes if one is not None]
    layers = range(len(found[0].prefix))
    return Clean(
        torch.cat([one.ids for one in found]),
        torch.cat([one.logits for one in found]),
        {},
        tuple(
            (torch.cat([one.prefix[l][0] for one in found]), torch.cat([one.prefix[l][1] for one in found]))
            for l in layers  # noqa: E741
        ),
    )


def _variant(work: Work, job: Job, rows: Sequence[int]) -> Variant:
    knockout, edits = work.plan.knockouts[job.knockout], []
    for number, place in enumerate(work.plan.edited[job.knockout]):
        pool = work.pools[place.site][:, place.span]
        chosen = work.plan.table[job.draw : job.draw + 1, rows]
        value = work.plan.ablation.replace(pool, chosen, work.n_clean)[0]
        if job.null:
            own = pool[torch.as_tensor(rows)]
            value = own + _random_like(value - own, work.plan.seed, rows, (job.knockout, job.draw, number))
        edits.append(Edit(place, value.to(work.model.device)))
    return Variant(str(knockout), knockout.first_layer, tuple(edits))


def _random_like(
    displacement: Float[Tensor, "prompts width"], seed: int, rows: Sequence[int], key: tuple[int, ...]
) -> Float[Tensor, "prompts width"]:
    """Random directions with the displacements' norms; each prompt's depends on nothing but seed, prompt and key."""
    width = displacement.shape[1]
    drawn = np.stack([np.random.default_rng((seed, row, *key)).standard_normal(width, "float32") for row in rows])
    directions = torch.nn.functional.normalize(torch.from_numpy(drawn), dim=-1)
    scaled: Tensor = directions.to(displacement) * displacement.norm(dim=-1, keepdim=True)
    return scaled


class _Account:
    """Sums over draws, and the check that each draw closes."""

    def __init__(self, work: Work, names: Sequence[int], read: Directions) -> None:
        self.work = work
        self.names = names
        self.constants = read.constants.cpu().double().numpy()
        plan = work.plan
        self.may_change = plan.masks.own | plan.masks.downstream
        shape = (len(names), len(plan.knockouts))
        account = (*shape, len(plan.book.entries))
        self.change = np.zeros((2, *account))  # by half: even and odd draws
        self.change_square = np.zeros(account)
        self.scalars = np.zeros((len(SCALARS), *shape))
        self.total_square = np.zeros(shape)
        self.null_change = np.zeros(account if plan.null_draws else 0)
        self.null_scalars = np.zeros((2, *shape))
        self.clean: Arrays = {}
        self.worst = np.zeros(len(names))
        self.parity = np.zeros(len(names))

    def enter(self, jobs: Sequence[Job], swept: Swept, clean: Clean) -> None:
        """Book one push, of knock-outs or of their null but not of both."""
        plan = self.work.plan
        sigma = swept.sigma.double().numpy()
        reads = swept.reads.double().numpy() / sigma[0]
        direct = np.concatenate([reads[0].T, self.constants[:, None]], 1)
        logit = swept.distribution.logit.double().numpy()
        log_prob = swept.distribution.log_prob.double().numpy()
        rank = swept.distribution.rank.double().numpy()
        parity = (swept.distribution.probe - clean.logits.float().cpu()).abs().amax(-1).numpy()
        self.parity = np.maximum(self.parity, parity)
        self._require_untouched(parity, clean.logits.float().abs().amax(-1).cpu().numpy())
        self._require_summed(logit[0] - direct.sum(1), logit[0])
        knockouts = [job.knockout for job in jobs]
        own = plan.masks.own[knockouts]
        change = np.zeros((len(jobs), *direct.shape))
        change[..., :-1] = (reads[1:] - reads[0]).transpose(0, 2, 1) * self.may_change[knockouts][:, None, :-1]
        ratio = sigma[0] / sigma[1:]
        norm = (ratio - 1) * (direct[:, :-1].sum(1) + change.sum(2))
        total = logit[1:] - logit[0]
        remainder = total - change.sum(2) - norm
        self._require_closed(jobs, remainder, total)
        booked = plan.book.change(change, own)
        if jobs[0].null:
            for row, job in enumerate(jobs):
                self.null_change[:, job.knockout] += booked[row]
                self.null_scalars[:, :, job.knockout] += np.stack([norm[row], total[row]])
            return
        self.clean = {
            "direct_effect": plan.book.direct(direct),
            "clean_logit": logit[0],
            "clean_prob": np.exp(log_prob[0]),
            "clean_remainder": logit[0] - direct.sum(1),
        }
        scalars = np.stack(
            [
                (change * own[:, None]).sum(2),
                norm,
                total,
                remainder,
                ratio,
                log_prob[1:] - log_prob[0],
                swept.distribution.kl[1:].double().numpy(),
                rank[1:] - rank[0],
            ]
        )
        for row, job in enumerate(jobs):
            self.change[job.draw % 2, :, job.knockout] += booked[row]
            self.change_square[:, job.knockout] += booked[row] ** 2
            self.total_square[:, job.knockout] += total[row] ** 2
            self.scalars[:, :, job.knockout] += scalars[:, row]

    def _require_untouched(self, parity: Float[np.ndarray, " prompts"], size: Float[np.ndarray, " prompts"]) -> None:
        """What was proved on a few short prompts must hold on these, however long."""
        allowed = self.work.tolerance * np.maximum(1.0, size)
        bad = int((parity / allowed).argmax())
        if not parity[bad] <= allowed[bad]:
            raise AnatomyRefused(
                "untouched logits",
                f"on prompt {self.names[bad]} the clean row's logits differ from the untouched model's by "
                f"{parity[bad]:.1e}, allowed {allowed[bad]:.0e}; try --dtype float32 or another model",
            )

    def _require_summed(self, remainder: Float[np.ndarray, " prompts"], logit: Float[np.ndarray, " prompts"]) -> None:
        error = np.abs(remainder) / np.maximum(1.0, np.abs(logit))
        bad = int(error.argmax())
        if not error[bad] <= self.work.tolerance:
            raise LedgerDoesNotClose(
                f"the clean run on prompt {self.names[bad]} does not close: the target's logit {logit[bad]:.4f} and "
                f"the sum of direct effects differ by {remainder[bad]:.4f} (tolerance {self.work.tolerance:g}); "
                "try --dtype float32"
            )

    def _require_closed(
        self,
        jobs: Sequence[Job],
        remainder: Float[np.ndarray, "jobs prompts"],
        total: Float[np.ndarray, "jobs prompts"],
    ) -> None:
        error = np.abs(remainder) / np.maximum(1.0, np.abs(total))
        self.worst = np.maximum(self.worst, error.max(0))
        job, bad = divmod(int(error.argmax()), error.shape[1])
        if not error[job, bad] <= self.work.tolerance:
            raise LedgerDoesNotClose(
                f"the account of {self.work.plan.knockouts[jobs[job].knockout]} on prompt {self.names[bad]} does not "
                f"close: total effect {total[job, bad]:.4f} and the sum of its parts differ by "
                f"{remainder[job, bad]:.4f} (tolerance {self.work.tolerance:g}); try --dtype float32"
            )

    def arrays(self) -> Arrays:
        """Means over draws, prompt first."""
        draws, nulls = self.work.plan.ablation.draws, self.work.plan.null_draws
        change = self.change.sum(0) / draws
        scalars = dict(zip(SCALARS, self.scalars / draws, strict=True))
        found: Arrays = {
            **self.clean,
            "change": change,
            "change_sd": np.sqrt(np.maximum(self.change_square / draws - change**2, 0.0)),
            "total_effect_sd": np.sqrt(np.maximum(self.total_square / draws - scalars["total_effect"] ** 2, 0.0)),
            **scalars,
            "worst_remainder": self.worst,
            "parity_error": self.parity,
        }
        if draws > 1:
            halves = np.array([(draws + 1) // 2, draws // 2])
            found["change_by_half"] = self.change / halves[:, None, None, None]
        if nulls:
            found["null_change"] = self.null_change / nulls
            found["null_norm_effect"], found["null_total_effect"] = self.null_scalars / nulls
        return found
