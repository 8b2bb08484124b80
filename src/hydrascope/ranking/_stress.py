"""Scores of a finished stress test, for the same table."""

from __future__ import annotations

import json
from typing import Any

from hydrascope.errors import RunError
from hydrascope.faults import Stress
from hydrascope.ledger import read_record
from hydrascope.run import Task
from hydrascope.run_directory import JSON, folder_named
from hydrascope.run_settings import difference
from hydrascope.significance import STRESS_SCORES

_SAME = ("weights", "components", "prompts", "ablation", "target", "answer", "positions", "keep_wrong")
"""Settings in which the test must be like the ranking."""


def stress_scores(folder: str, task: Task) -> list[dict[str, Any]]:
    """The scores of a stress test, part by part.

    Args:
        folder: the test's folder.
        task: the ranking's knock-outs of single parts.

    Returns:
        Rows for JSON: `part`, and each score with the ends of its interval.

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
    columns = [f"{name}{end}" for name in STRESS_SCORES for end in ("", "_lo", "_hi")]
    rows: list[dict[str, Any]] = json.loads(
        test.ranking()[["part", *columns]].to_json(orient="records", double_precision=15)
    )
    return rows
