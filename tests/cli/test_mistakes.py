"""Plausible mistakes at the command line: each gets a sentence that helps, before any work."""

from __future__ import annotations

import shutil
from importlib import metadata
from pathlib import Path

import pytest

import hydrascope as hs
from hydrascope.ledger import read_record, write_record
from hydrascope.run_settings import difference
from tests.conftest import Cli
from tests.support import tiny

pytestmark = pytest.mark.usefixtures("proved_once")

MISTAKES = [
    # what is run
    ("tiny", "no such command 'tiny'; to knock out parts of a model write hydrascope run tiny; see"),
    ("rum tiny", "no such command 'rum'; did you mean 'run'"),
    ("run tinny", "no model 'tinny': .* (did you mean 'tiny'?)"),
    ("run lernaa", "no model 'lernaa': .* (did you mean 'lerna'?)"),
    ("run asked.jsonl", "no model 'asked.jsonl': .* (prompts go behind --prompts)"),
    ("run tiny --prompt asked.jsonl", "no such option: --prompt (possible options: --out, --prompts, --protocol"),
    # parts
    ("{run} --components atn", "'atn' is not a component address; .* (did you mean 'attn'?)"),
    ("{run} --components attn5", "'attn5' is not a component address; .* (did you mean 'attn.5'?)"),
    ("{run} --components transformer.h.1.attn", "(did you mean 'attn.1'?)"),
    (
        "{run} --components attn mlp",
        "unexpected extra argument(s) (mlp); a list has commas and no spaces, as in attn,mlp",
    ),
    ("{run} --components attn.12", "this model has no component 'attn.12'; it has attn.0 to attn.2"),
    ("{run} --components head.0.0-9", "'head.0.0-9' names parts this model lacks; it has head.0.0 to head.2.1"),
    ("{run} --components attn.0-9999999999", "'attn.0-9999999999' names parts this model lacks"),
    ("{run} --components attn.2->attn.0", "is no edge of this model, since the receiver does not read"),
    ("{run} --writers hed", "'hed' divides no writer into units (did you mean 'heads'?)"),
    # values
    ("{run} --ablation zeros", "no ablation 'zeros' (did you mean 'zero'?); choose counterfactual, mean"),
    ("{run} --ablation Mean", "no ablation 'Mean' (did you mean 'mean'?)"),
    ("{run} --dtype fp16", "no number format 'fp16' (did you mean 'float16'?); choose float32"),
    ("{run} --dtype bf16", "no number format 'bf16' (did you mean 'bfloat16'?)"),
    ("{run} --dtype half", "no number format 'half' (did you mean 'float16'?)"),
    ("{run} --device gpu", "no device 'gpu'; write cpu, cuda"),
    ("{run} --memory 4", "memory of '4' has no unit; write for example 4GB"),
    ("{run} --prompts iol", "there is no prompt set 'iol' (did you mean 'ioi'?); choose from facts"),
    ("{run} --prompts fact", "there is no prompt set 'fact' (did you mean 'facts'?)"),
    ("{run} --target lable", "target cannot be 'lable' (did you mean 'label'?); choose label, difference"),
    ("{run} --protocol texts", "protocol cannot be 'texts' (did you mean 'text'?); choose facts or text"),
    ("{run} --positions first", "'first' is no set of positions; write last, all, or for example 0,3,-1"),
    ("{run} --donors many", "invalid value for '--donors': give a whole number; see 'hydrascope run --help'"),
    ("{run} --dose 50%", "dose cannot be '50%'; give a number"),
    # what does not go together
    ("{run} --target kl --no-distribution", "--target kl ranks knock-outs by KL divergence, which --no-distribution"),
    ("{run} --dose 0.3,0.3000001", "0.3 is asked for twice; name each once"),
    ("{run} --length 64", "--length and --texts cut text into pieces, which --protocol facts does not"),
    ("{run} --length 0", "length cannot be 0; give 3 or more"),
    ("{run} --read each --skip 9999", "after 9999 are skipped; skip fewer, or give longer texts"),
    # runs that are there
    ("{run} --out done --seed 4", "'done' holds another run (--seed 0 there, 4 now); choose another folder (--out)"),
    ("{run} --out done --keep-wrong", "'done' holds another run (--keep-wrong now, not there)"),
    ("show begun", "the run in 'begun' has not finished; run the same command again to continue it"),
    ("report begun", "the run in 'begun' has not finished"),
    ("freeze begun", "the run in 'begun' has not finished"),
    ("show nowhere", "no ledger in 'nowhere'; give the folder that 'hydrascope run' wrote"),
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, rows: list[tiny.Row]) -> Path:
    """A folder with a model, prompts, a finished run and one that has only begun."""
    folder = tmp_path_factory.mktemp("desk")
    tiny.save(folder / "tiny", tiny.network())
    prompts = tiny.prompt_file(folder / "asked.jsonl", rows)
    options = {"null_draws": 0}
    hs.knock_out(folder / "tiny", prompts, "attn.1", hs.Resample(donors=2), options=options, out=folder / "done")
    shutil.copytree(folder / "done", folder / "begun", ignore=shutil.ignore_patterns("ledger.zarr"))
    record = read_record(folder / "begun" / "run.json")
    write_record(folder / "begun" / "run.json", {**record, "complete": False})
    return folder


@pytest.mark.parametrize(("line", "says"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_plausible_mistake_gets_a_sentence_that_helps(
    line: str, says: str, desk: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk)
    usual = "run tiny --prompts asked.jsonl --components attn.1 --donors 2 --null-draws 0 --out out"
    sentence = cli(*line.replace("{run}", usual).split()).refusal().lower()
    start, _, rest = says.lower().partition(".* ")
    assert start in sentence and sentence.endswith(rest) if rest else start in sentence
    assert not (desk / "out").exists()


def test_settings_that_no_option_says_are_told_only_where_no_option_differs() -> None:
    before = {"weights": "a", "engine": "x", "seed": 0, "distribution": True, "dose": 1.0}
    assert difference(before, before) == ""
    assert difference(before, {**before, "weights": "b"}) == "of other weights"
    assert difference(before, {**before, "weights": "b", "engine": "y"}) == "of another engine and of other weights"
    assert difference(before, {**before, "weights": "b", "seed": 3}) == "--seed 0 there, 3 now"
    assert difference(before, {**before, "distribution": False}) == "--no-distribution now, not there"
    assert difference(before, {**before, "dose": 0.5, "bos": "never"}) == (
        "--bos not given there, never now, and --dose 1 there, 0.5 now"
    )


def test_the_version_is_told(cli: Cli) -> None:
    said = cli("--version")
    assert (said.code, said.out) == (0, f"hydrascope {metadata.version('hydrascope')}\n")
