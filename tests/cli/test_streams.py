"""Paths as users write them, what they keep in a run's folder, and what reaches their terminal."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

import hydrascope as hs
from hydrascope.cli import _console, _streams
from hydrascope.engine import measure
from hydrascope.errors import OutputError, PromptError
from hydrascope.ledger import open_dataset, read_record, remove, write_record, write_text
from hydrascope.prompts import _folders
from hydrascope.run import _runner
from hydrascope.run_directory import folder_named, locked, open_run_directory
from tests.conftest import Cli

QUICK = ("--components", "attn.1", "--donors", "2", "--null-draws", "0", "--no-freeze")

pytestmark = pytest.mark.usefixtures("proved_once")


@pytest.fixture
def command(model_folder: Path, prompt_file: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    monkeypatch.setattr("hydrascope.report._page.render", lambda dataset: "<html></html>")
    return ("run", str(model_folder), "--prompts", str(prompt_file), *QUICK)


# --- paths -------------------------------------------------------------------------------------


def test_a_path_means_one_place(
    command: tuple[str, ...], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, here = tmp_path / "home", tmp_path / "here"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    assert cli(*command, "--out=~/a::b").code == 0
    assert {path.name for path in (home / "a::b").iterdir()} == {
        *("run.json", "prompts.jsonl", "ledger.zarr", "report.html")
    }
    assert cli("show", "~/a::b").out.endswith(f"{home}/a::b/report.html\n")
    assert hs.Ledger.open("~/a::b").path == home / "a::b"
    assert cli("report", "~/a::b", "--out", "~/page.html").code == 0
    assert (home / "page.html").exists()
    assert not list(here.iterdir())


@pytest.mark.parametrize("name", ["", " ", "~nobody-has-this-name/x", "a\0b"])
def test_what_names_no_folder_is_refused(name: str, cli: Cli) -> None:
    with pytest.raises(OutputError, match="names no folder"):
        folder_named(name)
    assert "names no folder" in cli("run", "nowhere", "--out", name).refusal()


def test_too_large_a_folder_is_refused(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.json", "a.JSON", "c.txt"):
        (tmp_path / "below").mkdir(exist_ok=True)
        (tmp_path / "below" / name).touch()
    found = _folders.files_below(tmp_path, (".json",))
    assert [path.name for path in found] == ["a.JSON", "b.json"]
    monkeypatch.setattr(_folders, "MOST", 3)
    with pytest.raises(PromptError, match="holds more than 3 files; give a file, or a smaller folder"):
        _folders.files_below(tmp_path, (".json",))


# --- what is the user's ------------------------------------------------------------------------


def test_overwriting_follows_no_link(tmp_path: Path) -> None:
    out, mine = tmp_path / "out", tmp_path / "mine"
    mine.mkdir()
    (mine / "file").write_text("mine")
    open_run_directory(out, {"seed": 0}, {})
    for name in ("ledger.zarr", "scratch.zarr.new", "companions"):
        (out / name).symlink_to(mine)
    for name in ("run.json.new", "report.html"):
        (out / name).symlink_to(mine / "file")
    open_run_directory(out, {"seed": 1}, {}, overwrite=True)
    assert {path.name for path in out.iterdir()} == {"run.json"}
    assert read_record(out / "run.json")["settings"] == {"seed": 1}
    assert [path.name for path in mine.iterdir()] == ["file"]
    assert (mine / "file").read_text() == "mine"


def test_a_link_in_place_of_a_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "file").symlink_to(tmp_path / "mine")
    write_text(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "new" and not (tmp_path / "file").is_symlink()
    assert (tmp_path / "mine").read_text() == "mine"
    remove(tmp_path / "nothing")


def test_another_program_s_record_is_not_overwritten(tmp_path: Path) -> None:
    for name in ("run.json", "report.html", "prompts.jsonl"):
        (tmp_path / name).write_text('{"name": "mine"}')
    with pytest.raises(OutputError, match=r"exists and is no run of hydrascope; choose another folder \(--out\)"):
        open_run_directory(tmp_path, {}, {}, overwrite=True)
    assert len(list(tmp_path.iterdir())) == 3


def test_a_damaged_run_can_be_overwritten(tmp_path: Path) -> None:
    open_run_directory(tmp_path, {"seed": 0}, {})
    (tmp_path / "run.json").write_text((tmp_path / "run.json").read_text()[:-20])
    with pytest.raises(OutputError, match="is damaged"):
        open_run_directory(tmp_path, {"seed": 0}, {})
    assert not open_run_directory(tmp_path, {"seed": 0}, {}, overwrite=True).complete


def test_an_empty_folder_that_cannot_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a folder of another user is: only what was made goes again."""

    def refused(*given: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refused)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    theirs.mkdir()
    for out in (theirs, ours):
        with pytest.raises(OutputError, match="cannot be written: Permission denied"), locked(out):
            open_run_directory(out, {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["theirs"]
    assert not list(theirs.iterdir())


def test_settings_of_a_record_are_compared_as_they_are_on_disk(tmp_path: Path) -> None:
    write_record(tmp_path / "run.json", {"settings": {"of": (1, 2)}, "complete": False})
    assert read_record(tmp_path / "run.json") == {"settings": {"of": [1, 2]}, "complete": False}


# --- the terminal ------------------------------------------------------------------------------

ESCAPES = "\x1b]0;title\x07\x1b[2Jred\x9b31m\r\u202e"


def test_nothing_that_is_printed_steers_the_terminal(cli: Cli, capsys: pytest.CaptureFixture[str]) -> None:
    said = cli("show", f"nowhere{ESCAPES}").refusal()
    assert said.startswith("no ledger in 'nowhere\\x1b]0;title\\x07\\x1b[2Jred\\x9b31m\\r\\u202e'; give the folder")
    _streams.say(f"é\tñ\n{ESCAPES}\ud800")
    assert capsys.readouterr().out == "é\tñ\n\\x1b]0;title\\x07\\x1b[2Jred\\x9b31m\\r\\u202e\\ud800\n"


def test_all_that_is_not_json_is_printed_by_say() -> None:
    for file in Path(_streams.__file__).parent.glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        bare = [ast.unparse(call) for call in calls if ast.unparse(call.func) == "print"]
        assert all(call.startswith("print(json.dumps(") for call in bare) or file.name == "_streams.py", (file, bare)


def test_tables_do_not_steer_it_either() -> None:
    console, table = _console.Terminal(), Table(ESCAPES)
    console.file = StringIO()
    table.add_row(f"[bold]{ESCAPES}")
    console.print(table)
    console.print(ESCAPES, style="bold")
    printed = console.file.getvalue()
    assert all(one.isprintable() or one == "\n" for one in printed)
    assert "[bold]" in printed and "title" in printed


def test_messages_are_of_bounded_length(cli: Cli) -> None:
    said = cli("show", "x" * 10**5).refusal()
    assert len(said) < 1100
    assert "..." in said and said.endswith("cannot be read: File name too long")


@pytest.mark.parametrize(
    ("into", "code", "says"),
    [
        (">/dev/full", 2, "standard output cannot be used: No space left on device; what is done is kept\n"),
        (">&-", 0, ""),
        (">&- 2>&-", 0, ""),
        ("| head -c 1 >/dev/null; exit ${PIPESTATUS[0]}", None, ""),
    ],
)
def test_output_that_goes_nowhere(into: str, code: int | None, says: str) -> None:
    program = f"{sys.executable} -m hydrascope models {into}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == (says and f"hydrascope: {says}")
    assert done.returncode == code or (code is None and done.returncode in (0, 1, 141))


@pytest.fixture
def restored() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_says_what_is_kept_and_how_to_go_on(
    number: int, code: int, command: tuple[str, ...], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, rows = tmp_path / "out", list[int]()

    def measured(context: Any, some: Any, *rest: Any, **more: Any) -> Any:
        rows.extend(some)
        if len(rows) > 20:
            os.kill(os.getpid(), number)
        return measure(context, some, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(_runner, "measure", measured)
        said = cli(*command, "--out", out)
    assert (said.code, said.out) == (code, "")
    mend = "the same command continues where it stopped"
    assert said.err.splitlines()[-1] == f"hydrascope: interrupted; '{out}' keeps 16 of 40 prompts; {mend}"
    assert cli(*command, "--out", out).code == 0
    assert open_dataset(out).sizes["prompt"] == 40
