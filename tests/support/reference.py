"""The definition of right: knock-outs accounted for slowly, plainly, in double precision.

One full forward for each prompt, each knock-out and each donor, with plain hooks on modules that were written
down by hand (`families.py`). Nothing is cached, batched, shared or skipped, and nothing comes from the
package under test.

With residual z = sum_j c_j, final norm scale sigma and the readout direction w of a prompt's target token
(its column of the head minus the vocabulary mean, times the norm's gain, centred where the norm centres):

    direct effect of writer j      DE_j   = <c_j, w> / sigma_clean
    its change when k is ablated   K_kj   = <c_j ablated, w> / sigma_clean - DE_j
    norm effect                    NORM_k = (sigma_clean / sigma_ablated - 1) (sum_j DE_j + sum_j K_kj)
    total effect                   TE_k   = ablated logit - clean logit, read from what the model returns
    and so                         TE_k   = sum_j K_kj + NORM_k

The biases of norm and head (writer `bias`) are not divided by sigma and stay out of the norm effect. For a logit
difference, the foil's column takes the place of the mean, and its logit that of the mean logit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from tests.support.families import Family

Part = tuple[str, int] | tuple[str, int, int]
"""("attn", layer), ("mlp", layer), ("layer", layer) or ("head", layer, head)."""

Knockout = tuple[Part, ...]

Replacement = Callable[[Part, int, int], Tensor]
"""(part, index of the prompt, index of the draw) -> the value that is put in place."""


@dataclass(frozen=True)
class Reference:
    """What the slow loop found. P prompts, K knock-outs, W writers, R donors; everything in logits.

    Attributes:
        writers: embed, attn.0, mlp.0, attn.1, ..., bias.
        knockouts: addresses, such as head.1.2 or attn.0+mlp.2.
        clean: arrays of the clean runs: direct_effect [P, W], clean_logit and clean_prob [P].
        draws: arrays for each donor: change [R, P, K, W] and, [R, P, K], own_change, norm_effect,
            total_effect, remainder, log_prob_change, kl, rank_change, target_first, scale_ratio.
    """

    writers: tuple[str, ...]
    knockouts: tuple[str, ...]
    clean: Mapping[str, np.ndarray]
    draws: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        """An array of the clean runs, or the mean over donors of one of the ablated runs."""
        return self.clean[name] if name in self.clean else self.draws[name].mean(axis=0)

    def own(self, knockout: int) -> np.ndarray:
        """Which writers the knock-out replaces, wholly or in part: bool [W]."""
        return np.array([writer in _own_writers(self.knockouts[knockout]) for writer in self.writers])


def address(knockout: Knockout) -> str:
    """The knock-out as the ledger writes it."""
    return "+".join(".".join(map(str, part)) for part in knockout)


def reference_ledger(
    model: PreTrainedModel,
    family: Family,
    prompts: Sequence[Sequence[int]],
    targets: Sequence[int],
    knockouts: Sequence[Knockout],
    kind: str | Replacement,
    donors: np.ndarray | None = None,
    donor_prompts: Sequence[Sequence[int]] | None = None,
    foils: Sequence[int] | None = None,
) -> Reference:
    """Account for every knock-out at the last position of every prompt.

    Args:
        model: a causal language model; left as it is (a double-precision copy does the work).
        family: where the model keeps its writers.
        prompts: token ids of each prompt; lengths may differ.
        targets: the token whose logit is accounted for, one for each prompt.
        knockouts: what is replaced, one set of parts at a time.
        kind: `zero`; `mean` over the last positions of all prompts; `resample`: the value at the last
            position of the donor; or a function that gives the value.
        donors: [R, P] index into `donor_prompts`, for `resample`; a function is asked once for each row.
        donor_prompts: where donors are taken from; the prompts themselves unless given.
        foils: the token whose logit is subtracted from the target's, one for each prompt.
    """
    model = double_copy(model)
    clean = [run(model, family, prompt) for prompt in prompts]
    if kind == "resample":
        assert donors is not None
        pool = clean if donor_prompts is None else [run(model, family, prompt) for prompt in donor_prompts]
    draws = 1 if donors is None else len(donors)

    def value(part: Part, prompt: int, draw: int) -> Tensor:
        if kind == "zero":
            return torch.zeros_like(clean[prompt].values[part])
        if kind == "mean":
            return torch.stack([one.values[part] for one in clean]).mean(dim=0)
        if kind == "resample":
            assert donors is not None
            return pool[donors[draw, prompt]].values[part]
        assert not isinstance(kind, str), f"no ablation {kind!r}"
        return kind(part, prompt, draw)

    writers = ("embed", *_block_writers(family), "bias")
    shape = (draws, len(prompts), len(knockouts))
    one_number = (
        "own_change", "norm_effect", "total_effect", "remainder",
        "log_prob_change", "kl", "rank_change", "target_first", "scale_ratio",
    )  # fmt: skip
    found = {name: np.zeros(shape) for name in one_number} | {"change": np.zeros((*shape, len(writers)))}
    before = {
        "direct_effect": np.zeros((len(prompts), len(writers))),
        "clean_logit": np.zeros(len(prompts)),
        "clean_prob": np.zeros(len(prompts)),
    }

    for p, (prompt, target) in enumerate(zip(prompts, targets, strict=True)):
        foil = None if foils is None else foils[p]
        direction, bias = readout(model, family, target, foil)
        sigma = norm_scale(family, clean[p].residual)
        direct = np.array([*(c @ direction / sigma for c in contributions(family, clean[p])), bias])
        before["direct_effect"][p] = direct
        before["clean_logit"][p] = asked_logit(family, clean[p].logits, target, foil)
        before["clean_prob"][p] = clean[p].logits.softmax(dim=-1)[target]

        for k, knockout in enumerate(knockouts):
            own = [writer in _own_writers(address(knockout)) for writer in writers]
            for r in range(draws):
                replaced = {part: value(part, p, r) for part in _replaceable(knockout)}
                ablated = run(model, family, prompt, replaced)
                sigma_ablated = norm_scale(family, ablated.residual)
                after = np.array([*(c @ direction / sigma for c in contributions(family, ablated)), bias])
                change = after - direct
                ratio = float(sigma / sigma_ablated)
                total = asked_logit(family, ablated.logits, target, foil) - before["clean_logit"][p]
                norm = (ratio - 1) * (direct.sum() - bias + change.sum())
                log_p, log_q = clean[p].logits.log_softmax(dim=-1), ablated.logits.log_softmax(dim=-1)
                at = (r, p, k)
                found["change"][at] = change
                found["own_change"][at] = change[own].sum()
                found["norm_effect"][at] = norm
                found["total_effect"][at] = total
                found["remainder"][at] = total - change.sum() - norm
                found["log_prob_change"][at] = log_q[target] - log_p[target]
                found["kl"][at] = (log_p.exp() * (log_p - log_q)).sum()
                found["rank_change"][at] = rank(ablated.logits, target) - rank(clean[p].logits, target)
                margin = asked_logit(family, ablated.logits, target, foil)
                found["target_first"][at] = rank(ablated.logits, target) == 0 if foil is None else margin > 0
                found["scale_ratio"][at] = ratio
    return Reference(writers, tuple(map(address, knockouts)), before, found)


@dataclass
class Run:
    """One forward, seen from its last position.

    Attributes:
        values: what each attention, MLP and head returned there (after its replacement, if it was replaced).
        embed: the residual stream as it enters the first block.
        residual: the residual stream as it enters the final norm.
        logits: what the model returned. [vocabulary]
    """

    values: dict[Part, Tensor] = field(default_factory=dict)
    embed: Tensor = field(default_factory=lambda: torch.empty(0))
    residual: Tensor = field(default_factory=lambda: torch.empty(0))
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


@torch.no_grad()
def run(
    model: PreTrainedModel, family: Family, prompt: Sequence[int], replaced: Mapping[Part, Tensor] | None = None
) -> Run:
    """One full forward over the whole prompt, with values replaced at its last position.

    Args:
        model: a copy made by `double_copy`.
        family: where it keeps its writers.
        prompt: token ids.
        replaced: attention, MLP or head to the value put in place.
    """
    replaced = replaced or {}
    seen = Run()
    handles = []

    def writer_hook(part: Part) -> Callable[..., Tensor]:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
            assert part not in seen.values, f"{part} ran twice"
            output = output.clone(memory_format=torch.contiguous_format)
            last = output.view(-1, output.shape[-1])[-1]
            if part in replaced:
                last[:] = replaced[part]
            seen.values[part] = last.clone()
            return output

        return hook

    def heads_hook(layer: int) -> Callable[..., tuple[Tensor]]:
        def hook(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
            (mixed,) = inputs
            mixed = mixed.clone(memory_format=torch.contiguous_format)
            heads = mixed.view(-1, family.n_heads, family.head_dim)[-1]
            for head in range(family.n_heads):
                part = ("head", layer, head)
                if part in replaced:
                    heads[head] = replaced[part]
                seen.values[part] = heads[head].clone()
            return (mixed,)

        return hook

    def see_embed(module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
        seen.embed = _last(inputs[0] if inputs else named["hidden_states"]).clone()

    def see_residual(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.residual = _last(inputs[0]).clone()

    def module_at(layer: int, inside: str) -> nn.Module:
        return model.get_submodule(family.path(layer, inside))

    for layer in range(family.n_layers):
        handles.append(module_at(layer, family.o_proj).register_forward_pre_hook(heads_hook(layer)))
        handles.append(module_at(layer, family.attn).register_forward_hook(writer_hook(("attn", layer))))
        handles.append(module_at(layer, family.mlp).register_forward_hook(writer_hook(("mlp", layer))))
    first_block = model.get_submodule(family.layers)[0]
    handles.append(first_block.register_forward_pre_hook(see_embed, with_kwargs=True))
    handles.append(model.get_submodule(family.final_norm).register_forward_pre_hook(see_residual))
    try:
        with DoubleEverywhere():
            seen.logits = model(torch.tensor([list(prompt)]), use_cache=False).logits[0, -1].clone()
    finally:
        for handle in handles:
            handle.remove()
    assert set(replaced) <= set(seen.values), "a replaced part never ran"
    return seen


class DoubleEverywhere(TorchFunctionMode):
    """Makes model code that asks for float32 (norms, rotary angles, softmax) compute in float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.float:
            return args[0].double()
        args = [torch.float64 if value is torch.float32 else value for value in args]
        named = {k: torch.float64 if v is torch.float32 else v for k, v in (kwargs or {}).items()}
        return func(*args, **named)


def double_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A float64 copy whose attention is the family's own plain code."""
    model = copy.deepcopy(model).double().eval()
    model.set_attn_implementation("eager")
    if hasattr(model.config, "_experts_implementation"):
        model.config._experts_implementation = "eager"
    return model


def contributions(family: Family, seen: Run) -> list[Tensor]:
    """What each writer adds to the residual stream at the last position: embed, attn.0, mlp.0, attn.1, ..."""
    blocks = range(family.n_layers)
    return [
        seen.embed,
        *(family.multiplier * seen.values[kind, layer] for layer in blocks for kind in ("attn", "mlp")),
    ]


def readout(model: PreTrainedModel, family: Family, target: int, foil: int | None = None) -> tuple[Tensor, float]:
    """Direction w such that <z, w> / sigma + bias is what `asked_logit` says, and that bias."""
    norm, head = model.get_submodule(family.final_norm), model.get_submodule(family.head)
    with torch.no_grad():
        column = head.weight[target] - (head.weight.mean(dim=0) if foil is None else head.weight[foil])
        direction = (norm.weight + family.gain_offset) * column
        if family.norm == "layer":
            direction = direction - direction.mean()
        bias = 0.0
        if getattr(norm, "bias", None) is not None:
            bias += float(norm.bias @ column)
        if getattr(head, "bias", None) is not None:
            bias += float(head.bias[target] - (head.bias.mean() if foil is None else head.bias[foil]))
    return family.logit_scale * direction, family.logit_scale * bias


def norm_scale(family: Family, residual: Tensor) -> Tensor:
    """What the final norm divides by."""
    if family.norm == "layer":
        residual = residual - residual.mean()
    return ((residual**2).mean() + family.epsilon).sqrt()


def centred_logits(family: Family, logits: Tensor) -> Tensor:
    """Returned logits without their soft-cap, minus their mean over the vocabulary."""
    if family.soft_cap is not None:
        logits = family.soft_cap * (logits / family.soft_cap).atanh()
    return logits - logits.mean()


def asked_logit(family: Family, logits: Tensor, target: int, foil: int | None = None) -> float:
    """The target's centred logit, or its difference to the foil's."""
    centred = centred_logits(family, logits)
    return float(centred[target] if foil is None else centred[target] - centred[foil])


def rank(logits: Tensor, target: int) -> int:
    """How many tokens are above the target."""
    return int((logits > logits[target]).sum())


def _block_writers(family: Family) -> Iterator[str]:
    for layer in range(family.n_layers):
        yield f"attn.{layer}"
        yield f"mlp.{layer}"


def _replaceable(knockout: Knockout) -> Iterator[Part]:
    for part in knockout:
        if part[0] == "layer":
            yield "attn", part[1]
            yield "mlp", part[1]
        else:
            yield part


def _own_writers(knockout: str) -> set[str]:
    own = set()
    for part in knockout.split("+"):
        kind, layer, *_ = part.split(".")
        own |= {"layer": {f"attn.{layer}", f"mlp.{layer}"}, "head": {f"attn.{layer}"}}.get(kind, {part})
    return own


def _last(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1])[-1]
