"""A damaged run is never believed: the same numbers in the end, or one sentence."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr

import hydrascope as hs
from hydrascope.engine import measure
from hydrascope.errors import HydrascopeError, LedgerDoesNotClose, OutputError
from hydrascope.ledger import LedgerFile, open_dataset, read_record, write_record
from hydrascope.run import _runner
from tests.conftest import Cli
from tests.support import tiny

pytestmark = pytest.mark.usefixtures("proved_once")

Damage = Callable[[Path], object]


def run(model: hs.Model, prompts: hs.PromptSet, out: Path) -> xr.Dataset:
    options = hs.Options(null_draws=1)
    return hs.knock_out(model, prompts, "attn.1,mlp.2", hs.Resample(donors=2), options=options, out=out).dataset


@pytest.fixture(scope="module")
def model() -> hs.Model:
    return hs.load(tiny.network(), tokenizer=tiny.tokenizer())


@pytest.fixture(scope="module")
def prompts(prompt_file: Path) -> hs.PromptSet:
    return hs.load_prompts(prompt_file)


@pytest.fixture(scope="module")
def finished(
    model: hs.Model, prompts: hs.PromptSet, proved_once: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    out = tmp_path_factory.mktemp("damage") / "finished"
    run(model, prompts, out)
    return out


@pytest.fixture(scope="module")
def unfinished(
    model: hs.Model, prompts: hs.PromptSet, proved_once: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run, interrupted after its first batch."""
    out, real, begun = tmp_path_factory.mktemp("damage") / "unfinished", measure, list[int]()

    def interrupted(context, rows, *rest, **more):
        begun.append(len(rows))
        if sum(begun) > 20:
            raise KeyboardInterrupt
        return real(context, rows, *rest, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_runner, "measure", interrupted)
        with pytest.raises(KeyboardInterrupt) as stop:
            run(model, prompts, out)
    assert stop.value.__notes__ == [f"'{out}' keeps 16 of 40 prompts"]
    return out


def copied(out: Path, to: Path, damage: Damage) -> Path:
    shutil.copytree(out, to)
    damage(to)
    return to


def same(found: xr.Dataset, expected: xr.Dataset) -> bool:
    own = {"command", "created", "seconds", "versions"}
    return found.drop_attrs().identical(expected.drop_attrs()) and all(
        found.attrs[name] == value for name, value in expected.attrs.items() if name not in own
    )


def said(read: Callable[[Path], object], path: Path) -> object:
    """What was read, or the sentence that refuses it."""
    try:
        return read(path)
    except (OutputError, LedgerDoesNotClose) as error:
        return error


def chunk(out: Path, array: str) -> Path:
    """An array's first file."""
    return min(path for path in (out / array).rglob("*") if path.is_file() and path.name != "zarr.json")


def flip(file: Path, seed: int = 0) -> None:
    content = bytearray(file.read_bytes())
    rng = random.Random(f"{file.name}{seed}")
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


FILES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": flip,
    "truncated": truncate,
    "missing": Path.unlink,
    "foreign": lambda file: file.write_bytes(b"something else"),
}
"""What can happen to a file."""


@pytest.mark.parametrize("what", FILES)
def test_no_damaged_file_of_a_finished_ledger_is_believed(what: str, finished: Path, tmp_path: Path) -> None:
    """Every file of the ledger in turn."""
    expected, out = open_dataset(finished), shutil.copytree(finished, tmp_path / "out")
    files = [path for path in (out / "ledger.zarr").rglob("*") if path.is_file()]
    believed = []
    assert len(files) > 80
    for file in files:
        before = file.read_bytes()
        FILES[what](file)
        found = said(open_dataset, out)
        if isinstance(found, xr.Dataset):
            assert same(found, expected), f"{what}: {file.relative_to(out)}"
            believed.append(file.relative_to(out / "ledger.zarr").parts[0])
        file.write_bytes(before)
    assert not set(believed) & {"change", "total_effect", "kl", "prompt", "weight", "text", "is_own"} or "bit" in what
    assert len(believed) < 12, "the rest is metadata that decides nothing, or bits that no decoder reads"
    assert same(open_dataset(out), expected)


def swap(one: str, other: str) -> Damage:
    def damage(out: Path) -> None:
        first, second = (chunk(out / "ledger.zarr", name) for name in (one, other))
        content = first.read_bytes()
        first.write_bytes(second.read_bytes())
        second.write_bytes(content)

    return damage


def rewritten(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Damage:
    """An array that another program wrote into."""

    def damage(out: Path) -> None:
        array = zarr.open_group(out / "ledger.zarr", mode="r+")[name]
        array[:] = change(np.asarray(array[:]))

    return damage


def attributes(**changed: object) -> Damage:
    return lambda out: zarr.open_group(out / "ledger.zarr", mode="r+").attrs.update(changed)


def moved(values: np.ndarray) -> np.ndarray:
    return np.roll(values, 1, 0)


STATES: dict[str, tuple[Damage, str]] = {
    "swapped files": (swap("total_effect", "own_change"), "'own_change' of 40 of its 40 rows, the first of prompt 0"),
    "swapped rows": (rewritten("change", moved), "'change' of 40 of its 40 rows"),
    "one number": (rewritten("kl", lambda kl: kl + 1e-3 * (np.arange(40) == 7)[:, None]), "'kl' of 1 of its 40 rows"),
    "a sign": (rewritten("norm_effect", np.negative), "'norm_effect' of 40"),
    "other targets": (rewritten("target_token", moved), "labels or attributes are not what was written"),
    "other weights": (rewritten("weight", lambda weight: weight * 2), "labels or attributes"),
    "other masks": (rewritten("is_own", np.logical_not), "labels or attributes"),
    "its tolerance": (attributes(closing_tolerance=2.0), "labels or attributes"),
    "its model": (attributes(model="another"), "labels or attributes"),
    "not counted": (rewritten("done", np.zeros_like), "'done' of 40 of its 40 rows"),
    "no numbers": (lambda out: shutil.rmtree(out / "ledger.zarr" / "change"), "labels or attributes"),
    "no file of numbers": (lambda out: chunk(out / "ledger.zarr", "change").unlink(), "'change' of 40 of its 40 rows"),
    "no metadata": (lambda out: (out / "ledger.zarr" / "zarr.json").unlink(), "'zarr.json' cannot be read"),
    "half a label": (lambda out: truncate(chunk(out / "ledger.zarr", "text")), "its 'text' cannot be read"),
    "half an index": (lambda out: truncate(chunk(out / "ledger.zarr", "writer")), "its 'writer' cannot be read"),
    "half a file": (lambda out: truncate(chunk(out / "ledger.zarr", "change")), "its 'change' cannot be read"),
}
"""Damage of a finished ledger, and what is said of it."""


@pytest.mark.parametrize("state", STATES)
def test_a_finished_ledger_says_what_is_damaged(state: str, finished: Path, tmp_path: Path, cli: Cli) -> None:
    damage, says = STATES[state]
    out = copied(finished, tmp_path / "out", damage)
    assert says in cli("show", out).refusal()
    assert says in cli("report", out).refusal()
    assert not (out / "report.html").exists()


def test_foreign_files_are_left_alone(finished: Path, tmp_path: Path) -> None:
    out = copied(finished, tmp_path / "out", lambda out: (out / "ledger.zarr" / ".DS_Store").write_bytes(b"\0mine"))
    (out / "ledger.zarr" / "notes").mkdir()
    assert same(open_dataset(out), open_dataset(finished))
    assert (out / "ledger.zarr" / ".DS_Store").read_bytes() == b"\0mine"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("total_effect", 1.0, r"closes to 1 \(allowed 0.001\)"), ("kl", np.nan, "has a 'kl' that is no number")],
)
def test_a_ledger_that_does_not_close_is_refused_whatever_its_digests_say(
    name: str, value: float, says: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = copied(finished, tmp_path / "out", rewritten(name, lambda numbers: numbers + value))
    monkeypatch.setattr("hydrascope.ledger._reading.changed_rows", lambda dataset: {})
    with pytest.raises(LedgerDoesNotClose, match=says):
        open_dataset(out)


def test_a_repeated_run_does_not_believe_it_either(
    model: hs.Model, prompts: hs.PromptSet, finished: Path, tmp_path: Path
) -> None:
    out = copied(finished, tmp_path / "out", rewritten("change", moved))
    with pytest.raises(OutputError, match=r"is damaged: 'change' of 40 .* make the run anew \(--overwrite\)$"):
        run(model, prompts, out)
    shutil.rmtree(out / "ledger.zarr")  # without any it is made again
    assert same(run(model, prompts, out), open_dataset(finished))


def test_a_damaged_companion_is_told_and_hides_no_sound_run(finished: Path, tmp_path: Path, cli: Cli) -> None:
    out = shutil.copytree(finished, tmp_path / "out")
    companion = copied(finished, out / "companions" / "mean", lambda out: None)
    assert set(hs.Ledger.open(out).also) == {"mean"}
    truncate(companion / "ledger.zarr" / "zarr.json")
    found = hs.Ledger.open(out)
    assert found.also == {} and set(found.damaged) == {"mean"}
    assert "companions/mean/ledger.zarr' is damaged" in found.damaged["mean"]
    said = cli("show", out)
    assert (said.code, said.out.splitlines()[0]) == (0, found.summary().headline)
    (told,) = said.err.splitlines()
    assert told == f"companion mean is left out: {found.damaged['mean']}"


# --- a run that goes on ------------------------------------------------------------------------


def in_ledger(array: str, damage: Callable[[Path], object]) -> Damage:
    return lambda out: damage(chunk(out / "ledger.zarr", array))


def in_scratch(damage: Callable[[Path], object], array: str = "") -> Damage:
    def damaged(out: Path) -> None:
        clean = out / "scratch.zarr" / "clean"
        damage(chunk(clean, array or min(path.name for path in clean.iterdir() if "@" in path.name)))

    return damaged


MENDED: dict[str, Damage] = {
    "nothing": lambda out: None,
    **{f"numbers: {name}": in_ledger("change", damage) for name, damage in FILES.items()},
    "own change for total effect": swap("own_change", "total_effect"),
    "rows moved": rewritten("kl", moved),
    "all counted": rewritten("done", np.ones_like),
    "none counted": rewritten("done", np.zeros_like),
    "half a count": in_ledger("done", truncate),
    "no digests": in_ledger("digest", Path.unlink),
    "half the digests": in_ledger("digest", truncate),
    "half a write": lambda out: (out / "ledger.zarr" / "change" / "c.0.partial").write_bytes(b"half"),
    "no ledger": lambda out: shutil.rmtree(out / "ledger.zarr"),
    "a bit of the activations": in_scratch(flip),
    "half the activations": in_scratch(truncate),
    "no activations": in_scratch(Path.unlink),
    "half the answers": in_scratch(truncate, "top"),
    "scratch without metadata": lambda out: (out / "scratch.zarr" / "zarr.json").write_text("{"),
    "scratch without an array": lambda out: shutil.rmtree(out / "scratch.zarr" / "clean" / "leading"),
    "no scratch": lambda out: shutil.rmtree(out / "scratch.zarr"),
    "half the prompts": lambda out: truncate(out / "prompts.jsonl"),
}
"""Damage of an unfinished run that is measured again."""


@pytest.mark.parametrize("state", MENDED)
def test_an_unfinished_run_ends_in_the_same_numbers(
    state: str, model: hs.Model, prompts: hs.PromptSet, finished: Path, unfinished: Path, tmp_path: Path
) -> None:
    out = copied(unfinished, tmp_path / "out", MENDED[state])
    assert same(run(model, prompts, out), open_dataset(finished))
    assert (out / "prompts.jsonl").read_bytes() == (finished / "prompts.jsonl").read_bytes()


REFUSED: dict[str, tuple[Damage, str]] = {
    "other targets": (rewritten("target_token", moved), "ledger.zarr' is damaged"),
    "its tolerance": (attributes(closing_tolerance=2.0), "ledger.zarr' is damaged"),
    "half a label": (in_ledger("text", truncate), "ledger.zarr' is damaged"),
    "no metadata": (lambda out: (out / "ledger.zarr" / "zarr.json").unlink(), "ledger.zarr' is damaged"),
    "half a record": (lambda out: truncate(out / "run.json"), "run.json' is damaged"),
    "an edited record": (
        lambda out: (out / "run.json").write_text(
            (out / "run.json").read_text().replace('"null_draws": 1', '"null_draws": 2')
        ),
        "run.json' is not what was written",
    ),
    "called complete": (
        lambda out: (out / "run.json").write_text((out / "run.json").read_text().replace("false", "true")),
        "run.json' is not what was written",
    ),
    "a list": (lambda out: (out / "run.json").write_text("[1]"), "run.json' is no record of a run"),
    "a deep record": (lambda out: (out / "run.json").write_text("[" * 10**5), "run.json' is damaged"),
    "no text": (lambda out: (out / "run.json").write_bytes(b"\xff\xfe"), "run.json' is damaged"),
}
"""Damage of an unfinished run that cannot be mended, and what is said of it."""


@pytest.mark.parametrize("state", REFUSED)
def test_an_unfinished_run_that_cannot_be_mended_is_refused(
    state: str, model: hs.Model, prompts: hs.PromptSet, unfinished: Path, tmp_path: Path
) -> None:
    damage, says = REFUSED[state]
    out = copied(unfinished, tmp_path / "out", damage)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(HydrascopeError, match=says) as refused:
        run(model, prompts, out)
    assert "\n" not in str(refused.value)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_learned_constants_are_learned_again_where_they_are_damaged(
    model: hs.Model, prompts: hs.PromptSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def learned(out: Path) -> xr.Dataset:
        options = hs.Options(null_draws=0)
        return hs.knock_out(model, prompts[:8], "attn.1", hs.Optimal(steps=2), options=options, out=out).dataset

    expected = learned(tmp_path / "whole")

    def interrupted(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_runner, "measure", interrupted)
        with pytest.raises(KeyboardInterrupt):
            learned(tmp_path / "out")
    flip(tmp_path / "out" / "scratch.zarr" / "constants" / "values" / "c" / "0" / "0")
    assert same(learned(tmp_path / "out"), expected)


# --- small files -------------------------------------------------------------------------------


def test_a_record_is_what_was_written_or_refused(tmp_path: Path) -> None:
    file, record = tmp_path / "run.json", {"settings": {"seed": 0, "dose": (1.0, 0.5)}, "complete": False}
    write_record(file, record)
    assert read_record(file) == json.loads(json.dumps(record))
    content = file.read_bytes()
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1
        file.write_bytes(changed)
        found = said(read_record, file)
        assert isinstance(found, OutputError) or found == json.loads(json.dumps(record))


def test_rows_that_are_not_what_was_written_are_not_done(unfinished: Path, tmp_path: Path) -> None:
    numbers = np.asarray(zarr.open_group(unfinished / "ledger.zarr")["prompt"][:])
    done = LedgerFile.resume(shutil.copytree(unfinished, tmp_path / "a") / "ledger.zarr", numbers).done()
    assert done.sum() == 16
    wrong = int(np.flatnonzero(done)[3])
    out = copied(
        unfinished, tmp_path / "b", rewritten("change", lambda change: change + (np.arange(40) == wrong)[:, None, None])
    )
    after = LedgerFile.resume(out / "ledger.zarr", numbers).done()
    assert np.flatnonzero(done & ~after).tolist() == [wrong] and not (after & ~done).any()
