"""How often the summary claims repair or breakage in models that learned nothing: tiny ones with random weights.

Run from the repository's root, with the test suite's model builder: `python benchmarks/random_weights.py`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch

import hydrascope as hs

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support import registry

FAMILIES = ("gpt2", "llama", "gemma", "gemma3_text", "gpt_neox", "mistral", "qwen2", "olmo2")
SEEDS, PROMPTS, TOKENS, DONORS = 5, 60, 6, 4
REPAIRED, WORSE = "repaired", "made worse"


def ledger(family: str, seed: int, folder: Path) -> hs.Ledger:
    """All attention layers and MLPs of one random model knocked out, on random prompts."""
    registry.build(family, seed).save_pretrained(folder)
    tokens = torch.randint(4, registry.VOCABULARY, (PROMPTS, TOKENS), generator=torch.Generator().manual_seed(seed))
    prompts = [hs.Prompt(input_ids=tuple(row)) for row in tokens.tolist()]
    options = hs.Options(target="top")
    asked = hs.PromptSet("random", tuple(prompts))
    return hs.knock_out(hs.load(folder), asked, "attn,mlp", hs.Resample(donors=DONORS), options=options)


def main() -> None:
    """Print what is claimed of each model, and of how many anything is."""
    claimed = hydra = by_norm = 0
    for family in FAMILIES:
        for seed in range(SEEDS):
            with tempfile.TemporaryDirectory() as folder:
                table = ledger(family, seed, Path(folder)).repair()
            found = table[table["outcome"].isin([REPAIRED, WORSE])]
            claimed += len(found) > 0
            hydra += bool(table["hydra"].any())
            by_norm += bool((table["outcome"] == "norm").any())
            said = ", ".join(f"{row.ablated} {row.outcome}" for row in found.itertuples()) or "-"
            print(f"{family:12s} {seed}  {int(table['lost'].sum())} clear losses  {said}", flush=True)
    asked = len(FAMILIES) * SEEDS
    print(f"\n{asked} models: repair or breakage claimed of {claimed} ({claimed / asked:.1%}),")
    print(f"the Hydra effect proper of {hydra}, the norm alone of {by_norm}.")


if __name__ == "__main__":
    main()
