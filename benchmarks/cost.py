"""What runs on large models take, on paper: operations counted by the schedule, memory, and hours at an assumed rate.

    python benchmarks/cost.py --check SMOLLM2 --check GEMMA270 --write docs/cost.md

The schedule is that of a narrow random model with as many blocks and heads, which is opened and planned like any other;
what a token costs in a block is counted from the large model's shapes on torch's meta device. The count is held to
processor seconds of runs on real models here. Nothing is downloaded, and no GPU is used.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from math import ceil
from pathlib import Path

import torch
from measure import Stopwatch, machine, matrix_rate
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, MixtralConfig, PretrainedConfig

import hydrascope as hs
from hydrascope.run import Estimate, Operations, estimate, execute, prepare

PEAK = 989e12
"""Dense bfloat16 operations a second of an H100 SXM by NVIDIA's data sheet (1,979 with sparsity, of no use here)."""

GPU_BYTES = 80e9
SPARE_BYTES = 10e9
"""Memory of the GPU, and what of it is left for activations."""

ASSUMED = 0.3
"""Share of the peak that is assumed. No GPU was measured."""

LENGTH, SCHEDULED = 32, 32
"""Tokens of a prompt, and prompts that are planned; everything counted is in proportion to their number."""

PROMPTS = (1_000, 1_000_000)
GPUS = (1, 8, 64)
UNITS = {"all sub-layers": "attn,mlp", "all heads": "head"}


@dataclass(frozen=True)
class Shape:
    """A published model.

    Attributes:
        name: what it is called.
        source: where its shape is published.
        config: the shape.
    """

    name: str
    source: str
    config: PretrainedConfig


SHAPES = (
    Shape(
        "Mistral 7B",
        "config.json of mistralai/Mistral-7B-v0.1; arXiv 2310.06825, table 1",
        MistralConfig(
            vocab_size=32_000,
            hidden_size=4096,
            intermediate_size=14_336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
        ),
    ),
    Shape(
        "Llama 3.1 70B",
        "config.json of meta-llama/Llama-3.1-70B; arXiv 2407.21783, table 3",
        LlamaConfig(
            vocab_size=128_256,
            hidden_size=8192,
            intermediate_size=28_672,
            num_hidden_layers=80,
            num_attention_heads=64,
            num_key_value_heads=8,
        ),
    ),
    Shape(
        "Mixtral 8x7B",
        "config.json of mistralai/Mixtral-8x7B-v0.1; arXiv 2401.04088, table 1",
        MixtralConfig(
            vocab_size=32_000,
            hidden_size=4096,
            intermediate_size=14_336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            num_local_experts=8,
            num_experts_per_tok=2,
        ),
    ),
)


@dataclass(frozen=True)
class Cost:
    """A run of one model, counted.

    Attributes:
        clean: operations of the clean runs, which every shard makes.
        interventions: operations of all others, which shards divide.
        weights: bytes of the weights in bfloat16.
        ledger: bytes of the ledger.
    """

    clean: float
    interventions: float
    weights: float
    ledger: float

    @property
    def holding(self) -> int:
        """GPUs that hold the weights together; they work one after the other, so that they count as one."""
        return ceil((self.weights + SPARE_BYTES) / GPU_BYTES)

    def hours(self, gpus: int) -> float | None:
        """Hours on so many GPUs, one shard for each that holds the model; None where they do not hold it."""
        shards = gpus // self.holding
        return (self.clean + self.interventions / shards) / (ASSUMED * PEAK) / 3600 if shards else None


def scheduled(shape: Shape, components: str) -> Estimate:
    """What a narrow model with the shape's blocks and heads would do for `SCHEDULED` prompts."""
    heads = shape.config.num_attention_heads
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=2 * heads,
        intermediate_size=16,
        num_hidden_layers=shape.config.num_hidden_layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
    )
    torch.manual_seed(0)
    model = hs.load(AutoModelForCausalLM.from_config(config).eval())
    rows = torch.randint(3, 300, (SCHEDULED, LENGTH)).tolist()
    prompts = hs.PromptSet("planned", tuple(hs.Prompt(input_ids=tuple(row), target_id=row[0]) for row in rows))
    return estimate(prepare(model, prompts, hs.Resample(), hs.Options(components=components, memory="60GB")))


def cost(shape: Shape, plan: Estimate, prompts: int) -> tuple[Operations, Cost]:
    """The cost of a plan on the real shape."""
    with torch.device("meta"):
        network = AutoModelForCausalLM.from_config(shape.config)
    layers, times = shape.config.num_hidden_layers, prompts / SCHEDULED
    experts = [name for name, _ in network.named_modules() if name.endswith(".experts")]
    share = shape.config.num_experts_per_tok / shape.config.num_local_experts if experts else 1.0
    operations = Operations.of_network(
        network,
        head="lm_head",
        layers=layers,
        chosen=dict.fromkeys(experts, share),
        attending=layers * shape.config.hidden_size,
    )
    tokens = plan.prefill_tokens
    clean = operations.total(layers * tokens, layers * tokens * LENGTH, plan.prompts) * times
    whole = operations.total(plan.passes, plan.pairs, plan.meets_vocabulary) * times
    weights = 2.0 * sum(weight.numel() for weight in network.parameters())
    return operations, Cost(clean, whole - clean, weights, plan.ledger_bytes * times)


@dataclass(frozen=True)
class Check:
    """A count beside what it took here.

    Attributes:
        name: what was run.
        flops: operations counted.
        predicted: processor seconds at the machine's own rate.
        measured: processor seconds that the run took.
    """

    name: str
    flops: float
    predicted: float
    measured: float


def check(name: str, prompts: str, components: str) -> Check:
    """Count a run, measure the machine's rate, and make the run."""
    model = hs.load(name)
    asked = hs.load_prompts(prompts, tokenizer=model.tokenizer).spread(16)
    options = hs.Options(components=components, keep_wrong=True, null_draws=1, memory="2GB")
    task = prepare(model, asked, hs.Resample(donors=3), options)
    flops, rate = estimate(task).flops, matrix_rate()
    watch = Stopwatch()
    execute(task)
    seconds = watch.lap().cpu
    label = f"{model.source.label}, {len(task.knockouts)} knock-outs of {len(asked)} prompts"
    return Check(label, flops, flops / rate, seconds)


def page(checks: Sequence[Check]) -> str:
    """The whole page, in Markdown."""
    return "\n".join((*_head(), *_table(), *_divided(), *_checked(checks), *_assumed())) + "\n"


def _head() -> Iterator[str]:
    yield "# Cost on paper\n"
    yield (
        "What a run at the last token takes on models that are too large to be tried "
        "here. **Operations are counted; hours "
        f"are extrapolated: no GPU was measured.** They assume {ASSUMED:.0%} of "
        f"{PEAK / 1e12:,.0f} TFLOP/s, the dense bfloat16 "
        "peak of an H100 SXM by NVIDIA's data sheet. Who gets half of that share waits twice as long.\n"
    )
    yield (
        f"The defaults are counted: prompts of {LENGTH} tokens that all pass the "
        "filter, 15 resampled donors, 2 draws of the "
        "control, distributions. Companion runs (frozen responders, other ablations) "
        "come on top, each counted by `--dry-run`. "
        "Printed by `python benchmarks/cost.py`.\n"
    )


def _table() -> Iterator[str]:
    yield "## Operations, memory, hours\n"
    yield "| model | knocked out | prompts | PFLOP | weights | ledger | " + " | ".join(f"{g} GPU" for g in GPUS) + " |"
    yield "|" + " --- |" * (6 + len(GPUS))
    for shape in SHAPES:
        for units, components in UNITS.items():
            plan = scheduled(shape, components)
            for prompts in PROMPTS:
                _, one = cost(shape, plan, prompts)
                yield (
                    f"| {shape.name} | {units} ({plan.knockouts:,}) | {prompts:,} | "
                    f"{(one.clean + one.interventions) / 1e15:,.0f} | {one.weights / 1e9:,.0f} GB | "
                    f"{_bytes(one.ledger)} | "
                    + " | ".join(_hours(one.hours(gpus), one.holding) for gpus in GPUS)
                    + " |"
                )
    yield ""


def _divided() -> Iterator[str]:
    yield (
        "GPUs are used by [shards](howto/shards.md), one for as many GPUs as hold the model in bfloat16 with "
        f"{SPARE_BYTES / 1e9:.0f} GB to spare (`--device map`; they work one after the "
        "other and count as one). Each shard makes "
        "the clean runs of all prompts again, at which more GPUs gain nothing: that "
        "is why sub-layers gain less by 64 GPUs "
        "than heads do. Each GPU's hours of opening and proving the model are not counted.\n"
    )
    yield (
        "A ledger is read whole into main memory, so one of terabytes is none that can be used: a million prompts with "
        "all heads need `--detail kinds`, or prompts in several runs. Beside weights and ledger a run takes what "
        "`--memory` allows.\n"
    )


def _checked(checks: Sequence[Check]) -> Iterator[str]:
    yield "## The count beside what it took here\n"
    yield "| run | GFLOP counted | predicted, s | measured, s | share of the machine's matrix rate |"
    yield "| --- | --- | --- | --- | --- |"
    for one in checks:
        share = one.predicted / one.measured
        yield f"| {one.name} | {one.flops / 1e9:,.0f} | {one.predicted:.1f} | {one.measured:.1f} | {share:.0%} |"
    yield ""
    yield (
        "Processor seconds of one thread in float32. Predicted is the count over the rate of a matrix product of 2,048 "
        "rows, measured in the same process just before; all else (small products, "
        "norms, attention, read-outs, the ledger, "
        "donors) is what the share lacks, most in small models. "
        "`tests/run/test_operations.py` holds the count itself to "
        "torch's own counter, within 1 %.\n"
    )
    yield (f"{machine()}; Python {platform.python_version()}, torch {version('torch')}; {datetime.now(UTC).date()}.\n")


def _assumed() -> Iterator[str]:
    yield "## Shapes\n"
    yield "| model | GFLOP of a token, all blocks | GFLOP of a position's vocabulary | published in |"
    yield "| --- | --- | --- | --- |"
    for shape in SHAPES:
        operations, _ = cost(shape, scheduled(shape, "attn.0"), 1)
        blocks = operations.block * shape.config.num_hidden_layers
        yield f"| {shape.name} | {blocks / 1e9:.1f} | {operations.vocabulary / 1e9:.2f} | {shape.source} |"
    yield ""
    yield "Of Mixtral's eight experts a token passes two."


def _bytes(number: float) -> str:
    return f"{number / 1e12:,.1f} TB" if number >= 1e12 else f"{number / 1e9:,.1f} GB"


def _hours(hours: float | None, holding: int) -> str:
    if hours is None:
        return f"needs {holding}"
    number, unit = (hours, "h") if hours >= 1 else (60 * hours, "min") if hours >= 1 / 60 else (3600 * hours, "s")
    return f"{number:,.0f} {unit}" if number >= 10 else f"{number:.1f} {unit}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="append", default=[], help="folder of a real model to check the count on")
    parser.add_argument("--write", type=Path, help="the page to write")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    checks = [check("lerna", "indirect", "attn,mlp")]
    checks += [check(folder, "world", "attn,mlp") for folder in asked.check]
    text = page(checks)
    print(text)
    if asked.write is not None:
        asked.write.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
