"""Makes one run of its shards, whose folders lie in its own.

Several processes may do so at once, and none locks the others out: the joined ledger appears under its name whole, by
renaming a folder, which only one can do.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import uuid4

from hydrascope.engine import size_of
from hydrascope.errors import OutputError
from hydrascope.ledger import Part, join_ledgers, read_record, remove
from hydrascope.run._shard import Shard
from hydrascope.run_directory import JSON, RunDirectory
from hydrascope.run_settings import difference

LISTED = 5
"""Most shards that are named where several are missing."""


def join(directory: RunDirectory) -> RunDirectory:
    """Make a run's ledger of its shards.

    Args:
        directory: folder of the run.

    Returns:
        The folder; complete, unless another process has just joined it and is about to say so.

    Raises:
        OutputError: a shard is missing, unfinished, damaged or of another run.
    """
    joined = directory.ledger.exists()  # by a process that was killed before it could say so
    draft = directory.shards / f"joined.{uuid4().hex}"
    try:
        records = _finished_records(directory)
        if not joined:
            parts = [
                Part(directory.shard(shard.name).ledger, record["rows"], *_told(directory, shard))
                for shard, record in records.items()
            ]
            join_ledgers(parts, draft).finish(sum(record["seconds"] for record in records.values()))
            os.rename(draft, directory.ledger)
    except Exception as error:  # what a faster process takes away here, draft and shards, has errors without end
        remove(draft)
        if not joined and directory.ledger.exists():
            with suppress(OSError):  # the other one has not removed the shards yet
                directory.shards.rmdir()
            return RunDirectory(directory.path, read_record(directory.path / JSON))
        if isinstance(error, OSError):
            raise OutputError(f"'{directory.ledger}' cannot be written: {error.strerror or error}") from error
        raise
    return directory.mark_complete(machines=sorted({record["machine"] for record in records.values()}))


def unready(directory: RunDirectory) -> dict[Shard, str]:
    """Shards of a run that are not finished yet, each with what there is of it.

    Args:
        directory: folder of the run.

    Raises:
        OutputError: a shard's record is damaged, or of another run.
    """
    found = {}
    for shard in _shards(directory):
        if not (directory.shard(shard.name).path / JSON).is_file():
            found[shard] = "is missing"
        elif not _record(directory, shard)["complete"]:
            found[shard] = "has not finished"
    return found


def told_unready(waiting: Mapping[Shard, str]) -> str:
    """Shards that are not finished, in a part of a sentence.

    Args:
        waiting: what there is of each.
    """
    named = ", ".join(f"{shard} {why}" for shard, why in list(waiting.items())[:LISTED])
    return named + (f" and {len(waiting) - LISTED:,} more" if len(waiting) > LISTED else "")


def _finished_records(directory: RunDirectory) -> dict[Shard, dict[str, Any]]:
    if waiting := unready(directory):
        raise OutputError(
            f"the shards in '{directory.shards}' cannot be joined: {told_unready(waiting)}; run the same command with "
            f"--shard {' and --shard '.join(map(str, list(waiting)[:LISTED]))}"
        )
    return {shard: _record(directory, shard) for shard in _shards(directory)}


def _shards(directory: RunDirectory) -> list[Shard]:
    count = int(directory.record["shards"])
    return [Shard(number, count) for number in range(1, count + 1)]


def _told(directory: RunDirectory, shard: Shard) -> tuple[str, str]:
    """What an error calls a shard, and says to do about it."""
    name = f"shard {shard} in '{directory.shard(shard.name).path}'"
    return name, f"run the same command with --shard {shard} --overwrite"


def _record(directory: RunDirectory, shard: Shard) -> dict[str, Any]:
    """A shard's record, which must be of the run that it lies in."""
    name, mend = _told(directory, shard)
    try:
        record = read_record(directory.shard(shard.name).path / JSON)
    except OutputError as error:
        raise OutputError(f"the record of {name} is damaged; {mend}") from error
    if told := disagreement(record, directory.record):
        raise OutputError(f"{name} is of another run ({told}); {mend}")
    if record.get("shard") != shard.number:
        raise OutputError(f"{name} is another shard ({record.get('shard')}); {mend}")
    return record


def disagreement(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """How two shards' records disagree on what the last bits depend on; empty where they agree."""
    if told := difference(there["settings"], now["settings"]):
        return told
    if there.get("shards") != now["shards"]:
        return f"divided by {there.get('shards')} there, by {now['shards']} now"
    if there["memory"] != now["memory"]:
        return f"--memory {size_of(there['memory'])} there, {size_of(now['memory'])} now"
    changed = [name for name, one in now["versions"].items() if there["versions"].get(name) != one]
    return ", and ".join(f"{name} {there['versions'].get(name)} there, {now['versions'][name]} now" for name in changed)
