"""What `--dry-run` counts is what the run then does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import hydrascope as hs
from hydrascope.ablations import Ablation
from hydrascope.engine import Positions, _measure, run_interventions
from hydrascope.errors import TooFewDonors
from hydrascope.run._companions import freeze_at_most
from hydrascope.run._estimate import estimate
from hydrascope.run._task import prepare
from tests.conftest import Cli
from tests.engine.test_texts import opened
from tests.run.test_text_runs import prompts
from tests.support import tiny
from tests.support.positions import where

LENGTHS = (7, 9, 7, 9, 7, 11, 7)


@pytest.mark.parametrize(
    ("ablation", "scope", "memory"),
    [
        (hs.Zero(), Positions("all", "each"), None),
        (hs.Resample(donors=1), Positions("all", "each", skip=2), "150KB"),
        (hs.Noise(donors=2), Positions("0,3,-1", "each"), "150KB"),
        (hs.Mean(), Positions("all", "last"), None),
    ],
)
def test_texts_positions_and_pushes_are_those_of_the_run(
    ablation: Ablation, scope: Positions, memory: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = {"pushes": 0, "tokens": 0}
    real = run_interventions

    def watched(model: hs.Model, recorded: Any, variants: Any, *args: Any, **more: Any) -> Any:
        if variants:
            counted["pushes"] += 1
            counted["tokens"] += len(variants) * recorded.ids.numel()
        return real(model, recorded, variants, *args, **more)

    monkeypatch.setattr(_measure, "run_interventions", watched)
    components = "attn,mlp.1,head.1.0+mlp.2"
    options = hs.Options(
        components=components, null_draws=0, keep_wrong=True, target="top", memory=memory, **where(scope)
    )
    task = prepare(opened("gpt2"), prompts(LENGTHS), ablation, options)
    plan = estimate(task)
    ds = hs.knock_out(task.model, task.prompts, ablation=ablation, options=options, out=tmp_path / "run").dataset
    assert (plan.forwards, plan.intervention_tokens) == (counted["pushes"], counted["tokens"])
    assert (plan.read, plan.left_out) == (ds.sizes["prompt"], ds.attrs.get("prompts_dropped_alone", 0))
    assert plan.prompts == len(set(ds["document"].values))
    lengths = dict(zip(ds["document"].values.tolist(), ds["length"].values.tolist(), strict=True))
    assert plan.edited == sum(len(scope.ablated_in(length)) for length in lengths.values())
    assert plan.knockouts == ds.sizes["ablated"] == 5


def test_less_memory_means_more_pushes_and_later_parts_cost_less() -> None:
    def planned(components: str, memory: str | None = None) -> Any:
        options = hs.Options(components=components, positions="all", read="each", null_draws=0, memory=memory)
        return estimate(prepare(opened("gpt2"), prompts(LENGTHS), hs.Zero(), options))

    assert planned("head", "150KB").forwards > planned("head").forwards
    assert planned("head", "150KB").needed_bytes < planned("head").needed_bytes
    assert planned("mlp.2").flops < planned("mlp.0").flops


def test_texts_that_no_other_can_lend_to_are_refused_before_anything_is_done() -> None:
    options = hs.Options(components="attn.1", positions="all", read="each", null_draws=0)
    task = prepare(opened("gpt2"), prompts((7, 9, 11)), hs.Resample(donors=1), options)
    with pytest.raises(TooFewDonors, match="a donor at several positions must be as long as the text"):
        estimate(task)


def test_freezing_takes_no_more_than_was_planned(model_folder: Path, prompt_file: Path) -> None:
    model, asked = hs.load(str(model_folder)), hs.load_prompts(str(prompt_file))
    [frozen] = freeze_at_most(prepare(model, asked, hs.Zero(), hs.Options(components="attn,mlp"))).values()
    assert [str(k) for k in frozen.knockouts] == [
        *("attn.0/attn.1", "attn.0/attn.1/attn.2", "attn.0/attn.2", "attn.0+attn.1"),
        *("mlp.0/attn.1", "mlp.0/attn.1/attn.2", "mlp.0/attn.2", "mlp.0+attn.1"),
        *("attn.1/attn.2", "attn.1+attn.2", "mlp.1/attn.2", "mlp.1+attn.2"),
    ]
    assert frozen.null_draws == 0
    [heads] = freeze_at_most(prepare(model, asked, hs.Zero(), hs.Options(components="head.0.0"))).values()
    assert "head.0.0/attn.1" in map(str, heads.knockouts)
    assert freeze_at_most(prepare(model, asked, hs.Zero(), hs.Options(components="attn", detail="kinds"))) == {}


def test_companions_are_planned(
    model_folder: Path, rows: list[tiny.Row], tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = tiny.write_lines(tmp_path / "texts.jsonl", [{"prompt": row.text} for row in rows])
    what = ("run", model_folder, "--protocol", "text", "--prompts", texts, "--dry-run")
    command = (*what, "--ablation", "resample,zero", "--dose", "0.5,1")
    said = cli(*command, "--components", "attn", "--writers", "layers", "--detail", "full")
    assert said.code == 0, said.err
    assert said.out.count("40 texts x 3 knock-outs, 3 interventions a text") == 3
    assert said.out.count("40 texts x 6 knock-outs") == 1, "what is frozen"
    assert "\nand zero:\n" in said.out and "\nand dose-0.5:\n" in said.out
    assert "\nand freeze, at most" in said.out
    found = json.loads(cli(*command, "--json").out)
    assert list(found["companions"]) == ["zero", "dose-0.5"], "heads are not frozen"
    assert found["read"] == sum(4 + i % 3 - 2 for i in range(40))
    assert list(tmp_path.iterdir()) == [texts], "nothing is written"
