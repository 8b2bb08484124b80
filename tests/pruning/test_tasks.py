"""Tasks beside the loss on text: right answers and logit differences against plain forwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

import hydrascope as hs
from hydrascope.errors import PromptError, SettingsChanged
from tests.support import texts as support
from tests.support import tiny

PROMPTS, GROUPS = 24, 8


def written(folder: Path, foiled: bool) -> Path:
    """Prompts of two lengths; the target is the whole model's first choice on half of them."""
    generator, rows = torch.Generator().manual_seed(1), []
    for number in range(PROMPTS):
        ids = torch.randint(4, tiny.WORDS, (1, 5 + number % 2), generator=generator)
        with torch.no_grad():
            order = support.tiny_model().network(input_ids=ids).logits[0, -1].argsort(descending=True).tolist()
        row: dict[str, Any] = {"input_ids": ids[0].tolist(), "target_id": order[number // 2 % 2]}
        row["group"] = f"group {number % GROUPS}"
        rows.append({**row, "foil_id": order[2]} if foiled else row)
    return tiny.write_lines(folder / "task.jsonl", rows)


@pytest.mark.parametrize("foiled", [False, True])
def test_answers_are_those_of_plain_forwards_of_the_exported_model(foiled: bool, tmp_path: Path) -> None:
    task, model = written(tmp_path, foiled), support.tiny_model()
    asked: dict[str, Any] = {"remove": 1, "calibrate": 60, "test": 90, "tasks": [str(task)]}
    found = hs.prune(model, support.tiny_texts(), ranking="last,loss", **asked)
    table = found.tables()["tasks"].set_index("ranking")
    hs.export(model, "+".join(found.removed(1, "last")), tmp_path / "small")
    small = AutoModelForCausalLM.from_pretrained(tmp_path / "small", dtype=torch.float32)
    rows = [json.loads(line) for line in task.read_text().splitlines()]
    right, margin = ({name: np.zeros(PROMPTS) for name in ("whole", "last")} for _ in range(2))
    for name, network in (("whole", model.network), ("last", small)):
        for number, row in enumerate(rows):
            with torch.no_grad():
                logits = network(input_ids=torch.tensor([row["input_ids"]])).logits[0, -1].double()
            against = logits[row["foil_id"]] if foiled else logits.mean()
            margin[name][number] = logits[row["target_id"]] - against
            right[name][number] = margin[name][number] > 0 if foiled else int(logits.argmax()) == row["target_id"]
    last, change = table.loc["last"], margin["last"] - margin["whole"]
    assert (last["task"], last["prompts"]) == ("task", PROMPTS)
    assert last["whole_right"] == right["whole"].mean() == (1 if foiled else 0.5)
    np.testing.assert_allclose(last["right"], right["last"].mean())
    np.testing.assert_allclose(last["right_change"], (right["last"] - right["whole"]).mean())
    assert last["right_change"] < 0
    np.testing.assert_allclose(last["logit_difference"], margin["last"].mean(), rtol=1e-4)
    np.testing.assert_allclose(last["logit_difference_change"], change.mean(), rtol=1e-4)
    means = [change[number::GROUPS].mean() for number in range(GROUPS)]  # prompt by prompt, over groups
    half = 2.3646 * np.std(means, ddof=1) / np.sqrt(GROUPS)
    np.testing.assert_allclose(last["logit_difference_change_hi"] - change.mean(), half, rtol=1e-3)


def test_tasks_are_kept_shown_and_part_of_the_settings(tmp_path: Path) -> None:
    task = written(tmp_path, True)

    def pruned(**more: Any) -> hs.Prune:
        asked = {"remove": 1, "calibrate": 60, "test": 90, "out": tmp_path / "p", "tasks": [str(task)]}
        return hs.prune(support.tiny_model(), support.tiny_texts(), ranking="last,random", **{**asked, **more})

    found = pruned()
    assert hs.Prune.open(tmp_path / "p").table("tasks").equals(found.table("tasks"))
    assert list(found.table("tasks")["ranking"]) == ["last"]  # a mean of draws is no set
    page = found.report(tmp_path / "p" / "report.html").read_text()
    assert "What is lost on tasks" in page
    assert f"task ({PROMPTS})" in page
    with pytest.raises(SettingsChanged, match="tasks"):
        pruned(tasks=[])
    assert pruned(tasks=[], overwrite=True).table("tasks").empty
    rows = [json.loads(line) for line in task.read_text().splitlines()]
    bare = tiny.write_lines(tmp_path / "bare.jsonl", [{"input_ids": row["input_ids"]} for row in rows])
    with pytest.raises(PromptError, match="without a target"):
        pruned(tasks=[str(bare)], out=tmp_path / "q")
    assert not (tmp_path / "q").exists()
