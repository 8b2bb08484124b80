"""Cheap scores are those of plain autograd in double precision, and do what they promise on planted models."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

import hydrascope as hs
from hydrascope.ablations import Ablation
from hydrascope.anatomy import examine
from hydrascope.attribution import Scores, attribute, direct_attribution
from hydrascope.attribution._graded import GradedRun
from hydrascope.attribution._query_key import require_watchable
from hydrascope.engine import BatchContext, Job
from hydrascope.errors import AnatomyRefused, ComponentError, ModelError, NonFinite, RunError
from hydrascope.run import Task, dealt, execute, prepare
from tests.support import digits
from tests.support.dealt import resample_table
from tests.support.families import FAMILIES, VOCABULARY, Family, build
from tests.support.planted import Recipe, build_recipe, planted
from tests.support.reference import DoubleEverywhere, double_copy
from tests.support.tiny import network

torch.set_num_threads(1)

ALL = Scores(("attribution_patching", "grad_drop", "query_key", "activation_gradient"))
KINDS = Scores()
SEED = 5
LENGTHS = (7, 7, 4, 7, 7)
TARGETS, FOILS = (5, 11, 40, 9, 33), (8, 20, 5, 50, 6)
COMPONENTS = "attn,mlp,head.1.0-1,neuron.0.3,neuron.1.5"


@functools.cache
def model(name: str) -> hs.Model:
    return examine(build(name), None, name=name)


@functools.cache
def double(name: str) -> Any:
    return double_copy(build(name))


def prompts(lengths: Sequence[int] = LENGTHS) -> hs.PromptSet:
    generator = torch.Generator().manual_seed(1)
    drawn = [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in lengths]
    return hs.PromptSet(
        "random",
        tuple(
            hs.Prompt(input_ids=tuple(ids), target_id=target, foil_id=foil)
            for ids, target, foil in zip(drawn, TARGETS, FOILS, strict=True)
        ),
    )


def task(opened: hs.Model, given: hs.PromptSet, ablation: Ablation, components: str = COMPONENTS, **more: Any) -> Task:
    options: dict[str, Any] = {"keep_wrong": True, "target": "difference", "seed": SEED, "null_draws": 0, **more}
    return prepare(opened, given, ablation, hs.Options(components=components, **options))


class Plain:
    """One text through a double-precision model, with a zero that wants a gradient added to every part's value.

    Args:
        drop: a block whose writes are cut out of the graph.
        shift: by block, what is added to its input at `at`.
    """

    def __init__(
        self,
        slow: Any,
        family: Family,
        ids: Sequence[int],
        at: Sequence[int],
        read: Callable[[Tensor], Tensor],
        *,
        drop: int | None = None,
        shift: dict[int, Tensor] | None = None,
    ) -> None:
        self.values: dict[tuple[str, int], Tensor] = {}
        self.zeros: dict[tuple[str, int], Tensor] = {}
        where = list(at)
        handles = []

        def probed(x: Tensor, name: tuple[str, int]) -> Tensor:
            flat = x.view(len(ids), -1)
            self.values[name] = flat[where].detach()
            self.zeros[name] = torch.zeros_like(self.values[name], requires_grad=True)
            spread = torch.zeros_like(flat).index_put((torch.tensor(where),), self.zeros[name])
            return (flat + spread).view(x.shape)

        def on_output(name: tuple[str, int]) -> Callable[..., Tensor]:
            def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
                output = probed(output, name)
                return output.detach() if name[1] == drop else output

            return hook

        def on_input(name: tuple[str, int]) -> Callable[..., Any]:
            return lambda module, inputs: (probed(inputs[0], name),)

        def shifted(layer: int) -> Callable[..., Any]:
            def hook(module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Any]) -> Any:
                x = (args[0] if args else kwargs["hidden_states"]).clone()
                x[0, where] = x[0, where] + shift[layer]  # type: ignore[index]
                return ((x, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": x})

            return hook

        for layer in range(family.n_layers):
            for kind, path in (("attn", family.attn), ("mlp", family.mlp)):
                writes = slow.get_submodule(family.path(layer, path))
                handles.append(writes.register_forward_hook(on_output((kind, layer))))
            o_proj = slow.get_submodule(family.path(layer, family.o_proj))
            handles.append(o_proj.register_forward_pre_hook(on_input(("head", layer))))
            if (down := _down(slow, family, layer)) is not None:
                handles.append(down.register_forward_pre_hook(on_input(("neuron", layer))))
            if shift and layer in shift:
                block = slow.get_submodule(family.path(layer, "")[:-1])
                handles.append(block.register_forward_pre_hook(shifted(layer), with_kwargs=True))
        try:
            with DoubleEverywhere(), torch.enable_grad():
                out = slow(torch.tensor([list(ids)]), use_cache=False, output_attentions=shift is not None)
                self.attentions = out.attentions
                self.read = read(out.logits[0])
        finally:
            for handle in handles:
                handle.remove()

    def slopes(self) -> dict[tuple[str, int], Tensor]:
        names = list(self.zeros)
        found = torch.autograd.grad(self.read, [self.zeros[n] for n in names], allow_unused=True, retain_graph=True)
        return {
            name: torch.zeros_like(self.zeros[name]) if slope is None else slope
            for name, slope in zip(names, found, strict=True)
        }


def _down(slow: Any, family: Family, layer: int) -> nn.Module | None:
    """The projection that MLP neurons enter, before a post-norm; None for routed experts."""
    mlp = slow.get_submodule(family.path(layer, family.mlp))
    if getattr(mlp, "weight", None) is None or mlp.weight.ndim == 2:
        return mlp if hasattr(mlp, "weight") else None
    down: nn.Module = slow.get_submodule(family.path(layer, "mlp.down_proj"))
    return down


def place(family: Family, part: str) -> tuple[tuple[str, int], slice]:
    kind, layer, *unit = part.split(".")
    width = {"head": family.head_dim, "neuron": 1}.get(kind)
    stretch = slice(None) if width is None else slice(int(unit[0]) * width, (int(unit[0]) + 1) * width)
    return (kind, int(layer)), stretch


def reading(family: Family, ids: Sequence[int], prompt: int, *, texts: bool) -> Callable[[Tensor], Tensor]:
    """The logit difference at the last token, or the mean centred logit of a text's own tokens."""
    cap = family.soft_cap

    def read(logits: Tensor) -> Tensor:
        free = logits if cap is None else cap * (logits / cap).atanh()
        if texts:
            return torch.stack([free[t, ids[t + 1]] - free[t].mean() for t in range(1, len(ids) - 1)]).mean()
        return free[-1, TARGETS[prompt]] - free[-1, FOILS[prompt]]

    return read


def by_autograd(name: str, run: Task, *, texts: bool) -> dict[str, np.ndarray]:
    """Scores of every prompt and part by plain autograd in double precision. [P, K] each"""
    family, slow = FAMILIES[name], double(name)
    given = [list(one.ids) for one in run.encoded.prompts]
    parts = [str(knockout) for knockout in run.knockouts]
    if isinstance(run.ablation, hs.Resample) and not texts:
        table = resample_table(given, TARGETS, run.ablation.draws, SEED, FOILS)
    else:
        table = np.zeros((1, len(given)), int)
    reads = [reading(family, ids, p, texts=texts) for p, ids in enumerate(given)]

    def plain(p: int, drop: int | None = None) -> Plain:
        at = range(len(given[p])) if texts else [len(given[p]) - 1]
        return Plain(slow, family, given[p], at, reads[p], drop=drop)

    clean = [plain(p) for p in range(len(given))]
    found: dict[str, np.ndarray] = {kind: np.zeros((len(given), len(parts))) for kind in KINDS.kinds}
    for p, one in enumerate(clean):
        slopes = one.slopes()
        dropped = [plain(p, drop=layer).slopes() for layer in range(family.n_layers)]
        for k, part in enumerate(parts):
            where, stretch = place(family, part)
            own = one.values[where][:, stretch]
            values = torch.zeros_like(own)[None]
            if isinstance(run.ablation, hs.Resample):
                values = torch.stack([clean[q].values[where][:, stretch] for q in table[:, p]])
            moved = values - own
            found["attribution_patching"][p, k] = (moved * slopes[where][:, stretch]).sum((1, 2)).mean()
            found["activation_gradient"][p, k] = -(own * slopes[where][:, stretch]).sum()
            each = torch.stack([(moved * some[where][:, stretch]).sum((1, 2)).abs().mean() for some in dropped])
            found["grad_drop"][p, k] = each.sum() / (family.n_layers - 1)
    return found


def agree(found: xr.Dataset, expected: dict[str, np.ndarray]) -> None:
    for kind, numbers in expected.items():
        scale = np.abs(numbers).max()
        assert scale > 0
        np.testing.assert_allclose(found.estimate.sel(score=kind), numbers, atol=2e-4 * scale, rtol=0, err_msg=kind)


@pytest.mark.parametrize("name", FAMILIES)
def test_last_token_is_plain_autograd(name: str) -> None:
    components = COMPONENTS if len(model(name).anatomy.neurons) == FAMILIES[name].n_layers else "attn,mlp,head.1.0-1"
    run = task(model(name), prompts(), hs.Resample(donors=2), components)
    agree(attribute(run, KINDS), by_autograd(name, run, texts=False))


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_whole_texts_are_plain_autograd(name: str) -> None:
    run = task(model(name), prompts(), hs.Zero(), target="top", positions="all", read="each")
    agree(attribute(run, KINDS), by_autograd(name, run, texts=True))


def exact(run: Task, variable: str = "total_effect") -> xr.DataArray:
    """Exact effects, one row a prompt or text."""
    ledger, _ = execute(run)
    found = ledger[variable]
    return found.groupby("document").mean() if run.positions.read == "each" else found


def of_subjects(network: Any, name: str, *, every: int = 2) -> tuple[hs.Model, hs.PromptSet]:
    like = planted("neither")
    given = tuple(
        hs.Prompt(input_ids=tuple(ids), target_id=target)
        for ids, target in list(zip(like.prompts, like.targets, strict=True))[::every]
    )
    return examine(network, None, name=name), hs.PromptSet("subjects", given)


PARTS = "attn,mlp,head.1.*,head.2.0,neuron.3.0-2"


@pytest.mark.parametrize("ablation", [hs.Zero(), hs.Mean(), hs.Resample(donors=3), hs.Noise(donors=2)])
@pytest.mark.parametrize("positions", ["last", "all"])
def test_affine_models_are_scored_exactly(ablation: Ablation, positions: str) -> None:
    """Every donor has to be the exact run's own for this."""
    opened, given = of_subjects(planted("erasure").model, "affine", every=1)
    few = hs.PromptSet("few", tuple(one for one in given.prompts if len(one.input_ids or ()) == 5))
    run = task(opened, few if positions == "all" else given, ablation, PARTS, target="label", positions=positions)
    found, right = attribute(run, Scores(("attribution_patching",))), exact(run)
    assert float(np.abs(right).max()) > 0.5
    assert list(found.prompt.values) == list(right.prompt.values)
    patching = found.estimate.sel(score="attribution_patching")
    np.testing.assert_allclose(patching, right, atol=2e-4)


@pytest.mark.parametrize("ablation", [hs.Resample(donors=3), hs.Noise(donors=2), hs.Optimal(steps=3)])
def test_donors_and_values_are_those_of_the_exact_run(ablation: Ablation) -> None:
    """Both add the same to every place, on a model in which nothing is affine."""
    run = task(model("llama"), prompts(), ablation)
    with dealt(run, 64, lambda stage, done, total: None) as (selection, plan, batches):
        moved = {
            (selection.prompts[number].index, k): batch.context.displacements(k, batch.rows)[0][:, i]
            for batch in batches
            for k in range(len(plan.knockouts))
            for i, number in enumerate(batch.prompts)
        }
    seen: dict[tuple[int, int], list[Tensor]] = {}
    made = BatchContext.intervention

    def watched(context: BatchContext, job: Job, rows: Sequence[int], edges: Any) -> Any:
        found = made(context, job, rows, edges)
        (edit,) = found.edits
        for i, row in enumerate(rows):
            seen.setdefault((selection.prompts[row].index, job.knockout), []).append(
                edit.value[i] - context.own(edit.place, rows)[i]
            )
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchContext, "intervention", watched)
        execute(run)
    assert seen.keys() == moved.keys()
    for which, one in moved.items():
        torch.testing.assert_close(one, torch.stack(seen[which]), rtol=0, atol=1e-6)


def test_half_a_dose_is_half_the_score() -> None:
    run = task(model("gpt2"), prompts(), hs.Zero())
    whole, half = (attribute(one).estimate for one in (run, replace(run, dose=0.5)))
    kinds = ["attribution_patching", "grad_drop"]
    np.testing.assert_allclose(half.sel(score=kinds), whole.sel(score=kinds) / 2, rtol=1e-4, atol=1e-5)


def test_effects_that_cancel_are_seen_by_grad_drop_alone() -> None:
    """The MLP of block 1 takes away all that the copier of block 0 wrote; the copier of block 2 answers."""
    network = build_recipe(Recipe(copiers={0: 1.0, 2: 1.0}, erasers={1: 1.0}))
    opened, given = of_subjects(network, "cancelling")
    run = task(opened, given, hs.Zero(), "attn.0,attn.2,attn.3", target="label")
    found = attribute(run).estimate
    ledger, _ = execute(run)
    assert float(ledger.own_change.sel(ablated="attn.0").max()) < -1.5, "it matters"
    np.testing.assert_allclose(ledger.total_effect.sel(ablated="attn.0"), 0, atol=1e-4)
    np.testing.assert_allclose(found.sel(ablated="attn.0", score="attribution_patching"), 0, atol=1e-4)
    strengths = -ledger.own_change.sel(ablated="attn.0")
    # of four passes only that without block 1 does not cancel; that without its own block is zero
    np.testing.assert_allclose(found.sel(ablated="attn.0", score="grad_drop"), strengths / 3, rtol=1e-4)
    np.testing.assert_allclose(found.sel(ablated="attn.2", score="grad_drop"), strengths, rtol=1e-4)
    np.testing.assert_allclose(found.sel(ablated="attn.3", score="grad_drop"), 0, atol=1e-4)


def test_the_query_key_fix_sees_what_saturated_attention_hides() -> None:
    """A later head writes the answer once its query misses it; its softmax has no slope."""
    opened, given = of_subjects(planted("backup").model, "backup")
    run = task(opened, given, hs.Zero(), "attn.1,head.1.0", target="label")
    found = attribute(run, Scores(("attribution_patching", "query_key"))).estimate
    ledger, _ = execute(run)
    for part in ("attn.1", "head.1.0"):
        np.testing.assert_allclose(ledger.total_effect.sel(ablated=part), 0, atol=1e-4)
        own = ledger.own_change.sel(ablated=part)
        assert float(own.max()) < -1.5
        np.testing.assert_allclose(found.sel(score="attribution_patching", ablated=part), own, atol=1e-3)
        np.testing.assert_allclose(found.sel(score="query_key", ablated=part), 0, atol=1e-3)


def corrections(name: str, run: Task, *, texts: bool) -> np.ndarray:
    """The fix by plain double-precision forwards: weights of every later block with its input moved. [P, K]"""
    family, slow = FAMILIES[name], double(name)
    found = np.zeros((len(run.encoded.prompts), len(run.knockouts)))
    for p, prompt in enumerate(run.encoded.prompts):
        ids = list(prompt.ids)
        at = list(range(len(ids))) if texts else [len(ids) - 1]
        read = reading(family, ids, p, texts=False)
        zero = torch.zeros(len(at), 32, dtype=torch.float64)

        def moved(layer: int, shift: Tensor) -> Plain:
            return Plain(slow, family, ids, at, read, shift={layer: shift})  # noqa: B023

        clean = moved(0, zero)
        after = torch.autograd.grad(clean.read, clean.attentions, retain_graph=True)
        for k, knockout in enumerate(run.knockouts):
            where, stretch = place(family, str(knockout))
            own = torch.zeros_like(clean.values[where])
            own[:, stretch] = clean.values[where][:, stretch]
            if where[0] == "head":
                own = own @ slow.get_submodule(family.path(where[1], family.o_proj)).weight.T.detach()
            own = own * family.multiplier
            for layer in range(where[1] + 1, family.n_layers):
                shift = zero.clone().requires_grad_()
                start = moved(layer, shift)
                weights = start.attentions[layer]
                (slope,) = torch.autograd.grad((weights * after[layer]).sum(), shift)
                jump = moved(layer, -own).attentions[layer] - weights
                found[p, k] += ((after[layer] * jump).sum() + (slope * own).sum()).detach()
    return found


@pytest.mark.parametrize(
    ("name", "components", "texts"),
    [
        ("llama", "attn,mlp,head.0.0-1", False),
        ("llama", "attn,mlp,head.0.0-1", True),
        ("granite", "attn,mlp,head.0.0-1", False),
        ("gemma2", "attn,mlp", False),
    ],
)
def test_the_query_key_fix_is_that_of_plain_forwards(name: str, components: str, texts: bool) -> None:
    run = task(model(name), prompts(), hs.Zero(), components, **({"positions": "all"} if texts else {}))
    found = attribute(run, Scores(("attribution_patching", "query_key"))).estimate
    missed = (found.sel(score="query_key") - found.sel(score="attribution_patching")).values
    expected = corrections(name, run, texts=texts)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(missed, expected, atol=2e-4 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("value", ["logit", "log_prob"])
@pytest.mark.parametrize(
    "more",
    [
        {"target": "label"},
        {"target": "label", "positions": "0,-2", "read": "last"},
        {"target": "top", "positions": "all", "read": "each"},
        {"target": "label", "answer": "whole"},
    ],
    ids=["last", "elsewhere", "texts", "answers"],
)
def test_of_a_small_dose_first_order_is_all_there_is(more: dict[str, Any], value: Any) -> None:
    """Every kind of run is read as the exact one reads it."""
    opened, given = model("llama"), prompts()
    if more.get("answer") == "whole":
        opened = examine(build("llama"), digits.tokenizer(VOCABULARY), name="llama")
        said = {"The war is": "of", "The year is": "un", "The peace ended in the year": "2001"}
        given = hs.load_prompts([{"prompt": text, "target": answer} for text, answer in said.items()])
    run = replace(task(opened, given, hs.Zero(), "attn,mlp", **more), dose=2e-3)
    found = attribute(run, Scores(("attribution_patching",), value)).estimate[0]
    right = exact(run, "total_effect" if value == "logit" else "log_prob_change").values
    assert found.shape == right.shape
    assert np.abs(right).max() > 1e-3
    np.testing.assert_allclose(found, right, atol=0.1 * np.abs(right).max())


@pytest.mark.parametrize("more", [{}, {"positions": "all"}, {"positions": "all", "read": "each", "target": "top"}])
def test_clean_read_outs_are_the_engines_and_the_model_is_left_as_it_was(more: dict[str, Any]) -> None:
    opened = model("gemma2")
    run = task(opened, prompts(), hs.Zero(), "attn", **more)
    ledger, _ = execute(run)
    weights = [weight.detach().clone() for weight in opened.network.parameters()]
    with dealt(run, 64, lambda stage, done, total: None) as (selection, _, batches):
        found: list[float] = []
        order: list[int] = []
        for batch in batches:
            site = opened.anatomy.places(run.knockouts[0].parts[0])[0].site
            graded = GradedRun(opened, batch.context.strategy, batch.clean, batch.items, [site], "logit")
            found += graded.read[0].tolist()
            for number in batch.prompts:
                one = selection.prompts[number]
                longest = max(len(p.ids) for p in run.encoded.prompts)
                each = more.get("read") == "each"
                order += [one.index * longest + p for p in selection.positions[number]] if each else [one.index]
    np.testing.assert_allclose(np.array(found)[np.argsort(order)], ledger.clean_logit, atol=1e-4)
    for before, after in zip(weights, opened.network.parameters(), strict=True):
        assert torch.equal(before, after) and after.requires_grad and after.grad is None
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in opened.network.modules())


def test_rows_that_share_a_pass_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run = task(model("gpt2"), prompts(), hs.Resample(donors=2))
    together = attribute(run).estimate
    for name, value in (("GRADED_ROWS", 1), ("MOVED_SHARE", 10**9)):
        monkeypatch.setattr(f"hydrascope.attribution._estimates.{name}", value)
    np.testing.assert_allclose(attribute(run).estimate, together, rtol=1e-4, atol=1e-5)


def test_labels_are_the_ledgers() -> None:
    run = task(model("gpt2"), prompts(), hs.Resample(donors=2))
    found = attribute(run)
    ledger, _ = execute(run)
    assert found.estimate.dims == ("score", "prompt", "ablated")
    assert list(found.score.values) == list(KINDS.kinds)
    for name in ("prompt", "group", "weight", "ablated", "ablated_layer", "ablated_kind"):
        assert list(found[name].values) == list(ledger[name].values), name
    assert (found.seconds > 0).all()


def test_direct_attribution_is_the_accounts() -> None:
    run = task(model("gpt2"), prompts(), hs.Zero(), "attn,head.1.0")
    ledger, _ = execute(run)
    found = direct_attribution(ledger)
    for part in ("attn.0", "attn.2"):
        np.testing.assert_array_equal(found.sel(ablated=part), -ledger.direct_effect.sel(writer=part))
    assert found.sel(ablated="head.1.0").isnull().all()


@pytest.mark.parametrize("components", ["attn.0+mlp.1", "layer.1", "attn.0->mlp.1", "attn.0/mlp.1"])
def test_more_than_one_part_is_refused(components: str) -> None:
    run = task(model("gpt2"), prompts(), hs.Zero(), components)
    with pytest.raises(ComponentError, match="a gradient speaks of one part"):
        attribute(run)


def test_single_experts_are_refused() -> None:
    run = task(model("mixtral"), prompts(), hs.Zero(), "expert.1.0")
    with pytest.raises(ComponentError, match=r"expert\.1\.0 is none of"):
        attribute(run)


def test_half_precision_is_refused() -> None:
    opened = examine(build("gpt2", dtype=torch.bfloat16), None, name="half")
    with pytest.raises(ModelError, match="--dtype float32"):
        attribute(task(opened, prompts(), hs.Zero()))


def test_a_single_block_cannot_drop_another() -> None:
    opened = examine(network(n_layer=1), None, name="one")
    few = hs.PromptSet("few", (hs.Prompt(input_ids=(5, 6, 7)),))
    run = task(opened, few, hs.Zero(), "attn", target="top")
    with pytest.raises(RunError, match="a single one"):
        attribute(run)
    assert attribute(run, Scores(("attribution_patching",))).estimate.notnull().all()


def test_attention_that_cannot_be_watched_has_no_query_key_fix() -> None:
    run = task(model("gptj"), prompts(), hs.Zero(), "attn")
    with pytest.raises(AnatomyRefused, match="leave the score query_key out"):
        attribute(run, ALL)
    assert attribute(run).estimate.notnull().all()


def test_blocks_that_multiply_the_stream_have_no_query_key_fix() -> None:
    like = model("llama")
    opened = replace(like, anatomy=replace(like.anatomy, embed_gain=2.0))
    with pytest.raises(AnatomyRefused, match="multiply the residual stream"):
        require_watchable(opened, task(like, prompts(), hs.Zero()).engine.strategy)


@pytest.mark.parametrize("wrong", [{"kinds": ()}, {"kinds": ("grad_dorp",)}, {"kinds": ("grad_drop",) * 2}])
def test_scores_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RunError):
        Scores(**wrong)
    with pytest.raises(RunError):
        Scores(value="rank")  # type: ignore[arg-type]


def test_gradients_that_are_not_finite_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    run = task(model("gpt2"), prompts(), hs.Zero(), "attn")
    monkeypatch.setattr(torch.autograd, "grad", lambda read, leaves, **more: [x.detach() / 0 for x in leaves])
    with pytest.raises(NonFinite, match="gradient"):
        attribute(run)
