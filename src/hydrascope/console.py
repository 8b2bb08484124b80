"""What the command line shows: progress, plans and results in a terminal, or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from hydrascope import zoo
from hydrascope.analysis import agreement, harm
from hydrascope.analysis.closing import rounding
from hydrascope.anatomy import Model, load
from hydrascope.errors import PromptError, RunError
from hydrascope.estimate import Estimate
from hydrascope.prompts import Cut, PromptSet, cut, documents, is_text, named_task
from hydrascope.prompts import load as load_prompts
from hydrascope.protocols import Protocol
from hydrascope.results import Ledger
from hydrascope.run import Progress as Told
from hydrascope.task import Options


def default_prompts(model: str | None, how: Cut | None = None) -> str:
    """What a model is run on when nothing is asked for: a bundled model's own, or facts of the real world.

    Raises:
        PromptError: text is asked for, and no text goes with the model.
    """
    bundled = zoo.default() if model is None else zoo.find(model)
    if how is not None:
        text = None if bundled is None else bundled.path / "text.jsonl"
        if text is None or not text.exists():
            raise PromptError("the text protocol needs text; give --prompts FILE, a folder, or hub:OWNER/NAME")
        return str(text)
    return "world" if bundled is None else bundled.prompts.stem


def options(protocol: Protocol, **given: Any) -> Options:
    """A protocol's options, less those that are given; None is not given."""
    told = {name: value for name, value in given.items() if value is not None}
    where = {name: told.pop(name) for name in ("knocked_out", "read", "skipped") if name in told}
    return replace(protocol.options, scope=replace(protocol.options.scope, **where), **told)


def cutting(protocol: Protocol, length: int | None, texts: int | None, chosen: Options) -> Cut | None:
    """How text is cut, for protocols that take text.

    Raises:
        RunError: a length or number of texts is given to a protocol that takes prompts as they are.
    """
    if protocol.length is None:
        if length is not None or texts is not None:
            raise RunError(
                "--length and --texts cut text into pieces, which --protocol facts does not; use --protocol text"
            )
        return None
    return Cut(length or protocol.length, texts, chosen.bos)


def open_model(name: str | None, device: str, dtype: str, trust_remote_code: bool) -> Model:
    """Open a model, the bundled one by default, with the libraries' own chatter off."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    chosen = zoo.default().name if name is None else name
    return load(chosen, device=device, dtype=dtype, trust_remote_code=trust_remote_code)


def open_both(
    name: str | None, prompts: str | None, how: Cut | None, device: str, dtype: str, trust_remote_code: bool
) -> tuple[Model, PromptSet]:
    """Open a model and load the prompts it is to be run on, or the text, cut into pieces.

    Mistakes in prompts are told before the model is opened, unless they are a task's, which depend on its tokenizer.
    """
    asked = prompts or default_prompts(name, how)
    if how is not None and is_text(asked):
        found = documents(asked)
        model = open_model(name, device, dtype, trust_remote_code)
        label = Path(asked.removeprefix("hub:")).stem
        return model, cut(found, model.tokenizer, how, name=label, context=model.context)
    loaded = None if named_task(asked) else load_prompts(asked)
    model = open_model(name, device, dtype, trust_remote_code)
    return model, load_prompts(asked, tokenizer=model.tokenizer) if loaded is None else loaded


@contextmanager
def progress_bars(quiet: bool) -> Iterator[Told]:
    """Bars on standard error while it is a terminal; nothing otherwise."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bars:
        known: dict[str, TaskID] = {}

        def told(stage: str, done: int, total: int) -> None:
            if stage not in known:
                known[stage] = bars.add_task(stage, total=total)
            bars.update(known[stage], completed=done)

        yield told


def show_estimates(main: Estimate, also: Mapping[str, Estimate], as_json: bool) -> None:
    """Print the plan of a run, and of those that belong to it, by name."""
    if as_json:
        others = {"also": {name: estimate.as_dict() for name, estimate in also.items()}} if also else {}
        print(json.dumps({**main.as_dict(), **others}, indent=1))
        return
    _show_estimate(main)
    for name, estimate in also.items():
        print(f"\nand {name}:")
        _show_estimate(estimate)


def _show_estimate(e: Estimate) -> None:
    print(
        f"{e.prompts} prompts x {e.knockouts} knock-outs, {e.variants} variants a prompt\n"
        f"{e.prefill_tokens:,} tokens to prefill, {e.variant_tokens:,} tokens for the variants\n"
        f"about {e.needed_bytes / 2**20:,.0f} MB beside the weights, of {e.budget_bytes / 2**20:,.0f} MB allowed, and "
        f"{e.ledger_bytes / 2**20:,.0f} MB of ledger\n"
        f"about {e.flops / 1e9:,.1f} GFLOP: at least {e.seconds:,.1f} s at the speed of a matrix product here"
    )


def show_result(ledger: Ledger, page: Path, as_json: bool) -> None:
    """Print the verdict and where the report is."""
    if not ledger.has_report:
        _show_sums(ledger, page.parent, as_json)
        return
    verdict, closing = ledger.verdict(), ledger.closing()
    if as_json:
        print(json.dumps(_as_json(ledger, page), indent=1))
        return
    console = Console(highlight=False)
    console.soft_wrap = not console.is_terminal  # what is piped is wrapped by its reader
    console.print(verdict.headline, style="bold", markup=False)
    for sentence in verdict.leading:
        console.print(f"- {sentence}", markup=False)
    for sentence in verdict.details:
        console.print(f"- {sentence}", style="dim", markup=False)
    for told in (agreement.sentence(ledger.findings.agreement), harm.sentence(ledger.findings.harm)):
        if told:
            console.print(f"- {told}", style="dim", markup=False)
    attributes = ledger.dataset.attrs
    console.print(
        f"\nThe ledger closes to {closing.error:.1e} (allowed {attributes['closing_tolerance']:g}); clean logits equal "
        f"the untouched model's to {attributes['parity_error']:.1e}; {attributes['seconds']:.1f} s.",
        markup=False,
    )
    if (rounded := rounding(ledger.dataset)) is not None:
        console.print(rounded, markup=False)
    print(page)  # unwrapped and last, so that it can be clicked or piped


def _show_sums(ledger: Ledger, folder: Path, as_json: bool) -> None:
    """Print what can be said of a ledger that keeps only sums by kind of writer."""
    attributes = dict(ledger.dataset.attrs)
    said = (
        "Only sums by kind of writer were kept (--detail kinds), so there is no verdict and no report; "
        "Ledger.repair() reads the ledger."
    )
    if as_json:
        print(json.dumps({"note": said, "attributes": attributes, "ledger": str(folder / "ledger.zarr")}, indent=1))
        return
    print(
        f"{ledger.dataset.sizes['ablated']:,} knock-outs of {ledger.dataset.sizes['prompt']:,} prompts. {said}\n"
        f"The ledger closes to {attributes['closing_error']:.1e} (allowed {attributes['closing_tolerance']:g}); clean "
        f"logits equal the untouched model's to {attributes['parity_error']:.1e}; {attributes['seconds']:.1f} s."
    )
    if (rounded := rounding(ledger.dataset)) is not None:
        print(rounded)
    print(folder / "ledger.zarr")


def _as_json(ledger: Ledger, page: Path) -> dict[str, Any]:
    verdict = ledger.verdict()
    return {
        "headline": verdict.headline,
        "sentences": list(verdict.sentences),
        "numbers": verdict.numbers,
        "attributes": dict(ledger.dataset.attrs),
        "rounding": rounding(ledger.dataset),
        "ledger": str(page.parent / "ledger.zarr"),
        "report": str(page),
    }
