"""What was run, how far to trust it, and how to do it again: read from the ledger's attributes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import pandas as pd
import xarray as xr

from hydrascope.analysis import Closing, rounding
from hydrascope.report.numbers import number

Pairs = tuple[tuple[str, str], ...]

OPENING = """import xarray as xr
ledger = xr.open_zarr("ledger.zarr", consolidated=False)
ledger.change.sel(ablated="{ablated}").mean("prompt").to_series()"""

_TARGETS = {
    "label": "the answer given with each prompt",
    "difference": "the answer given with each prompt against its foil: the difference of their logits",
    "top": "the token the model itself ranks first in the clean run",
    "random-top": "a random one of the ten tokens that the model itself ranks first in the clean run",
    "kl": "the token the model itself ranks first in the clean run; knock-outs are ranked by KL divergence",
}
OFF_DISTRIBUTION = {
    "zero": "Zeros are a value that no prompt produces; part of what is seen may be the model coping with nonsense.",
    "mean": "A mean over prompts is a value that no single prompt produces; it may lie off the model's usual paths.",
    "optimal": "A learned constant is the least harmful one on these prompts; on others it may do more harm.",
    "noise": "Added noise is a disturbance that no prompt produces; part of what is seen may be its own effect.",
}
"""What is to be said of ablations that put in place what no prompt does."""

_REPLACED = {
    "zero": "zeros",
    "mean": "the mean over prompts",
    "optimal": "the constant that does the least harm",
}


def headline_facts(ds: xr.Dataset) -> Pairs:
    """The few facts under the title."""
    a = ds.attrs
    return (
        ("Prompts", f"{ds.sizes['prompt']:,}"),
        ("Knock-outs", f"{ds.sizes['ablated']:,}"),
        ("Replaced by", _ablation(a)),
        ("Layers", f"{int(a['n_layers'])}"),
        ("Parameters", _millions(int(a["n_parameters"]))),
        ("Date", str(a["created"])[:10]),
    )


def run_facts(ds: xr.Dataset) -> Pairs:
    """Everything about the run that a reader may ask for."""
    a = ds.attrs
    groups = len(set(ds["group"].values)) if "group" in ds.coords else ds.sizes["prompt"]
    kept, given = int(a["prompts_kept"]), int(a["prompts_total"])
    wrong = int(a["prompts_dropped_wrong"])
    why = (
        "its foil was above the answer"
        if a["target_policy"] == "difference"
        else "the model's first choice was another token"
    )
    reasons = (
        (wrong, why),
        (int(a.get("prompts_dropped_alike", 0)), "answer and foil begin with the same token"),
        (int(a.get("prompts_unfit", 0)), "the tokenizer does not write them as the task needs"),
    )
    dropped = [f"{count:,} dropped because {reason}" for count, reason in reasons if count]
    if (rest := given - kept - sum(count for count, _ in reasons)) > 0:
        dropped.append(f"{rest:,} dropped for other reasons")
    pairs = [
        (
            "Model",
            f"{_plain_name(str(a['model']))}, {int(a['n_layers'])} layers, {int(a['n_heads'])} heads, "
            f"width {int(a['d_model'])}",
        ),
        ("Blocks", "attention and MLP side by side" if a["parallel_blocks"] else "MLP after attention"),
        ("Weights", " ".join(part for part in (str(a["revision"]), f"digest {a['weight_digest']}") if part)),
        ("Prompts", "; ".join([f"{a['prompts_name']}: {kept:,} of {given:,} kept", *dropped])),
        (
            "Groups",
            f"{groups:,}, drawn as wholes by the bootstrap" if groups < kept else "every prompt on its own",
        ),
        ("Prompt set", f"digest {str(a['prompts_digest'])[:16]}"),
        *((("Kept apart", str(a["writers"]).replace(",", ", ")),) if a.get("writers", "layers") != "layers" else ()),
        ("Answer", _TARGETS.get(str(a["target_policy"]), str(a["target_policy"]))),
        ("Replaced by", f"{_ablation(a)}, at the {_positions(a)}{_sharing(ds)}"),
        (
            "Control",
            f"random direction of equal length, {int(a['null_draws'])} each" if int(a["null_draws"]) else "none",
        ),
        ("Seed", str(a["seed"])),
        ("Protocol", str(a.get("protocol", "")) or "none by name"),
        (
            "Computed",
            f"engine: {a['engine']}; {_format(a)}, on {a['device']}, in {number(float(a['seconds']))} s",
        ),
        (
            "Same as the untouched model",
            f"largest difference of a logit {number(float(a['parity_error']), 2)}",
        ),
    ]
    if passed_over := json.loads(a["engines_passed_over"]):
        pairs.append(("Cheaper engines refused", "; ".join(passed_over)))
    return tuple(pairs)


def closing_sentence(found: Closing) -> str:
    """Whether total effects are the sums of their parts, with the error and its tolerance."""
    error, tolerance = number(found.error, 2), number(found.tolerance, 1)
    clean = number(found.clean_error, 2)
    if found.closes:
        return (
            "Yes. For every prompt and knock-out the parts sum to the total measured at the model's output: the "
            f"largest relative error is {error} (tolerance {tolerance}), and the direct effects sum to the clean "
            f"logit within {clean}."
        )
    return (
        f"No. The largest relative error is {error}, at prompt {found.prompt} without {found.ablated}, and the "
        f"direct effects miss the clean logit by {clean}; {tolerance} is allowed. Do not rely on this report."
    )


def caveats(ds: xr.Dataset, table: pd.DataFrame, cells: int) -> tuple[str, ...]:
    """What limits the findings of this very run.

    Args:
        ds: the ledger.
        table: from `analysis.repair.repair`.
        cells: number of cells of the heat map that were tested.
    """
    a = ds.attrs
    found = []
    if a["target_policy"] in ("top", "kl"):
        found.append(
            "The answer is the token that happened to rank first in the clean run, so any disturbance lowers it "
            "on average. This makes losses look larger than they are."
        )
    elif int(a["prompts_dropped_wrong"]):
        right = (
            "with the answer above its foil"
            if a["target_policy"] == "difference"
            else "that the model answers correctly"
        )
        found.append(
            f"Only prompts {right} were kept. Such a choice by the clean logits makes "
            "any disturbance look a little worse than it is."
        )
    found.append(
        "Who changes is not always who is needed. A layer that answers may be passing on what another one did; "
        "only knocking out both, or holding one fixed, tells."
    )
    found.append(
        "Every answer is read at the output. A layer that helps by feeding a later one is counted there, not "
        "where it began."
    )
    found.append("Only the last position is replaced; earlier positions are as in the clean run.")
    if cells:
        found.append(
            f"The heat map tests {cells:,} cells together and is corrected for that; bands and intervals "
            "elsewhere are for one number at a time."
        )
    if str(a["ablation"]) in OFF_DISTRIBUTION:
        found.append(OFF_DISTRIBUTION[str(a["ablation"])])
    elif int(a["donors"]) < 4:
        found.append(
            f"With {_count(int(a['donors']), 'donor')} per prompt the noise from donors is large; the paper that "
            "this follows used 15."
        )
    if "null_change" not in ds:
        found.append(
            "Without the random-direction control, part of a slope may be the read-out saturating, not an answer."
        )
    if len(table) and bool(table["rough"].iloc[0]):
        found.append("There are fewer than 8 independent groups of prompts, so all intervals are rough.")
    kept = [str(name) for name in table.loc[table["not_ablated"], "ablated"]]
    if kept:
        listed = ", ".join(kept[:8]) + (f" and {len(kept) - 8} more" if len(kept) > 8 else "")
        found.append(
            f"Donors carried the same contribution as the original in {listed}: these were hardly removed, and "
            "their small total effect is no sign of repair."
        )
    if (rounded := rounding(ds)) is not None:
        found.append(rounded)
    return tuple(found)


def versions(ds: xr.Dataset) -> dict[str, str]:
    """Package to version, as stored with the run."""
    found: dict[str, Any] = json.loads(ds.attrs["versions"])
    return {str(name): str(version) for name, version in found.items()}


def _format(a: Mapping[str, Any]) -> str:
    return f"{a['dtype']} with quantised weights ({a['packing']})" if a.get("packing") else str(a["dtype"])


def _plain_name(model: str) -> str:
    """A model as a reader knows it: where it lay on the disk of whoever made the report is of no use."""
    for path in (PurePosixPath(model), PureWindowsPath(model)):
        if path.is_absolute():
            return path.name
    return model


def _ablation(a: dict[str, Any]) -> str:
    name, donors = str(a["ablation"]), int(a["donors"])
    if name == "resample":
        said = f"{_count(donors, 'other prompt')}’ values" if donors > 1 else "another prompt’s values"
    else:
        said = _REPLACED.get(name, name)
    dose = float(a.get("dose", 1))
    return said if dose == 1 else f"{said}, dose {number(dose)}"


def _sharing(ds: xr.Dataset) -> str:
    sharing, donors = int(ds.attrs.get("donors_sharing", 0)), int(ds.attrs["donors"]) * ds.sizes["prompt"]
    return f"; {sharing:,} of {donors:,} donors have the prompt’s answer or foil among their own" if sharing else ""


def _positions(a: dict[str, Any]) -> str:
    return "last position" if a["positions"] == "last" else f"positions {a['positions']}"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _millions(count: int) -> str:
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if count >= size:
            return f"{number(count / size)} {word}"
    return f"{count:,}"
