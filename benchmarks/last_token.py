"""Time every knock-out at the last token: this package against full forward passes, TransformerLens and nnsight.

    python benchmarks/last_token.py --write docs/benchmarks.md

Same process, same weights, same inputs, contenders in turn; peak memory in a process of each contender's own.
Contenders that need one forward pass per knock-out and donor are timed on a sample and scaled up.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from contenders import PEERS, Engine, Forwards, installed_peers, plain_loop
from measure import Seconds, matrix_rate, peak_bytes, reset_peak, resident_bytes
from question import Arithmetic, Donors, Question, ask, open_model, write_model
from table import Measured, Round, page
from transformers.utils import logging

os.environ["HF_HUB_OFFLINE"] = "1"  # for the processes that measure memory

PROMPTS = {16: 8, 64: 8, 256: 4}
"""Prompts in a batch, by length."""

QUESTIONS = {"blocks": ("attn,mlp", 4), "many donors": ("attn,mlp", 15), "heads": ("head", 1)}
"""Components and donors of each question; `many donors` is asked at the greatest length only."""

POOL = 60


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
        lengths: tokens of a prompt.
        rounds: how often everything is repeated, contenders in turn.
        sample: forward passes per round, question and contender.
        memory: measure peak memory too.
    """

    lengths: tuple[int, ...] = (16, 64, 256)
    rounds: int = 3
    sample: int = 2
    memory: bool = True

    @property
    def counts(self) -> tuple[int, int]:
        """Forward passes in the check that time is proportional to them."""
        return 2 * self.sample, 4 * self.sample

    def asked(self, length: int) -> list[str]:
        """Which questions are asked at a length."""
        return [name for name in QUESTIONS if name != "many donors" or length == max(PROMPTS)]


@dataclass
class Bench:
    """Model and contenders, opened once."""

    folder: Path
    settings: Settings
    engines: list[Engine] = field(default_factory=list)
    loops: list[Forwards] = field(default_factory=list)
    donors: Donors | None = None

    def open(self, peers: Sequence[str]) -> None:
        """Open the model, and the peers' copies of it."""
        self.model = open_model(self.folder)
        self.donors = Donors.of(self.model, POOL)
        self.engines = [Engine(self.model, full) for full in (False, True)]
        self.loops = [plain_loop(self.model.network), *(PEERS[peer](self.folder) for peer in peers)]

    def question(self, name: str, length: int) -> Question:
        """One of the questions at a length."""
        assert self.donors is not None
        components, draws = QUESTIONS[name]
        return ask(self.model, self.donors, components, PROMPTS[length], length, draws)

    def measure(self, name: str, length: int) -> Measured:
        """All rounds of one question: engine, loops, engine, loops ..."""
        question = self.question(name, length)
        everything = range(len(question.edits))
        sample = question.sample(self.settings.sample)
        config = self.model.network.config
        measured = Measured(
            name,
            question,
            tuple(Arithmetic.of(config, question, engine.full) for engine in self.engines),
            [engine.name for engine in self.engines],
            [loop.name for loop in self.loops],
        )
        for engine in self.engines:
            engine.answer(question, list(everything)[: 2 * len(PROMPTS)])
        for loop in self.loops:
            measured.clean[loop.name] = loop.clean(question)
        for _ in range(self.settings.rounds):
            round_ = Round(matrix_rate())
            for engine in self.engines:
                answer = engine.answer(question, everything)
                round_.engine[engine.name] = answer.seconds
                measured.answers[engine.name] = answer
            for loop in self.loops if name != "many donors" else ():
                answer = loop.answer(question, sample)
                round_.forward[loop.name] = list(answer.seconds.values())
                measured.answers[loop.name] = answer
            measured.rounds.append(round_)
            show(f"{name}, {length} tokens: {measured.line()}")
        return measured

    def proportionality(self, length: int) -> dict[str, tuple[float, float]]:
        """Processor seconds of a few forward passes and of twice as many, by each loop."""
        question, found = self.question("blocks", length), {}
        for loop in self.loops:
            few, many = (
                sum(loop.answer(question, question.sample(count)).seconds.values(), Seconds(0, 0)).cpu
                for count in self.settings.counts
            )
            found[loop.name] = few, many
        return found


def show(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def memory_of(contender: str, folder: Path, lengths: Sequence[int]) -> dict[str, int]:
    """Peak bytes above what is resident before the work starts, by length; run in a process of its own."""
    model = open_model(folder)
    bench = Bench(folder, Settings())
    bench.model, bench.donors = model, Donors.of(model, POOL)
    if contender.startswith("hydrascope"):
        answerer: Engine | Forwards = Engine(model, full="distributions" in contender)
    else:
        answerer = plain_loop(model.network) if contender == "plain" else PEERS[contender](folder)
    warm = bench.question("blocks", min(PROMPTS))
    answerer.answer(warm, warm.sample(2))  # weights are read from disk only when they are first used
    peaks = {}
    for length in lengths:
        question = bench.question("blocks", length)
        edits = range(len(question.edits)) if isinstance(answerer, Engine) else question.sample(2)
        reset_peak()
        before = resident_bytes()
        answerer.answer(question, edits)
        peaks[str(length)] = peak_bytes() - before
    return peaks


def memory(folder: Path, settings: Settings, peers: Sequence[str]) -> list[dict[str, int]]:
    """Peaks of all contenders, in the order of the table."""
    found = []
    for contender in ("hydrascope", "hydrascope, with distributions", "plain", *peers):
        show(f"memory: {contender}")
        command = [sys.executable, __file__, "--memory-of", contender, "--folder", str(folder)]
        command += ["--lengths", *map(str, settings.lengths), "--threads", str(torch.get_num_threads())]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="16 tokens, one round, no memory: a minute")
    parser.add_argument("--threads", type=int, default=1, help="of every contender (default 1)")
    parser.add_argument("--rounds", type=int, default=3, help="repetitions, contenders in turn (default 3)")
    parser.add_argument("--lengths", type=int, nargs="+", choices=PROMPTS, default=list(PROMPTS))
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the tables to a Markdown file")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if chosen.memory_of:
        print(json.dumps(memory_of(chosen.memory_of, chosen.folder, chosen.lengths)))
        return
    settings = Settings((16,), 1, 1, False) if chosen.quick else Settings(tuple(chosen.lengths), chosen.rounds)
    here, missing = installed_peers()
    with tempfile.TemporaryDirectory(prefix="hydrascope-benchmark-") as place:
        write_model(Path(place))
        bench = Bench(Path(place), settings)
        bench.open(here)
        measured = [bench.measure(name, length) for length in settings.lengths for name in settings.asked(length)]
        proportion = bench.proportionality(min(settings.lengths))
        peaks = memory(Path(place), settings, here) if settings.memory else []
    text = page(measured, proportion, peaks, missing, settings.rounds, settings.sample, settings.counts)
    print(text)
    if chosen.write:
        chosen.write.write_text(text)


if __name__ == "__main__":
    main()
