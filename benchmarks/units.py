"""Time and memory of whole unit sweeps, all heads of many prompts and all neurons of one, against a plain loop.

    python benchmarks/units.py --write docs/units.md

Each sweep is a whole run of the package, from token ids to a ledger on disk, in a process of its own that may use so
much memory beside the weights. The loop is timed on a sample, in the same process and after the sweep, and scaled up;
total effects of the sample must agree.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import torch
from measure import Stopwatch, machine, peak_bytes, reset_peak, resident_bytes
from question import open_model, write_model
from torch import Tensor
from transformers.utils import logging

import hydrascope as hs
from hydrascope.components import Component
from hydrascope.run._execution import execute
from hydrascope.run._options import Options
from hydrascope.run._task import prepare

TOKENS = 16
SEED = 7


@dataclass(frozen=True)
class Sweep:
    """What is asked.

    Attributes:
        title: as printed.
        components: what is knocked out.
        prompts: how many.
        donors: draws by resampling; 0 replaces by zeros, once.
        null_draws: of the random control.
        detail: how much of the account is kept.
    """

    title: str
    components: str
    prompts: int
    donors: int = 0
    null_draws: int = 0
    detail: str = "full"

    @property
    def command(self) -> str:
        """The same on the command line."""
        how = f"--donors {self.donors}" if self.donors else "--ablation zero"
        detail = f" --detail {self.detail}" if self.detail != "full" else ""
        return (
            f"hydrascope run MODEL --prompts FILE --components {self.components} {how} --null-draws {self.null_draws}"
            f" --target top{detail} --memory MEMORY"
        )


SWEEPS = {
    "heads": Sweep("All heads, replaced by zeros", "head", 64),
    "heads with donors": Sweep("All heads, 4 donors and 1 control", "head", 64, 4, 1),
    "neurons": Sweep("All neurons, replaced by zeros", "neuron", 1, detail="kinds"),
}


@dataclass(frozen=True)
class Found:
    """What was measured; seconds are the processor's unless they are called wall.

    Attributes:
        knockouts: how many units.
        rows: knock-outs times draws times prompts.
        cpu: seconds of the run.
        wall: wall seconds of the run.
        opened: bytes resident when the model had been opened.
        peak: the most that was resident during the run.
        pass_cpu: seconds of one forward pass over all prompts with a hook, median of the sample.
        passes: how many the loop needs.
        difference: largest difference of a total effect from the loop's over the sample; None where donors are drawn.
        effect: largest total effect in the sample.
        closing: the ledger's own closing error.
    """

    knockouts: int
    rows: int
    cpu: float
    wall: float
    opened: int
    peak: int
    pass_cpu: float
    passes: int
    difference: float | None
    effect: float
    closing: float


def measure(sweep: Sweep, folder: Path, memory: str, sample: int) -> Found:
    """Run a sweep, then a sample of the loop, in this process."""
    model = open_model(folder)
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(0, model.anatomy.n_vocab, (sweep.prompts, TOKENS), generator=generator)
    prompts = hs.PromptSet("random", tuple(hs.Prompt(input_ids=tuple(row)) for row in ids.tolist()))
    ablation = hs.Resample(donors=sweep.donors) if sweep.donors else hs.Zero()
    options = Options(
        components=sweep.components,
        target="top",
        null_draws=sweep.null_draws,
        memory=memory,
        detail=sweep.detail,  # type: ignore[arg-type]
    )
    plain_pass(model, ids, None)  # weights are read from disk only when they are first used
    with tempfile.TemporaryDirectory(prefix="hydrascope-units-") as place:
        reset_peak()
        opened, watch = resident_bytes(), Stopwatch()
        task = prepare(model, prompts, ablation, options)
        ledger, _ = execute(task, Path(place) / "run", progress=show_progress)
        seconds, peak = watch.lap(), peak_bytes()
        step = len(task.knockouts) / sample
        chosen = [task.knockouts[int((i + 0.5) * step)] for i in range(sample)]
        targets = torch.tensor(ledger["target_token"].values)
        clean, _ = plain_pass(model, ids, None)
        times, worst, largest = [], 0.0, 0.0
        for knockout in chosen:
            logits, cpu = plain_pass(model, ids, knockout.parts[0])
            times.append(cpu)
            effect = centred(logits, targets) - centred(clean, targets)
            found = torch.tensor(ledger["total_effect"].sel(ablated=str(knockout)).values)
            worst = max(worst, float((effect - found).abs().max()))
            largest = max(largest, float(effect.abs().max()))
        draws = max(1, sweep.donors) + sweep.null_draws
        closing = float(ledger.attrs["closing_error"])
    units = len(task.knockouts)
    return Found(
        units, units * draws * sweep.prompts, seconds.cpu, seconds.wall, opened, peak, median(times), 1 + units * draws,
        None if sweep.donors else worst, largest, closing,
    )  # fmt: skip


def plain_pass(model: hs.Model, ids: Tensor, part: Component | None) -> tuple[Tensor, float]:
    """Last logits of one forward pass with a unit at zero, and its processor seconds."""
    with torch.no_grad(), silenced(model, part):
        watch = Stopwatch()
        logits = model.network(ids, use_cache=False, logits_to_keep=1).logits[:, -1]
        return logits, watch.lap().cpu


@contextmanager
def silenced(model: hs.Model, part: Component | None) -> Iterator[None]:
    """Zeros where a unit lies at the last position."""
    if part is None:
        yield
        return
    block = model.network.transformer.h[part.layer]
    module, width = (block.attn.c_proj, 64) if part.kind == "head" else (block.mlp.c_proj, 1)
    assert part.unit is not None
    span = slice(part.unit * width, (part.unit + 1) * width)

    def put(_: Any, args: Any) -> Any:
        state = args[0].clone()
        state[:, -1, span] = 0
        return (state,)

    handle = module.register_forward_pre_hook(put)
    try:
        yield
    finally:
        handle.remove()


def centred(logits: Tensor, targets: Tensor) -> Tensor:
    return logits.gather(1, targets[:, None])[:, 0] - logits.mean(-1)


def show_progress(stage: str, done: int, total: int) -> None:
    print(f"\r{stage}: {done:,} of {total:,} ", end="", file=sys.stderr, flush=True)


def page(found: dict[str, Found], memory: str, sample: int) -> str:
    """The tables."""
    threads = torch.get_num_threads()
    lines = [
        "# Unit sweeps",
        "",
        f"Printed by `benchmarks/units.py`: random weights in the shape of GPT-2 small (12 blocks, 12 heads, 3072 "
        f"neurons a block, float32), random prompts of {TOKENS} tokens. Each sweep is one run, from token ids to the "
        f"ledger on disk, proof of the engine and distributions included, in a process of its own and with `--memory "
        f"{memory}` beside the weights.",
        "",
        f"- Machine: {machine()}; {threads} thread(s); load average at the end {os.getloadavg()[0]:.1f}",
        f"- Date: {datetime.now(UTC):%Y-%m-%d}",
        f"- Versions: Python {platform.python_version()}, torch {torch.__version__}, transformers "
        f"{version('transformers')}",
        "",
        "Times are processor seconds, which other work on the machine disturbs least; wall times are given beside "
        f"them. The **plain loop** is the Hugging Face model with a hook, one forward pass over all prompts per unit "
        f"and draw that unembeds the last position only, timed on {sample} passes in the same process and scaled up "
        "(×).",
        "",
        *table(
            ["sweep", "units", "prompts", "ablated rows", "seconds", "wall", "ms a row", "plain loop", "times faster"],
            [
                [
                    SWEEPS[name].title, f"{f.knockouts:,}", str(SWEEPS[name].prompts), f"{f.rows:,}", f"{f.cpu:.0f}",
                    f"{f.wall:.0f}", f"{1e3 * f.cpu / f.rows:.2f}", f"{f.pass_cpu * f.passes:,.0f} ×",
                    f"{f.pass_cpu * f.passes / f.cpu:.1f}",
                ]
                for name, f in found.items()
            ],
        ),
        "",
        "## Memory",
        "",
        "Resident set in MiB: with the model open, at its peak during the run, and the difference, which is what the "
        "budget limits.",
        "",
        *table(
            ["sweep", "model open", "peak", "above the model", "budget"],
            [
                [SWEEPS[name].title, *(f"{b / 2**20:.0f}" for b in (f.opened, f.peak, f.peak - f.opened)), memory]
                for name, f in found.items()
            ],
        ),
        "",
        "## Do they agree?",
        "",
        "Largest difference of a total effect from the plain loop's over the sample, in logits, and how far any "
        "account of the whole sweep is from closing.",
        "",
        *table(
            ["sweep", "largest difference", "largest total effect", "closing error"],
            [
                [
                    SWEEPS[name].title, "donors drawn by the run" if f.difference is None else f"{f.difference:.1e}",
                    "" if f.difference is None else f"{f.effect:.2f}", f"{f.closing:.1e}",
                ]
                for name, f in found.items()
            ],
        ),
        "",
        "To repeat: `python benchmarks/units.py --write docs/units.md`. On a model of your own:",
        "",
        "```",
        *(SWEEPS[name].command for name in found),
        "```",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1, help="of everything (default 1)")
    parser.add_argument("--sample", type=int, default=12, help="forward passes of the loop (default 12)")
    parser.add_argument("--memory", default="2GB", help="budget beside the weights (default 2GB)")
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--write", type=Path, metavar="FILE", help="also write the tables to a Markdown file")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if chosen.measure:
        print(json.dumps(asdict(measure(SWEEPS[chosen.measure], chosen.folder, chosen.memory, chosen.sample))))
        return
    found = {}
    with tempfile.TemporaryDirectory(prefix="hydrascope-benchmark-") as place:
        write_model(Path(place))
        for name in chosen.sweeps:
            command = [sys.executable, __file__, "--measure", name, "--folder", place, "--memory", chosen.memory]
            command += ["--sample", str(chosen.sample), "--threads", str(chosen.threads)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[name] = Found(**json.loads(done.stdout.strip().splitlines()[-1]))
            print(f"\n{name}: {found[name]}", file=sys.stderr)
    text = page(found, chosen.memory, chosen.sample)
    print(text)
    if chosen.write:
        chosen.write.write_text(text)


if __name__ == "__main__":
    main()
