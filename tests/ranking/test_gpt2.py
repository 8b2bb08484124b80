"""The published heads of GPT-2 small, for whoever has that model: `HYDRASCOPE_GPT2=FOLDER pytest tests/ranking`.

Name movers and backup name movers of indirect objects are those of Wang et al. 2023 (arXiv 2211.00593). Conditional
scores of Gong et al. 2026 (arXiv 2607.01940) found the eight backups among 141 heads with areas of .94 and .98, the
loss of a head alone with .60; their energy is of the whole distribution and ours of the answer's logit, so that only
the order is asked for.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import hydrascope as hs

FOLDER = os.environ.get("HYDRASCOPE_GPT2")
NAME_MOVERS = ("head.9.6", "head.9.9", "head.10.0")
BACKUPS = ("head.9.0", "head.9.7", "head.10.1", "head.10.2", "head.10.6", "head.10.10", "head.11.2", "head.11.9")


@pytest.mark.skipif(not FOLDER, reason="HYDRASCOPE_GPT2 names no folder with GPT-2 small")
def test_conditional_scores_find_the_published_backups(tmp_path: Path) -> None:
    labels = tmp_path / "backups.json"
    labels.write_text(json.dumps(BACKUPS))
    model = hs.load(str(FOLDER))
    prompts = hs.load_prompts("ioi", tokenizer=model.tokenizer).spread(96)
    found = hs.rank(model, prompts, "head", hs.Zero(), primaries=",".join(NAME_MOVERS), labels=labels)
    table = found.detection()
    auc = table[table["labels"] == "given"].set_index("score")["auc"]
    assert max(auc["conditional score"], auc["amplification"]) > max(0.8, auc["total effect"])
