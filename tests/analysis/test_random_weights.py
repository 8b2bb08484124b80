"""Models that learned nothing are hardly ever said to repair, or to break; benchmarks/random_weights.py asks 40."""

from __future__ import annotations

from pathlib import Path

import hydrascope as hs
from tests.support.tiny import completed, network, prompt_file, save

MODELS = 8


def test_random_weights_are_not_called_repair_or_breakage(tmp_path: Path) -> None:
    claimed = []
    for seed in range(MODELS):
        model = network(seed)
        folder = save(tmp_path / str(seed), model)
        prompts = hs.load_prompts(prompt_file(tmp_path / f"{seed}.jsonl", completed(model, 30, seed)))
        ledger = hs.knock_out(hs.load(folder), prompts, "attn,mlp", hs.Resample(donors=2))
        table = ledger.repair()
        assert table["lost"].any(), "what loses nothing proves nothing"
        claimed += [
            f"{seed} {name}" for name in table.loc[table["outcome"].isin(["repaired", "made worse"]), "ablated"]
        ]
    assert len(claimed) <= 1, claimed  # at 5 % a model, two or more of eight: 1 in 17
