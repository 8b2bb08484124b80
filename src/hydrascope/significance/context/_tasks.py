"""What each part's loss costs in each task, and the parts that matter only in some.

That an effect is not clear says nothing: a part is called idle in a task only where its whole interval lies within a
share of what it does elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from hydrascope.analysis import SIGNIFICANT, add_estimate, false_discovery, mean_estimate
from hydrascope.significance.context._concordance import Rated

LITTLE = 0.25
"""Most of a part's largest effect that it may have, by the end of its interval, where it is called idle."""
PROMPTS = 5
"""Prompts that are named for each part."""


def effects_by_task(tasks: Mapping[str, Rated], parts: Sequence[str]) -> pd.DataFrame:
    """Mean effect of every part in every task.

    Args:
        tasks: name to effects of the parts.
        parts: their addresses.

    Returns:
        One row per part and task: `part`, `task`, `effect` with its interval (logits); `p` of "no effect", adjusted by
        the false discovery rate over all rows; `role`: `idle` where the whole interval lies within a quarter of the
        part's largest clear effect, else `matters` where the effect is clear, else `unclear`.
    """
    found = [mean_estimate(task.values, task.resampling) for task in tasks.values()]
    table: dict[str, Any] = {
        "part": np.tile(np.array(parts, object), len(tasks)),
        "task": np.repeat(np.array(list(tasks), object), len(parts)),
    }
    ends = [np.concatenate(columns) for columns in zip(*(one.interval for one in found), strict=True)]
    add_estimate(table, "effect", (ends[0], ends[1], ends[2]))
    table["p"] = false_discovery(np.concatenate([one.p for one in found]))
    clear = table["p"] < SIGNIFICANT
    shape = (len(tasks), len(parts))
    largest = np.where(clear, np.abs(ends[0]), 0).reshape(shape).max(0)
    reach = np.maximum(np.abs(ends[1]), np.abs(ends[2])).reshape(shape)
    little = (reach <= LITTLE * largest).ravel()
    table["role"] = np.select([little, clear], ["idle", "matters"], "unclear").astype(object)
    return pd.DataFrame(table)


def only_somewhere(
    effects: pd.DataFrame, tasks: Mapping[str, Rated], ledgers: Mapping[str, xr.Dataset]
) -> pd.DataFrame:
    """Parts that matter in one task and are idle in another, with the prompts on which they matter most.

    Args:
        effects: from `effects_by_task`.
        tasks: name to effects of the parts, in the order of `effects`.
        ledgers: name to ledger, for the prompts' texts.

    Returns:
        One row per part, task in which it matters and prompt, the parts with the largest effects first: `part`, `task`,
        `effect` of its loss there, `idle_in`, the tasks in which it is idle; `prompt`, `text` and `on_prompt`, the
        effect on each of the five prompts that it moves most (logits).
    """
    idle = effects[effects["role"] == "idle"].groupby("part")["task"].agg(", ".join)
    found = effects[(effects["role"] == "matters") & effects["part"].isin(idle.index)]
    order = {part: place for place, part in enumerate(effects["part"].unique())}
    rows = []
    for one in found.loc[found["effect"].abs().sort_values(ascending=False, kind="stable").index].to_dict("records"):
        ds, values = ledgers[one["task"]], tasks[one["task"]].values[:, order[one["part"]]]
        for place in np.argsort(-np.abs(values), kind="stable")[:PROMPTS]:
            told = {"part": one["part"], "task": one["task"], "effect": one["effect"], "idle_in": idle[one["part"]]}
            prompt = {"prompt": int(ds["prompt"].values[place]), "text": str(ds["text"].values[place])}
            rows.append({**told, **prompt, "on_prompt": float(values[place])})
    return pd.DataFrame(rows, columns=["part", "task", "effect", "idle_in", "prompt", "text", "on_prompt"])
