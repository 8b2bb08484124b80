"""A pruning from its request to its tables, continued where it stopped.

Its folder has `run.json`, `costs.jsonl` with a line for every set that was run, and at the end `prune.json`: what each
ranking chose. Rankings are worked out anew each time, from costs that are known already.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, count
from math import ceil, comb
from pathlib import Path
from typing import Any

from hydrascope.anatomy import Model
from hydrascope.components import Component, in_order
from hydrascope.engine import Budget, Constants
from hydrascope.errors import ComponentError, RunError
from hydrascope.ledger import write_record
from hydrascope.prompts import PromptSet, encode
from hydrascope.pruning._constants import constants_of, read_constants, write_constants
from hydrascope.pruning._findings import Chosen, Findings
from hydrascope.pruning._judge import LOGIT_BYTES, Judge
from hydrascope.pruning._reading import read
from hydrascope.pruning._request import ALL, PruneRequest
from hydrascope.pruning._store import Store, name_of
from hydrascope.pruning._tasks import Task
from hydrascope.pruning._texts import SPLITS, Texts, split
from hydrascope.pruning.rankings import OWN, RANKINGS, Random, Ranking, Scored, ranking_named
from hydrascope.run import Progress, alone_with, record_of, store_prompts, versions
from hydrascope.run_directory import COSTS, LEFT, PRUNED, RunDirectory, fresh_or_same, locked, open_run_directory

KINDS = {
    "blocks": ("layer",),
    "sublayers": ("attn", "mixer", "mlp"),
    "kvgroups": ("kv",),
    "heads": ("head",),
    "neurons": ("neuron",),
}
"""Kinds of components by what they are called together."""
USUAL_SHARES, EVERY_TENTH = (0.1, 0.2, 0.3), tuple(step / 10 for step in range(1, 10))
"""Shares of the parts that go where none are given: without a loss to keep, and with one."""
MOST_SETS = 20_000
"""Most sets that are judged."""
MOST_RUN = 1000
"""With more parts than this, rankings that run the model without each are left out unless they are named."""
MOST_PROMPTS = 300
"""Most prompts of a task, evenly spread over all."""
KEPT_SHARE = 4
"""One in so many bytes of the budget may hold clean logits."""


@dataclass(frozen=True)
class Pruning:
    """A pruning that is ready to go: everything checked, nothing computed.

    Attributes:
        request: what was asked.
        model: the opened model.
        prompts: the text.
        calibration: texts that rankings see.
        test: texts of other documents.
        parts: the parts that can go, in the order of the forward pass.
        rankings: rankings by name.
        tasks: tasks on which chosen sets are judged, too.
    """

    request: PruneRequest
    model: Model
    prompts: PromptSet
    calibration: Texts
    test: Texts
    parts: tuple[Component, ...]
    rankings: Mapping[str, Ranking]
    tasks: tuple[Task, ...] = ()

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many parts go, ascending."""
        asked, count = self.request, len(self.parts)
        shares = asked.shares or (USUAL_SHARES if asked.keep_loss is None else EVERY_TENTH)
        wanted = [max(1, round(count * share)) for share in shares] if asked.remove is None else [asked.remove]
        return tuple(sorted({*wanted, *range(1, asked.exhaustive + 1)} - ({count} if asked.remove is None else set())))

    @property
    def exhaustive(self) -> list[tuple[Component, ...]]:
        """Every set of the sizes that are judged exhaustively."""
        return [some for size in range(1, self.request.exhaustive + 1) for some in combinations(self.parts, size)]

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the numbers depend on."""
        asked, source = self.request, self.model.source
        own = self.rankings.get(OWN)
        return {
            "weights": source.weight_digest,
            "dtype": source.dtype,
            "device": self.model.device.type,
            "prompts": self.prompts.digest,
            "bos": asked.bos,
            "units": asked.units,
            "sizes": list(self.sizes),
            "ranking": list(self.rankings),
            "scores": dict(own.scores) if isinstance(own, Scored) else None,
            "keep_loss": asked.keep_loss,
            "replace": asked.replace,
            "calibrate": asked.calibrate,
            "test": asked.test,
            "seed": asked.seed,
            "exhaustive": asked.exhaustive,
            "draws": asked.draws,
            "tasks": [f"{task.name} {task.digest[:12]}" for task in self.tasks],
        }

    @property
    def sets_run(self) -> float:
        """About how many sets the rankings run on the text that they see."""
        runs = [ranking.sets_run(len(self.parts), self.sizes) for ranking in self.rankings.values()]
        return 1 + sum(runs) + self.judged

    @property
    def judged(self) -> int:
        """Most sets that are judged on either part of the text."""
        every = sum(comb(len(self.parts), size) for size in range(1, self.request.exhaustive + 1))
        numbers = [one.number if isinstance(one, Random) else 1 for one in self.rankings.values()]
        return 1 + sum(min(number, comb(len(self.parts), size)) for size in self.sizes for number in numbers) + every


def prepare_prune(
    request: PruneRequest, model: Model, prompts: PromptSet, scores: Mapping[Any, float] | None = None
) -> Pruning:
    """Check a pruning before the first number is computed.

    Args:
        request: what is asked.
        model: the opened model.
        prompts: the text, with documents as groups.
        scores: a user's own scores by address, where they are in no file that the request names.

    Raises:
        HydrascopeError: what cannot be done, and what to do about it.
    """
    encoded = encode(
        prompts,
        model.tokenizer,
        vocabulary=model.anatomy.n_vocab,
        context=model.context,
        bos=request.bos,
        needed=(),
    )
    calibration, test = split(encoded.prompts, request.calibrate, request.test, request.seed)
    found = [part for kind in KINDS[request.units] for part in model.anatomy.inventory.expand(kind)]
    parts = in_order(found)
    if len(parts) < 2:
        raise ComponentError(f"this model has {len(parts)} {request.units} that can go; choose other --units")
    tasks = tuple(Task.open(name, model, MOST_PROMPTS) for name in request.tasks)
    own = None if request.scores is None else Scored.read(Path(request.scores))
    own = own if scores is None else Scored.of(scores.items(), "scores")
    pruning = Pruning(request, model, prompts, calibration, test, parts, _rankings(request, parts, own), tasks)
    if pruning.judged > MOST_SETS:
        raise RunError(
            f"with --exhaustive {request.exhaustive} there are {pruning.judged:,} sets to judge, more than "
            f"{MOST_SETS:,}; take a smaller size"
        )
    most = f"of {len(parts):,} {request.units} at most {len(parts) - 1:,} can go"
    if request.exhaustive >= len(parts):
        raise RunError(
            f"all sets of up to {request.exhaustive:,} cannot be judged (--exhaustive), since {most}; "
            "take a smaller size"
        )
    if not pruning.sizes or pruning.sizes[-1] >= len(parts):
        raise RunError(f"{most}; remove fewer")
    return pruning


def _rankings(request: PruneRequest, parts: Sequence[Component], own: Scored | None) -> dict[str, Ranking]:
    """The rankings that were asked for, or all that these parts allow."""
    kinds, asked = {part.kind for part in parts}, {*request.ranking} - {ALL}
    fits = {name: one for name, one in RANKINGS.items() if not one.kinds or kinds <= set(one.kinds)}
    usual = {name for name, one in fits.items() if len(parts) <= MOST_RUN or not one.runs}
    if own is None and OWN in asked:
        raise RunError(f"the ranking '{OWN}' is by scores of your own, and none were given (--scores)")
    for name in sorted(asked - {OWN}):
        if ranking_named(name, (ALL,) if own is None else (ALL, OWN)) is not fits.get(name):
            raise RunError(f"the ranking '{name}' cannot rank {request.units}; choose from {', '.join(fits)}")
    names = asked | usual if ALL in request.ranking else asked
    found = {name: one() for name, one in fits.items() if name in names}
    if Random.name in found:
        found[Random.name] = Random(request.draws, request.seed)
    if own is not None:
        own.check(parts)
        found[OWN] = own
    return found


def default_prune_folder(pruning: Pruning) -> Path:
    """`runs/prune-MODEL-TEXT`, or the next free number of it where another pruning is there."""
    return fresh_or_same(Path("runs") / f"prune-{pruning.model.source.label}-{pruning.prompts.name}", pruning.settings)


def execute_prune(
    pruning: Pruning,
    out: Path | None,
    *,
    overwrite: bool = False,
    progress: Progress = lambda stage, done, total: None,
) -> tuple[Findings, RunDirectory | None]:
    """Make a pruning, or what is left of it.

    Args:
        pruning: what to do.
        out: its folder, made or continued; None keeps nothing on disk afterwards.
        overwrite: throw away the pruning that is in `out`.
        progress: takes stage, number done and total.

    Returns:
        The tables and the folder, if any.

    Raises:
        SettingsChanged: a pruning that is there was made with other settings.
        HydrascopeError: what goes wrong on the way; what is known is kept.
    """
    if out is None:
        with tempfile.TemporaryDirectory(prefix="hydrascope-") as folder:
            return execute_prune(pruning, Path(folder) / "prune", progress=progress)[0], None
    request = pruning.request
    facts = {**record_of(request, pruning.model, pruning.prompts), "versions": versions()}
    with locked(out), alone_with(pruning.model):
        directory = open_run_directory(out, pruning.settings, facts, overwrite=overwrite)
        store_prompts(directory, pruning.prompts)
        if not directory.record["complete"]:
            _make(pruning, out, progress)
            directory = directory.mark_complete()
    return read(out), directory


def _make(pruning: Pruning, out: Path, progress: Progress) -> None:
    known, total = Store(out / COSTS, SPLITS[0]), ceil(pruning.sets_run)
    left = _constants(pruning, out, progress)

    def ranked_so_far(sets: int) -> None:
        progress("rank", min(sets, total), total)

    kept = Budget.read(pruning.request.memory, *pruning.model.devices).bytes // KEPT_SHARE
    judge = Judge(pruning.model, pruning.calibration, known, ranked_so_far, left, kept)
    chosen: dict[str, Chosen] = {}
    for name, ranking in pruning.rankings.items():
        made = ranking.choose(judge, pruning.parts, pruning.sizes)
        sets = {size: tuple(tuple(name_of(some).split("+")) for some in made.all_sets(size)) for size in pruning.sizes}
        scores = {str(part): float(score) for part, score in made.scores.items()}
        chosen[name] = Chosen(type(ranking), sets, scores)
    by_name = {str(part): part for part in pruning.parts}
    wanted = [(), *(one for ranked in chosen.values() for sets in ranked.sets.values() for one in sets)]
    last = [[by_name[part] for part in one] for one in dict.fromkeys(wanted)]
    _judge_all(judge, last, "calibration", progress, whole=True)
    del judge
    tests = Judge(pruning.model, pruning.test, Store(out / COSTS, SPLITS[1]), constants=left, kept=kept)
    _judge_all(tests, pruning.exhaustive, "exhaustive", progress)
    _judge_all(tests, last, "test", progress, whole=True)
    texts = {
        name: {"documents": list(one.documents), "predicted": one.predicted.tolist()}
        for name, one in zip(SPLITS, (pruning.calibration, pruning.test), strict=True)
    }
    rest = {"units": pruning.request.units, "parts": [str(part) for part in pruning.parts]}
    found = {name: {"sets": one.sets, "scores": one.scores} for name, one in chosen.items()}
    answers = _answered(pruning, chosen, left, progress)
    told = {"settings": pruning.settings, **rest, "texts": texts, "chosen": found, "tasks": answers}
    write_record(out / PRUNED, told)


def _answered(
    pruning: Pruning, chosen: Mapping[str, Chosen], left: Mapping[Component, Constants], progress: Progress
) -> dict[str, Any]:
    """What is answered on every task without the sets of rankings that choose one."""
    by_name = {str(part): part for part in pruning.parts}
    single = [sets[0] for one in chosen.values() for sets in one.sets.values() if len(sets) == 1]
    wanted = [[by_name[part] for part in parts] for parts in dict.fromkeys(((), *single))]
    found, done = {}, count()
    batch = LOGIT_BYTES // (4 * pruning.model.anatomy.n_vocab)
    for task in pruning.tasks:
        rows = task.answers(
            pruning.model,
            wanted,
            left,
            batch,
            lambda: progress("tasks", next(done) + 1, len(wanted) * len(pruning.tasks)),
        )
        groups = [prompt.group for prompt in task.prompts]
        answers = {name: one.tolist() for name, one in rows.items()}
        found[task.name] = {"groups": groups, "foiled": task.foiled, "answers": answers}
    return found


def _judge_all(
    judge: Judge, sets: Sequence[Sequence[Component]], stage: str, progress: Progress, *, whole: bool = False
) -> None:
    before = judge.ran
    judge.told = lambda ran: progress(stage, ran - before, len(sets))
    judge.costs(sets, whole=whole)
    if sets:
        progress(stage, len(sets), len(sets))


def _constants(pruning: Pruning, out: Path, progress: Progress) -> dict[Component, Constants]:
    """What parts leave in their places, made once: what was measured with them must be continued with them."""
    model, replace = pruning.model, pruning.request.replace
    if replace == "removal":
        return {}
    if not (out / LEFT).exists():
        budget = Budget.read(pruning.request.memory, *model.devices)
        made = constants_of(
            model, pruning.calibration, pruning.parts, replace, budget, lambda *of: progress("constants", *of)
        )
        write_constants(out / LEFT, {str(part): some for part, some in made.items()})
    known = read_constants(out / LEFT)
    return {part: known[str(part)] for part in pruning.parts if str(part) in known}
