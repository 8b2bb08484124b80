"""Whatever happens, the model is left as it was, and nothing that cannot be trusted is returned."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn
from transformers import AttentionInterface

import hydrascope as hs
from hydrascope.anatomy import directions, examine
from hydrascope.components import Component
from hydrascope.engine import (
    Edit,
    ExpandedCache,
    Intervention,
    SharedPrefix,
    WholeSequence,
    _attention,
    choose_engine,
    prove_engine,
    record,
    run_interventions,
)
from hydrascope.errors import (
    AnatomyRefused,
    HookDidNotFire,
    HydrascopeError,
    LedgerDoesNotClose,
    ModelError,
    NonFinite,
    OutputError,
)
from tests.support.families import FAMILIES, VOCABULARY, build, build_from

torch.set_num_threads(1)

SOME = ["gpt2", "llama", "gemma2", "mixtral", "bloom"]
COMPONENTS = "attn,mlp.1,head.1.0"


def prompts(n: int = 4, tokens: int = 7) -> hs.PromptSet:
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, VOCABULARY, (n, tokens), generator=generator).tolist()
    return hs.PromptSet("random", tuple(hs.Prompt(input_ids=tuple(row), target_id=i) for i, row in enumerate(ids)))


def open_model(name: str) -> hs.Model:
    return examine(build(name), None, name=name)


def ledger(model: hs.Model, components: str = COMPONENTS, given: hs.PromptSet | None = None) -> xr.Dataset:
    options = hs.Options(keep_wrong=True, null_draws=1)
    return hs.knock_out(model, given or prompts(), components, hs.Resample(donors=2), options=options).dataset


def state(network: Any) -> dict[str, Any]:
    """Everything about a network that a run could leave behind."""
    modules = list(network.modules())
    return {
        "hooks": [
            {name: list(table.values()) for name, table in vars(module).items() if name.endswith("hooks")}
            for module in modules
        ],
        "configs": [str(vars(module.config)) for module in modules if hasattr(module, "config")],
        "attention": [m.config._attn_implementation for m in modules if hasattr(m, "config")],
        "training": [module.training for module in modules],
        "forwards": [vars(module).get("forward") for module in modules],
        "weights": [parameter.detach().clone().numpy().tobytes() for parameter in network.parameters()],
        "gradients": [parameter.requires_grad for parameter in network.parameters()],
    }


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("name", SOME)
def test_a_run_leaves_the_model_as_it_was(name, implementation):
    network = build(name)
    if implementation == "sdpa" and not network._supports_sdpa:
        pytest.skip(f"{name} knows eager attention only")
    network.set_attn_implementation(implementation)
    before = state(network)
    ledger(examine(network, None, name=name))
    assert state(network) == before


class StopAfter:
    """A user's hook that raises when it has been passed a number of times."""

    def __init__(self, times: int, error: type[BaseException]) -> None:
        self.left, self.error = times, error

    def __call__(self, *_: object) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.error("stopped")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("name", ["gpt2", "gemma2", "bloom"])
def test_an_error_anywhere_leaves_the_model_as_it_was(name, error):
    """At every pass through the last block in turn: in the anatomy, the proof, the clean runs, the knock-outs."""
    model = open_model(name)
    right = ledger(model)
    before = state(model.network)
    last = model.network.get_submodule(model.anatomy.layers[-1])
    for times in range(1000):
        handle = last.register_forward_pre_hook(StopAfter(times, error))
        try:
            ledger(model)
            break
        except (error, HydrascopeError):  # what the proof meets is told as a refusal
            pass
        finally:
            handle.remove()
        assert state(model.network) == before, times
    assert times > 8, "the run passes the block several times"
    again = ledger(model)
    for variable in right.data_vars:
        np.testing.assert_array_equal(again[variable], right[variable])


def test_an_error_in_the_anatomy_leaves_the_model_as_it_was():
    network = build("llama")
    before = state(network)
    for times in range(1000):
        handle = network.model.layers[-1].register_forward_pre_hook(StopAfter(times, KeyboardInterrupt))
        try:
            examine(network, None, name="llama")
            break
        except KeyboardInterrupt:
            pass
        finally:
            handle.remove()
        assert state(network) == before
    assert times > 3


def test_hooks_of_the_user_work_and_stay():
    """A steered model is a model: its hooks take part in everything and are still there afterwards."""
    network = build("llama")
    plain = ledger(examine(network, None, name="plain"))
    calls = 0

    def steer(module: nn.Module, args: object, output: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return output * 1.5

    handle = network.model.layers[1].mlp.down_proj.register_forward_hook(steer)
    before = state(network)
    steered = ledger(examine(network, None, name="steered"))
    assert state(network) == before
    assert calls > 5
    assert steered.attrs["closing_error"] < 1e-4
    assert np.abs((steered["direct_effect"] - plain["direct_effect"]).sel(writer="mlp.1")).max() > 0.01
    handle.remove()
    np.testing.assert_array_equal(ledger(examine(network, None, name="plain"))["change"], plain["change"])


def skip_down_projection(mlp: Any, only_last_token: bool) -> None:
    """The same numbers without passing the module that writes."""
    original = mlp.forward

    def forward(x: Tensor) -> Tensor:
        if only_last_token and x.shape[1] > 1:
            return original(x)
        return (mlp.act_fn(mlp.gate_proj(x)) * mlp.up_proj(x)) @ mlp.down_proj.weight.T

    mlp.forward = forward


def run_twice(mlp: Any, only_last_token: bool) -> None:
    original = mlp.forward

    def forward(x: Tensor) -> Tensor:
        if not only_last_token or x.shape[1] == 1:
            original(x)
        return original(x)

    mlp.forward = forward


@pytest.mark.parametrize(("tamper", "times"), [(skip_down_projection, 0), (run_twice, 2)])
def test_a_writer_that_does_not_run_once_is_refused(tamper, times):
    model = open_model("llama")
    tamper(model.network.model.layers[1].mlp, False)
    with pytest.raises(HookDidNotFire, match=rf"layers\.1\.mlp\.down_proj.* {times} times"):
        ledger(model)


@pytest.mark.parametrize("tamper", [skip_down_projection, run_twice])
def test_where_it_does_not_run_once_on_single_tokens_whole_sequences_serve(tamper):
    model = open_model("llama")
    right = ledger(model)
    tamper(model.network.model.layers[1].mlp, True)
    found = ledger(model)
    assert found.attrs["engine"] == WholeSequence().name
    np.testing.assert_allclose(found["change"], right["change"], rtol=0, atol=1e-5)


@pytest.fixture
def sabotage() -> Iterator[Callable[..., None]]:
    """Exchanges arguments of the shared-prefix attention, until the test is over."""
    right = _attention.shared_prefix_attention

    def use(**wrong: Any) -> None:
        AttentionInterface.register(
            _attention.SHARED_PREFIX,
            lambda *args, **kwargs: right(*args, **{k: wrong.get(k, v) for k, v in kwargs.items()}),
        )

    yield use
    AttentionInterface.register(_attention.SHARED_PREFIX, right)


def test_a_wrong_attention_is_found_and_the_other_strategy_taken(sabotage):
    model = open_model("gemma2")
    assert choose_engine(model).strategy == SharedPrefix()
    right = ledger(model)
    sabotage(softcap=None)
    failed = [check.name for check in prove_engine(model, SharedPrefix()) if not check.passed]
    assert {"untouched logits", "plain loop"} <= set(failed)
    assert choose_engine(model).strategy == ExpandedCache()
    found = ledger(model)
    assert found.attrs["engine"] == ExpandedCache().name
    np.testing.assert_allclose(found["change"], right["change"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"scaling": 0.9}, {"sliding_window": 2}])
def test_every_wrong_argument_is_found(sabotage, wrong):
    model = open_model("mistral")
    sabotage(**wrong)
    assert not all(check.passed for check in prove_engine(model, SharedPrefix()))
    assert choose_engine(model).strategy == ExpandedCache()


def test_a_model_on_which_no_strategy_is_right_is_refused_by_the_check(sabotage, monkeypatch):
    model = open_model("gemma2")
    right = ledger(model)
    sabotage(softcap=None)
    expanded, whole = ExpandedCache.run, WholeSequence.run

    def without_first_key(self: ExpandedCache, network: nn.Module, clean: Any, variants: int) -> None:
        prefix = tuple((keys[:, :, 1:], values[:, :, 1:]) for keys, values in clean.prefix)
        expanded(self, network, replace(clean, prefix=prefix), variants)

    def with_another_first_token(self: WholeSequence, network: nn.Module, clean: Any, variants: int) -> None:
        ids = clean.ids.clone()
        ids[:, 0] = (ids[:, 0] + 1) % VOCABULARY
        whole(self, network, replace(clean, ids=ids), variants)

    monkeypatch.setattr(ExpandedCache, "run", without_first_key)
    found = ledger(model)
    assert found.attrs["engine"] == WholeSequence().name
    np.testing.assert_allclose(found["change"], right["change"], rtol=0, atol=1e-5)

    monkeypatch.setattr(WholeSequence, "run", with_another_first_token)
    before = state(model.network)
    with pytest.raises(AnatomyRefused) as refused:
        ledger(model)
    assert refused.value.check in ("untouched logits", "self donor", "read-back", "plain loop")
    assert state(model.network) == before


def test_a_fault_that_shows_on_long_prompts_alone_is_refused(sabotage):
    """The proof uses a few tokens; the clean row of every batch is held against the untouched model as well."""
    family = replace(FAMILIES["mistral"], config={**FAMILIES["mistral"].config, "sliding_window": 8})
    model = examine(build_from(family), None, name="mistral")
    right = ledger(model, given=prompts(tokens=20))
    assert right.attrs["parity_error"] < 1e-4
    sabotage(sliding_window=None)
    assert choose_engine(model).strategy == SharedPrefix()
    with pytest.raises(AnatomyRefused, match=r"on prompt \d the clean row") as refused:
        ledger(model, given=prompts(tokens=20))
    assert refused.value.check == "untouched logits"


@pytest.mark.parametrize("name", FAMILIES)
def test_all_strategies_agree(name):
    """Where the shared prefix works; a few families have attention code of their own."""
    model = open_model(name)
    assert (choose_engine(model).strategy == SharedPrefix()) == (name not in ("bloom", "gpt_neo", "gptj"))
    ids = torch.randint(3, VOCABULARY, (3, 9), generator=torch.Generator().manual_seed(1))
    parts = [writer.component for writer in model.anatomy.writers]
    places = [model.anatomy.places(part)[0] for part in parts]
    clean = record(model, ids, [place.site for place in places], keep="prefix")
    read = directions(model.network, model.anatomy.tail, torch.tensor([4, 5, 6]))
    variants = [
        Intervention(str(part), part.layer, (Edit(place, clean.values[place.site].roll(1, 0)),))
        for part, place in zip(parts, places, strict=True)
    ]
    right = run_interventions(model, clean, variants, read, strategy=WholeSequence())
    for strategy in dict.fromkeys((choose_engine(model).strategy, ExpandedCache())):
        found = run_interventions(model, clean, variants, read, strategy=strategy)
        for a, b in (
            (found.reads, right.reads),
            (found.sigma, right.sigma),
            (found.distribution.logit, right.distribution.logit),
            (found.distribution.kl, right.distribution.kl),
            (found.distribution.log_prob, right.distribution.log_prob),
        ):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)
    assert (right.distribution.logit[1:] - right.distribution.logit[0]).abs().max() > 0.1


def test_weights_that_are_not_finite_are_refused(monkeypatch):
    model = open_model("llama")
    with torch.no_grad():
        model.network.model.layers[1].mlp.down_proj.weight[0, 0] = float("nan")
    before = state(model.network)
    with pytest.raises(ModelError, match="was changed after it was opened"):
        ledger(model)
    monkeypatch.setattr(type(model), "require_unchanged", lambda self: None)
    with pytest.raises(NonFinite):
        ledger(model)
    assert state(model.network) == before
    with pytest.raises(NonFinite):
        examine(model.network, None, name="llama")


def test_a_knock_out_that_leads_to_infinity_is_named():
    model = open_model("llama")
    ids = torch.randint(3, VOCABULARY, (2, 5), generator=torch.Generator().manual_seed(1))
    places = [model.anatomy.places(Component("attn", layer))[0] for layer in (0, 1)]
    clean = record(model, ids, [places[0].site], keep="prefix")
    read = directions(model.network, model.anatomy.tail, torch.tensor([4, 5]))
    values = (clean.values[places[0].site], torch.full((2, 1, 32), float("inf")))
    variants = [
        Intervention(f"attn.{layer}", layer, (Edit(place, value),))
        for layer, (place, value) in enumerate(zip(places, values, strict=True))
    ]
    with pytest.raises(NonFinite, match=r"attn\.1"):
        run_interventions(model, clean, variants, read, strategy=SharedPrefix())


def with_gain(model: hs.Model, address: str, factor: float) -> hs.Model:
    """A model about whose anatomy something wrong is believed."""
    writers = tuple(
        replace(writer, gains=tuple(gain * factor for gain in writer.gains))
        if str(writer.component) == address
        else writer
        for writer in model.anatomy.writers
    )
    return replace(model, anatomy=replace(model.anatomy, writers=writers))


def test_a_clean_run_that_does_not_close_is_refused():
    with pytest.raises(LedgerDoesNotClose, match=r"the clean run on prompt [0-3] does not close"):
        ledger(with_gain(open_model("gpt2"), "mlp.1", 1.1))


def test_an_account_that_does_not_close_names_component_and_prompt():
    """A response that is believed impossible is missing from the sum; the clean run cannot show that."""
    model = open_model("gpt2")
    kept = frozenset(pair for pair in model.anatomy.reads if pair[0].layer != 1)
    blind = replace(model, anatomy=replace(model.anatomy, reads=kept))
    with pytest.raises(LedgerDoesNotClose, match=r"the account of attn\.1 on prompt [0-3] does not close"):
        ledger(blind, "attn.0,mlp,attn.2,attn.1")


def test_the_folder_of_a_refused_run_does_not_pass_for_a_result(tmp_path):
    model = with_gain(open_model("gpt2"), "mlp.1", 1.1)
    options = hs.Options(keep_wrong=True)
    with pytest.raises(LedgerDoesNotClose):
        hs.knock_out(model, prompts(), "attn", hs.Zero(), options=options, out=tmp_path / "run")
    with pytest.raises(OutputError):
        hs.Ledger.open(tmp_path / "run")
