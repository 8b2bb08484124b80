"""What knocking out the attention layers of a bundled model shows, as lines for its card.

Usage: ``python -m zoo.observe NAME``; rewrites the model's `measured.json` and card.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import hydrascope
from zoo.bundle import PACKAGE
from zoo.card import write_card

_COLUMNS = ("direct_effect", "own_change", "compensation_attn", "compensation_mlp", "norm_effect", "total_effect")
_LINE = ("slope_attn", "r2_attn")


def observe(folder: Path, prompts: Path) -> dict[str, Any]:
    """Knock out attention layers, alone and with their neighbours, and return the account of each.

    Args:
        folder: Folder of the model.
        prompts: Prompt set; only what the model answers correctly is used.

    Returns:
        The number of prompts; one record per attention layer; for every two neighbours their total
        effect together and the sum of their total effects alone; the clean direct effect of each MLP
        of the second half of the layers. All in logits.
    """
    model = hydrascope.load(str(folder))
    neighbours = [f"attn.{layer}+attn.{layer + 1}" for layer in range(model.anatomy.n_layers - 1)]
    components = ",".join(["attn", *neighbours])
    ledger = hydrascope.knock_out(model, hydrascope.load_prompts(str(prompts)), components=components)
    table = ledger.repair()
    rows = []
    for _, row in table[~table["ablated"].isin(neighbours)].iterrows():
        record: dict[str, Any] = {"ablated": row["ablated"]}
        for name in (*_COLUMNS, *_LINE):
            record[name] = [round(float(row[f"{name}{end}"]), 4) for end in ("", "_lo", "_hi")]
        rows.append(record)
    ds = ledger.dataset
    total = ds.total_effect.mean("prompt").to_series()
    pairs = {pair: [float(total[pair]), float(sum(total[one] for one in pair.split("+")))] for pair in neighbours}
    late = ds.where((ds.writer_kind == "mlp") & (2 * ds.writer_layer >= ds.attrs["n_layers"]), drop=True)
    effects = late.direct_effect.mean("prompt")
    return {
        "prompts": int(ds.sizes["prompt"]),
        "layers": rows,
        "pairs": {pair: [round(value, 4) for value in values] for pair, values in pairs.items()},
        "late_mlps": {str(name): round(float(effects.sel(writer=name)), 4) for name in effects.writer.values},
    }


def main() -> None:
    """Measure a bundled model on its prompt sets."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name")
    folder = PACKAGE / parser.parse_args().name
    file = folder / "measured.json"
    facts = json.loads(file.read_text())
    facts["observed"] = {name: observe(folder, folder / f"{name}.jsonl") for name in ("facts", "retrieval", "indirect")}
    file.write_text(json.dumps(facts, indent=1) + "\n")
    write_card(folder, facts)


if __name__ == "__main__":
    main()
