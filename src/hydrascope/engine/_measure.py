"""One batch of the ledger: all knock-outs of some prompts or texts of one length.

As many interventions share a forward as memory allows; when the device runs out all the same, half as many.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hydrascope.anatomy import Model, Place, Site, directions
from hydrascope.engine._account import Account, Arrays
from hydrascope.engine._attention_split import head_readouts
from hydrascope.engine._clean import CleanRun
from hydrascope.engine._edges import Drawn, EdgeValues, edge_values
from hydrascope.engine._forward import run_interventions
from hydrascope.engine._interventions import Edit, Intervention, in_random_direction
from hydrascope.engine._memory import Budget, forward_size, ran_out
from hydrascope.engine._plan import Job, Plan
from hydrascope.engine._strategies import Strategy
from hydrascope.engine._units import readouts
from hydrascope.errors import OutOfBudget

Constants = tuple[Float[Tensor, " _"], ...]
"""One value for all prompts at each place of a knock-out."""


@dataclass(frozen=True)
class BatchContext:
    """What a batch is computed with.

    Attributes:
        plan: the run's plan.
        strategy: how interventions are run.
        pools: by site, values of all runs at every replaced position.
        keys: number of each clean run, which come first in the pools, to seed its random directions.
        tolerance: largest |remainder| / max(1, |total|) that counts as closed.
        reference: by site, values to make replacements of in place of the pools.
        learned: constants by knock-out, where the ablation learns them.
    """

    model: Model
    plan: Plan
    strategy: Strategy
    pools: Mapping[Site, Float[Tensor, "pool edited _"]]
    keys: Sequence[int]
    budget: Budget
    tolerance: float
    reference: Mapping[Site, Float[Tensor, "reference edited _"]] = field(default_factory=dict)
    learned: Mapping[int, Constants] = field(default_factory=dict)

    def own(self, place: Place, rows: Sequence[int]) -> Float[Tensor, "prompts edited _"]:
        """Clean values of some prompts at a place."""
        return self.pools[place.site][..., place.span][torch.as_tensor(rows)]

    def replacement(self, place: Place, draw: int, rows: Sequence[int]) -> Float[Tensor, "prompts edited _"]:
        """The ablation's values for some prompts at a place under one draw."""
        return self._replacements(place, slice(draw, draw + 1), rows)[0]

    def _replacements(self, place: Place, draws: slice, rows: Sequence[int]) -> Float[Tensor, "draws prompts edited _"]:
        source = self.reference.get(place.site, self.pools[place.site])[..., place.span]
        return self.plan.ablation.replace(source, self.plan.table[draws][:, rows], len(self.keys))

    def displacements(self, knockout: int, rows: Sequence[int]) -> list[Float[Tensor, "draws prompts edited _"]]:
        """What a knock-out of parts adds at each of its places: the dose of (replacement - own value), draw by draw."""
        found = []
        for number, place in enumerate(self.plan.edited[knockout]):
            if knockout in self.learned:
                value: Tensor = self.learned[knockout][number]
            else:
                value = self._replacements(place, slice(None), rows)
            own = self.own(place, rows).float()
            found.append(self.plan.dose * (value.to(own) - own).expand(self.plan.ablation.draws, *own.shape))
        return found

    def intervention(self, job: Job, rows: Sequence[int], edges: Mapping[Drawn, EdgeValues]) -> Intervention:
        """The edits of one job: at every place (1 - dose) of the prompt's own value and dose of the replacement.

        Of an edge, the place is its receiver's, and the replacement what it writes with the sender wholly ablated.

        Args:
            job: which knock-out, draw, and whether it is the control.
            rows: positions of the prompts in pools and table.
            edges: what the receivers of edges would write.
        """
        plan, edits = self.plan, []
        knockout = plan.knockouts[job.knockout]
        for number, place in enumerate(plan.edited[job.knockout]):
            if knockout.sender is not None:
                value = edges[knockout, job.draw][number]
            elif job.knockout in self.learned:
                constant = self.learned[job.knockout][number]
                value = constant.expand(len(rows), self.pools[place.site].shape[1], -1)
            else:
                value = self.replacement(place, job.draw, rows)
            own = self.own(place, rows).to(value) if job.null or plan.dose != 1 else value
            if plan.dose != 1:
                value = (1 - plan.dose) * own + plan.dose * value
            if job.null:
                keys = [self.keys[row] for row in rows]
                value = own + in_random_direction(value - own, plan.seed, keys, (job.knockout, job.draw, number))
            edits.append(Edit(place, value.to(self.model.device)))
        edits += [Edit(place, self.own(place, rows).to(self.model.device)) for place in plan.frozen[job.knockout]]
        return Intervention(str(knockout), knockout.first_layer, tuple(edits))


@dataclass(frozen=True)
class Items:
    """What is read of a batch.

    Attributes:
        targets: target token of every read position, prompt by prompt.
        foils: tokens whose logits are subtracted from the targets', if differences are read.
        names: name of each read position in an error.
        together: so many read positions are summed in one row of the ledger: the tokens of an answer.
    """

    targets: Int[Tensor, " items"]
    foils: Int[Tensor, " items"] | None
    names: Sequence[str]
    together: int = 1


def measure(
    context: BatchContext,
    rows: Sequence[int],
    clean: CleanRun,
    items: Items,
    *,
    with_distribution: bool = True,
    done: Callable[[int], None] = lambda interventions: None,
    smaller: Callable[[int], None] = lambda size: None,
) -> Arrays:
    """Measure all knock-outs of prompts of one length.

    Args:
        context: model, plan and values.
        rows: rows of the prompts in the plan's table and the pools.
        clean: clean run of the prompts, with what the strategy needs.
        items: what is read.
        with_distribution: take log-probability, rank and KL divergence, which costs the whole vocabulary of every row.
        done: takes the number of interventions, over all prompts, after each forward.
        smaller: takes the new number of interventions in a forward whenever the device runs out of memory.

    Returns:
        The ledger's variables, one row per read position, or per answer.

    Raises:
        LedgerDoesNotClose: an account misses its total effect; the message names component and item.
        AnatomyRefused: the clean row's logits are not those of the untouched model.
        OutOfBudget: the device has no room for a single intervention.
    """
    prompts, tokens = clean.ids.shape
    size = forward_size(
        context.model,
        context.strategy,
        context.budget,
        prompts=prompts,
        tokens=tokens,
        read=len(clean.layout.read),
        columns=len(context.plan.columns),
        attending=len(context.plan.attending),
    ).interventions
    while True:
        counted = 0

        def counting(interventions: int) -> None:
            nonlocal counted
            counted += interventions
            done(interventions)

        try:
            return _measure(context, rows, clean, items, size, with_distribution, counting)
        except (torch.cuda.OutOfMemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            if size == 1:
                raise OutOfBudget(
                    f"the device has no room for a single knock-out of {tokens} tokens; take shorter texts or another "
                    "device (--device)"
                ) from error
        done(-counted)
        size = max(1, size // 2)
        smaller(size)


def _measure(
    context: BatchContext,
    rows: Sequence[int],
    clean: CleanRun,
    items: Items,
    size: int,
    with_distribution: bool,
    done: Callable[[int], None],
) -> Arrays:
    model, plan, strategy, device = context.model, context.plan, context.strategy, clean.ids.device
    foils = None if items.foils is None else items.foils.to(device)
    read = directions(model.network, model.anatomy.tail, items.targets.to(device), foils)
    by_unit = readouts(model, plan.decompositions, read.vectors)
    heads = head_readouts(model, plan.heads, by_unit, read.vectors)
    account = Account(
        plan,
        context.tolerance,
        items.names,
        read,
        clean.layout.edited_items,
        mend=model.mend,
        with_distribution=with_distribution,
        together=items.together,
    )
    before = None
    if strategy.by_block:
        before = run_interventions(
            model, clean, [], read, strategy=strategy.whole, with_distribution=with_distribution, readouts=by_unit
        )
        account.enter_clean(before, clean.logits)
    for jobs in plan.schedule(size, by_block=strategy.by_block):
        drawn = [(plan.knockouts[job.knockout], job.draw) for job in jobs]
        edges = edge_values(model, clean, drawn, partial(context.replacement, rows=rows), strategy.whole, size)
        interventions = [context.intervention(job, rows, edges) for job in jobs]
        # of the control only effects are kept: no distributions, no splits
        real = not jobs[0].null
        split = real and bool(heads)
        first = min(one.first_layer for one in interventions)
        found = run_interventions(
            model,
            clean,
            interventions,
            read,
            strategy=strategy.at(first, watched=split),
            with_distribution=real and with_distribution,
            with_clean_logits=before is None,
            readouts=by_unit,
            before=before,
            routing=real and bool(plan.routed),
            heads=heads if split else {},
        )
        if before is None:
            account.enter_clean(found, clean.logits)
        account.enter(jobs, found)
        done(len(jobs) * len(rows))
    return account.arrays()
