"""Whatever is written as components, prompt files, options or arguments: an answer, or one sentence, and no waiting.

The tries are the same at every run. `FUZZ_TRIES=20000 pytest tests/test_fuzz.py` tries more.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import hydrascope as hs
from hydrascope.cli import main
from hydrascope.components import Inventory, check_addresses, parse_knockouts, parse_writers
from hydrascope.run import RunRequest, options_of

TRIES = int(os.environ.get("FUZZ_TRIES", "100"))
SECONDS = max(60, TRIES // 10)
fuzz = settings(
    max_examples=TRIES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)

LARGE = Inventory(
    {
        **{kind: dict.fromkeys(range(32), 1) for kind in ("attn", "mlp", "layer")},
        "head": dict.fromkeys(range(32), 32),
        "neuron": dict.fromkeys(range(32), 11008),
        "mixer": {},
    }
)


@pytest.fixture(autouse=True)
def not_for_ever() -> Iterator[None]:
    """Whatever hangs fails."""

    def stop(*given: object) -> None:
        raise TimeoutError(f"no answer within {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def answered(call: Callable[[], object]) -> object:
    """What a call returns; None where it is refused in one printable sentence of limited length."""
    try:
        return call()
    except hs.HydrascopeError as error:
        said = str(error)
    assert 0 < len(said) < 700 and said.isprintable(), said
    return None


def joined(*pieces: str, most: int = 12) -> st.SearchStrategy[str]:
    """Texts made of pieces that mean something, and of others."""
    return st.lists(st.one_of(st.sampled_from(pieces), st.text(max_size=3)), max_size=most).map("".join)


addresses = joined(
    *("attn", "mlp", "head", "neuron", "layer", "mixer", "writers", "embed", "heads", "neurons", "L1H2", "a1", "atn"),
    *(".", "-", "*", "+", ",", "->", "/", " ", "0", "3", "31", "9999999999", "9" * 5000, "٣", "²", "\0"),
    most=16,
)


@fuzz
@given(addresses)
def test_any_address(text: str) -> None:
    answered(lambda: check_addresses(text))
    answered(lambda: parse_knockouts(text, LARGE))
    answered(lambda: parse_writers(text, LARGE))


anything = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.binary(max_size=4),
        st.sampled_from([np.int64(3), np.float32(0.5), np.array([1, 2]), np.array(1), np.str_("attn"), object, len]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.tuples(inner), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)
columns = st.sampled_from(
    [
        *("prompt", "input_ids", "target", "target_id", "foil", "counterfactual", "counterfactual_input_ids", "group"),
        *("text", "promt", "subject", "attribute", "template", "prediction", "relation_id", "messages", "accepted"),
    ]
)
rows = st.dictionaries(columns, st.one_of(values, st.just("w4 w5")), max_size=4)


def written(*pieces: str, most: int) -> st.SearchStrategy[bytes]:
    return joined(*pieces, most=most).map(lambda text: text.encode("utf-8", "surrogatepass"))


lines = st.lists(rows.map(json.dumps), max_size=4).map("\n".join)
files = st.one_of(
    st.binary(max_size=60),
    lines.map(str.encode),
    st.lists(rows, max_size=3).map(lambda some: json.dumps(some).encode()),
    st.tuples(lines, st.integers(0, 200)).map(lambda cut: cut[0][: cut[1]].encode()),
    written("prompt", "target", "input_ids", "text", ",", '"', "\n", "\r", "1 2", "[", "]", "\0", ";", most=30),
    written("{", "}", "[", "]", '"prompt"', '"text"', ":", ",", '"w4"', "\n", "1e999", "NaN", "\\ud800", most=20),
    st.sampled_from(["[" * 100_000, '{"prompt":' * 50_000, '{"input_ids": [' + "9" * 5000 + "]}"]).map(str.encode),
    st.just(b"prompt\n" + b"x" * 200_000),
)  # fmt: skip


@fuzz
@given(files, st.sampled_from([".jsonl", ".json", ".csv", ".txt", ".md", ".JSONL", ""]))
def test_any_prompt_file(tmp_path_factory: pytest.TempPathFactory, content: bytes, ending: str) -> None:
    path = tmp_path_factory.getbasetemp() / f"fuzzed{ending}"
    path.write_bytes(content)
    found = answered(lambda: hs.load_prompts(path))
    assert found is None or (isinstance(found, hs.PromptSet) and len(found) > 0 and found.digest)
    answered(lambda: hs.documents(path))


options = sorted(RunRequest.model_fields)
asked = st.dictionaries(
    st.one_of(st.sampled_from(options), st.text(max_size=6)),
    st.one_of(
        anything,
        addresses,
        joined("last", "all", "text", "facts", "kl", "zero", "resample", "optimal", ",", "0", "-1", "4GB", most=4),
    ),
    max_size=4,
)  # fmt: skip


@fuzz
@given(asked)
def test_any_request(given: dict[str, Any]) -> None:
    request = answered(lambda: RunRequest(**given))
    if isinstance(request, RunRequest):
        answered(request.ablations)
        assert request.command_line()
        assert RunRequest(**json.loads(json.dumps(request.model_dump(mode="json")))) == request


@fuzz
@given(st.sampled_from([hs.Options, hs.Prompt, hs.Cut, hs.Resample, hs.Noise, hs.Optimal, hs.PromptSet]), st.data())
def test_any_object(kind: Any, data: st.DataObject) -> None:
    names = kind.model_fields if kind is hs.Options else [field.name for field in fields(kind)]
    needed = {"name": data.draw(anything), "prompts": data.draw(anything)} if kind is hs.PromptSet else {}
    given = data.draw(st.dictionaries(st.sampled_from(sorted(names)), anything, max_size=3))
    answered(lambda: kind(**{**needed, **given}))


@fuzz
@given(anything)
def test_anything_as_prompts(given: Any) -> None:
    answered(lambda: hs.load_prompts(given))


flags = [f"--{name.replace('_', '-')}" for name in options_of(RunRequest)]
words = st.lists(
    st.one_of(
        st.sampled_from([*flags, "--no-freeze", "--json", "--dry-run", "--out", "--version", "--help", "--", "-h"]),
        st.sampled_from(["run", "show", "inspect", "lerna", "ioi", "zero", "4", "-1", "text", "all", "nowhere", ""]),
        addresses,
    ).filter(lambda word: "\0" not in word),
    max_size=6,
)


@fuzz
@given(st.sampled_from(["run", "inspect", "show", "freeze", "report", "tasks"]), words)
def test_any_command(tmp_path_factory: pytest.TempPathFactory, verb: str, words: list[str]) -> None:
    def instead(*given: object, **more: object) -> None:
        raise hs.RunError("no model is opened here; see the other tests")

    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(tmp_path_factory.getbasetemp())
        for opening in ("open_request", "open_model"):
            patch.setattr(f"hydrascope.run._opening.{opening}", instead)
        patch.setattr(sys, "argv", ["hydrascope", verb, *words])
        with pytest.raises(SystemExit) as stopped:
            main()
    if stopped.value.code:
        assert stopped.value.code == 2
        assert err.getvalue().startswith("hydrascope: ") and err.getvalue().count("\n") == 1
        assert err.getvalue()[:-1].isprintable()
