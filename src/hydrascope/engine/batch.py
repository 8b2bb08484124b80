"""One batch of the ledger: all knock-outs of some prompts, replaced and read at their last token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hydrascope.anatomy import Model, Place, Site, directions
from hydrascope.engine.account import Account, Arrays
from hydrascope.engine.budget import Budget, Footprint, variants_at_once
from hydrascope.engine.capture import Clean, capture
from hydrascope.engine.edges import Drawn, Values, received
from hydrascope.engine.last_token import sweep
from hydrascope.engine.pattern import head_aims
from hydrascope.engine.plan import Job, Plan
from hydrascope.engine.splits import aims
from hydrascope.engine.strategy import Strategy
from hydrascope.engine.variants import Edit, Variant
from hydrascope.prompts import EncodedPrompt

Constants = tuple[Float[Tensor, " _"], ...]
"""One value for all prompts at each place of a knock-out."""


@dataclass(frozen=True)
class Work:
    """What a batch is computed with.

    Attributes:
        model: the model.
        plan: the run's plan.
        strategy: how the engine comes by the prefix.
        pools: values of all runs at each site, at the last token or at every edited position.
        n_clean: how many rows of the pools are clean runs of the prompt set.
        budget: memory budget.
        tolerance: largest |remainder| / max(1, |total|) that counts as closed.
        reference: values that replacements are made of where those are not the pools'.
        learned: constants that are put in place, by knock-out, where the ablation learns them.
    """

    model: Model
    plan: Plan
    strategy: Strategy
    pools: Mapping[Site, Float[Tensor, "pool *edited _"]]
    n_clean: int
    budget: Budget
    tolerance: float
    reference: Mapping[Site, Float[Tensor, "reference *edited _"]] = field(default_factory=dict)
    learned: Mapping[int, Constants] = field(default_factory=dict)

    def own(self, place: Place, rows: Sequence[int]) -> Float[Tensor, "prompts *edited _"]:
        """What some prompts have at a place in their clean runs."""
        return self.pools[place.site][..., place.span][torch.as_tensor(rows)]

    def donated(self, place: Place, draw: int, rows: Sequence[int]) -> Float[Tensor, "prompts *edited _"]:
        """What the ablation puts there under one draw."""
        source = self.reference.get(place.site, self.pools[place.site])[..., place.span]
        return self.plan.ablation.replace(source, self.plan.table[draw : draw + 1, rows], self.n_clean)[0]

    def heard(
        self, clean: Clean, jobs: Sequence[Job], rows: Sequence[int], strategy: Strategy, size: int
    ) -> dict[Drawn, Values]:
        """What the receivers of the edges among some jobs would write; `size` is what fits into a push."""
        asked = [(self.plan.knockouts[job.knockout], job.draw) for job in jobs]
        return received(self.model, clean, asked, partial(self.donated, rows=rows), strategy, size)


def run_batch(
    work: Work,
    rows: Sequence[int],
    prompts: Sequence[EncodedPrompt],
    targets: Sequence[int],
    foils: Sequence[int] | None = None,
    kept: Callable[[int], Clean | None] = lambda index: None,
    done: Callable[[int], None] = lambda variants: None,
) -> Arrays:
    """All knock-outs of prompts of one length.

    Args:
        work: model, plan and values.
        rows: positions of the prompts in the plan's table.
        prompts: the prompts, all of one length.
        targets: their target tokens.
        foils: the tokens whose logits are subtracted from the targets', if differences are read.
        kept: the clean pass of a prompt, by its index, if it is still in memory.
        done: told the number of variants of a prompt after each push.

    Returns:
        The ledger's variables for these prompts, in the ledger's order of dimensions.

    Raises:
        LedgerDoesNotClose: naming the component and the prompt that break it.
        AnatomyRefused: the clean row's logits are not those of the untouched model.
    """
    clean = _clean_pass(work, prompts, kept)
    device = clean.ids.device
    tokens = torch.tensor(targets, device=device)
    others = None if foils is None else torch.tensor(foils, device=device)
    read = directions(work.model.network, work.model.anatomy.tail, tokens, others)
    by_unit = aims(work.model, work.plan.splits, read.vectors)
    heads = head_aims(work.model, work.plan.heads, by_unit, read.vectors)
    account = Account(work.plan, work.tolerance, [str(prompt.index) for prompt in prompts], read)
    footprint = Footprint.of(
        work.model,
        clean.ids.shape[1],
        not work.strategy.staircase,
        columns=len(work.plan.columns),
        attending=len(work.plan.attending),
    )
    size = variants_at_once(work.budget, footprint, len(rows))
    for jobs in work.plan.pushes(size):
        heard = work.heard(clean, jobs, rows, work.strategy, size)
        variants = [variant(work, job, rows, heard) for job in jobs]
        # Of the null only effects are kept, so its distributions need not be measured.
        real = not jobs[0].null
        split = real and bool(work.plan.routed)
        swept = sweep(
            work.model,
            clean,
            variants,
            read,
            strategy=work.strategy,
            full=real,
            aims=by_unit,
            routing=split,
            heads=heads if real else {},
        )
        account.enter_clean(swept, clean.logits)
        account.enter(jobs, swept)
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


def variant(work: Work, job: Job, rows: Sequence[int], heard: Mapping[Drawn, Values]) -> Variant:
    """The edits of one job: at every place (1 - dose) of the prompt's own value and dose of the replacement.

    Args:
        work: plan and values.
        job: which knock-out, draw, and whether it is the null.
        rows: positions of the prompts in pools and table.
        heard: what the receivers of edges would write.
    """
    knockout, edits = work.plan.knockouts[job.knockout], []
    for number, place in enumerate(work.plan.edited[job.knockout]):
        if knockout.sender is not None:
            value = heard[knockout, job.draw][number]
        elif job.knockout in work.learned:
            value = work.learned[job.knockout][number].expand(len(rows), *work.pools[place.site].shape[1:-1], -1)
        else:
            value = work.donated(place, job.draw, rows)
        own = work.own(place, rows).to(value) if job.null or work.plan.dose != 1 else value
        if work.plan.dose != 1:
            value = (1 - work.plan.dose) * own + work.plan.dose * value
        if job.null:
            value = own + _random_like(value - own, work.plan.seed, rows, (job.knockout, job.draw, number))
        edits.append(Edit(place, value.to(work.model.device)))
    edits += [Edit(place, work.own(place, rows).to(work.model.device)) for place in work.plan.held[job.knockout]]
    return Variant(str(knockout), knockout.first_layer, tuple(edits))


def _random_like(
    displacement: Float[Tensor, "prompts *edited width"], seed: int, rows: Sequence[int], key: tuple[int, ...]
) -> Float[Tensor, "prompts *edited width"]:
    """Random directions with the displacements' norms; each prompt's depends on nothing but seed, prompt and key."""
    shape = displacement.shape[1:]
    drawn = np.stack([np.random.default_rng((seed, row, *key)).standard_normal(shape, "float32") for row in rows])
    directions = torch.nn.functional.normalize(torch.from_numpy(drawn), dim=-1)
    scaled: Tensor = directions.to(displacement) * displacement.norm(dim=-1, keepdim=True)
    return scaled
