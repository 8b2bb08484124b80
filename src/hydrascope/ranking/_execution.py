"""A ranking from its request to its ledgers, continued where it stopped.

Its folder is that of a run whose numbers are all in companions: `singles`, every part alone with its whole account;
`joint`, the primaries and each candidate beside them; `frozen`, the primaries with candidates frozen; `why-3-1`,
`why-3-2` ..., what the search for a set that flips the answer of prompt 3 asked for next; `scores.zarr`, cheap scores
from gradients; and `stress.zarr`, scores of a stress test.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from hydrascope.ablations import Ablation
from hydrascope.analysis import Findings
from hydrascope.anatomy import Model
from hydrascope.attribution import Scores, attribute
from hydrascope.components import FREEZES, Component, parse_component, parse_knockouts
from hydrascope.errors import AnatomyRefused, ComponentError
from hydrascope.faults import of_sets, prepare_singles
from hydrascope.ledger import open_dataset
from hydrascope.prompts import PromptSet
from hydrascope.ranking._labels import read_labels
from hydrascope.ranking._request import RankRequest
from hydrascope.ranking._sealed import read_scores, write_scores
from hydrascope.ranking._stress import stress_scores
from hydrascope.resilience import addresses
from hydrascope.run import Progress, Task, Tell, execute_companions, folder_of_companions
from hydrascope.run_directory import COMPANIONS, SINGLES, RunDirectory, fresh_or_same, is_finished, lacking
from hydrascope.significance import Significance, find_primaries

JOINT, FROZEN, FLIPS, SCORES, STRESS = "joint", "frozen", "why", "scores.zarr", "stress.zarr"


@dataclass(frozen=True)
class Ranking:
    """A ranking that is ready to go: everything checked, nothing computed.

    Attributes:
        request: what was asked.
        singles: knock-outs of every part alone.
        named: primaries that the user named; none leaves them to be found.
        labels: address to whether a part is one to be found.
        stress: scores of a stress test, if any.
    """

    request: RankRequest
    singles: Task
    named: tuple[str, ...]
    labels: Mapping[str, bool]
    stress: xr.Dataset | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """Addresses of the parts, in the order of the forward pass."""
        return tuple(map(str, self.singles.knockouts))

    @property
    def cheap(self) -> bool:
        """Whether effects are estimated from gradients too."""
        return self.request.cheap and self.singles.positions.read != "each"

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the numbers depend on."""
        asked = self.request
        mine = {"primaries": list(self.named), "labels": dict(self.labels), "cheap": self.cheap, "top": asked.top}
        return {**self.singles.settings, **mine}

    def later(self, primaries: tuple[str, ...]) -> tuple[str, ...]:
        """Candidates that read what some primary writes."""
        senders = [parse_component(part) for part in primaries]
        return tuple(
            part for part in self.parts if part not in primaries and self._reads(parse_component(part), senders)
        )

    def _reads(self, part: Component, senders: list[Component]) -> bool:
        return any(self.singles.model.anatomy.inventory.sees(part, sender) for sender in senders)

    def primaries(self, account: Findings) -> tuple[str, ...]:
        """The primaries that were named, or the one that is found."""
        return self.named or find_primaries(account, [part for part in self.parts if self.later((part,))])

    def joint(self, primaries: tuple[str, ...]) -> Task:
        """The primaries, and each candidate beside them."""
        sets = ["+".join([*primaries, part]) for part in self.parts if part not in primaries]
        return of_sets(self.singles, [*(["+".join(primaries)] if len(primaries) > 1 else []), *sets])

    def frozen(self, primaries: tuple[str, ...], together: Mapping[tuple[str, ...], str]) -> Task:
        """The primaries with each later candidate frozen, and with some frozen together."""
        out, sets = "+".join(primaries), [*((part,) for part in self.later(primaries)), *together]
        return of_sets(self.singles, [FREEZES.join([out, *some]) for some in sets])


def prepare_rank(request: RankRequest, model: Model, prompts: PromptSet, ablation: Ablation | None = None) -> Ranking:
    """Check a ranking before the first number is computed.

    Args:
        request: what is asked.
        model: the opened model.
        prompts: at least one prompt.
        ablation: the request's ablation, where it is at hand.

    Raises:
        HydrascopeError: what cannot be done, and what to do about it.
    """
    singles = prepare_singles(request, model, prompts, ablation)
    parts = tuple(map(str, singles.knockouts))
    named: tuple[str, ...] = ()
    if request.primaries is not None:
        wanted = {str(one) for one in parse_knockouts(request.primaries, model.anatomy.inventory)}
        wanted = {part for one in wanted for part in one.split("+")}
        if unknown := sorted(wanted - set(parts)):
            raise ComponentError(
                f"{unknown[0]} is a primary and not among the ranked parts; add it to the components or leave it out"
            )
        named = tuple(part for part in parts if part in wanted)
        if len(named) == len(parts):
            raise ComponentError("all of the components are primaries; leave candidates that could back them up")
    labels = {} if request.labels is None else read_labels(Path(request.labels), parts)
    stress = None if request.stress is None else stress_scores(request.stress, singles)
    ranking = Ranking(request, singles, named, labels, stress)
    if not any(ranking.later((part,)) for part in parts):
        raise ComponentError(
            "none of the components reads what another one writes, so that none can back another up; name parts of "
            "several layers"
        )
    return ranking


def default_rank_folder(ranking: Ranking) -> Path:
    """`runs/rank-MODEL-PROMPTS`, or the next free number of it where another ranking is there."""
    task = ranking.singles
    return fresh_or_same(Path("runs") / f"rank-{task.model.source.label}-{task.prompts.name}", ranking.settings)


def execute_rank(
    ranking: Ranking,
    out: Path | None,
    *,
    overwrite: bool = False,
    progress: Progress = lambda stage, done, total: None,
    tell: Tell = lambda lines: None,
) -> tuple[Significance, RunDirectory | None]:
    """Make a ranking, or what is left of it.

    Args:
        ranking: what to do.
        out: the ranking's folder, made or continued; None keeps nothing on disk afterwards.
        overwrite: throw away the ranking that is in `out`.
        progress: takes stage, number done and total.
        tell: takes what is said before the first number.

    Returns:
        The tables and the folder, if any.

    Raises:
        SettingsChanged: a ranking that is there was made with other settings.
        HydrascopeError: what goes wrong on the way; what is finished is kept.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="hydrascope-") as folder:
            return execute_rank(ranking, Path(folder) / "rank", progress=progress, tell=tell)[0], None
    task, request = ranking.singles, ranking.request
    with folder_of_companions(out, request, task, ranking.settings, SINGLES, overwrite=overwrite) as directory:
        execute_companions(directory, {SINGLES: task}, request, progress=progress, tell=tell)
        if ranking.cheap:
            _attribute(task, directory.companion(SCORES), progress)
        if ranking.stress is not None:
            write_scores(directory.companion(STRESS), ranking.stress)
        account = Findings(open_dataset(directory.companion(SINGLES)))
        primaries = ranking.primaries(account)
        execute_companions(directory, {JOINT: ranking.joint(primaries)}, request, progress=progress)
        later = ranking.later(primaries)
        noted = _noted(directory, primaries, later)
        if later:
            together = read(out, request, noted.record).sets
            execute_companions(noted, {FROZEN: ranking.frozen(primaries, together)}, request, progress=progress)
        if request.why is not None:
            noted = _asked(noted, request.why)
            _search_flip(ranking, noted, request.why, progress)
    return read(out, request, noted.record), noted.mark_complete()


def _noted(directory: RunDirectory, primaries: tuple[str, ...], later: tuple[str, ...]) -> RunDirectory:
    """The folder with what was found, so that its tables can be read without the model."""
    return RunDirectory(directory.path, {**directory.record, "primaries": list(primaries), "later": list(later)})


def _search_flip(ranking: Ranking, directory: RunDirectory, prompt: int, progress: Progress) -> None:
    """Measure set after set until the search for what flips an answer is done; each step has a folder of its own."""
    while len(missing := read(directory.path, ranking.request, directory.record).flip(prompt).missing):
        name = f"{FLIPS}-{prompt}-{max(_steps(directory.path, prompt), default=0) + 1}"
        sets = of_sets(ranking.singles, addresses(missing, ranking.parts))
        execute_companions(directory, {name: sets}, ranking.request, progress=progress)


def _asked(directory: RunDirectory, prompt: int) -> RunDirectory:
    """The folder with the number of the prompt that was asked about among its earlier ones."""
    why = sorted({*directory.record.get("why", ()), prompt})
    return RunDirectory(directory.path, {**directory.record, "why": why})


def _steps(folder: Path, prompt: int) -> dict[int, Path]:
    """Finished steps of a prompt's search by number, in their order."""
    found = {int(path.name.split("-")[-1]): path for path in (folder / COMPANIONS).glob(f"{FLIPS}-{prompt}-*")}
    return {number: path for number, path in sorted(found.items()) if is_finished(path)}


def _attribute(task: Task, path: Path, progress: Progress) -> None:
    """Store cheap scores; a folder of this name is always whole."""
    if path.exists():
        return
    try:
        found = attribute(task, Scores(kinds=("query_key", *Scores().kinds)), progress=progress)
    except AnatomyRefused:  # of this model attention's weights cannot be computed anew
        found = attribute(task, progress=progress)
    write_scores(path, found[["estimate", "seconds"]].reset_coords(drop=True))


def read(folder: Path, request: RankRequest, record: Mapping[str, Any]) -> Significance:
    """The tables of what a ranking's folder has so far.

    Args:
        folder: the ranking's folder.
        request: what was asked.
        record: content of `run.json`, with the primaries.

    Raises:
        OutputError: the knock-outs are not there.
    """
    within = folder / COMPANIONS
    singles, joint = (open_dataset(within / name) for name in (SINGLES, JOINT))
    cheap, stress = (read_scores(within / name) if (within / name).exists() else None for name in (SCORES, STRESS))
    return Significance(
        parts=tuple(str(name) for name in singles["ablated"].values),
        primaries=tuple(record["primaries"]),
        later=tuple(record["later"]),
        account=Findings(singles),
        joint=joint,
        frozen=open_dataset(within / FROZEN) if (within / FROZEN).exists() else None,
        cheap=cheap,
        stress=stress,
        labels=record["settings"]["labels"],
        top=request.top,
        seed=request.seed,
        flips={
            prompt: [open_dataset(path) for path in _steps(folder, prompt).values()] for prompt in record.get("why", ())
        },
    )


def read_whole(folder: Path, request: RankRequest, record: Mapping[str, Any]) -> Significance:
    """The tables of a finished ranking.

    Args:
        folder: the ranking's folder.
        request: what was asked.
        record: content of `run.json`.

    Raises:
        OutputError: something of it is not there.
    """
    within = folder / COMPANIONS
    if record["later"] and not is_finished(within / FROZEN):
        raise lacking(folder, FROZEN)
    if record["settings"]["cheap"] and not (within / SCORES).exists():
        raise lacking(folder, SCORES)
    if request.stress is not None and not (within / STRESS).exists():
        raise lacking(folder, STRESS)
    found = read(folder, request, record)
    for prompt in found.flips:
        if len(found.flip(prompt).missing):
            raise lacking(folder, f"{FLIPS}-{prompt}-*")
    return found
