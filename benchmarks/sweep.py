"""A sweep on a cluster of this machine: throughput, the price of what is finished, and what survives when parts die.

    python benchmarks/sweep.py             plain, one worker and two, in one run; and all of it again, finished
    python benchmarks/sweep.py --faults    12 cells, 2 workers; one killed by its id, the scheduler killed and restarted

The second compares every ledger with a plain run's, bit for bit, and counts the rows that were measured twice.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
import sweep_journal

import hydrascope as hs
from tests.support.ledgers import same_bits

PLAN: dict[str, Any] = {
    **{"model": ["lerna", "iolaus"], "prompts": ["facts", "retrieval"], "seed": [0, 1, 2], "components": "attn,mlp"},
    **{"ablation": "resample", "donors": 4, "freeze": False, "null_draws": 0, "keep_wrong": True, "memory": "500MB"},
    **{"report": False},
}
HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", action="store_true")
    parser.add_argument("--limit", type=int, default=40, help="prompts of each cell")
    asked = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="sweep-") as folder:
        (faults if asked.faults else throughput)(Path(folder), {**PLAN, "limit": asked.limit})


def throughput(folder: Path, plan: dict[str, Any]) -> None:
    """Seconds of the same plan made in this process, by one worker and by two, start of the cluster included."""
    taken: dict[str, float] = {}
    hs.sweep({**plan, "folder": str(folder / "warm"), "seed": 0, "model": "lerna", "prompts": "facts"})
    for name, workers in (("plain", None), ("1 worker", 1), ("2 workers", 2)):
        taken[name], found = timed({**plan, "folder": str(folder / name)}, workers)
        inside = sum(one.seconds for one in found.outcomes)
        print(
            f"{name:10s} {taken[name]:7.1f} s for {len(found.outcomes)} cells, of which in cells {inside:.1f} s",
            flush=True,
        )
        assert found.exit_code == 0
    one, two = taken["1 worker"], taken["2 workers"]
    print(f"1 worker takes {one / taken['plain']:.2f} of plain, 2 take {two / one:.2f} of 1")
    again, found = timed({**plan, "folder": str(folder / "plain")}, None)
    print(f"finished   {again / len(found.outcomes):7.4f} s a cell, reading the plan included ({found.headline})")


def timed(plan: dict[str, Any], workers: int | None) -> tuple[float, hs.Sweep]:
    started = time.perf_counter()
    found = hs.sweep(plan, workers=workers)
    return time.perf_counter() - started, found


def faults(folder: Path, plan: dict[str, Any]) -> None:
    """Kill what can die, and hold the result to a plain run."""
    journal = folder / "journal"
    os.environ["SWEEP_JOURNAL"] = str(journal)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    out, file = folder / "out", folder / "plan.toml"
    file.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in {**plan, "folder": str(out)}.items()))
    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", address.rsplit(":")[-1], "--no-dashboard")
    ended: list[bool] = []
    kept = [Thread(target=keep, args=(address, ended), daemon=True) for _ in range(2)]
    for thread in kept:
        thread.start()
    command = [sys.executable, "-m", "hydrascope", "sweep", str(file), "--scheduler", address]
    with subprocess.Popen(command) as sweep:
        wait(sweep, lambda: whole(out) >= 2 and bool(busy(out, journal)))
        (killed, *_) = busy(out, journal)
        os.kill(killed, signal.SIGKILL)
        print(f"killed worker {killed} with {whole(out)} cells whole", flush=True)
        wait(sweep, lambda: whole(out) >= 6 and bool(busy(out, journal)))
        scheduler.kill()
        scheduler.wait()
        print(
            f"killed the scheduler with {whole(out)} cells whole, {len(busy(out, journal))} being measured", flush=True
        )
        scheduler = start("scheduler", "--host", "127.0.0.1", "--port", address.rsplit(":")[-1], "--no-dashboard")
        code = sweep.wait()
    ended.append(True)
    scheduler.kill()
    lines = [line.split() for line in journal.read_text().splitlines()]
    rows = Counter((cell, row) for cell, _, these in lines for row in these.split(","))
    twice = Counter(cell for (cell, _), times in rows.items() if times > 1)
    processes = len({line[1] for line in lines})
    print(f"exit code {code}; {len(lines)} batches of {sweep_journal.BATCH} rows by {processes} processes")
    shared = sum(len({line[1] for line in lines if line[0] == cell}) > 1 for cell in {line[0] for line in lines})
    print(f"cells that one process began and another went on with: {shared}")
    print(f"measured more than once: {dict(twice) or 'nothing'}, at most {max(rows.values())} times")
    sweep_journal.PAUSE = 0.0
    sweep_journal.watch()
    plain = hs.sweep({**plan, "folder": str(folder / "plain")})
    for one in plain.outcomes:
        same_bits(Path(one.folder), out / Path(one.folder).name)
    print(f"{len(plain.outcomes)} ledgers equal a plain run's in every bit")
    assert code == 0 and all(count <= sweep_journal.BATCH for count in twice.values())


def start(what: str, *given: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", f"distributed.cli.dask_{what}", *given], stderr=subprocess.DEVNULL)


def keep(address: str, ended: list[bool]) -> None:
    """Start a worker, and another whenever it ends, as a cluster's own machinery does."""
    given = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--preload", str(HERE / "sweep_journal.py"))
    while not ended:
        with start("worker", address, *given) as worker:
            while worker.poll() is None:
                time.sleep(0.1)
                if ended:
                    worker.kill()


def whole(out: Path) -> int:
    return len(list(out.glob("*/cell.json")))


def busy(out: Path, journal: Path) -> list[int]:
    """Processes that are in the middle of a cell: some of its batches are measured, and not all."""
    found = []
    lines = [line.split() for line in journal.read_text().splitlines()] if journal.exists() else []
    for claim in out.glob(".*.claim/owner.json"):
        folder = out / claim.parent.name[1:].removesuffix(".claim")
        try:
            pid = json.loads(claim.read_text())["pid"]
            unfinished = not json.loads((folder / "run.json").read_text())["complete"]
        except (OSError, ValueError):  # it has just come or gone
            continue
        done = sum(line[:2] == [folder.name, str(pid)] for line in lines)
        found += [pid] if unfinished and done > 3 else []
    return found


def wait(sweep: subprocess.Popen[bytes], until: Callable[[], bool]) -> None:
    while not until():
        assert sweep.poll() is None, "it ended too early; give more prompts with --limit"
        time.sleep(0.02)


if __name__ == "__main__":
    main()
