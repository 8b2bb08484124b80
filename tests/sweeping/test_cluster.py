"""Cells as tasks of a Dask cluster: the same runs as without, whoever dies."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from distributed import LocalCluster

import hydrascope as hs
from hydrascope.errors import RunError
from hydrascope.ledger import open_dataset
from hydrascope.run import RunRequest
from hydrascope.sweeping import Cell, _cluster, _where
from tests.conftest import Cli
from tests.support.ledgers import same_bits


@pytest.fixture
def asked(model_folder: Path, prompt_file: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        **{"folder": str(tmp_path / "out"), "model": str(model_folder), "prompts": str(prompt_file), "report": False},
        **{"components": "attn", "null_draws": 0, "freeze": False, "ablation": ["zero", "mean"], "seed": [0, 1]},
    }


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A cluster whose scheduler and only worker are threads of this process."""
    monkeypatch.setattr(_cluster, "PATIENCE", 5.0)
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        yield str(cluster.scheduler_address)


@pytest.mark.usefixtures("proved_once")
def test_a_cluster_makes_the_runs_that_one_process_makes(
    asked: dict[str, Any], tmp_path: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked |= {"ablation": "zero", "seed": [0, 1], "components": ["attn", "attn.9"]}
    found = hs.sweep(asked, scheduler=scheduler)
    assert [one.state for one in found.outcomes] == ["made", "made", "failed", "failed"]
    assert "attn.9" in found.outcomes[2].said
    plain = hs.sweep({**asked, "folder": str(tmp_path / "plain")})
    for one, other in zip(found.outcomes[:2], plain.outcomes[:2], strict=True):
        same_bits(Path(other.folder), Path(one.folder))
    assert open_dataset(Path(found.outcomes[0].folder))["change"].chunks is None  # dask reads no ledger
    again = hs.sweep({**asked, "components": "attn"}, scheduler="tcp://127.0.0.1:1")  # nothing is left for it
    assert [one.state for one in again.outcomes] == ["reused", "reused"]


def test_a_worker_that_is_killed_is_replaced_and_listens_to_this_machine_only(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process of its own, killed by its id while it works on a cell; benchmarks/sweep.py kills more of more."""
    killed: list[int] = []
    heard: set[str] = set()

    def kill() -> None:
        while not killed:
            for claim in (tmp_path / "out").glob(".*.claim/owner.json"):
                for process in psutil.Process().children(recursive=True):
                    if f'"pid": {process.pid},' in claim.read_text():
                        listening = [c for c in every_connection() if c.status == psutil.CONN_LISTEN]
                        heard.update(connection.laddr.ip for connection in listening)
                        killed.append(process.pid)
                        os.kill(process.pid, signal.SIGKILL)
                        return
            time.sleep(0.005)

    def every_connection() -> Iterator[Any]:
        for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
            yield from process.net_connections(kind="inet")

    killer = Thread(target=kill, daemon=True)
    killer.start()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as many as the plain run has here
    asked |= {"ablation": "zero", "seed": 0}
    found = hs.sweep(asked, workers=1)
    killer.join()
    assert heard == {"127.0.0.1"}
    assert [one.state for one in found.outcomes] == ["made"]
    plain = hs.sweep({**asked, "folder": str(tmp_path / "plain")})
    same_bits(Path(plain.outcomes[0].folder), Path(found.outcomes[0].folder))
    assert not list((tmp_path / "out").glob(".*"))


def test_without_a_scheduler_it_ends_in_a_sentence_that_says_what_is_kept(
    asked: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cluster, "PATIENCE", 0.2)
    with pytest.raises(RunError, match=r"no scheduler answers at 'tcp://127\.0\.0\.1:1' .*keeps 0 of 4 cells whole"):
        hs.sweep(asked, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(RunError, match=r"no scheduler answers at 'tls://127.*TLS expects"):
        hs.sweep(asked, scheduler="tls://127.0.0.1:1")  # without keys
    with pytest.raises(RunError, match="no scheduler answers at 'nonsense://x'"):
        hs.sweep(asked, scheduler="nonsense://x")


def test_without_dask_one_sentence_says_how_to_get_it(
    asked: dict[str, Any], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_where, "find_spec", lambda name: None)
    (tmp_path / "plan.toml").write_text("seed = 1")
    said = cli("sweep", tmp_path / "plan.toml", "--workers", 2).refusal()
    assert said.endswith("run pip install 'hydrascope[cluster]'")
    with pytest.raises(RunError, match="leave one of them out"):
        hs.sweep(asked, workers=2, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(RunError, match="a cluster cannot have 0 workers"):
        hs.sweep(asked, workers=0)


def test_a_gpu_is_a_resource_of_workers(asked: dict[str, Any], scheduler: str) -> None:
    cells = {device: Cell("x", RunRequest(device=device), Path("x")) for device in ("cpu", "cuda:0", "map", "auto")}
    needs = {
        device: [_cluster._needs_gpu(cell, offered) for offered in (False, True)] for device, cell in cells.items()
    }
    assert needs == {"cpu": [False] * 2, "cuda:0": [True] * 2, "map": [True] * 2, "auto": [False, True]}
    (found,) = hs.sweep({**asked, "ablation": "zero", "seed": 0, "device": "cuda"}, scheduler=scheduler).outcomes
    assert found.state == "failed" and "no worker offers a GPU; start some with dask worker --resources" in found.said


def test_a_connection_that_others_can_use_is_told() -> None:
    assert _cluster._caution("tcp://127.0.0.1:8786") == _cluster._caution("tls://10.0.0.1:8786") == ""
    assert "whoever reaches it can run code" in _cluster._caution("tcp://10.0.0.1:8786")
