"""What knocking out the attention layers of a bundled model shows, as lines for its card.

Usage: ``python -m zoo.observe NAME``; rewrites the model's `measured.json` and card.
"""

from __future__ import annotations

import argparse
import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

import hydrascope
from hydrascope.analysis import bootstrap, simultaneous_means
from zoo.bundle import PACKAGE
from zoo.card import write_card

SETS = ("facts", "retrieval", "indirect", "text")
_COLUMNS = ("direct_effect", "own_change", "compensation_attn", "compensation_mlp", "norm_effect", "total_effect")
_LINE = ("slope_attn", "r2_attn", "slope", "r2")


def _rounded(row: Any, name: str) -> list[float]:
    return [round(float(row[f"{name}{end}"]), 4) for end in ("", "_lo", "_hi")]


def observe(folder: Path, prompts: Path) -> dict[str, Any]:
    """Knock out attention layers, alone and in pairs, and return the account of each.

    Args:
        folder: Folder of the model.
        prompts: Prompt set; only what the model answers correctly is used.

    Returns:
        The number of prompts; the verdict of the run; one record per attention layer; for every two
        attention layers the `total` effect together, the sum of their total effects `alone`, and the
        `excess` of the first over the second, with the interval that holds for all pairs together; the
        clean direct effect of each MLP of the second half of the layers, whether it writes against
        the answer for certain (`erases`), and what the late MLPs let go under each knock-out. All in
        logits.
    """
    model = hydrascope.load(str(folder))
    layers = [f"attn.{layer}" for layer in range(model.anatomy.n_layers)]
    pairs = ["+".join(pair) for pair in combinations(layers, 2)]
    components = ",".join([*layers, *pairs])
    ledger = hydrascope.knock_out(model, hydrascope.load_prompts(str(prompts)), components=components)
    table = ledger.repair().set_index("ablated")
    ds = ledger.dataset
    total = ds.total_effect.to_pandas()
    alone = {pair: total[list(pair.split("+"))].sum(axis=1) for pair in pairs}
    excess = np.stack([(total[pair] - alone[pair]).to_numpy(dtype=np.float64) for pair in pairs], axis=1)
    joint = simultaneous_means(excess, bootstrap(ds))
    late = ledger.late_mlps()
    released = ledger.released()
    released = released[(released["kind"] == "mlp") & released["ablated"].isin(layers)]
    return {
        "prompts": int(ds.sizes["prompt"]),
        "prompts_given": int(ds.attrs["prompts_total"]),
        "verdict": ledger.summary().headline,
        "layers": [
            {"ablated": name} | {column: _rounded(table.loc[name], column) for column in (*_COLUMNS, *_LINE)}
            for name in layers
        ],
        "pairs": {
            pair: {
                "total": round(float(total[pair].mean()), 4),
                "alone": round(float(alone[pair].mean()), 4),
                "excess": [round(float(part[number]), 4) for part in (joint.mean, joint.lo, joint.hi)],
            }
            for number, pair in enumerate(pairs)
        },
        "late_mlps": {
            str(row["writer"]): {"direct_effect": _rounded(row, "direct_effect"), "erases": bool(row["erases"])}
            for _, row in late.iterrows()
        },
        "let_go": {str(row["ablated"]): _rounded(row, "relaxed") for _, row in released.iterrows()},
    }


def main() -> None:
    """Measure a bundled model on its prompt sets."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name")
    folder = PACKAGE / parser.parse_args().name
    file = folder / "measured.json"
    facts = json.loads(file.read_text())
    facts["observed"] = {name: observe(folder, folder / f"{name}.jsonl") for name in SETS}
    file.write_text(json.dumps(facts, indent=1) + "\n")
    write_card(folder, facts)


if __name__ == "__main__":
    main()
