"""What knocking out the attention layers of one set of weights shows, as a few numbers a layer.

The measurement is the package's own; here it is only asked for and put into rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hydrascope
from hydrascope import Options

SETS = ("retrieval", "indirect")
COLUMNS = {
    "direct_effect": "direct_effect",
    "own_change": "own_change",
    "attention": "compensation_attn",
    "mlp": "compensation_mlp",
    "norm": "norm_effect",
    "total": "total_effect",
    "slope_attn": "slope_attn",
    "r2_attn": "r2_attn",
    "slope": "slope",
    "r2": "r2",
}


def layer_rows(model: hydrascope.Model, prompts: Path, *, donors: int) -> list[dict[str, Any]]:
    """Knock out every attention layer on one prompt set.

    Args:
        model: The model.
        prompts: Prompt set; only what the model answers correctly is used.
        donors: Resampled values for each prompt.

    Returns:
        One row per attention layer: `layer`, `layers` (depth), `set`, `prompts` used, `right` (share
        answered correctly); the names of `COLUMNS` (means over prompts, logits; the slopes are those of
        later attention's and of all later writers' answer on the own change, negative for repair);
        `late_mlp`, the clean direct
        effect of the MLPs of the second half, and `taken`, what those of them take away that write
        against the answer; `relaxed`, how much of it they let go under the knock-out. Empty if hardly
        any prompt is answered.
    """
    try:
        ledger = hydrascope.knock_out(
            model,
            hydrascope.load_prompts(str(prompts)),
            ablation=hydrascope.Resample(donors=donors),
            options=Options(components="attn", null_draws=0),
        )
    except hydrascope.HydrascopeError:  # too few prompts that could be each other's donors
        return []
    ds, table = ledger.dataset, ledger.repair()
    late = ds.where((ds.writer_kind == "mlp") & (2 * ds.writer_layer >= ds.attrs["n_layers"]), drop=True)
    clean = late.direct_effect
    released = ledger.released()
    relaxed = dict(zip(*(released[released["kind"] == "mlp"][name] for name in ("ablated", "relaxed")), strict=True))
    shared = {
        "layers": int(ds.attrs["n_layers"]),
        "set": prompts.stem,
        "prompts": int(ds.sizes["prompt"]),
        "right": ds.sizes["prompt"] / ds.attrs["prompts_total"],
        "late_mlp": float(clean.sum("writer").mean()),
        "taken": float((-clean).clip(min=0).sum("writer").mean()),
    }
    return [
        {
            "layer": int(row["ablated_layer"]),
            **shared,
            **{name: float(row[column]) for name, column in COLUMNS.items()},
            "relaxed": float(relaxed.get(row["ablated"], float("nan"))),
        }
        for _, row in table.iterrows()
    ]


def measured(folder: Path, prompts: Path, *, donors: int = 8) -> list[dict[str, Any]]:
    """Return the rows of one set of weights on all prompt sets, from its file if it has been measured.

    Args:
        folder: Folder of the weights; the rows are kept there.
        prompts: Folder of the prompt sets.
        donors: Resampled values for each prompt.
    """
    file = folder / "effects.json"
    if not file.exists():
        model = hydrascope.load(str(folder))
        rows = [row for name in SETS for row in layer_rows(model, prompts / f"{name}.jsonl", donors=donors)]
        file.write_text(json.dumps(rows) + "\n")
    found: list[dict[str, Any]] = json.loads(file.read_text())
    return found
