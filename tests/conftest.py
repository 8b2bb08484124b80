"""What all tests share: one thread, no network, tiny models on disk, and the command line called in process."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from jaxtyping import install_import_hook

from tests.support import checked, tiny

_MEMORY = Path("/dev/shm")
if os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free > 4 * 2**30:
    # on a disk, thousands of small files take much of the time
    tempfile.tempdir = os.environ.setdefault("TMPDIR", str(_MEMORY))
_CACHE = tempfile.TemporaryDirectory(prefix="hydrascope-cache-")
os.environ["XDG_CACHE_HOME"] = _CACHE.name  # the user's own is not for tests to write in
install_import_hook("hydrascope", f"{checked.__name__}.typed")  # what has been imported before stays unchecked

torch.set_num_threads(1)

INTRODUCTION = r"\Amodel: [^\n]+\ntask: [^\n]+\n((left out|tokens| ).*\n)*example: .+\ngroups: .+\n"
"""What a run says on standard error before its first number."""

Cli = Callable[..., "Said"]


@dataclass(frozen=True)
class Said:
    """What a command left behind: its exit code and its two streams."""

    code: int
    out: str
    err: str

    def refusal(self, *, begun: bool = False) -> str:
        """The one sentence on standard error, proved to be the only thing that was said.

        Args:
            begun: knock-outs began before, and with them what a run says first.
        """
        assert self.code == 2, self
        assert self.out == ""
        said = re.sub(INTRODUCTION, "", self.err) if begun else self.err
        assert re.fullmatch(r"hydrascope: [^\n]+\n", said), self.err
        sentence = said.removeprefix("hydrascope: ").rstrip("\n")
        assert not re.search(r"[.!?]\s+[A-Z]|[.!?]$", sentence), f"more than one sentence: {sentence}"
        return sentence


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the command line in this process, as its entry point would be called."""
    from hydrascope.cli import main

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["hydrascope", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capsys.readouterr()
        return Said(int(stopped.value.code or 0), out, err)

    return call


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with its tokenizer."""
    return tiny.save(tmp_path_factory.mktemp("models") / "tiny", tiny.network())


@pytest.fixture(scope="session")
def rows() -> list[tiny.Row]:
    """Forty prompts that the tiny model completes with many different words."""
    return tiny.completed(tiny.network(), 40)


@pytest.fixture(scope="session")
def prompt_file(tmp_path_factory: pytest.TempPathFactory, rows: list[tiny.Row]) -> Path:
    """The forty prompts as a file."""
    return tiny.prompt_file(tmp_path_factory.mktemp("prompts") / "asked.jsonl", rows)


@pytest.fixture(scope="module")
def proved_once() -> Iterator[None]:
    """Prove the engine of each model once a file, where that proof is not what is tested."""
    from hydrascope.engine import AT_LAST_TOKEN, Engine, choose_engine
    from hydrascope.run import _task

    engines: dict[tuple[int, Any], Engine] = {}

    def choose(opened: Any, strategies: Any = AT_LAST_TOKEN) -> Engine:
        if (id(opened), strategies) not in engines:
            engines[id(opened), strategies] = choose_engine(opened, strategies)
        return engines[id(opened), strategies]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_task, "choose_engine", choose)
        yield
