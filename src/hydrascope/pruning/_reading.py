"""A finished pruning's folder, read again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hydrascope.errors import OutputError
from hydrascope.ledger import read_record
from hydrascope.pruning._constants import read_constants
from hydrascope.pruning._findings import Chosen, Findings
from hydrascope.pruning._judged import Judged
from hydrascope.pruning._store import Store
from hydrascope.pruning._tasks import TaskAnswers
from hydrascope.pruning._texts import SPLITS
from hydrascope.pruning.rankings import OWN, Scored, ranking_named
from hydrascope.run_directory import COSTS, LEFT, PRUNED


def read(folder: Path) -> Findings:
    """The tables of a finished pruning's folder.

    Args:
        folder: the folder.

    Raises:
        OutputError: something in it is not what was written, or it is of another version.
    """
    try:
        found = _findings_of(read_record(folder / PRUNED), folder)
    except KeyError as error:
        raise OutputError(
            f"'{folder / PRUNED}' is damaged or of another version, since it lacks {error}; give the command "
            "that made it again, with --overwrite"
        ) from error
    for one in (found.calibration, found.test):
        lost = [
            "+".join(parts)
            for ranked in found.chosen.values()
            for sets in ranked.sets.values()
            for parts in sets
            if "+".join(parts) not in one.store.known
        ]
        if lost or "" not in one.store.known:
            raise OutputError(f"'{folder / COSTS}' lacks what was measured; run it again with --overwrite")
    return found


def _findings_of(record: Mapping[str, Any], folder: Path) -> Findings:
    judged = {
        name: Judged(Store(folder / COSTS, name), tuple(one["documents"]), np.array(one["predicted"], np.float64))
        for name, one in record["texts"].items()
    }
    chosen = {
        name: Chosen(
            Scored if name == OWN else ranking_named(name),
            {int(size): tuple(dict.fromkeys(tuple(parts) for parts in sets)) for size, sets in one["sets"].items()},
            one["scores"],
        )
        for name, one in record["chosen"].items()
    }
    return Findings(
        record["units"],
        tuple(record["parts"]),
        {name: chosen[name] for name in record["settings"]["ranking"]},
        judged[SPLITS[0]],
        judged[SPLITS[1]],
        record["settings"]["keep_loss"],
        record["settings"]["exhaustive"],
        record["settings"]["replace"],
        {} if record["settings"]["replace"] == "removal" else read_constants(folder / LEFT),
        {
            name: TaskAnswers(
                tuple(one["groups"]), one["foiled"], {sets: np.array(rows) for sets, rows in one["answers"].items()}
            )
            for name, one in record["tasks"].items()
        },
    )
