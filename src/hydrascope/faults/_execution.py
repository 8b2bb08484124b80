"""A stress test from its request to its ledgers, continued where it stopped.

Its folder is that of a run whose numbers are all in companions: `singles`, every part alone with its whole account;
`sets`, random sets and pairs, with sums by kind of writer; `worst-1`, `worst-2` ..., what the search for the worst sets
asked for next.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xarray as xr

from hydrascope.ablations import Ablation
from hydrascope.analysis import Findings
from hydrascope.anatomy import Model
from hydrascope.components import Component, Knockout, parse_knockouts
from hydrascope.engine import edited_places
from hydrascope.errors import AblationError, ComponentError
from hydrascope.faults._request import StressRequest
from hydrascope.ledger import open_dataset
from hydrascope.prompts import PromptSet
from hydrascope.resilience import Resilience, addresses
from hydrascope.run import (
    Progress,
    RunRequest,
    Task,
    Tell,
    execute_companions,
    folder_of_companions,
    prepare,
)
from hydrascope.run_directory import COMPANIONS, SINGLES, RunDirectory, fresh_or_same, is_finished, lacking

SETS, WORST = "sets", "worst-"
MOST_PARTS = 1000
"""Most parts that can fail."""
_DIVIDED = {"head": "heads", "neuron": "neuron"}
"""Kind of part to what divides its writer in the account of the single knock-outs."""


@dataclass(frozen=True)
class StressTest:
    """A stress test that is ready to go: everything checked, nothing computed.

    Attributes:
        request: what was asked.
        singles: knock-outs of every part alone.
    """

    request: StressRequest
    singles: Task

    @property
    def parts(self) -> tuple[str, ...]:
        """Addresses of the parts, in the order of the forward pass."""
        return tuple(map(str, self.singles.knockouts))

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the numbers depend on."""
        asked = self.request
        mine = {"rates": list(asked.rates), "masks": asked.masks, "pairs": asked.pairs, "worst": asked.worst}
        return {**self.singles.settings, **mine}

    def sets(self, components: Sequence[str]) -> Task:
        """Knock-outs of sets of parts, with sums by kind of writer only.

        Args:
            components: addresses of joint knock-outs.
        """
        return of_sets(self.singles, components)


def of_sets(task: Task, components: Sequence[str]) -> Task:
    """Knock-outs of sets of parts, with sums by kind of writer only.

    Args:
        task: knock-outs of every part alone.
        components: addresses of joint knock-outs, also with frozen parts.
    """
    text = ",".join(components)
    knockouts = tuple(parse_knockouts(text, task.model.anatomy.inventory))
    options = task.options.but(components=text, detail="kinds", writers="layers")
    return replace(task, options=options, knockouts=knockouts, decompositions=(), heads=())


def prepare_stress(
    request: StressRequest, model: Model, prompts: PromptSet, ablation: Ablation | None = None
) -> StressTest:
    """Check a stress test before the first number is computed.

    Args:
        request: what is asked.
        model: the opened model.
        prompts: at least one prompt.
        ablation: the request's ablation, where it is at hand.

    Raises:
        HydrascopeError: what cannot be done, and what to do about it.
    """
    return StressTest(request, prepare_singles(request, model, prompts, ablation))


def prepare_singles(request: RunRequest, model: Model, prompts: PromptSet, ablation: Ablation | None = None) -> Task:
    """Check knock-outs of every part alone, which sets of them can follow.

    Args:
        request: what is asked.
        model: the opened model.
        prompts: at least one prompt.
        ablation: the request's ablation, where it is at hand.

    Raises:
        HydrascopeError: what cannot be done, and what to do about it.
    """
    chosen = ablation or request.ablations()[0]
    if chosen.learning is not None:
        raise AblationError(
            f"the {chosen.name} ablation learns a constant for every set of parts, and there are very many "
            "sets here; choose another one, such as mean"
        )
    knockouts = parse_knockouts(request.components, model.anatomy.inventory)
    joint = _together(knockouts, model)
    # in the order of the forward pass, so that of a pair the later part is known
    options = request.options.but(components=",".join(map(str, joint.parts)))
    if "writers" not in request.model_fields_set:
        options = options.but(writers=_apart(joint.parts))
    return prepare(model, prompts, chosen, options)


def _together(knockouts: Sequence[Knockout], model: Model) -> Knockout:
    """All parts knocked out at once.

    Raises:
        ComponentError: something else than single parts is asked for, or too few, too many, or parts of each other.
    """
    for knockout in knockouts:
        if len(knockout.parts) > 1 or knockout.frozen or knockout.sender is not None:
            raise ComponentError(
                f"'{knockout}' is no single part, and sets of parts are made of single ones here; name those"
            )
    if not 2 <= len(knockouts) <= MOST_PARTS:
        raise ComponentError(
            f"2 to {MOST_PARTS:,} parts can be lost together, and the components name {len(knockouts):,}; name "
            "more, or fewer"
        )
    (joint,) = parse_knockouts("+".join(map(str, knockouts)), model.anatomy.inventory)
    try:
        edited_places(joint, model.anatomy)
    except ComponentError:
        raise ComponentError(
            "some of the components lie inside others; name only the larger or only the smaller ones"
        ) from None
    return joint


def _apart(parts: Sequence[Component]) -> str:
    """Writers that the account of single knock-outs divides, so that it shows which parts answer."""
    found = [
        _DIVIDED[part.kind] if part.kind == "head" else f"{_DIVIDED[part.kind]}.{part.layer}"
        for part in parts
        if part.kind in _DIVIDED
    ]
    return ",".join(dict.fromkeys(found)) or "layers"


def default_stress_folder(test: StressTest) -> Path:
    """`runs/stress-MODEL-PROMPTS`, or the next free number of it where another test is there."""
    task = test.singles
    return fresh_or_same(Path("runs") / f"stress-{task.model.source.label}-{task.prompts.name}", test.settings)


def execute_stress(
    test: StressTest,
    out: Path | None,
    *,
    overwrite: bool = False,
    progress: Progress = lambda stage, done, total: None,
    tell: Tell = lambda lines: None,
) -> tuple[Resilience, RunDirectory | None]:
    """Make a stress test, or what is left of it.

    Args:
        test: what to do.
        out: the test's folder, made or continued; None keeps nothing on disk afterwards.
        overwrite: throw away the test that is in `out`.
        progress: takes stage, number done and total.
        tell: takes what the test says before its first number.

    Returns:
        The tables and the folder, if any.

    Raises:
        SettingsChanged: a test that is there was made with other settings.
        HydrascopeError: what goes wrong on the way; what is finished is kept.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="hydrascope-") as folder:
            return execute_stress(test, Path(folder) / "stress", progress=progress, tell=tell)[0], None
    task = test.singles
    with folder_of_companions(out, test.request, task, test.settings, SINGLES, overwrite=overwrite) as directory:
        execute_companions(directory, {SINGLES: task}, test.request, progress=progress, tell=tell)
        found = read(out, test.request)
        _make(test, directory, {SETS: test.sets(found.plan.addresses(found.parts, found.stakes))}, progress)
        while len(missing := (found := read(out, test.request)).search()[1]):
            # every step of the search asks for sets that no ledger has, so each has a folder of its own
            name = f"{WORST}{max(_steps(out), default=0) + 1}"
            _make(test, directory, {name: test.sets(addresses(missing, found.parts))}, progress)
    return found, directory.mark_complete()


def _make(test: StressTest, directory: RunDirectory, tasks: Mapping[str, Task], progress: Progress) -> None:
    execute_companions(directory, tasks, test.request, progress=progress)


def read(folder: Path, request: StressRequest) -> Resilience:
    """The tables of what a stress test's folder has so far.

    Args:
        folder: the test's folder.
        request: what was asked.

    Raises:
        OutputError: not even the knock-outs of single parts are there.
    """
    singles = open_dataset(folder / COMPANIONS / SINGLES)
    sets = folder / COMPANIONS / SETS
    others = [*([sets] if is_finished(sets) else []), *_steps(folder).values()]
    ledgers: list[xr.Dataset] = [singles, *map(open_dataset, others)]
    parts = tuple(str(name) for name in singles["ablated"].values)
    return Resilience(parts, Findings(singles), tuple(ledgers), request.plan, request.surviving, request.loss)


def read_whole(folder: Path, request: StressRequest) -> Resilience:
    """The tables of a finished stress test.

    Args:
        folder: the test's folder.
        request: what was asked.

    Raises:
        OutputError: something of it is not there.
    """
    if not is_finished(folder / COMPANIONS / SETS):
        raise lacking(folder, SETS)
    found = read(folder, request)
    if len(found.search()[1]):
        raise lacking(folder, f"{WORST}*")
    return found


def _steps(folder: Path) -> dict[int, Path]:
    """Finished steps of the search for the worst sets by number, in their order."""
    found = {int(path.name.removeprefix(WORST)): path for path in (folder / COMPANIONS).glob(f"{WORST}*")}
    return {number: path for number, path in sorted(found.items()) if is_finished(path)}
