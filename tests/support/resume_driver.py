"""Runs one run again and again in children that are killed, and writes down what each of them did.

`python resume_driver.py MODEL PROMPTS` reads one JSON line per attempt from standard input and answers each with the
child's wait status. `out` is the run's folder, OUT.log the journal:

    {"out": ..., "seed": 0, "overwrite": false}     to its end
    {"at": ["os.rename", "run.json", 1]}            killed by itself at the first rename of a path with run.json in it
    {"work": 2, "after": 0.004}                     killed from outside, 4 ms after its second piece of work began

A new process for each attempt would import torch each time; a fork of one that has imported it, but used nothing of it,
is as fresh.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH = 4
CHUNK = 8
PAUSE = 0.005
"""Seconds that each piece of work takes longer, so that a kill from outside can meet it."""


def main() -> None:
    import torch

    torch.set_num_threads(1)
    import hydrascope.knockout
    import hydrascope.report  # noqa: F401  what every child needs, imported once

    for line in sys.stdin:
        how = json.loads(line)
        out = Path(how["out"])
        journal = out.with_suffix(".log")
        before = _lines(journal)
        child = os.fork()
        if child == 0:
            attempt(sys.argv[1], sys.argv[2], out, journal, how)
        if "work" in how:
            kill_later(child, journal, before + how["work"], how["after"])
        print(os.waitpid(child, 0)[1], flush=True)


def attempt(model: str, prompts: str, out: Path, journal: Path, how: dict[str, Any]) -> None:
    """One run, from opening the model to its report; does not return."""
    import hydrascope as hs
    from hydrascope.engine import _activations, _clean_cache, measure
    from hydrascope.report import _page as page
    from hydrascope.run import _prompt_run, _runner

    smaller = ((_prompt_run, "BATCH", BATCH), *((m, "STORED_TOGETHER", CHUNK) for m in (_clean_cache, _activations)))
    for module, name, size in smaller:
        setattr(module, name, size)
    vars(page)["render"] = lambda findings: f"<html>{findings.ds.sizes}</html>"
    noted = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    vars(_runner)["measure"] = watched(noted, "batch", measure, lambda context, rows, *rest, **more: rows)
    fill = _activations.ValueStore._fill
    _activations.ValueStore._fill = watched(noted, "chunk", fill, lambda store, model, runs, rows, *rest: rows)
    code = 1
    try:
        opened, asked = hs.load(model), hs.load_prompts(prompts)
        if "at" in how:
            die_at(out, *how["at"])
        ledger = hs.knock_out(
            opened,
            asked,
            "attn,mlp,head.1.*,attn->mlp.2,head.0.*->head.2.1",
            hs.Resample(donors=3),
            seed=how.get("seed", 0),
            out=out,
            overwrite=how.get("overwrite", False),
        )
        ledger.report(out / "report.html")
        code = 0
    except hs.HydrascopeError as error:
        print(error, file=sys.stderr)
    finally:
        os._exit(code)


def watched(noted: int, kind: str, function: Callable[..., Any], rows_of: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **more: Any) -> Any:
        os.write(noted, f"{kind} {json.dumps(list(rows_of(*arguments)))}\n".encode())
        time.sleep(PAUSE)
        return function(*arguments, **more)

    return call


def die_at(out: Path, event: str, path: str, count: int) -> None:
    """Kill this process at the n-th file operation of a kind on paths of the run that contain a text."""
    seen = 0

    def hook(name: str, details: tuple[Any, ...]) -> None:
        nonlocal seen
        if name == event and details and isinstance(details[0], str | os.PathLike):
            touched = " ".join(str(item) for item in details)
            if str(out) in touched and path in touched:
                seen += 1
                if seen == count:
                    os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def kill_later(child: int, journal: Path, lines: int, after: float) -> None:
    while _lines(journal) < lines and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.0005)
    time.sleep(after)
    os.kill(child, signal.SIGKILL)


def _lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


if __name__ == "__main__":
    main()
