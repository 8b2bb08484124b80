"""What the command line shows: progress, plans and results, in words or JSON."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import transformers
import xarray as xr
from rich.table import Table
from transformers import modeling_gguf_pytorch_utils

from hydrascope.analysis import ablation_loss_sentence, rank_agreement_sentence, reads_each, rounding
from hydrascope.cli._console import Terminal
from hydrascope.cli._ending import show_ending
from hydrascope.cli._streams import say
from hydrascope.results import Ledger
from hydrascope.run import Estimate, Shard, told_unready, unready
from hydrascope.run import Progress as Told
from hydrascope.run_directory import REPORT, RunDirectory

if TYPE_CHECKING:
    from hydrascope.atlases import Atlas
    from hydrascope.contexts import Context
    from hydrascope.faults import Stress
    from hydrascope.pruning import Prune
    from hydrascope.ranking import Rank


def quiet() -> None:
    """Switch the libraries' own chatter off."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    modeling_gguf_pytorch_utils.tqdm = transformers.logging.tqdm  # the one bar that does not heed it


def introduce(lines: Sequence[str]) -> None:
    """Say on standard error what a run is made on, once it is sure to begin."""
    say("\n".join(lines), error=True)


def silent(lines: Sequence[str]) -> None:
    """Say nothing, where only JSON is printed."""


def warn_of_damage(ledger: Ledger) -> None:
    """Say on standard error which companion runs are left out of what is shown, and why."""
    for name, why in ledger.damaged.items():
        say(f"companion {name} is left out: {why}", error=True)


def reported(dataset: xr.Dataset, folder: Path, progress: Told) -> Ledger:
    """A finished run with its companions so far; its report is written if it can have one."""
    ledger = Ledger(dataset, folder)
    if ledger.has_report:
        write_page(ledger, folder / REPORT, progress)
    return ledger


def write_page(result: Ledger | Stress | Rank | Prune | Atlas, page: Path, progress: Told) -> None:
    """Write a result's page, as a stage of its own."""
    progress("report", 0, 1)
    result.report(page)
    progress("report", 1, 1)


def show_estimates(
    main: Estimate, companions: Mapping[str, Estimate], frozen: Mapping[str, Estimate], *, as_json: bool
) -> None:
    """Print the plan of a run and of its companions.

    Args:
        main: plan of the run.
        companions: plans of other ablations and doses, by name.
        frozen: most that freezing may take; how much it does, only the run's ledger tells.
        as_json: print JSON.
    """
    if as_json:
        others = {name: estimate.as_dict() for name, estimate in companions.items()}
        others |= {name: {**estimate.as_dict(), "at_most": True} for name, estimate in frozen.items()}
        print(json.dumps({**main.as_dict(), **({"companions": others} if others else {})}, indent=1))
        return
    say("\n".join(main.lines()))
    for name, estimate in companions.items():
        say("\n".join(["", f"and {name}:", *estimate.lines()]))
    for estimate in frozen.values():
        say("\n".join(["", "and freeze, at most (--no-freeze leaves it out):", *estimate.lines()]))


def show_shard(shard: Shard, directory: RunDirectory, as_json: bool) -> None:
    """Say that a shard is done, and what of its run is not.

    Args:
        shard: the shard.
        directory: folder of the run.
        as_json: print JSON.
    """
    waiting = {} if directory.complete else unready(directory)
    machines = directory.record.get("machines", [])
    if as_json:
        left = {str(other): why for other, why in waiting.items()}
        facts = {"shard": str(shard), "complete": directory.complete, "unready": left, "machines": machines}
        say(json.dumps({**facts, "folder": str(directory.path)}, indent=1))
        return
    if len(machines) > 1:
        say(
            f"computed on unlike machines, so that last bits may depend on the shard: {'; '.join(machines)}", error=True
        )
    if waiting:
        say(f"shard {shard} is done; {told_unready(waiting)}")
    else:
        say(f"shard {shard} is done, and all are joined; the same command without --shard adds companions and report")
    say(directory.path)


def show_result(ledger: Ledger, page: Path, as_json: bool, *, listed: bool = False) -> None:
    """Print what a run found and where the report is.

    Args:
        ledger: a finished run.
        page: path of its report.
        as_json: print JSON.
        listed: print every sentence or, where there is none, list the knock-outs.
    """
    if not ledger.has_report:
        _show_sums(ledger, page.parent, as_json, listed)
        return
    if as_json:
        print(json.dumps(_as_json(ledger, page), indent=1))
        return
    console = Terminal()
    console.soft_wrap = not console.is_terminal  # what is piped is wrapped by its reader
    if not listed:
        show_ending(ledger, page, console)
        return
    summary, closing = ledger.summary(), ledger.closing()
    console.print(summary.headline, style="bold")
    for sentence in summary.leading:
        console.print(f"- {sentence}")
    for sentence in summary.details:
        console.print(f"- {sentence}", style="dim")
    for told in (rank_agreement_sentence(ledger.rank_agreement()), ablation_loss_sentence(ledger.ablation_loss())):
        if told:
            console.print(f"- {told}", style="dim")
    attributes = ledger.dataset.attrs
    console.print(
        f"\nThe ledger closes to {closing.error:.1e} (allowed {attributes['closing_tolerance']:g}); clean logits equal "
        f"the untouched model's to {attributes['parity_error']:.1e}; {attributes['seconds']:.1f} s.",
    )
    if (rounded := rounding(ledger.dataset)) is not None:
        console.print(rounded)
    say(page)  # unwrapped and last, so that it can be clicked or piped


def _show_sums(ledger: Ledger, folder: Path, as_json: bool, listed: bool) -> None:
    """Print what can be said of a ledger that keeps too little for a headline."""
    attributes = dict(ledger.dataset.attrs)
    said = f"{_why_no_verdict(ledger)}, so there is no verdict and no report."
    if not listed:
        said += f" What each knock-out costs: hydrascope show {shlex.quote(str(folder))}"
    if as_json:
        found = {"note": said, "attributes": attributes, "ledger": str(folder / "ledger.zarr")}
        print(json.dumps({**found, **({"knock_outs": records(_costs(ledger))} if listed else {})}, indent=1))
        return
    say(
        f"{ledger.dataset.sizes['ablated']:,} knock-outs of {ledger.dataset.sizes['prompt']:,} prompts. {said}\n"
        f"The ledger closes to {attributes['closing_error']:.1e} (allowed {attributes['closing_tolerance']:g}); clean "
        f"logits equal the untouched model's to {attributes['parity_error']:.1e}; {attributes['seconds']:.1f} s."
    )
    if (rounded := rounding(ledger.dataset)) is not None:
        say(rounded)
    if listed:
        _list_costs(_costs(ledger))
    say(folder / "ledger.zarr")


def _why_no_verdict(ledger: Ledger) -> str:
    if reads_each(ledger.dataset):
        return "The direct effect of nothing that was knocked out is known (--writers heads keeps that of heads)"
    return "Only sums by kind of writer were kept (--detail kinds)"


def _costs(ledger: Ledger) -> pd.DataFrame:
    """Every knock-out's account, the largest total effect first."""
    table = ledger.repair()
    table = table.loc[table["total_effect"].abs().sort_values(ascending=False, kind="stable").index]
    return table[["ablated", *(name for effect in COSTS for name in (effect, f"{effect}_lo", f"{effect}_hi"))]]


def _list_costs(table: pd.DataFrame) -> None:
    """Print the first rows of `_costs` as a table."""
    listing = Table("knocked out", *COSTS.values(), box=None, pad_edge=False)
    for row in table.head(LISTED).to_dict("records"):
        listing.add_row(
            str(row["ablated"]), *(f"{row[e]:+.3f} [{row[f'{e}_lo']:.3f}, {row[f'{e}_hi']:.3f}]" for e in COSTS)
        )
    Terminal().print(listing)
    if len(table) > LISTED:
        say(f"Means in logits with 95 % intervals; the {LISTED} of {len(table):,} with the largest total effect.")
    else:
        say("Means in logits with 95 % intervals.")


def _as_json(ledger: Ledger, page: Path) -> dict[str, Any]:
    summary, alike, frozen = ledger.summary(), ledger.rank_agreement(), ledger.freeze()
    claims = None if reads_each(ledger.dataset) else records(ledger.mcgrath())
    said = {"sentence": rank_agreement_sentence(alike), "pairs": records(alike)}
    return {
        "headline": summary.headline,
        "sentences": list(summary.sentences),
        "numbers": summary.numbers,
        "agreement": said if len(alike) else None,
        "mcgrath": claims,
        "freeze": records(frozen) if len(frozen) else None,
        "attributes": dict(ledger.dataset.attrs),
        "rounding": rounding(ledger.dataset),
        "ledger": str(page.parent / "ledger.zarr"),
        "report": str(page),
    }


def show_sentences(headline: str, sentences: Sequence[str]) -> None:
    """Print what was found."""
    console = Terminal()
    console.soft_wrap = not console.is_terminal  # what is piped is wrapped by its reader
    console.print(headline, style="bold")
    for sentence in sentences:
        console.print(f"- {sentence}")


def show_tables(found: Stress | Rank, place: Path, facts: Mapping[str, Any], as_json: bool) -> None:
    """Say what a stress test or a ranking found.

    Args:
        found: the finished test or ranking.
        place: path of its page or folder.
        facts: what JSON holds beside headline, sentences, numbers and tables.
        as_json: everything as JSON instead.
    """
    said = found.summary()
    if not as_json:
        show_sentences(said.headline, said.sentences)
        say(place)  # last, so that it can be clicked or piped
        return
    say(json.dumps({**told_as_json(found), "attributes": dict(found.findings.ds.attrs), **facts}, indent=1))


def told_as_json(found: Stress | Rank | Context | Atlas) -> dict[str, Any]:
    """Headline, sentences, numbers and tables, for JSON."""
    said = found.summary()
    told = {"headline": said.headline, "sentences": list(said.sentences), "numbers": dict(said.numbers)}
    return {**told, "tables": {name: records(table) for name, table in found.tables().items()}}


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows for JSON, which knows no NaN."""
    found: list[dict[str, Any]] = json.loads(table.to_json(orient="records", double_precision=15))
    return found


COSTS = {
    "total_effect": "total effect",
    "own_change": "own change",
    "compensation": "compensation",
    "norm_effect": "norm effect",
}
"""Column to heading in the list of knock-outs."""
LISTED = 20
"""Most knock-outs listed in a terminal."""
