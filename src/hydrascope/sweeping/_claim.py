"""Claims: one process at a time works on a cell, also where a file system knows no locks.

A claim is a folder that is put in place in one step, with a file in it that says whose it is and is touched again and
again. A claim whose process is known to be gone, or that nobody has touched for a minute, is taken over.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import psutil

from hydrascope.errors import OutputError

BEAT = 10.0
"""Seconds between two touches."""

DEAD = 60.0
"""Seconds without a touch after which a claim is taken for that of a dead process."""

_CLOCK = 5.0
"""Seconds by which the time when a process began can seem to move, as the clock is set."""

_OWNER = "owner.json"


class Claimed(Exception):
    """Another process works on it."""


@dataclass
class Claim:
    """A claim that is held.

    Attributes:
        path: its folder.
        token: what tells it from every other claim.
    """

    path: Path
    token: str
    _ended: Event = field(default_factory=Event)
    _lost: Event = field(default_factory=Event)

    def require(self) -> None:
        """Stop where another process has taken the claim over, since this one was still for too long.

        Raises:
            Claimed: it has.
        """
        if self._lost.is_set():
            raise Claimed(
                f"another process has taken over '{self.path}', since this one was still for too long; see there"
            )

    def _keep(self) -> None:
        while not self._ended.wait(BEAT):
            if _owner(self.path).get("token") != self.token:
                self._lost.set()
                return
            with suppress(OSError):
                os.utime(self.path / _OWNER)


@contextmanager
def claimed(path: Path) -> Iterator[Claim]:
    """Hold a claim for as long as the block lasts.

    Args:
        path: the claim's folder; its parent is made.

    Raises:
        Claimed: a living process holds it.
        OutputError: nothing can be written there.
    """
    claim = Claim(path, uuid4().hex)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        taken = _put(claim) or (_is_dead(path) and _clear_dead(path) and _put(claim))
    except OSError as error:
        raise OutputError(f"'{path}' cannot be written: {error.strerror or error}; choose another folder") from error
    if not taken:
        owner = _owner(path)
        raise Claimed(
            f"process {owner.get('pid', '?')} on {owner.get('host', '?')} works on '{path}'; wait for its end"
        )
    keeper = Thread(target=claim._keep, name="hydrascope-claim", daemon=True)
    keeper.start()
    try:
        yield claim
    finally:
        claim._ended.set()
        keeper.join()
        if _owner(path).get("token") == claim.token:
            shutil.rmtree(path, ignore_errors=True)


def _put(claim: Claim) -> bool:
    """Put the claim in place, unless one is there: a folder cannot be renamed to one that has something in it."""
    draft = claim.path.with_name(f"{claim.path.name}.{claim.token}")
    draft.mkdir()
    try:
        (draft / _OWNER).write_text(json.dumps({"token": claim.token, **_myself()}), encoding="utf-8")
        with suppress(OSError):
            draft.rename(claim.path)
        return _owner(claim.path).get("token") == claim.token
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _clear_dead(path: Path) -> bool:
    """Remove a dead claim; only one of those who found it dead does, and looks again before."""
    doing = path.with_name(f"{path.name}.takeover")
    with suppress(OSError):
        if _now(path) - doing.stat().st_mtime > DEAD:  # who began to was killed
            doing.rmdir()
    try:
        doing.mkdir()
    except FileExistsError:
        return False
    try:
        if _is_dead(path):
            shutil.rmtree(path, ignore_errors=True)
        return not path.exists()
    finally:
        doing.rmdir()


def _is_dead(path: Path) -> bool:
    owner, me = _owner(path), _myself()
    if owner.get("host") == me["host"]:
        try:
            began: float = psutil.Process(int(owner["pid"])).create_time()
            return abs(began - float(owner["began"])) > _CLOCK
        except psutil.NoSuchProcess:
            return True
    with suppress(OSError):
        return _now(path) - (path / _OWNER).stat().st_mtime > DEAD
    return False


def _myself() -> dict[str, Any]:
    host = socket.gethostname()
    with suppress(OSError):  # containers can share a name and not their processes
        host += f" {os.readlink('/proc/self/ns/pid')}"
    return {"host": host, "pid": os.getpid(), "began": psutil.Process().create_time()}


def _owner(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((path / _OWNER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _now(path: Path) -> float:
    """The time by the clock of the file system, which may be another machine's."""
    probe = path.with_name(f"{path.name}.{uuid4().hex}.now")
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError:
        return time.time()
    finally:
        probe.unlink(missing_ok=True)
