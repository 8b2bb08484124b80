"""Bad input: one sentence on standard error, exit code 2, nothing half-written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from hydrascope import errors
from hydrascope.anatomy import load
from hydrascope.engine._memory import size_of
from hydrascope.engine.proof import _engine
from hydrascope.errors import AnatomyRefused, HydrascopeError, OutOfBudget, OutputError
from hydrascope.ledger import LedgerFile, open_dataset
from hydrascope.prompts import load as load_prompts
from hydrascope.run_directory import open_run_directory
from tests.conftest import Cli
from tests.support import tiny

QUICK = ("--components", "attn.1", "--donors", "2", "--null-draws", "0")


@pytest.fixture
def quick_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report is drawn in seconds; tests that are not about it take an empty page."""
    monkeypatch.setattr("hydrascope.report._page.render", lambda dataset: "<html></html>")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    return tiny.write_lines(path, rows)


# --- options and prompts -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--donors none", "invalid value for '--donors'"),
        ("--donors 0", "0 donors cannot be averaged over"),
        ("--donors -2", "-2 donors cannot be averaged over"),
        ("--donors 40", "too few donors"),
        ("--ablation banana", "no ablation 'banana'; choose counterfactual, mean, noise, optimal, position-mean"),
        ("--ablation zero --donors 3", "the zero ablation has one value per prompt, not 3"),
        ("--ablation counterfactual", "has no counterfactual; add a 'counterfactual' to every prompt"),
        ("--components attn.9", "this model has no component 'attn.9'; it has attn.0 to attn.2"),
        ("--components head.0.2", "this model has no component 'head.0.2'; it has head.0.0 to head.2.1"),
        ("--components neuron.0.64", "this model has no component 'neuron.0.64'; it has neuron.0.0 to neuron.2.63"),
        ("--components layer.1+attn.1", "'layer.1+attn.1' names a part and something inside it"),
        ("--components attn.1+head.1.0", "'attn.1+head.1.0' names a part and something inside it"),
        ("--components banana", "'banana' is not a component address"),
        ("--components embed", "this model has no component 'embed'"),
        ("--target banana", "target cannot be 'banana'; choose label, difference, top, random-top or kl"),
        ("--target difference", "prompt 0 (counted from 0) has no foil, which a logit difference needs; add a 'foil'"),
        ("--bos banana", "bos cannot be 'banana'; choose auto, always or never"),
        ("--null-draws -1", "null draws cannot be -1; give 0 or more"),
        ("--null-draws many", "invalid value for '--null-draws'"),
        ("--seed -1", "seed cannot be -1; give 0 or more"),
        ("--memory banana", "'banana' is no amount of memory"),
        ("--memory -4GB", "'-4GB' is no amount of memory"),
        ("--memory 1KB", "the memory budget of 1.0 KB does not hold a single prompt, which needs about "),
        ("--device banana", "no device 'banana'"),
        ("--dtype int8", "no number format 'int8'"),
        ("--colour red", "no such option: --colour"),
        ("--prompts", "option '--prompts' requires an argument"),
        ("--prompts nowhere.jsonl", "'nowhere.jsonl' cannot be read (No such file or directory)"),
        ("--prompts notes.txt", "there is no prompt set 'notes.txt'"),
        ("--prompts ./notes.txt", "'notes.txt' is no prompt file"),
    ],
)
def test_wrong_options(
    arguments: str, says: str, model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "out"
    assert says in cli("run", model_folder, "--prompts", prompt_file, "--out", out, *arguments.split()).refusal()
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("rum", "no such command 'rum'; did you mean 'run'"),
        ("inspect a b", "unexpected extra argument"),
        ("report", "missing argument"),
        ("report nowhere", "no ledger in 'nowhere'"),
    ],
)
def test_wrong_commands(arguments: str, says: str, cli: Cli) -> None:
    assert says.lower() in cli(*arguments.split()).refusal().lower()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no prompt; give at least one line"),
        ("\n\n", "holds no prompt"),
        ('{"prompt": "w4 w5"}\n{"prompt": "w4\n', "p.jsonl, line 2: no valid JSON"),
        ('{"prompt": "w4"}\n\n{"promt": "w5"}\n', "p.jsonl, line 3: there is neither 'prompt' nor 'input_ids'"),
        ('{"prompt": ""}\n', "p.jsonl, line 1: the prompt is empty"),
        ('{"prompt": 3}\n', "p.jsonl, line 1: 'prompt' is 3"),
        ('{"prompt": "w4 w5", "target": ""}\n', "the target is empty"),
        ('{"prompt": "w4 w5", "target": "elsewhere"}\n', "does not know the first token of target 'elsewhere'"),
        ('{"prompt": "w4 w5", "target_id": 60}\n', "the target has token id 60, but the model has ids 0 to 59"),
        ('{"input_ids": [4, 99]}\n', "the prompt holds token id 99, but the model has ids 0 to 59"),
        ('{"prompt": "w4"}\n{"prompt": "' + "w6 " * 16 + '"}\n', "has 17 tokens, but the model's context holds 16"),
        ('{"prompt": "w4", "counterfactual": "' + "w6 " * 16 + '"}\n', "the counterfactual has 17 tokens"),
        ('{"prompt": "w4 w5", "target": "w4"}\n{"prompt": "w8", "target": "w5"}\n', "is the target in none of the 2"),
    ],
)  # fmt: skip
def test_wrong_prompts(text: str, says: str, model_folder: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    out = tmp_path / "out"
    assert says in cli("run", model_folder, "--prompts", tmp_path / "p.jsonl", "--out", out, *QUICK).refusal()
    assert not out.exists()


def test_text_without_a_tokenizer(prompt_file: Path, tmp_path: Path, cli: Cli) -> None:
    model = tiny.save(tmp_path / "bare", tiny.network(), with_tokenizer=False)
    sentence = cli("run", model, "--prompts", prompt_file, "--out", tmp_path / "out", *QUICK).refusal()
    assert "is text, but the model has no tokenizer; give token ids" in sentence
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("quick_report")
def test_ids_without_a_tokenizer(rows: list[tiny.Row], tmp_path: Path, cli: Cli) -> None:
    model = tiny.save(tmp_path / "bare", tiny.network(), with_tokenizer=False)
    prompts = lines(
        tmp_path / "p.jsonl",
        *({"input_ids": [1, *(int(word[1:]) for word in row.text.split())], "target_id": row.top} for row in rows[:20]),
    )
    assert cli("run", model, "--prompts", prompts, "--out", tmp_path / "out", *QUICK).code == 0
    assert int(open_dataset(tmp_path / "out").attrs["prompts_kept"]) == 20


@pytest.mark.usefixtures("quick_report")
def test_a_longer_target_gives_its_first_token_and_the_ledger_says_so(
    model_folder: Path, rows: list[tiny.Row], tmp_path: Path, cli: Cli
) -> None:
    prompts = lines(
        tmp_path / "p.jsonl",
        *({"prompt": row.text, "target": f"w{row.top}" + " w9" * (i < 3)} for i, row in enumerate(rows[:20])),
    )
    assert cli("run", model_folder, "--prompts", prompts, "--out", tmp_path / "out", *QUICK).code == 0
    dataset = open_dataset(tmp_path / "out")
    assert dataset.attrs["targets_truncated"] == 3
    assert dataset["target_token"].values.tolist() == [row.top for row in rows[:20]]


@pytest.mark.usefixtures("quick_report")
def test_a_failed_start_does_not_stand_in_the_way_of_the_right_command(
    model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli
) -> None:
    command = ("run", model_folder, "--prompts", prompt_file, "--out", tmp_path / "out", "--components", "attn.1")
    cli(*command, "--donors", "39").refusal()
    assert cli(*command, "--donors", "2").code == 0


# --- the output folder -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, prompt_file: Path) -> Path:
    import hydrascope as hs

    out = tmp_path_factory.mktemp("runs") / "done"
    options = hs.Options(null_draws=0)
    model, prompts = hs.load(model_folder), load_prompts(prompt_file)
    hs.knock_out(model, prompts, "attn.1", hs.Resample(donors=2), options=options, out=out)
    return out


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (("--seed", "1"), "holds another run (--seed 0 there, 1 now)"),
        (("--components", "attn.2"), "(--components attn.1 there, attn.2 now)"),
        (("--donors", "3"), "(--ablation resample (donors 2) there, resample (donors 3) now)"),
        (("--null-draws", "1"), "(--null-draws 0 there, 1 now)"),
        (("--target", "top"), "(--target label there, top now)"),
        (("--keep-wrong",), "(--keep-wrong now, not there)"),
        (("--bos", "never"), "(--bos auto there, never now)"),
        (("--dtype", "float64"), "(--dtype float32 there, float64 now)"),
        (("--no-distribution",), "(--no-distribution now, not there)"),
        (("--seed", "1", "--bos", "never"), "(--bos auto there, never now, and --seed 0 there, 1 now)"),
    ],
)
def test_a_changed_setting_is_named_and_refused(
    change: tuple[str, ...], names: str, finished: Path, model_folder: Path, prompt_file: Path, cli: Cli
) -> None:
    before = snapshot(finished)
    said = cli("run", model_folder, "--prompts", prompt_file, "--out", finished, *QUICK, *change).refusal()
    assert names in said
    assert said.endswith("choose another folder (--out), or start anew (--overwrite)")
    assert snapshot(finished) == before


def test_changed_weights_are_refused(finished: Path, prompt_file: Path, tmp_path: Path, cli: Cli) -> None:
    other = tiny.save(tmp_path / "other", tiny.network(seed=1))
    said = cli("run", other, "--prompts", prompt_file, "--out", finished, *QUICK).refusal()
    assert "holds another run (of other weights)" in said


@pytest.mark.usefixtures("quick_report")
def test_overwrite_starts_anew_and_leaves_other_files_alone(
    model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli
) -> None:
    out = tmp_path / "out"
    command = ("run", model_folder, "--prompts", prompt_file, "--out", out, *QUICK)
    assert cli(*command).code == 0
    (out / "notes.txt").write_text("mine")
    assert cli(*command, "--seed", "1", "--overwrite").code == 0
    assert open_dataset(out).attrs["seed"] == 1
    assert {path.name for path in out.iterdir()} == {
        "run.json",
        "prompts.jsonl",
        "ledger.zarr",
        "report.html",
        "notes.txt",
    }


@pytest.mark.parametrize("place", ["file", "file/below", "full", "/proc/nowhere/out", "/dev/null/out"])
def test_unwritable_places(place: str, model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    before = snapshot(tmp_path)
    command = ("run", model_folder, "--prompts", prompt_file, "--out", tmp_path / place, *QUICK, "--overwrite")
    said = cli(*command).refusal()
    assert said.endswith("choose another folder (--out)")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("content", ["", "{", "[]", "nul\x00", '"text"'])
def test_a_damaged_record(content: str, model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "run.json").write_text(content)
    before = snapshot(tmp_path)
    said = cli("run", model_folder, "--prompts", prompt_file, "--out", tmp_path, *QUICK).refusal()
    assert "run.json' is" in said
    assert snapshot(tmp_path) == before


def test_a_report_that_cannot_be_written(finished: Path, tmp_path: Path, cli: Cli, quick_report: None) -> None:
    (tmp_path / "file").write_text("mine")
    assert "cannot be written" in cli("report", finished, "--out", tmp_path / "file" / "r.html").refusal()
    assert "cannot be written" in cli("report", finished, "--out", tmp_path).refusal()


@pytest.mark.parametrize("damage", ["zarr.json", "done/zarr.json", "prompt/zarr.json"])
def test_a_damaged_ledger(damage: str, finished: Path, tmp_path: Path, cli: Cli) -> None:
    import shutil

    out = shutil.copytree(finished, tmp_path / "out")
    (out / "ledger.zarr" / damage).write_text("{")
    assert "cannot be read" in cli("report", out).refusal()


# --- a full disk -------------------------------------------------------------------------------


class FullDisk:
    """Lets so many Zarr writes pass and then has no room."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        from zarr.storage import _local

        self.room, put = room, _local._put

        def guarded(*arguments: Any, **more: Any) -> Any:
            self.room -= 1
            if self.room < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return put(*arguments, **more)

        monkeypatch.setattr(_local, "_put", guarded)


@pytest.mark.usefixtures("quick_report")
def test_a_full_disk_at_every_write(
    model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("run", model_folder, "--prompts", prompt_file, *QUICK)
    with monkeypatch.context() as patch:
        disk = FullDisk(patch, 10**6)
        assert cli(*command, "--out", tmp_path / "whole").code == 0
        writes = 10**6 - disk.room
    expected = open_dataset(tmp_path / "whole")
    for room in range(0, writes, 24):
        out = tmp_path / f"room-{room}"
        with monkeypatch.context() as patch:
            FullDisk(patch, room)
            assert "cannot be written: No space left on device" in cli(*command, "--out", out).refusal(begun=True)
    assert cli(*command, "--out", out).code == 0  # room was made
    xr.testing.assert_identical(open_dataset(out).drop_attrs(), expected.drop_attrs())


LIMITED = """
import resource, signal, sys
sys.dont_write_bytecode = True  # the limit would cut it short, and every later import with it
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
from hydrascope.cli import main
main()
"""


def test_a_limit_of_the_operating_system(model_folder: Path, prompt_file: Path, tmp_path: Path) -> None:
    command = ["run", model_folder, "--prompts", prompt_file, "--out", tmp_path / "out", *QUICK]
    said = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, command)], capture_output=True, text=True, timeout=120, check=False
    )
    assert said.returncode == 2, said.stderr
    assert said.stdout == ""
    assert said.stderr.startswith("hydrascope: ")
    assert said.stderr.count("\n") == 1
    assert "cannot be written: File too large" in said.stderr
    assert not list((tmp_path / "out").glob("*.new"))


# --- two at once, and no room ------------------------------------------------------------------

HOLDING = """
import sys
from pathlib import Path
from hydrascope.run_directory import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.usefixtures("quick_report")
def test_two_processes_do_not_share_a_folder(model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    command = ("run", model_folder, "--prompts", prompt_file, "--out", out, *QUICK)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDING, out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        assert "another process is at work in" in cli(*command).refusal()
        assert not list(out.iterdir())
    finally:
        other.kill()
        other.communicate()
    assert cli(*command).code == 0  # a process that was killed holds nothing
    assert {path.name for path in out.iterdir()} == {"run.json", "prompts.jsonl", "ledger.zarr", "report.html"}


def test_a_device_without_room_is_not_taken_for_a_model_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(tiny.network(), tokenizer=tiny.tokenizer())

    def no_room(*given: object) -> None:
        raise torch.cuda.OutOfMemoryError("tried to allocate 2 GiB")

    monkeypatch.setattr(_engine, "prove_engine", no_room)
    with pytest.raises(OutOfBudget, match=r"^the model leaves no room on cpu"):
        _engine.choose_engine(model)


def test_a_network_whose_own_code_fails_is_refused_by_name() -> None:
    network = tiny.network()
    network.transformer.h[1].mlp.c_fc.weight = torch.nn.Parameter(torch.zeros(5, 5))
    with pytest.raises(AnatomyRefused, match=r"^check 'forward pass' failed: 'GPT2LMHeadModel' cannot take seven"):
        load(network)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (1000, "1000 bytes"), (1536, "1.5 KB"), (50 * 2**20, "50 MB"), (2**31, "2.0 GB")],
)
def test_amounts_of_memory_are_never_zero_megabytes(number: int, text: str) -> None:
    assert size_of(number) == text


# --- the tree of errors ------------------------------------------------------------------------


def kinds(kind: type[HydrascopeError] = HydrascopeError) -> Iterator[type[HydrascopeError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from kinds(below)


def test_the_list_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    listed: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        if line.startswith("  ") and line.split()[0].isidentifier() and line.split()[0][0].isupper():
            depth, name = len(line) - len(line.lstrip()), line.split()[0]
            above = [one for one in above if one[0] < depth]
            listed[name] = above[-1][1] if above else "Exception"
            above.append((depth, name))
    assert listed == {kind.__name__: kind.__bases__[0].__name__ for kind in kinds()}
    assert all(kind.exit_code == 2 and kind.__doc__ for kind in kinds())


def test_a_draft_left_by_a_kill_does_not_close_a_folder(tmp_path: Path) -> None:
    (tmp_path / "run.json.new").write_text('{"half')
    assert not open_run_directory(tmp_path, {"seed": 0}, {}).complete
    with pytest.raises(OutputError, match="is damaged"):
        LedgerFile.resume(tmp_path, np.arange(2))
