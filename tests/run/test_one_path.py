"""One path for prompts and texts: what one of them can do, the other can too, and the dry run knows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import zarr
from jaxtyping import Float, Int
from torch import Tensor

import hydrascope as hs
from hydrascope.ablations import REGISTRY, Ablation
from hydrascope.anatomy import examine
from hydrascope.engine import Positions, _distribution, _measure
from hydrascope.errors import OutOfBudget
from hydrascope.ledger import VARIABLES
from hydrascope.run import estimate, prepare
from tests.conftest import Cli
from tests.engine.test_texts import opened
from tests.support import registry
from tests.support.positions import where

EVERYWHERE = Positions("all", "each")
pytestmark = pytest.mark.usefixtures("proved_once")
SCOPES = pytest.mark.parametrize("scope", [Positions(), EVERYWHERE], ids=["last", "texts"])


def prompts(count: int = 6, tokens: int = 7) -> hs.PromptSet:
    ids = torch.randint(3, 60, (count, tokens), generator=torch.Generator().manual_seed(3)).tolist()
    return hs.PromptSet("random", tuple(hs.Prompt(input_ids=tuple(row)) for row in ids))


def ledger(ablation: Ablation, scope: Positions, out: Path | None = None, dose: float = 1.0, **more: Any) -> hs.Ledger:
    options = hs.Options(components="attn,mlp.1", target="top", null_draws=0, **where(scope), **more)
    return hs.knock_out(opened("gpt2"), prompts(), ablation=ablation, options=options, dose=dose, out=out)


@SCOPES
def test_without_distributions_no_row_meets_the_whole_vocabulary(
    scope: Positions, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    whole = _distribution._whole_vocabulary

    def counted(weight: Tensor, bias: Any, tail: Any, states: Tensor, *rest: Any) -> Any:
        rows.append(states.shape[0] * states.shape[1])
        return whole(weight, bias, tail, states, *rest)

    monkeypatch.setattr(_distribution, "_whole_vocabulary", counted)
    right = ledger(
        hs.Resample(donors=2), scope, distribution=True
    ).dataset  # and the engine is proved, with distributions
    assert sum(rows) >= 2 * 4 * right.sizes["prompt"]
    rows.clear()
    found = ledger(hs.Resample(donors=2), scope, distribution=False).dataset
    assert not rows
    assert not {"kl", "rank_change", "target_first", "log_prob_change", "clean_prob", "clean_target_first"} & set(found)
    for name in ("total_effect", "change", "norm_effect"):
        np.testing.assert_allclose(found[name], right[name], rtol=0, atol=1e-5)


@SCOPES
def test_forwards_shrink_where_memory_runs_out(scope: Positions, monkeypatch: pytest.MonkeyPatch) -> None:
    right = ledger(hs.Resample(donors=2), scope).dataset
    real, sizes, room = _measure._measure, list[int](), [2]

    def tight(context: Any, rows: Any, clean: Any, items: Any, size: int, *more: Any) -> Any:
        sizes.append(size)
        if size > room[0]:
            raise torch.cuda.OutOfMemoryError("no room")
        return real(context, rows, clean, items, size, *more)

    monkeypatch.setattr(_measure, "_measure", tight)
    found = ledger(hs.Resample(donors=2), scope).dataset
    assert max(sizes) > 2 >= min(sizes)
    np.testing.assert_allclose(found["total_effect"], right["total_effect"], rtol=0, atol=1e-5)
    room[0] = 0
    with pytest.raises(OutOfBudget, match="the device has no room for a single knock-out of 7 tokens"):
        ledger(hs.Resample(donors=2), scope)


@SCOPES
@pytest.mark.parametrize("detail", ["full", "kinds"])
def test_the_dry_run_promises_the_bytes_that_the_ledger_has(scope: Positions, detail: Any, tmp_path: Path) -> None:
    """Every array of the size of the account, those of routed MLPs too."""
    model = examine(registry.build("mixtral"), None, name="mixtral")
    options = hs.Options(components="attn.0,mlp", target="top", null_draws=1, detail=detail, **where(scope))
    plan = estimate(prepare(model, prompts(), hs.Resample(donors=2), options))
    hs.knock_out(model, prompts(), ablation=hs.Resample(donors=2), options=options, out=tmp_path / "run")
    group = zarr.open_group(tmp_path / "run" / "ledger.zarr", mode="r")
    account = [name for name, (dims, _) in VARIABLES.items() if {"ablated", "writer"} <= set(dims) and name in group]
    assert ("rerouted_change" in account) == (detail == "full")
    assert plan.ledger_bytes == sum(4 * group[name].size for name in account)


@pytest.fixture
def negated() -> Iterator[type[Ablation]]:
    """An ablation of somebody else's: all of it stands here."""

    @dataclass(frozen=True)
    class Negated(Ablation):
        """z~ = -z, the prompt's own value with its sign turned; half of the dose is zero."""

        name: ClassVar[str] = "negated"

        def replace(
            self, pool: Float[Tensor, "pool *edited width"], chosen: Int[np.ndarray, "draws prompts"], n_clean: int
        ) -> Float[Tensor, "draws prompts *edited width"]:
            return -pool[torch.as_tensor(chosen)]

        def replaced_by(self, noun: str) -> str:
            return f"the {noun}’s own value, its sign turned"

        def caveat(self, noun: str) -> str:
            return f"No {noun} has such a value."

    yield Negated
    del REGISTRY["negated"]


@SCOPES
def test_an_ablation_in_one_file_is_measured_at_both_scopes(negated: type[Ablation], scope: Positions) -> None:
    half, zero = ledger(negated(), scope, dose=0.5).dataset, ledger(hs.Zero(), scope).dataset
    for name in ("total_effect", "own_change", "norm_effect", "change"):
        np.testing.assert_allclose(half[name], zero[name], rtol=0, atol=1e-5, err_msg=name)
    assert np.abs(ledger(negated(), scope).dataset["total_effect"] - zero["total_effect"]).max() > 1e-3


@pytest.mark.parametrize(
    ("asked", "noun"),
    [((), "prompt"), (("--protocol", "text", "--components", "head.1.*", "--writers", "heads"), "text")],
    ids=["last", "texts"],
)
def test_it_is_asked_for_by_name_planned_and_told(
    negated: type[Ablation],
    asked: tuple[str, ...],
    noun: str,
    model_folder: Path,
    prompt_file: Path,
    tmp_path: Path,
    cli: Cli,
) -> None:
    command = ("run", model_folder, "--prompts", prompt_file, "--ablation", "negated", *asked)
    planned = cli(*command, "--dry-run")
    assert planned.code == 0 and "40 " in planned.out, planned.err
    done = cli(*command, "--out", tmp_path / "run")
    assert done.code == 0, done.err
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert f"the {noun}’s own value, its sign turned" in page
    assert f"No {noun} has such a value." in page
