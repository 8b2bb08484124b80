"""The identities that every account obeys, over random configurations.

With DE the direct effects, K their changes, sigma the final norm's scale, TE the total effect, u what is lost:
E1 direct effects sum to the logit; E2 own + others + norm = total; E3 what is not downstream stays; E4 a part's own
value changes nothing; E5 zero ablation loses the direct effect; E6 nothing follows the last block; E7 the cached last
token is the full forward pass; E8 erasure and backup on paper; E9 the logits' scale; E10 their origin.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import xarray as xr
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import hydrascope as hs
from hydrascope.ablations import Ablation
from hydrascope.anatomy import Directions, directions, examine
from hydrascope.components import Component
from hydrascope.engine import CleanRun, Edit, Intervention, Readings, choose_engine, record, run_interventions
from tests.support.families import FAMILIES, VOCABULARY, Family, build_from
from tests.support.planted import Recipe, build_recipe, planted
from tests.support.reference import Part, centred_logits, double_copy, run

torch.set_num_threads(1)

TOLERANCE = 1e-4
slow = [HealthCheck.too_slow, HealthCheck.data_too_large]
over_cases = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=slow)
over_few_cases = settings(over_cases, max_examples=7)


@dataclass(frozen=True)
class Case:
    """A random small model and random prompts for it."""

    family: Family
    seed: int
    lengths: tuple[int, ...]

    @property
    def network(self) -> nn.Module:
        return build_from(self.family, self.seed)

    @property
    def prompts(self) -> list[list[int]]:
        generator = torch.Generator().manual_seed(self.seed)
        return [torch.randint(3, VOCABULARY, (n,), generator=generator).tolist() for n in self.lengths]

    @property
    def targets(self) -> list[int]:
        return [(self.seed + 7 * i) % VOCABULARY for i in range(len(self.lengths))]


@st.composite
def cases(draw: st.DrawFn, tied: bool = True, least_prompts: int = 2) -> Case:
    """A configuration of GPT-2, GPT-NeoX (parallel or not), Llama or Gemma 2."""
    name = draw(st.sampled_from(["gpt2", "gpt_neox", "gpt_neox_sequential", "llama", "gemma2"]))
    depth, heads = draw(st.integers(1, 4)), draw(st.sampled_from([1, 2, 4]))
    dim = draw(st.sampled_from([4, 8]))
    width = heads * dim if name.startswith("gpt") else draw(st.sampled_from([16, 24, 32]))
    assume(width >= 8)
    if name == "gpt2":
        config: dict[str, Any] = {"n_layer": depth, "n_head": heads, "n_embd": width}
    else:
        config = {"num_hidden_layers": depth, "num_attention_heads": heads, "hidden_size": width}
    if name in ("llama", "gemma2"):
        groups = draw(st.sampled_from([g for g in (1, 2, 4) if heads % g == 0]))
        config |= {"num_key_value_heads": groups, "head_dim": dim}
    soft_cap = None
    if name == "gemma2":
        soft_cap = draw(st.sampled_from([None, 20.0]))
        kinds = ["sliding_attention" if layer % 2 == 0 else "full_attention" for layer in range(depth)]
        config |= {"final_logit_softcapping": soft_cap, "layer_types": kinds}
    if not tied:
        config["tie_word_embeddings"] = False
    family = replace(
        FAMILIES[name],
        config={**FAMILIES[name].config, **config},
        n_layers=depth,
        n_heads=heads,
        head_dim=dim,
        soft_cap=soft_cap,
    )
    lengths = draw(st.lists(st.integers(1, 9), min_size=least_prompts, max_size=4))
    return Case(family, draw(st.integers(0, 10_000)), tuple(lengths))


def account(case: Case, kind: Ablation, network: nn.Module | None = None) -> xr.Dataset:
    """The ledger of every attention layer and MLP."""
    opened = examine(case.network if network is None else network, None, name="random")
    prompts = tuple(
        hs.Prompt(input_ids=tuple(ids), target_id=target)
        for ids, target in zip(case.prompts, case.targets, strict=True)
    )
    options = hs.Options(components="attn,mlp", keep_wrong=True, null_draws=0, seed=case.seed)
    return hs.knock_out(opened, hs.PromptSet("random", prompts), ablation=kind, options=options).dataset


@dataclass(frozen=True)
class Push:
    """Same-length prompts and one forward over them."""

    model: hs.Model
    parts: tuple[Component, ...]
    clean: CleanRun
    read: Directions
    swept: Readings


def push(case: Case, value: Callable[[Tensor], Tensor], prompts: int = 3) -> Push:
    """Replace every writer and the last head of every block, one at a time, by a function of its clean values."""
    opened = examine(case.network, None, name="random")
    heads = tuple(Component("head", site.layer, site.n_heads - 1) for site in opened.anatomy.heads)
    parts = (*(writer.component for writer in opened.anatomy.writers), *heads)
    generator = torch.Generator().manual_seed(case.seed)
    ids = torch.randint(3, VOCABULARY, (prompts, case.lengths[0]), generator=generator)
    places = {part: opened.anatomy.places(part)[0] for part in parts}
    clean = record(opened, ids, list(dict.fromkeys(place.site for place in places.values())), keep="prefix")
    targets = torch.tensor([(case.seed + i) % VOCABULARY for i in range(prompts)])
    read = directions(opened.network, opened.anatomy.tail, targets)

    def variant(part: Component) -> Intervention:
        place = places[part]
        return Intervention(str(part), part.layer, (Edit(place, value(clean.values[place.site][..., place.span])),))

    variants = [variant(part) for part in parts]
    swept = run_interventions(opened, clean, variants, read, strategy=choose_engine(opened).strategy)
    return Push(opened, parts, clean, read, swept)


def of_kind(ledger: xr.Dataset, kind: str, own: bool = False) -> xr.DataArray:
    chosen = (ledger["writer_kind"] == kind) & (ledger["is_own"] == own)
    return ledger["change"].where(chosen, 0).sum("writer")


def assert_close(found: object, expected: object, what: object = "") -> None:
    numbers = np.asarray(found), np.asarray(expected)
    np.testing.assert_allclose(*numbers, rtol=TOLERANCE, atol=TOLERANCE, err_msg=str(what))


@over_cases
@given(cases())
def test_e1_e2_e5_e6_of_zero_ablation(case):
    ledger = account(case, hs.Zero())
    direct_effects_sum_to_the_centred_logit(case, ledger)
    parts_sum_to_the_total_effect(ledger)
    norm_effect_follows_from_the_scale(ledger)
    direct_effect_is_lost(ledger)
    nothing_follows_the_last_block(case, ledger)


@over_few_cases
@given(cases(least_prompts=3), st.sampled_from([hs.Mean(), hs.Resample(donors=2), hs.Noise(donors=2)]))
def test_e2_of_other_ablations(case, kind):
    ledger = account(case, kind)
    parts_sum_to_the_total_effect(ledger)
    if kind.draws == 1:  # the mean of several norm effects is no function of the mean scale
        norm_effect_follows_from_the_scale(ledger)


def direct_effects_sum_to_the_centred_logit(case: Case, ledger: xr.Dataset) -> None:
    double = double_copy(case.network)
    for i, (prompt, target) in enumerate(zip(case.prompts, case.targets, strict=True)):
        logit = float(centred_logits(case.family, run(double, case.family, prompt).logits)[target])
        assert_close(ledger["direct_effect"].isel(prompt=i).sum(), logit)
        assert_close(ledger["clean_logit"].isel(prompt=i), logit)


def parts_sum_to_the_total_effect(ledger: xr.Dataset) -> None:
    parts = ledger["own_change"] + of_kind(ledger, "attn") + of_kind(ledger, "mlp") + ledger["norm_effect"]
    assert_close(parts, ledger["total_effect"])
    assert ledger.attrs["closing_error"] < TOLERANCE, "holds for every donor"


def norm_effect_follows_from_the_scale(ledger: xr.Dataset) -> None:
    left = ledger["clean_logit"] - ledger["direct_effect"].sel(writer="bias") + ledger["change"].sum("writer")
    assert_close((ledger["scale_ratio"] - 1) * left, ledger["norm_effect"])


def direct_effect_is_lost(ledger: xr.Dataset) -> None:
    for address in ledger["ablated"].values:
        assert_close(ledger["own_change"].sel(ablated=address), -ledger["direct_effect"].sel(writer=address))


def nothing_follows_the_last_block(case: Case, ledger: xr.Dataset) -> None:
    """Had anything else responded, a part of the total effect would be missing."""
    last = case.family.n_layers - 1
    attn, mlp = ledger.sel(ablated=[f"attn.{last}"]), ledger.sel(ablated=[f"mlp.{last}"])
    for one in (attn, mlp):
        assert (of_kind(one, "attn") == 0).all()
        assert_close(one["remainder"], np.zeros((len(case.lengths), 1)))
    assert (of_kind(mlp, "mlp") == 0).all()
    responses = of_kind(attn, "mlp")
    assert bool((responses == 0).all()) == case.family.parallel
    assert_close(responses, attn["change"].sel(writer=f"mlp.{last}"))


@over_cases
@given(cases())
def test_e3_what_is_not_downstream_stays_as_it_was(case):
    pushed = push(case, lambda own: own.roll(1, 0) + 1)
    anatomy = pushed.model.anatomy
    for row, part in enumerate(pushed.parts, start=1):
        for column, writer in enumerate(anatomy.writers, start=1):
            before, after = pushed.swept.reads[0, column], pushed.swept.reads[row, column]
            if writer.component.layer < part.layer:
                assert torch.equal(after, before), "the rows do not exist yet where the writer runs"
            elif writer.component not in anatomy.written_by(part) and not anatomy.is_downstream(writer.component, part):
                assert_close(after, before, f"{part} on {writer.component}")
        assert torch.equal(pushed.swept.reads[row, 0], pushed.swept.reads[0, 0])


@over_cases
@given(cases())
def test_e4_a_parts_own_value_changes_nothing(case):
    swept = push(case, lambda own: own).swept
    for row in range(1, len(swept.reads)):
        assert_close(swept.reads[row], swept.reads[0])
        assert_close(swept.sigma[row], swept.sigma[0])
        assert_close(swept.distribution.logit[row], swept.distribution.logit[0])
        assert_close(swept.distribution.log_prob[row], swept.distribution.log_prob[0])
        assert_close(swept.distribution.kl[row], torch.zeros(3))


@over_cases
@given(cases())
def test_e7_the_cached_last_token_is_the_full_forward_pass(case):
    pushed = push(case, lambda own: own.flip(0) * 0.5)
    double = double_copy(case.network)
    half = {part: run_values(double, case.family, pushed.clean.ids.tolist(), tuple_of(part)) for part in pushed.parts}
    for i, prompt in enumerate(pushed.clean.ids.tolist()):
        target = int(pushed.read.tokens[i])
        for row, part in enumerate(pushed.parts, start=1):
            whole = run(double, case.family, prompt, {tuple_of(part): half[part][-1 - i] * 0.5})
            logit = centred_logits(case.family, whole.logits)[target]
            assert_close(pushed.swept.distribution.logit[row, i], float(logit), part)


def tuple_of(part: Component) -> Part:
    return (part.kind, part.layer) if part.unit is None else (part.kind, part.layer, part.unit)


def run_values(double: nn.Module, family: Family, prompts: Sequence[Sequence[int]], part: Part) -> list[Tensor]:
    return [run(double, family, prompt).values[part] for prompt in prompts]


@functools.cache
def motif(copier: int, backup: float, erased: float) -> tuple[hs.Model, hs.PromptSet, np.ndarray]:
    recipe = Recipe(copiers={copier: 1.0}, backups={2: backup} if backup else {}, erasers={3: erased})
    like = planted("backup")
    pairs = zip(like.prompts, like.targets, strict=True)
    prompts = tuple(hs.Prompt(input_ids=tuple(ids), target_id=target) for ids, target in pairs)
    return examine(build_recipe(recipe), None, name="motif"), hs.PromptSet("motif", prompts[::4]), like.strengths[::4]


@over_few_cases
@given(st.integers(0, 1), st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.sampled_from([0.0, 0.5, 0.99]))
def test_e8_motifs_of_erasure_and_backup(copier, backup, erased):
    """y = u - e u; without u a backup writes b u. Full erasure and full backup both hide the loss of u."""
    model, prompts, u = motif(copier, backup, erased)
    options = hs.Options(components=f"attn.{copier}", keep_wrong=True, null_draws=0)
    ledger = hs.knock_out(model, prompts, ablation=hs.Zero(), options=options).dataset.isel(ablated=0)
    assert_close(ledger["own_change"], -u)
    assert_close(ledger["direct_effect"].sel(writer="mlp.3"), -erased * u)
    assert_close(ledger["direct_effect"].sel(writer="attn.2"), np.zeros_like(u))
    assert_close(ledger["change"].sel(writer="attn.2"), backup * u)
    assert_close(ledger["change"].sel(writer="mlp.3"), (1 - backup) * erased * u)
    assert_close(ledger["total_effect"], -(1 - backup) * (1 - erased) * u)
    assert_close(ledger["norm_effect"], np.zeros_like(u))


IN_LOGITS = ("direct_effect", "change", "own_change", "norm_effect", "total_effect", "clean_logit")


@over_few_cases
@given(cases(tied=False), st.floats(0.4, 2.5))
def test_e9_the_final_norms_gain_scales_every_logit(case, factor):
    before = account(case, hs.Zero())
    network = case.network
    norm = network.get_submodule(case.family.final_norm)
    with torch.no_grad():
        norm.weight.copy_((norm.weight + case.family.gain_offset) * factor - case.family.gain_offset)
        if getattr(norm, "bias", None) is not None:
            norm.bias.mul_(factor)
    after = account(case, hs.Zero(), network)
    for variable in IN_LOGITS:
        assert_close(after[variable], before[variable] * factor, variable)
    assert_close(after["scale_ratio"], before["scale_ratio"])


@over_few_cases
@given(cases(tied=False), st.integers(0, 100))
def test_e10_the_same_vector_in_every_column_of_the_head_changes_nothing(case, seed):
    before = account(case, hs.Zero())
    network = case.network
    with torch.no_grad():
        weight = network.get_output_embeddings().weight
        weight += torch.randn(weight.shape[1], generator=torch.Generator().manual_seed(seed)) * 0.3
    after = account(case, hs.Zero(), network)
    for variable in (*IN_LOGITS, "scale_ratio"):
        assert_close(after[variable], before[variable], variable)
    if case.family.soft_cap is None:  # a cap bends the logits around zero, and the vector moves them off it
        for variable in ("log_prob_change", "kl", "clean_prob"):
            assert_close(after[variable], before[variable], variable)
