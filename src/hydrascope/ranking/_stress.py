"""Scores of a finished stress test, for the same table."""

from __future__ import annotations

import json

import numpy as np
import xarray as xr

from hydrascope.errors import RunError
from hydrascope.faults import Stress
from hydrascope.ledger import read_record
from hydrascope.run import Task
from hydrascope.run_directory import JSON, folder_named
from hydrascope.run_settings import difference
from hydrascope.significance import STRESS_SCORES

_SAME = ("weights", "components", "prompts", "ablation", "target", "answer", "positions", "keep_wrong")
"""Settings in which the test must be like the ranking."""


def stress_scores(folder: str, task: Task) -> xr.Dataset:
    """The scores of a stress test, part by part, with what each group of prompts and each random set makes of them.

    Args:
        folder: the test's folder.
        task: the ranking's knock-outs of single parts.

    Returns:
        `value` with the ends of its interval, `lo` and `hi` (score, ablated); `by_group` (score, group, ablated), the
        score of each group of prompts; `by_mask` (score, mask, ablated), what a mask adds to the score; `prompt`.

    Raises:
        OutputError: there is no finished stress test.
        RunError: it is of another model, of other parts or prompts, or by another ablation.
    """
    path = folder_named(folder)
    test = Stress.open(path)
    there, here = (
        {name: settings.get(name) for name in _SAME}
        for settings in (read_record(path / JSON)["settings"], json.loads(json.dumps(task.settings)))
    )
    if told := difference(there, here):
        raise RunError(
            f"the stress test in '{path}' is not of this ranking's parts and prompts ({told}); name one that is"
        )
    table, cells = test.ranking(), test.findings.sampled_scores
    masks = test.findings.faults.masks
    by_group = [[cell.mean(1) for cell in cells[name]] for name in STRESS_SCORES]
    by_mask = [[np.broadcast_to(cell.mean(0) - cell.mean(), masks) for cell in cells[name]] for name in STRESS_SCORES]
    ends = {
        said: (("score", "ablated"), np.stack([table[f"{name}{end}"].to_numpy(float) for name in STRESS_SCORES]))
        for said, end in (("value", ""), ("lo", "_lo"), ("hi", "_hi"))
    }
    return xr.Dataset(
        {
            **ends,
            "by_group": (("score", "group", "ablated"), np.array(by_group).transpose(0, 2, 1)),
            "by_mask": (("score", "mask", "ablated"), np.array(by_mask).transpose(0, 2, 1)),
        },
        {"score": list(STRESS_SCORES), "ablated": list(table["part"]), "prompt": test.findings.ds["prompt"].values},
    )
