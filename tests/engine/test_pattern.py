"""Attention's answers split into moved weights and changed values: against loops over heads and keys in float64."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import vl_convert
import xarray as xr
from torch import Tensor, nn

import hydrascope as hs
from hydrascope import figures
from hydrascope.analysis import attention_split, attention_split_on_tokens, attention_split_totals, by_layer
from hydrascope.anatomy import Place, directions, examine
from hydrascope.components import Component, parse_knockouts
from hydrascope.engine import ExpandedCache, Positions, WholeSequence, choose_engine, prove_attention_split
from hydrascope.errors import AnatomyRefused, DetailDropped
from hydrascope.ledger import open_dataset
from hydrascope.results import Ledger
from hydrascope.run._execution import execute
from hydrascope.run._task import prepare
from tests.conftest import Cli
from tests.support import families, planted, registry, tiny
from tests.support.positions import where
from tests.support.reference import DoubleEverywhere, double_copy

torch.set_num_threads(1)
TOLERANCE = 2e-4
TOKENS = 8  # longer than the sliding windows
LAST, TEXT = Positions(), Positions("all", "each", skip=3)
COMPONENTS = "attn.0,mlp.0,head.1.2"
FAMILIES = ["gpt2", "llama", "mistral", "qwen3", "phi", "gemma2", "olmo2", "granite", "gpt_oss"]
"""Plain; grouped queries; windows; norms of queries and keys; parallel blocks; soft-cap, windows and post-norms;
post-norms; multipliers; sinks."""


def opened(name: str) -> hs.Model:
    network = families.build(name) if name in families.FAMILIES else registry.build(name)
    return examine(network, None, name=name)


def prompts(count: int = 3) -> hs.PromptSet:
    generator = torch.Generator().manual_seed(9)
    ids = torch.randint(3, families.VOCABULARY, (count, TOKENS), generator=generator).tolist()
    return hs.PromptSet("random", tuple(hs.Prompt(input_ids=tuple(row)) for row in ids))


def run(
    model: hs.Model, components: str, ablation: Any = None, given: hs.PromptSet | None = None, **options: Any
) -> Any:
    chosen = hs.Options(**{"target": "top", "null_draws": 0, "split_attention": True, **options})
    return hs.knock_out(model, given or prompts(), components, ablation or hs.Zero(), options=chosen)


@dataclass
class Seen:
    """What one full forward of one prompt shows of every block's attention, in float64."""

    weights: dict[int, Tensor]  # [heads, tokens, keys]
    values: dict[int, Tensor]  # [keys, kv * dv]
    projected: dict[int, Tensor]  # [tokens, d]
    stream: Tensor  # [tokens, d], before the final norm


@torch.no_grad()
def attended(slow: Any, model: hs.Model, ids: Sequence[int], zeroed: Sequence[Place], positions: Sequence[int]) -> Seen:
    """Hooks on the family's own plain attention: what it returns beside its output, and its value projection."""
    seen = Seen({}, {}, {}, torch.empty(0))
    handles = []

    def cleared(tensor: Tensor, place: Place) -> Tensor:
        changed = tensor.clone()
        changed.view(len(ids), -1)[list(positions), place.span] = 0
        return changed

    for place in zeroed:
        module = slow.get_submodule(place.site.module)
        if place.site.side == "input":
            handles.append(module.register_forward_pre_hook(lambda _, a, p=place: (cleared(a[0], p), *a[1:])))
        else:
            handles.append(
                module.register_forward_hook(
                    lambda _, __, y, p=place: (cleared(y[0], p), *y[1:]) if isinstance(y, tuple) else cleared(y, p)
                )
            )

    def watch(layer: int, path: str) -> None:
        attention, _, projection = path.rpartition(".")
        block = slow.get_submodule(attention)

        def weights(_: nn.Module, __: Any, output: Any) -> None:
            seen.weights[layer] = output[1][0]

        def values(_: nn.Module, __: Any, output: Tensor) -> None:
            joined = hasattr(block, "c_attn")
            seen.values[layer] = output[0].chunk(3, -1)[2] if joined else output[0]

        def projected(_: nn.Module, __: Any, output: Tensor) -> None:
            seen.projected[layer] = output[0]

        handles.append(block.register_forward_hook(weights))
        handles.append((block.c_attn if hasattr(block, "c_attn") else block.v_proj).register_forward_hook(values))
        handles.append(getattr(block, projection).register_forward_hook(projected))

    for site in model.anatomy.heads:
        watch(site.layer, site.module)
    norm = slow.get_submodule(model.anatomy.tail.norm)
    handles.append(norm.register_forward_pre_hook(lambda _, a: setattr(seen, "stream", a[0][0])))
    try:
        with DoubleEverywhere():
            slow(input_ids=torch.tensor([list(ids)]), use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def by_hand(
    slow: Any, model: hs.Model, clean: Seen, ablated: Seen, layer: int, position: int, target: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Redistributed, revalued and moved weight of every head of a block, key by key."""
    site = model.anatomy.head_site(layer)
    writer = model.anatomy.writer(Component("attn", layer))
    projection = slow.get_submodule(site.module)
    matrix = projection.weight if isinstance(projection, nn.Linear) else projection.weight.T
    w = directions(model.network, model.anatomy.tail, torch.tensor([target])).vectors[0].double()
    w = w * writer.gains[0] / float(model.anatomy.tail.sigma(clean.stream[position].double()))
    wide = site.head_dim
    found = torch.zeros(3, site.n_heads, dtype=torch.float64)
    for head in range(site.n_heads):
        group = head // (site.n_heads // site.n_kv)
        cut = matrix[:, head * wide : (head + 1) * wide].detach()
        for key in range(clean.weights[layer].shape[-1]):
            a, u = [], []
            for one in (clean, ablated):
                written = cut @ one.values[layer][key, group * wide : (group + 1) * wide]
                if writer.modules[0] != site.module:  # a post-norm multiplies every channel by a number of the row
                    y = one.projected[layer][position]
                    with torch.no_grad(), DoubleEverywhere():
                        written = written * slow.get_submodule(writer.modules[0])(y) / y
                a.append(float(one.weights[layer][head, position, key]))
                u.append(float(written @ w))
            found[0, head] += (a[1] - a[0]) * (u[0] + u[1]) / 2
            found[1, head] += (a[0] + a[1]) / 2 * (u[1] - u[0])
            found[2, head] += abs(a[1] - a[0]) / 2
        rests = [float(1 - one.weights[layer][head, position].sum()) for one in (clean, ablated)]
        found[2, head] += abs(rests[1] - rests[0]) / 2  # what a sink takes
    return found[0], found[1], found[2]


@pytest.mark.parametrize("scope", [LAST, TEXT], ids=["last", "text"])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_split_is_that_of_loops_over_heads_and_keys(name: str, scope: Positions) -> None:
    model = opened(name)
    slow = double_copy(model.network)
    apart = run(model, COMPONENTS, writers="heads", **where(scope)).dataset
    whole = run(model, COMPONENTS, **where(scope)).dataset
    compared = 0
    for number, prompt in enumerate(prompts().prompts[:2]):
        assert prompt.input_ids is not None
        clean = attended(slow, model, prompt.input_ids, (), ())
        for knockout in parse_knockouts(COMPONENTS, model.anatomy.inventory):
            places = [place for part in knockout.parts for place in model.anatomy.places(part)]
            ablated = attended(slow, model, prompt.input_ids, places, scope.ablated_in(TOKENS))
            for position in scope.read_in(TOKENS):
                row = number if scope is LAST else _row(whole, number, position)
                of = {"prompt": row, "ablated": [str(k) for k in apart["ablated"].values].index(str(knockout))}
                for layer in range(knockout.first_layer + 1, model.anatomy.n_layers):
                    hands = by_hand(slow, model, clean, ablated, layer, position, int(whole["target_token"][row]))
                    names = [f"head.{layer}.{head}" for head in range(len(hands[0]))]
                    for ds, writers, expected in (
                        (apart, names, hands),
                        (whole, [f"attn.{layer}"], [hands[0].sum()[None], hands[1].sum()[None], hands[2].mean()[None]]),
                    ):
                        cell = ds.isel(of).sel(writer=writers)
                        moved, change = cell["pattern_effect"].values, cell["change"].values
                        np.testing.assert_allclose(moved, expected[0], atol=TOLERANCE)
                        np.testing.assert_allclose(change - moved, expected[1], atol=TOLERANCE)
                        np.testing.assert_allclose(cell["moved_weight"], expected[2], atol=TOLERANCE)
                        compared += int(np.abs(moved).max() > 10 * TOLERANCE)
    assert compared > 5


def _row(ds: xr.Dataset, document: int, position: int) -> int:
    return int(np.flatnonzero((ds["document"] == document) & (ds["position"] == position))[0])


@pytest.mark.parametrize("writers", ["layers", "heads"])
def test_only_what_can_answer_is_split_and_sums_of_heads_are_their_layers(writers: str) -> None:
    model = opened("gemma2")
    ds = run(model, "attn,mlp.1,head.2.1,attn.0/head.2.1", hs.Resample(donors=2), null_draws=1, writers=writers).dataset
    attention = ds["writer_kind"].values == "attn"
    free = ds["is_downstream"].values & attention
    for name in ("pattern_effect", "moved_weight"):
        assert (ds[name].values[:, ~free] == 0).all()
        assert (ds[name].values[:, free] != 0).any()
    share = ds["moved_weight"].values
    assert (share >= 0).all() and (share <= 1).all()
    whole = by_layer(ds)
    np.testing.assert_allclose(whole["pattern_effect"].sum("writer"), ds["pattern_effect"].sum("writer"), atol=1e-5)
    assert whole["moved_weight"].max() <= 1
    expected = run(model, "attn,mlp.1", hs.Resample(donors=2), null_draws=1).dataset
    joint = [str(name) for name in expected["ablated"].values]
    found = whole.sel(ablated=joint, writer=expected["writer"].values)
    for name in ("pattern_effect", "moved_weight"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-5)


def test_a_held_head_moves_nothing() -> None:
    """A layer in which one head keeps its clean value changes by what the others do."""
    model = opened("llama")
    heads = run(model, "attn.0", writers="heads").dataset.isel(ablated=0)
    held = run(model, "attn.0/head.2.1").dataset.isel(ablated=0).sel(writer="attn.2")
    others = [f"head.2.{head}" for head in (0, 2, 3)]
    expected = heads.sel(writer=others)
    np.testing.assert_allclose(held["change"], expected["change"].sum("writer"), atol=1e-5)
    np.testing.assert_allclose(held["pattern_effect"], expected["pattern_effect"].sum("writer"), atol=1e-5)
    np.testing.assert_allclose(held["moved_weight"], expected["moved_weight"].sum("writer") / 4, atol=1e-5)


def test_sums_by_kind_and_runs_that_were_not_asked() -> None:
    model = opened("llama")
    full = run(model, "attn.0,mlp.1", writers="heads", **where(TEXT)).dataset
    kinds = run(model, "attn.0,mlp.1", writers="heads", detail="kinds", **where(TEXT)).dataset
    assert "moved_weight" not in kinds
    for sign, entry in ((full["direct_effect"] < 0, "attn.against"), (full["direct_effect"] >= 0, "attn.for")):
        attention = full["pattern_effect"].where(full["writer_kind"] == "attn", 0)
        expected = attention.where(sign, 0).sum("writer").transpose("prompt", "ablated")
        np.testing.assert_allclose(kinds["pattern_effect"].sel(writer=entry), expected, atol=1e-5)
    np.testing.assert_allclose(kinds["change"].sum("writer"), full["change"].sum("writer"), atol=1e-4)
    with pytest.raises(DetailDropped, match="sums by kind"):
        attention_split(kinds)
    plain = run(model, "attn.0", split_attention=False)
    assert "pattern_effect" not in plain.dataset and "moved_weight" not in plain.dataset
    with pytest.raises(DetailDropped, match="--split-attention"):
        plain.attention_split()


# Models whose weights are set by hand.


def made(model: Any, ids: Sequence[Sequence[int]], targets: Sequence[int], components: str) -> xr.Dataset:
    given = hs.PromptSet(
        "planted",
        tuple(hs.Prompt(input_ids=tuple(row), target_id=target) for row, target in zip(ids, targets, strict=True)),
    )
    found = run(examine(model, None, name="planted"), components, given=given, writers="heads", target="label",
                keep_wrong=True)  # fmt: skip
    return found.dataset.isel(ablated=0)


def test_a_backup_head_only_looks_elsewhere() -> None:
    """It waits at the first token until the answer is not there, and then looks at the subject."""
    right = planted.planted("backup")
    cell = made(right.model, right.prompts, right.targets, "attn.1").sel(writer="head.3.0")
    np.testing.assert_allclose(cell["pattern_effect"], right.unit, atol=right.tolerance)
    np.testing.assert_allclose(cell["change"], right.unit, atol=right.tolerance)
    np.testing.assert_allclose(cell["moved_weight"], 1, atol=1e-5)


def test_a_head_that_looks_everywhere_only_finds_something_else() -> None:
    """Head 1 of block 2 attends to all tokens alike and, here, copies what stands on the answers' axes."""
    right = planted.planted("neither")
    model = planted.build_recipe(right.recipe)
    share, first = 0.5, planted.HEAD_DIM + 6
    attention = model.model.layers[2].self_attn
    with torch.no_grad():
        attention.v_proj.weight[first : first + 5, planted.OUT] = torch.eye(planted.N_ANSWERS) / planted.GAIN
        attention.o_proj.weight[planted.OUT, first : first + 5] = share * torch.eye(planted.N_ANSWERS)
    cell = made(model, right.prompts, right.targets, "attn.1").sel(writer="head.2.1")
    lengths = np.array([len(prompt) for prompt in right.prompts])
    expected = -share * right.recipe.copiers[1] * right.strengths / lengths
    np.testing.assert_allclose(cell["change"], expected, atol=right.tolerance)
    np.testing.assert_allclose(cell["pattern_effect"], 0, atol=1e-6)
    np.testing.assert_allclose(cell["moved_weight"], 0, atol=1e-6)


def twins() -> tuple[Any, list[list[int]], list[int]]:
    """Two tokens with the same to give; what block 1 writes draws block 3's head 0 to the second one alone."""
    model = planted.build_recipe(planted.Recipe(copiers={1: 1.0, 3: 1.0}))
    attention = model.model.layers[3].self_attn
    subjects, twin = [planted.SUBJECTS[subject] for subject in range(4)], planted.FILLERS[0]
    ids = [[planted.BOS, subject, twin, planted.QUERY] for subject in subjects]
    with torch.no_grad():
        attention.k_proj.weight[2, planted.JUNK] = 1 / planted.GAIN
        attention.q_proj.weight[2, planted.OUT] = planted.SHARP * planted.HEAD_DIM**0.5 / planted.GAIN
        embedding = model.model.embed_tokens.weight
        embedding[twin] = embedding[subjects[0]]
        embedding[twin, planted.JUNK] = 1
    return model, ids[:1], [planted.ANSWERS[0]]


def test_weight_that_moves_between_like_tokens_changes_nothing() -> None:
    """The knock-out lowers the score of one of two keys with the same value: the other one covers for it."""
    cell = made(*twins(), "attn.1").sel(writer="head.3.0")
    np.testing.assert_allclose(cell["moved_weight"], 0.5, atol=1e-5)
    np.testing.assert_allclose(cell["pattern_effect"], 0, atol=1e-5)
    np.testing.assert_allclose(cell["change"], 0, atol=1e-5)
    assert float(cell["direct_effect"][0]) > 1


# What is refused.


@pytest.mark.parametrize("scope", [LAST, TEXT], ids=["last", "text"])
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gpt_neo", "attn.0 does not go through the attention interface"),
        ("afmoe", "a gate, a norm or a bias comes between"),
        ("diffllama", "attn.0 goes more than once through"),
        ("jamba", "no attention layer"),
    ],
)
def test_attention_that_cannot_be_split_is_refused(name: str, why: str, scope: Positions) -> None:
    model = opened(name)
    before = model.network.config._attn_implementation
    with pytest.raises(AnatomyRefused, match=f"moved weights.*{why}.*leave attention unsplit .--split-attention"):
        run(model, "mlp.0", **where(scope))
    assert model.network.config._attn_implementation == before


@pytest.mark.parametrize("strategy", [ExpandedCache(), WholeSequence()], ids=lambda one: one.name)
def test_other_engines_see_the_same(strategy: Any) -> None:
    """Rows with keys of their own, and whole prompts: for models whose prefix cannot be shared."""
    model = opened("gemma2")
    assert prove_attention_split(model, strategy)
    assert prove_attention_split(model, choose_engine(model).strategy)


def test_an_account_that_the_parts_do_not_make_up_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds on short random prompts is checked again on every one: here the attention is wrong after the proof."""
    from hydrascope.engine import _attention

    model = opened("llama")
    task = prepare(model, prompts(), hs.Zero(), hs.Options(
        components="attn.0", target="top", null_draws=0, split_attention=True
    ))  # fmt: skip
    right = _attention._products
    monkeypatch.setattr(_attention, "_products", lambda w, seen, v, t: right(w, 2 * seen, v, t))
    with pytest.raises(AnatomyRefused, match=r"without attn\.0, moved weights and changed values miss .* on prompt"):
        execute(task)


# Tables and pages.


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    given = prompts(6)
    found: Ledger = run(opened("gemma2"), "attn,mlp", hs.Resample(donors=2), given)
    return found


def test_tables_are_what_a_plain_loop_finds(ledger: Ledger) -> None:
    ds = ledger.dataset
    expected: list[list[Any]] = []
    for name in ds["ablated"].values:
        cell = ds.sel(ablated=name)
        for writer in ds["writer"].values:
            if writer.startswith("attn") and bool(cell["is_downstream"].sel(writer=writer)):
                some = cell.sel(writer=writer)
                change, moved = some["change"], some["pattern_effect"]
                means = [float(values.mean()) for values in (change, moved, change - moved, some["moved_weight"])]
                expected.append([str(name), str(writer), *means])
    table = attention_split(ds, resamples=50)
    names = ["change", "pattern_effect", "value_effect", "moved_weight"]
    assert table[["ablated", "writer"]].to_numpy().tolist() == [row[:2] for row in expected]
    np.testing.assert_allclose(table[names].to_numpy(), [row[2:] for row in expected], atol=1e-5)
    whole = attention_split_totals(ds, resamples=50).set_index("ablated")
    grouped = table.groupby("ablated")
    for name in names:
        together = grouped[name].mean() if name == "moved_weight" else grouped[name].sum()
        np.testing.assert_allclose(whole[name], together[whole.index], atol=1e-5)
    assert ledger.attention_split().columns.tolist() == table.columns.tolist()


def test_the_report_shows_the_split_only_where_it_was_asked_for(ledger: Ledger, tmp_path: Path) -> None:
    page = ledger.report(tmp_path / "split.html").read_text(encoding="utf-8")
    assert "Attention split: pattern effect and value effect" in page
    assert all(f'id="attention-split-{i}"' in page for i in (1, 2, 3))
    assert "nor what would be left without the other" in page
    last = Ledger(ledger.dataset.sel(ablated=["attn.3"])).report(tmp_path / "last.html").read_text(encoding="utf-8")
    assert "nothing that was knocked out has an attention layer behind it" in last
    plain = ledger.dataset.drop_vars(["pattern_effect", "moved_weight"])
    assert "Attention split" not in Ledger(plain).report(tmp_path / "plain.html").read_text(encoding="utf-8")


def test_text_has_tables_and_a_section_too(tmp_path: Path) -> None:
    found = run(
        opened("gpt2"), "head", given=prompts(8), writers="heads", detail="kinds", **where(Positions("all", "each"))
    )
    table = attention_split_on_tokens(found.dataset, resamples=50)
    every = table[table["selection"] == "all"].pivot(index="ablated", columns="mechanism", values="mean")
    np.testing.assert_allclose(every["pattern_effect"] + every["value_effect"], every["attention"], atol=1e-6)
    ds = found.dataset
    expected = ds["pattern_effect"].sel(writer=["attn.against", "attn.for"]).sum("writer").mean("prompt")
    np.testing.assert_allclose(every["pattern_effect"], expected.sel(ablated=every.index), atol=1e-6)
    assert found.attention_split_on_tokens().columns.tolist() == table.columns.tolist()
    page = found.report(tmp_path / "text.html").read_text(encoding="utf-8")
    assert all(f'id="attention-split-{i}"' in page for i in (1, 2))


@pytest.mark.parametrize("theme", [figures.LIGHT, figures.DARK], ids=["light", "dark"])
def test_charts_draw_what_the_tables_hold(ledger: Ledger, theme: figures.Theme) -> None:
    table, whole = attention_split(ledger.dataset, resamples=50), attention_split_totals(ledger.dataset, resamples=50)
    names = [str(name) for name in table["ablated"].unique()]
    lines = pd.DataFrame(
        [
            {"selection": "all", "layer": layer, "parts": 4, "mechanism": name, "mean": value}
            for layer in range(3)
            for name, value in (("pattern_effect", 0.3), ("value_effect", -0.1), ("attention", 0.2))
        ]
    )
    attention = int((whole["ablated_kind"] == "attn").sum())
    for chart, rows in (
        (figures.attention_by_writer(table, names, "attn.0", layers=4), 2 * len(table)),
        (figures.two_ways_by_layer(whole, figures.ATTENTION, "attn", layers=4), 2 * attention),
        (figures.moved_by_layer(whole, figures.ATTENTION, "attn", layers=4), attention),
        (figures.attention_by_depth(lines, "all", layers=3), 6),
    ):
        spec = figures.themed(chart, theme)
        assert spec["description"] and spec["width"] == "container"
        assert rows in [len(data) for data in spec["datasets"].values()]
        svg = vl_convert.vegalite_to_svg(json.dumps({**spec, "width": 400}))
        assert svg.count("<path") > 3 and "NaN" not in svg


def test_from_the_command_line(model_folder: Path, prompt_file: Path, tmp_path: Path, cli: Cli) -> None:
    command = ("run", model_folder, "--prompts", prompt_file, "--components", "attn.0", "--donors", "2")
    assert cli(*command, "--split-attention", "--out", tmp_path / "split").code == 0
    ds = open_dataset(tmp_path / "split")
    assert ds.attrs["split_attention"] and "moved_weight" in ds
    assert "Attention split" in (tmp_path / "split" / "report.html").read_text(encoding="utf-8")
    assert cli("freeze", tmp_path / "split").code == 0  # the recorded request is read again
    frozen = tmp_path / "split" / "companions" / "freeze"
    assert not frozen.exists() or "moved_weight" not in open_dataset(frozen)
    plan = json.loads(cli(*command, "--split-attention", "--dry-run", "--json").out)
    assert plan["ledger_bytes"] > json.loads(cli(*command, "--dry-run", "--json").out)["ledger_bytes"]
    other = tiny.save(tmp_path / "neo", families.build("gpt_neo"))
    asked = tiny.write_lines(tmp_path / "ids.jsonl", [{"input_ids": p.input_ids} for p in prompts()])
    refused = cli("run", other, "--prompts", asked, "--target", "top", "--donors", "2", "--split-attention")
    assert "does not go through the attention interface" in refused.refusal()
