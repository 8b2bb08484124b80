"""A run's request: from the command line to a record and back, and wrong values in a sentence."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

import hydrascope as hs
from hydrascope.cli._app import app
from hydrascope.cli._options import add_options
from hydrascope.prompts import Bos, TargetPolicy
from hydrascope.run._opening import open_request
from hydrascope.run._options import PROTOCOLS
from hydrascope.run._request import RunRequest, options_of
from tests.support import tiny


def words() -> st.SearchStrategy[str]:
    """Values with spaces, quotes and dashes in them."""
    return st.text(st.sampled_from("abz019 .*+/>'\"$\\-"), min_size=1, max_size=12).filter(lambda w: w[0] != "-")


def requests() -> st.SearchStrategy[dict[str, Any]]:
    """What a command may say: any of the options, each with a value it takes."""
    texts = st.fixed_dictionaries(
        {"protocol": st.just("text")}, optional={"length": st.integers(12, 99), "texts": st.integers(1, 9)}
    )
    names = st.lists(st.sampled_from(["zero", "mean", "optimal", "resample", "noise"]), min_size=1, unique=True)
    rest = st.fixed_dictionaries(
        {},
        optional={
            **{name: words() for name in ("model", "prompts", "writers", "device")},
            "dtype": st.sampled_from(["float32", "bfloat16", "float16", "float64", "auto"]),
            "components": st.sampled_from(
                ["attn,mlp", "head.9.*", "L5H3", "attn.3+mlp.5 ", "embed->mlp.7", "a4/m5/m6"]
            ),
            "memory": st.sampled_from(["4GB", " 800 mb", "1.5T"]),
            "positions": st.sampled_from(["last", "all", "0,3,-1", "-1"]),
            "read": st.sampled_from(["last", "each"]),
            "skip": st.integers(0, 9),
            "target": st.sampled_from(get_args(TargetPolicy)),
            "bos": st.sampled_from(get_args(Bos)),
            "detail": st.sampled_from(["full", "kinds"]),
            "null_draws": st.integers(0, 9),
            "seed": st.integers(0, 2**40),
            "ablation": names.map(tuple),
            "donors": st.integers(1, 9),
            "dose": st.lists(st.floats(0, 1), min_size=1, max_size=4, unique_by="{:g}".format).map(tuple),
            **{name: st.booleans() for name in ("keep_wrong", "distribution", "split_attention", "freeze")},
        },
    )
    both = st.tuples(st.one_of(st.just({}), texts), rest).map(lambda parts: {**parts[0], **parts[1]})
    return both.filter(lambda asked: asked.get("target") != "kl" or asked.get("distribution", True))


def parsed(command: str) -> RunRequest:
    """What the command line makes of a command."""
    add_options("run")
    verb = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    program, name, *rest = shlex.split(command)
    assert (program, name) == ("hydrascope", "run")
    with verb.make_context("run", rest) as context:
        found = context.params
    return RunRequest(**{name: found[name] for name in options_of(RunRequest, without=())})


@settings(deadline=None, max_examples=60)
@given(requests())
def test_a_request_is_the_same_after_its_record_and_after_its_command(asked: dict[str, Any]) -> None:
    request = RunRequest(**asked)
    assert RunRequest(**json.loads(json.dumps(request.model_dump(mode="json")))) == request
    assert parsed(request.command_line()) == request


def test_every_option_has_a_flag_and_no_flag_is_made_by_hand() -> None:
    add_options("run")
    verb = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    of_the_command = {"out", "overwrite", "trust_remote_code", "as_json", "dry_run", "shard"}
    assert {option.name for option in verb.params} == {*options_of(RunRequest, without=()), *of_the_command}
    hidden = set(RunRequest.model_fields) - set(options_of(RunRequest, without=()))
    assert hidden == {"parameters", "in_memory"}


def test_protocols_set_what_is_left_out_and_nothing_else() -> None:
    text = hs.Options(protocol="text", read="last")
    assert (text.components, text.positions, text.read, text.null_draws) == ("head", "all", "last", 0)
    assert hs.Options().components == "writers"
    left_to_it = {name for name, field in RunRequest.model_fields.items() if field.default_factory is not None}
    assert left_to_it == set(PROTOCOLS["text"]) - {"donors", "cut"} | {"parameters"}
    assert PROTOCOLS["text"].keys() == PROTOCOLS["facts"].keys()
    assert RunRequest(protocol="text").ablations() == (hs.Resample(donors=1),)
    assert RunRequest(protocol="text", ablation=("noise",)).ablations() == (hs.Noise(),)


def test_an_optimal_constant_is_compared_by_the_distribution_unless_told_otherwise() -> None:
    assert not RunRequest(protocol="text", ablation=("zero",)).distribution
    assert RunRequest(protocol="text", ablation=("zero", "optimal")).distribution
    assert not RunRequest(protocol="text", ablation=("optimal",), distribution=False).distribution


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"target": "banana"}, "target cannot be 'banana'; choose label, difference, top, random-top or kl"),
        ({"protocol": "banana"}, "protocol cannot be 'banana'; choose facts or text"),
        ({"null_draws": -1}, "null draws cannot be -1; give 0 or more"),
        ({"seed": "many"}, "seed cannot be 'many'; give a whole number"),
        ({"seed": 1.5}, r"seed cannot be 1\.5; give a whole number"),
        ({"dose": (0.5, 2)}, "dose cannot be 2; give a number from 0 to 1"),
        ({"dose": float("nan")}, "dose cannot be nan"),
        ({"ablation": "zero,zero"}, "zero is asked for twice"),
        ({"keep_wrong": "perhaps"}, "keep wrong cannot be 'perhaps'; give true or false"),
        ({"memory": 4}, "memory cannot be 4; write it as text in quotes"),
        ({"memory": "4"}, "memory of '4' has no unit; write for example 4GB"),
        ({"memory": "much"}, "'much' is no amount of memory; write for example 4GB or 800MB"),
        ({"device": 0}, "device cannot be 0; write it as text in quotes"),
        ({"seed": None, "null_draws": [1]}, r"null draws cannot be \[1\]; give a whole number"),
        ({"ablation": ()}, r"ablation cannot be \(\); name at least one"),
        ({"target": "lable"}, r"target cannot be 'lable' \(did you mean 'label'\?\); choose label, difference"),
        ({"positions": "first"}, "'first' is no set of positions; write last, all, or for example 0,3,-1"),
        ({"positions": "9" * 5000}, "'9+ [.]{3} 9+' is no set of positions"),
        ({"components": "atn.3"}, "'atn.3' is not a component address"),
        ({"components": ["attn", 5]}, "'5' is not a component address"),
        ({"components": [["attn", {}]]}, r"components cannot be \[\['attn', {}\]\]; write it as text in quotes"),
        ({"dose": (0.3, 0.3000001)}, "0.3 is asked for twice; name each once"),
        ({"dose": "much"}, "dose cannot be 'much'; give a number"),
        ({"target": "kl", "distribution": False}, "--target kl ranks knock-outs by KL divergence, which --no-distr"),
        ({"protocol": "text", "length": 0}, "length cannot be 0; give 3 or more"),
        ({"protocol": "text", "texts": 0}, "texts cannot be 0; give 1 or more"),
        (
            {"protocol": "text", "length": 99, "skip": 9999},
            "a text of 99 tokens has no position left to read after 9999 are",
        ),
        ({"length": 8}, "--length and --texts cut text into pieces, which --protocol facts does not"),
        ({"colour": "red"}, "there is no option 'colour'; choose from "),
        ({"nul_draws": 1}, r"there is no option 'nul_draws' \(did you mean 'null_draws'\?\); choose from "),
    ],
)
def test_a_wrong_value_is_one_sentence(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(hs.HydrascopeError, match=f"^{says}"):
        RunRequest(**wrong)


@pytest.mark.parametrize(
    ("natural", "plain"),
    [
        ({"components": ["attn.1", "mlp"]}, {"components": "attn.1,mlp"}),
        ({"writers": ("head", "neuron.1")}, {"writers": "head,neuron.1"}),
        ({"positions": [0, -1]}, {"positions": "0,-1"}),
        ({"positions": np.int64(0)}, {"positions": "0"}),
        ({"seed": np.int64(3), "null_draws": np.uint8(1)}, {"seed": 3, "null_draws": 1}),
        ({"dose": np.float32(0.5), "ablation": "zero"}, {"dose": (0.5,), "ablation": ("zero",)}),
        ({"dose": np.array([0.5, 1]), "ablation": ["zero", "mean"]}, {"dose": "1,0.5", "ablation": "zero,mean"}),
    ],
)
def test_natural_values_of_python_are_taken(natural: dict[str, Any], plain: dict[str, Any]) -> None:
    assert RunRequest(**natural) == RunRequest(**plain)


def test_what_was_asked_stays_as_it_was() -> None:
    options = hs.Options(seed=1)
    with pytest.raises(hs.RunError, match=r"does not change; make a copy with \.but\(seed=2\)$"):
        options.seed = 2  # type: ignore[misc]
    assert (options.seed, options.but(seed=2).seed) == (1, 2)


def test_ranking_by_kl_measures_it() -> None:
    assert RunRequest(protocol="text", target="kl").distribution
    assert not RunRequest(protocol="text").distribution


def test_a_sibling_is_done_the_same_to() -> None:
    request = RunRequest(model="lerna", protocol="text", dose=(0.5, 1), components="head.1.*")
    said = request.sibling_command("iolaus")
    assert said == "hydrascope run iolaus --dose 1,0.5 --protocol text --components 'head.1.*'"
    assert request.sibling_command("") == ""
    assert request.but(in_memory=("prompts",)).sibling_command("iolaus") == ""


def test_a_call_in_python_is_the_request_of_its_command(model_folder: Path, prompt_file: Path) -> None:
    model, prompts = hs.load(str(model_folder)), hs.load_prompts(str(prompt_file))
    options = hs.Options(components="attn", target="top")
    ablations = (hs.Resample(donors=3), hs.Noise(donors=3))
    request = RunRequest.of(model, prompts, ablations, (1, 0.5), options, freeze=False, out=None)
    assert request.command_line() == (
        f"hydrascope run {model_folder} --prompts {prompt_file} --ablation resample,noise --donors 3 --dose 1,0.5 "
        "--no-freeze --device cpu --components attn --target top"
    )
    assert request.ablations() == ablations
    opened, loaded = open_request(parsed(request.command_line()))
    assert (opened.source.weight_digest, loaded.digest) == (model.source.weight_digest, prompts.digest)


def test_what_cannot_be_said_is_said_so(model_folder: Path, tmp_path: Path) -> None:
    prompts = hs.PromptSet("memory", (hs.Prompt("w4 w5"),))
    model = hs.load(tiny.network(), tokenizer=tiny.tokenizer())
    more: dict[str, Any] = {"options": hs.Options(), "freeze": False}
    request = RunRequest.of(model, prompts, (), (1.0,), **more, out=None)
    assert request.command_line() == (
        "No command makes this run again: its model and prompts can only be given in Python."
    )
    kept = RunRequest.of(hs.load(str(model_folder)), prompts, (), (1.0,), **more, out=tmp_path)
    assert f"--prompts {tmp_path / 'prompts.jsonl'}" in kept.command_line()
    mixed = (hs.Resample(donors=2), hs.Noise(donors=3))
    with_parameters = RunRequest.of(model, prompts, mixed, (1.0,), **more, out=None)
    assert with_parameters.ablations() == mixed
    assert "ablation's parameters" in with_parameters.command_line()


def test_texts_are_run_with_public_names_only(model_folder: Path, tmp_path: Path) -> None:
    """Documents, their cutting and the protocol: nothing has to be imported from the inside."""
    book = tmp_path / "book.txt"
    book.write_text("<|endoftext|>".join(f"w{4 + i} w{5 + i} w{6 + i} w{7 + i} w8 w9 w10 w11" for i in range(12)))
    model = hs.load(str(model_folder))
    texts = hs.cut(hs.documents(book), model.tokenizer, hs.Cut(length=9), name="book", context=model.context)
    options = hs.Options(protocol="text", components="head.1.*")
    ledger = hs.knock_out(model, texts, options=options, out=tmp_path / "run")
    assert ledger.dataset.attrs["read"] == "each" and ledger.dataset.attrs["donors"] == 1
    assert ledger.dataset.sizes["ablated"] == 2
    assert isinstance(ledger.summary(), hs.Summary)
    again = hs.load_prompts(str(tmp_path / "run" / "prompts.jsonl"))
    assert again.digest == texts.digest
