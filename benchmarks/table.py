"""What was measured, and the page that says so."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import torch
from contenders import Answer
from measure import Seconds, Timing, machine
from question import Arithmetic, Question
from torch import Tensor

TITLES = {
    "blocks": "All attention layers and MLPs (24 knock-outs), 4 donors",
    "many donors": "All attention layers and MLPs, 15 donors",
    "heads": "All heads (144 knock-outs), 1 donor",
}


@dataclass
class Round:
    """One turn of all contenders.

    Attributes:
        rate: operations per processor second of a large matrix product.
        engine: pieces of work of each form of the engine.
        forward: single forward passes of each loop.
    """

    rate: float
    engine: dict[str, dict[str, Seconds]] = field(default_factory=dict)
    forward: dict[str, list[Seconds]] = field(default_factory=dict)


@dataclass
class Measured:
    """All rounds of one question."""

    name: str
    question: Question
    arithmetic: tuple[Arithmetic, ...]
    engines: list[str]
    loops: list[str]
    rounds: list[Round] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)
    clean: dict[str, Tensor] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Tokens of a prompt."""
        return self.question.ids.shape[1]

    @property
    def passes(self) -> int:
        """Forward passes that a loop needs."""
        return 1 + len(self.question.edits)

    def engine(self, name: str, clock: str = "cpu", piece: str | None = None) -> Timing:
        """Seconds of the engine, whole or one piece."""
        return Timing.of(
            [sum(getattr(s, clock) for key, s in r.engine[name].items() if piece in (None, key)) for r in self.rounds]
        )

    def forward(self, name: str, clock: str = "cpu", whole: bool = True) -> Timing:
        """Seconds of a loop: one forward pass, or all that it needs."""
        times = [getattr(one, clock) for r in self.rounds for one in r.forward[name]]
        return Timing.of(times, self.passes if whole else 1)

    @property
    def rate(self) -> Timing:
        """Operations per second of the matrix product."""
        return Timing.of([r.rate for r in self.rounds])

    def over_limit(self, index: int) -> float:
        """Time of a form of the engine as a multiple of what the arithmetic takes at the matrix product's rate."""
        return self.engine(self.engines[index]).middle * self.rate.middle / self.arithmetic[index].total

    @property
    def model_share(self) -> float:
        """Share of the matrix product's rate that the model's own code reaches in the prefill."""
        needed = self.arithmetic[0].prefill + self.arithmetic[0].unembedding
        return needed / self.engine(self.engines[0], piece="prefill").middle / self.rate.middle

    def per_row(self, name: str) -> float:
        """Processor milliseconds per ablated row, without the prefill."""
        return self.engine(name, piece="sweep").middle / self.question.rows * 1e3

    def differences(self) -> tuple[dict[str, float], float]:
        """Largest difference of a total effect from the engine's, per loop, and the largest total effect."""
        base = self.answers[self.engines[0]]
        assert base.clean is not None
        found = {}
        for name, clean in self.clean.items():
            if name in self.answers:
                found[name] = max(
                    float((value - clean - (base.ablated[i] - base.clean)).abs().max())
                    for i, value in self.answers[name].ablated.items()
                )
        return found, max(float((value - base.clean).abs().max()) for value in base.ablated.values())

    def line(self) -> str:
        """The latest state in one line."""
        parts = [f"{name} {self.engine(name).middle:.2f} s" for name in self.engines]
        parts += [f"{name} {self.forward(name).middle:.1f} s" for name in self.rounds[-1].forward]
        return ", ".join(parts) + f", matrix product {self.rate.middle / 1e9:.0f} GFLOP/s"


def page(
    measured: Sequence[Measured],
    proportion: Mapping[str, tuple[float, float]],
    peaks: Sequence[Mapping[str, int]],
    missing: Sequence[str],
    rounds: int,
    sample: int,
    counts: tuple[int, int],
) -> str:
    """The whole page, in Markdown."""
    blocks = ["# Speed", *_setting(measured, missing, rounds, sample)]
    for name in TITLES:
        if asked := [m for m in measured if m.name == name]:
            blocks += [f"## {TITLES[name]}", _times(asked, measured)]
    blocks += ["## Against the arithmetic", *_limits(measured)]
    blocks += ["## Do they agree?", *_agreement(measured)]
    blocks += ["## Is scaling up a sample fair?", *_proportion(proportion, counts)]
    if peaks:
        blocks += ["## Peak memory", *_peaks(measured, peaks)]
    return "\n\n".join(blocks) + "\n"


def _setting(measured: Sequence[Measured], missing: Sequence[str], rounds: int, sample: int) -> Iterable[str]:
    versions = ", ".join(
        f"{name} {_version(name)}"
        for name in ("torch", "transformers", "transformer-lens", "nnsight")
        if _version(name)
    )
    batches = ", ".join(f"{m.question.ids.shape[0]} of {m.length} tokens" for m in measured if m.name == "blocks")
    load = os.getloadavg()[0]
    yield (
        "Printed by `benchmarks/last_token.py`. Every contender gets the same random weights in the shape of GPT-2 "
        "small (12 blocks, 12 heads, width 768, 50 257 tokens, float32), the same prompts and the same donor values, "
        "and replaces one component at the last token of every prompt."
    )
    yield (
        f"- Machine: {machine()}; {torch.get_num_threads()} thread(s); load average at the end {load:.1f}\n"
        f"- Date: {datetime.now(UTC).date().isoformat()}\n"
        f"- Versions: Python {platform.python_version()}, {versions}\n"
        f"- Prompts in a batch, for every contender: {batches}"
        + (f"\n- Not installed, so not measured: {', '.join(missing)}" if missing else "")
    )
    yield (
        "**hydrascope** counts everything from token ids and donor values to the read-outs of all writers, the norm's "
        "scales and the total effects; **with distributions** adds log-probability, rank and KL divergence, for which "
        "all rows meet the whole vocabulary. The **plain loop** is the Hugging Face model with a hook, unembedding the "
        "last position only. TransformerLens (`run_with_hooks`) and nnsight (one trace per knock-out) are used as "
        "their documentation shows, and unembed all positions. All but hydrascope return total effects only."
    )
    yield (
        "Times are processor seconds, which other work on the machine disturbs least: median (least to most) of "
        f"{rounds} round(s) with the contenders in turn. Contenders that need one forward pass per knock-out and "
        f"donor were timed on {sample} pass(es) per round and scaled to all (marked ×)."
    )
    yield (
        "To repeat: `pip install -e '.[peers]'`, then `python benchmarks/last_token.py --write docs/benchmarks.md` "
        "(`--quick` for a minute's version)."
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _times(asked: Sequence[Measured], measured: Sequence[Measured]) -> str:
    rows = []
    for m in asked:
        timed = _timed_loops(m, measured)
        for name in m.engines:
            rows.append([str(m.length), name, str(m.engine(name)), f"{m.engine(name, 'wall').middle:.2f}", "", ""])
        for name in m.loops:
            one = timed.forward(name, whole=False)
            whole = Timing(*(part * m.passes for part in (one.middle, one.low, one.high)))
            wall = timed.forward(name, "wall", whole=False).middle * m.passes
            ratios = [f"{whole.middle / m.engine(engine).middle:.0f}" for engine in m.engines]
            rows.append([str(m.length), name, f"{whole} ×", f"{wall:.2f} ×", *ratios])
    head = ["tokens", "contender", "seconds", "wall seconds", "times hydrascope", "times hydrascope with distributions"]
    return _table(head, rows)


def _timed_loops(m: Measured, measured: Sequence[Measured]) -> Measured:
    """Where the loops were timed: with 15 donors a forward pass is the same as with 4."""
    if m.rounds[0].forward:
        return m
    return next(other for other in measured if other.length == m.length and other.name == "blocks")


def _limits(measured: Sequence[Measured]) -> Iterable[str]:
    rows = []
    for m in measured:
        for i, name in enumerate(m.engines):
            needed, over = m.arithmetic[i], m.over_limit(i)
            rows.append(
                [
                    TITLES[m.name],
                    str(m.length),
                    name,
                    f"{needed.prefill / 1e9:.0f} + {needed.tokens / 1e9:.0f} + {needed.unembedding / 1e9:.0f}",
                    f"{m.rate.middle / 1e9:.0f}",
                    f"{1 / over:.0%}",
                    f"{over:.2f}",
                    f"{m.model_share:.0%}",
                    f"{m.per_row(name):.2f}",
                ]
            )
    yield (
        "Operations that remain once the prefix is shared (prefill + single tokens + unembedding, counted from "
        "the shapes), the rate of a 2048³ matrix product measured in the same rounds, the share of that rate reached "
        "over the whole answer, its inverse (1 would be nothing but matrix products at full speed), the share that the "
        "untouched model's own code reaches in the prefill, and the processor "
        "milliseconds per ablated row without the prefill, which should not depend on the prompt's length beyond the "
        "attention to it and the size of the batch."
    )
    yield _table(
        [
            "question",
            "tokens",
            "contender",
            "GFLOP",
            "GFLOP/s",
            "share",
            "times the limit",
            "share of the model's own prefill",
            "ms per ablated row",
        ],
        rows,
    )


def _agreement(measured: Sequence[Measured]) -> Iterable[str]:
    rows = []
    for m in measured:
        found, size = m.differences()
        rows += [[TITLES[m.name], str(m.length), name, f"{worst:.1e}", f"{size:.2f}"] for name, worst in found.items()]
    yield "Largest difference of a total effect from hydrascope's over the sample, in logits."
    yield _table(["question", "tokens", "contender", "largest difference", "largest total effect"], rows)


def _proportion(proportion: Mapping[str, tuple[float, float]], counts: tuple[int, int]) -> Iterable[str]:
    few, many = counts
    yield f"Seconds of {few} and of {many} forward passes at the shortest length; exactly proportional would be 2."
    rows = [[name, f"{a:.2f}", f"{b:.2f}", f"{b / a:.2f}"] for name, (a, b) in proportion.items()]
    yield _table(["contender", f"{few} passes", f"{many} passes", "ratio"], rows)


def _peaks(measured: Sequence[Measured], peaks: Sequence[Mapping[str, int]]) -> Iterable[str]:
    names = [*measured[0].engines, *measured[0].loops]
    lengths = list(peaks[0])
    yield (
        "High-water mark of the resident set during the work on all attention layers and MLPs with 4 donors, above "
        "what was resident when it began (the weights), in MiB; every contender in a process of its own. The loops "
        "hold one forward pass at a time."
    )
    rows = [
        [name, *(f"{peak[length] / 2**20:.0f}" for length in lengths)] for name, peak in zip(names, peaks, strict=True)
    ]
    yield _table(["contender", *(f"{length} tokens" for length in lengths)], rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
