"""What was run, read from the ledger's attributes and coordinates."""

from __future__ import annotations

import json
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import xarray as xr

from hydrascope.analysis import Closing, reads_each
from hydrascope.report._numbers import number

Pairs = tuple[tuple[str, str], ...]

_OPENING = """import xarray as xr
ledger = xr.open_zarr("ledger.zarr", consolidated=False)
ledger.change.sel(ablated="{focus}").mean("prompt").to_series()"""

_OPENING_OF_TOKENS = """import hydrascope as hs
ledger = hs.Ledger.open(".")
ledger.self_repair()
ledger.dataset.total_effect.sel(ablated="{focus}").groupby("document").mean()"""

_TARGETS = {
    "label": "the answer given with each prompt",
    "difference": "the answer given with each prompt against its foil: the difference of their logits",
    "top": "the token the model itself ranks first in the clean run",
    "random-top": "a random one of the ten tokens that the model itself ranks first in the clean run",
    "kl": "the token the model itself ranks first in the clean run; knock-outs are ranked by KL divergence",
}


EXAMPLE = 110
"""Most characters of the prompt in the header."""
LISTED, LISTED_TEXT = 12, 80
"""Most prompts left out that are listed, and most characters of each."""


def headline_facts(ds: xr.Dataset) -> Pairs:
    """The few facts under the title."""
    a = ds.attrs
    rows = f"{ds.sizes['prompt']:,}"
    dropped = int(a["prompts_total"]) - int(a["prompts_kept"])
    return (
        *(
            (("Tokens", rows), ("Documents", f"{groups(ds):,}"))
            if reads_each(ds)
            else (("Prompts", f"{rows} kept, {dropped:,} dropped"),)
        ),
        ("Task", str(a["prompts_name"])),
        ("Knock-outs", f"{ds.sizes['ablated']:,}"),
        ("Replaced by", _replaced_by(a)),
        ("Layers", f"{int(a['n_layers'])}"),
        ("Parameters", _millions(int(a["n_parameters"]))),
        ("Date", str(a["created"])[:10]),
    )


def example(ds: xr.Dataset) -> tuple[str, str]:
    """One prompt of the run, its end where it is long, and its answer."""
    if reads_each(ds):
        return "", ""
    text = " ".join(str(ds["text"].values[0]).split())
    shown = text if len(text) <= EXAMPLE else f"…{text[-EXAMPLE:]}"
    return shown, str(ds["target"].values[0]).strip()


def run_facts(ds: xr.Dataset) -> Pairs:
    """Everything about the run that a reader may ask for."""
    a = ds.attrs
    null, digest = int(a["null_draws"]), f"digest {str(a['prompts_digest'])[:16]}"
    size = f"{int(a['n_layers'])} layers, {int(a['n_heads'])} heads, width {int(a['d_model'])}"
    read = f"every position that has a next token{_skipped(a)}" if reads_each(ds) else "the last position"
    pairs = [
        ("Model", f"{_plain_name(str(a['model']))}, {size}"),
        ("Adapter", str(a.get("adapter", ""))),
        ("GGUF file", str(a.get("gguf", ""))),
        ("Unused tensors", _unused(int(a.get("unused_tensors", 0)))),
        ("Blocks", "attention and MLP side by side" if a["parallel_blocks"] else "MLP after attention"),
        ("Weights", " ".join(part for part in (str(a["revision"]), f"digest {a['weight_digest']}") if part)),
        ("Trained", _untrained(str(a.get("random_weights", "")))),
        *(_texts(ds, digest) if reads_each(ds) else _prompts(ds, digest)),
        ("Kept apart", str(a["writers"]).replace(",", ", ") if a.get("writers", "layers") != "layers" else ""),
        ("Replaced by", f"{_replaced_by(a)}, at {edited(str(a['positions']))}{_sharing(ds)}"),
        ("Read at", read),
        ("Control", f"random-direction control (norm-matched), {null} each" if null else "none"),
        ("Seed", str(a["seed"])),
        ("Protocol", str(a.get("protocol", "")) or "none by name"),
        (
            "Computed",
            f"engine: {a['engine']}; {_format(a)}, on {a['device']}, in {number(float(a['seconds']))} s",
        ),
        ("Same as the untouched model", f"largest difference of a logit {number(float(a['parity_error']), 2)}"),
        ("Cheaper engines refused", "; ".join(json.loads(a["engines_passed_over"]))),
    ]
    if str(a.get("detail", "full")) != "full":
        pairs.append(("Kept", "sums by kind of writer and by what the writer did in the clean run"))
    return tuple((name, value) for name, value in pairs if value)


def _untrained(seed: str) -> str:
    return f"no: the weights are random ({seed}), a control of the same shape" if seed else ""


def _unused(tensors: int) -> str:
    if not tensors:
        return ""
    return f"{tensors:,} of the checkpoint {'has' if tensors == 1 else 'have'} no place in the model"


def _prompts(ds: xr.Dataset, digest: str) -> Pairs:
    a = ds.attrs
    kept, given = int(a["prompts_kept"]), int(a["prompts_total"])
    wrong = (
        "its foil was above the answer"
        if a["target_policy"] == "difference"
        else "the model’s first choice was another token"
    )
    reasons = (
        (int(a["prompts_dropped_wrong"]), wrong),
        (int(a.get("prompts_dropped_alike", 0)), "answer and foil begin with the same token"),
        (int(a.get("prompts_unfit", 0)), "the tokenizer does not write them as the task needs"),
        (int(a.get("prompts_dropped_joined", 0)), "the tokenizer cannot write their answers, or not where they begin"),
    )
    dropped = [f"{count:,} dropped because {reason}" for count, reason in reasons if count]
    if (rest := given - kept - sum(count for count, _ in reasons)) > 0:
        dropped.append(f"{rest:,} dropped for other reasons")
    drawn = groups(ds)
    together = f"{drawn:,}, each of which counts once" if drawn < kept else "every prompt on its own"
    return (
        ("Prompts", "; ".join([f"{a['prompts_name']}: {kept:,} of {given:,} kept", *dropped])),
        ("Groups", together),
        ("Left out", _left_out(a)),
        ("Example", str(a.get("example", ""))),
        ("Prompt set", digest),
        ("Answer", _TARGETS.get(str(a["target_policy"]), str(a["target_policy"])) + _whole(a)),
    )


def _whole(a: dict[str, Any]) -> str:
    whole = a.get("answer", "first") == "whole"
    return ": the sum over all its tokens, each read with those before it given" if whole else ""


def _left_out(a: dict[str, Any]) -> str:
    """The first prompts that were left out, each with the reason and what the model said instead."""
    rows = json.loads(a.get("left_out", "[]"))
    told = [
        f"{row['index']} “{row['text'][-LISTED_TEXT:]}”: "
        + (row["why"] if row["said"] is None else f"“{row['target']}” wanted, “{row['said']}” said")
        for row in rows[:LISTED]
    ]
    return "; ".join([*told, *(["and more, in the ledger’s attribute left_out"] if len(rows) > LISTED else [])])


def _texts(ds: xr.Dataset, digest: str) -> Pairs:
    lengths = sorted({int(length) for length in ds["length"].values})
    length = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"
    counted, documents = len(set(ds["document"].values)), groups(ds)
    texts = f"{_many(counted, 'text')} of {length} tokens from {_many(documents, 'document')}"
    return (
        ("Texts", f"{ds.attrs['prompts_name']}: {texts}{_not_lending(ds.attrs)}"),
        ("Documents", "independent of each other; texts of one document are not"),
        ("Text set", digest),
        ("Target", "the token that the text really goes on with"),
    )


def _many(number: int, one: str) -> str:
    return f"{number:,} {one}{'' if number == 1 else 's'}"


def _not_lending(a: dict[str, Any]) -> str:
    reasons = (("alone", "have too few others of their length"), ("repeated", "have the tokens of another"))
    counts = [(int(a.get(f"prompts_dropped_{name}", 0)), why) for name, why in reasons]
    return "".join(f"; {count:,} left out, which {why}" for count, why in counts if count)


def groups(ds: xr.Dataset) -> int:
    """How many groups of prompts, or documents, there are."""
    return len(set(ds["group"].values)) if "group" in ds.coords else ds.sizes["prompt"]


def edited(positions: str) -> str:
    """Replaced positions in words, from `last`, `all` or a list of numbers."""
    if positions in ("last", "-1"):
        return "the last position"
    return "all positions" if positions == "all" else f"position{'s' if ',' in positions else ''} {positions}"


def closing_sentence(found: Closing, row: str) -> str:
    """Whether total effects are the sums of their parts, per `prompt` or `token`."""
    error, tolerance = number(found.error, 2), number(found.tolerance, 1)
    clean = number(found.clean_error, 2)
    if found.closes:
        return (
            f"Yes. For every {row} and knock-out the parts sum to the total measured at the model’s output: the "
            f"largest relative error is {error} (tolerance {tolerance}), and the direct effects sum to the clean "
            f"logit within {clean}."
        )
    return (
        f"No. The largest relative error is {error}, at {row} {found.prompt} without {found.ablated}, and the "
        f"direct effects miss the clean logit by {clean}; {tolerance} is allowed. Do not rely on this report."
    )


def opening(ds: xr.Dataset, focus: str) -> str:
    """Python that opens the ledger and looks at one knock-out."""
    return (_OPENING_OF_TOKENS if reads_each(ds) else _OPENING).format(focus=focus)


def versions(ds: xr.Dataset) -> dict[str, str]:
    """Package to version, as stored with the run."""
    found: dict[str, Any] = json.loads(ds.attrs["versions"])
    return {str(name): str(version) for name, version in found.items()}


def _format(a: dict[str, Any]) -> str:
    return f"{a['dtype']} with quantised weights ({a['packing']})" if a.get("packing") else str(a["dtype"])


def _plain_name(model: str) -> str:
    """Name of a model without its folder."""
    for path in (PurePosixPath(model), PureWindowsPath(model)):
        if path.is_absolute():
            return path.name
    return model


def _replaced_by(a: dict[str, Any]) -> str:
    dose = float(a.get("dose", 1))
    return str(a["replaced_by"]) if dose == 1 else f"{a['replaced_by']}, dose {number(dose)}"


def _sharing(ds: xr.Dataset) -> str:
    sharing, donors = int(ds.attrs.get("donors_sharing", 0)), int(ds.attrs["donors"]) * ds.sizes["prompt"]
    return f"; {sharing:,} of {donors:,} donors have the prompt’s answer or foil among their own" if sharing else ""


def _skipped(a: dict[str, Any]) -> str:
    skipped = int(a["skipped_positions"])
    return {0: "", 1: " but the first"}.get(skipped, f" but the first {skipped}")


def _millions(count: int) -> str:
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if count >= size:
            return f"{number(count / size)} {word}"
    return f"{count:,}"
