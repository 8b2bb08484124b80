"""Cheap scores against the exact sweep: what each takes for the same prompts, parts and donors.

    python benchmarks/attribution.py --write docs/attribution.md

Both are asked in the same process and in turns, on a model and prompts: every layer and every head at the last token,
resampled donors (15 if left out). The exact run gives the whole account, estimates are one number a part; how well
they rank parts stands beside what they cost.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from measure import Stopwatch, Timing, machine
from scipy.stats import spearmanr

import hydrascope as hs
from hydrascope.attribution import SCORES, Scores, attribute
from hydrascope.run import RunRequest, Task, execute, open_request, prepare_runs

PARTS = {"layers": "attn,mlp", "heads": "head"}


@dataclass(frozen=True)
class Round:
    """Processor seconds of one round, and how well each score ranks.

    Attributes:
        exact: seconds of the exact run.
        seconds: seconds by score, clean runs and donors included.
        ranked: rank correlation of absolute mean estimates with absolute mean total effects.
    """

    exact: float
    seconds: dict[str, float]
    ranked: dict[str, float]


def tasks(asked: argparse.Namespace) -> Iterator[tuple[str, Task]]:
    """What is measured, by name."""
    for name, components in PARTS.items():
        request = RunRequest(
            model=asked.model,
            prompts=asked.task,
            target=asked.target,
            donors=asked.donors,
            limit=asked.prompts,
            components=components,
            null_draws=0,
            distribution=False,
            freeze=False,
        )
        model, prompts = open_request(request)
        yield name, prepare_runs(request, model, prompts).main


def measure(task: Task) -> Round:
    """One round: the exact run, and each score by itself."""
    clock = Stopwatch()
    ledger, _ = execute(task)
    exact = clock.lap().cpu
    right = np.abs(ledger["total_effect"].mean("prompt"))
    seconds: dict[str, float] = {}
    ranked: dict[str, float] = {}
    for kind in SCORES:
        clock.lap()
        found = attribute(task, Scores((kind,)))
        seconds[kind] = clock.lap().cpu
        ranked[kind] = float(spearmanr(np.abs(found["estimate"][0].mean("prompt")), right).statistic)
    return Round(exact, seconds, ranked)


def rows(name: str, task: Task, rounds: int) -> list[str]:
    """The table's rows of one kind of parts."""
    found = [measure(task) for _ in range(rounds)]
    lines = [f"| {name}, {len(task.knockouts)} | exact run | {Timing.of([one.exact for one in found])} | 1 | |"]
    for kind in SCORES:
        took = Timing.of([one.seconds[kind] for one in found])
        ratio = Timing.of([one.exact / one.seconds[kind] for one in found])
        lines.append(f"| | {kind.replace('_', ' ')} | {took} | {ratio} | {found[0].ranked[kind]:.2f} |")
    return lines


def main() -> None:
    """Measure and print, or write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="file that takes the table")
    parser.add_argument("--model", default="lerna")
    parser.add_argument("--task", help="built-in set, task or file; the model's own if left out")
    parser.add_argument("--target", default="label")
    parser.add_argument("--donors", type=int, default=15)
    parser.add_argument("--prompts", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    table = [row for name, task in tasks(asked) for row in rows(name, task, asked.rounds)]
    text = "\n".join(
        [
            "# Cheap scores",
            "",
            f"Printed by `benchmarks/attribution.py`: {asked.prompts} prompts of {asked.model}, {asked.donors} "
            "resampled donors, last token. Every score is asked by itself, with the clean runs and donors that it "
            "takes.",
            "",
            f"- Machine: {machine()}; 1 thread",
            f"- Date: {datetime.now(UTC):%Y-%m-%d}; hydrascope {hs.__version__}, torch {version('torch')}, "
            f"transformers {version('transformers')}",
            "- Processor seconds: median (least to most) of the rounds; the ratio is taken within each round.",
            "- Rank correlation: Spearman's, of absolute mean estimates with absolute mean total effects.",
            "",
            "| parts | | seconds | exact run over score | rank correlation |",
            "|---|---|---|---|---|",
            *table,
            "",
        ]
    )
    print(text) if asked.write is None else asked.write.write_text(text)


if __name__ == "__main__":
    main()
