"""Ledgers with known answers, made of random numbers instead of a model.

`synthetic_ledger` returns a dataset with every variable, coordinate and attribute of a real
ledger. Its identities hold, and what it contains is planted:

* `Plant("attn.4", "attn.6", 0.6)`: whenever attn.4 loses x logits, attn.6 gains 0.6 x;
* erasure: each late MLP writes `-erasure / (number of late MLPs)` times what all attention layers
  write, and takes that back when the attention layer is gone;
* donor noise: the own change is seen through noise that nobody responds to, so least squares
  is attenuated and the split-donor estimate is not.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr


@dataclass(frozen=True)
class Plant:
    """`responder` changes by `-slope` times the own change of `source`; negative slopes make it worse."""

    source: str
    responder: str
    slope: float


def hydra(n_layers: int) -> tuple[Plant, ...]:
    """The default effect: attn.4 is repaired by attn.6 and a little by attn.7; mlp.2 breaks mlp.3."""
    middle = n_layers // 2
    return (
        Plant(f"attn.{middle}", f"attn.{middle + 2}", 0.6),
        Plant(f"attn.{middle}", f"attn.{middle + 3}", 0.1),
        Plant("mlp.2", "mlp.3", -0.2),
    )


def writer_names(n_layers: int) -> list[str]:
    """Writers in the order in which they write."""
    return ["embed", *(f"{kind}.{layer}" for layer in range(n_layers) for kind in ("attn", "mlp")), "bias"]


def synthetic_ledger(
    n_prompts: int = 60,
    n_layers: int = 8,
    seed: int = 0,
    *,
    ablated: Sequence[str] | None = None,
    plants: Sequence[Plant] | None = None,
    erasure: float = 0.16,
    strength: float = 1.5,
    norm: float = 0.1,
    noise: float = 0.05,
    donors: int = 4,
    donor_noise: float = 0.25,
    null: bool = True,
    null_slope: float = 0.05,
    n_groups: int = 12,
    parallel_blocks: bool = False,
) -> xr.Dataset:
    """A ledger whose effects are known.

    Args:
        n_prompts: number of prompts.
        n_layers: number of blocks, each an attention layer and an MLP.
        seed: of the random numbers.
        ablated: addresses of what is knocked out; None means every attention layer and MLP.
        plants: who responds to whom; None means `hydra(n_layers)`. Absent writers are ignored.
        erasure: share of the attention layers' direct effects that all late MLPs together erase.
        strength: mean direct effect of the middle attention layer, in logits; may be negative.
        norm: norm effect as a share of what the ablated component wrote.
        noise: standard deviation over prompts of changes that follow nothing, in logits.
        donors: donors per prompt; no halves below 2.
        donor_noise: standard deviation over donors of the own change, in logits.
        null: whether to include the random-direction control.
        null_slope: share of the random own change that the next writer gives back.
        n_groups: number of clusters of prompts.
        parallel_blocks: whether attention and MLP of a block read the same input.

    Returns:
        The dataset; float32, in logits.
    """
    rng = np.random.default_rng(seed)
    writers = writer_names(n_layers)
    names = [w for w in writers if w not in ("embed", "bias")] if ablated is None else list(ablated)
    layer = np.array([-1, *np.repeat(np.arange(n_layers), 2), n_layers])
    kind = np.array([w.split(".")[0] for w in writers])
    column = {w: i for i, w in enumerate(writers)}
    late = [column[f"mlp.{i}"] for i in range(n_layers // 2, n_layers)]
    own, downstream = _structure(names, writers, parallel_blocks)
    share = erasure / len(late)

    group = np.arange(n_prompts) % max(1, min(n_groups, n_prompts))
    mood = rng.normal(0, 0.2, group.max() + 1)[group]
    direct = _direct_effects(rng, n_prompts, n_layers, kind, layer, strength, mood)
    erased = share * direct[:, kind == "attn"].sum(1)
    direct[:, late] = -erased[:, None] + rng.normal(0, noise, (n_prompts, len(late)))
    clean = direct.sum(1)

    lost = direct[:, None, :] * own * _removed(names)[None, :, None]
    true_own = -lost.sum(2)
    signal = -lost + np.where(downstream, rng.normal(0, noise, lost.shape), 0)
    for plant in hydra(n_layers) if plants is None else plants:
        if plant.source in names and plant.responder in column:
            k, w = names.index(plant.source), column[plant.responder]
            signal[:, k, w] -= plant.slope * true_own[:, k] * downstream[k, w]
    for k, name in enumerate(names):
        if name.split(".")[0] in ("attn", "head"):
            for w in late:
                signal[:, k, w] -= share * true_own[:, k] * downstream[k, w]

    spread = donor_noise * own + 0.3 * donor_noise * downstream
    runs = np.stack([signal + spread * rng.normal(size=signal.shape) for _ in range(donors)])
    change = runs.mean(0)
    own_change = (change * own).sum(2)
    compensation = (change * ~own).sum(2)
    without_bias = clean - direct[:, column["bias"]]
    ratio = 1 + norm * np.abs(true_own) / np.maximum(np.abs(without_bias), 1)[:, None]
    norm_effect = (ratio - 1) * (without_bias[:, None] + own_change + compensation)
    total = own_change + compensation + norm_effect
    ddof = int(donors > 1)
    total_sd = runs.sum(3).std(0, ddof=ddof)

    cell = ("prompt", "ablated")
    full = (*cell, "writer")
    data: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "direct_effect": (("prompt", "writer"), direct),
        "change": (full, change),
        "change_sd": (full, runs.std(0, ddof=ddof)),
        "own_change": (cell, own_change),
        "norm_effect": (cell, norm_effect),
        "total_effect": (cell, total),
        "total_effect_sd": (cell, total_sd),
        "scale_ratio": (cell, ratio),
        "log_prob_change": (cell, 0.7 * np.minimum(total, 0.3)),
        "kl": (cell, 0.1 * total**2),
        "rank_change": (cell, np.maximum(0, np.round(-total - 1))),
        "target_first": (cell, np.maximum(0, np.round(-total - 1)) == 0),
        "clean_logit": (("prompt",), clean),
        "clean_prob": (("prompt",), 1 / (1 + np.exp(-clean / 3))),
        "clean_target_first": (("prompt",), np.ones_like(clean)),
    }
    if donors >= 2:
        data["change_by_half"] = (("half", *full), np.stack([runs[0::2].mean(0), runs[1::2].mean(0)]))
    if null:
        data |= _null(rng, lost, own, downstream, noise, null_slope, without_bias)
    data = {name: (dims, values.astype(np.float32)) for name, (dims, values) in data.items()}
    parts = data["change"][1].sum(2) + data["norm_effect"][1]
    data["remainder"] = (cell, data["total_effect"][1] - parts)

    ds = xr.Dataset(
        {
            **data,
            "is_own": (("ablated", "writer"), own),
            "is_downstream": (("ablated", "writer"), downstream),
        },
        coords={
            **_prompt_coordinates(n_prompts, group, rng),
            "ablated": ("ablated", np.array(names, dtype=object)),
            "ablated_layer": ("ablated", np.array([_first_layer(name) for name in names])),
            "ablated_kind": ("ablated", np.array([_kind(name) for name in names], dtype=object)),
            "writer": ("writer", np.array(writers, dtype=object)),
            "writer_layer": ("writer", layer),
            "writer_kind": ("writer", kind.astype(object)),
        },
    )
    closing = float((np.abs(ds.remainder) / np.maximum(1, np.abs(ds.total_effect))).max())
    ds.attrs = _attributes(n_prompts, n_layers, seed, donors, null, closing, parallel_blocks)
    return ds


def divided(ds: xr.Dataset, writers: Sequence[str], width: int = 30, seed: int = 0) -> xr.Dataset:
    """The same ledger with some attention layers kept head by head, or MLPs neuron by neuron.

    The units' shares of their writer are random, some of them against it, and sum to one on every prompt.
    """
    rng, prompts = np.random.default_rng(seed), ds.sizes["prompt"]
    order, units, names, shares = [], [], [], []
    for w, name in enumerate(map(str, ds["writer"].values)):
        unit_kind = {"attn": "head", "mlp": "neuron"}.get(name.split(".")[0])
        if name not in writers:
            order.append(w), units.append(-1), names.append(name), shares.append(np.ones(prompts))
            continue
        weights = rng.normal(0, 1, (prompts, width)) ** 3
        weights[:, -1] = 1 - weights[:, :-1].sum(1)
        order += [w] * width
        units += range(width)
        names += [f"{unit_kind}.{name.split('.')[1]}.{unit}" for unit in range(width)]
        shares += list(weights.T)
    found = ds.isel(writer=order).drop_vars("writer")
    found = found.assign_coords(writer=("writer", np.array(names, dtype=object)), writer_unit=("writer", units))
    share = np.array(shares).T
    for name in map(str, ds.data_vars):
        dims = ds[name].dims
        if "writer" in dims and ds[name].dtype != bool:
            between = (1,) * (len(dims) - dims.index("prompt") - 2)
            found[name] = (dims, (found[name].values * share.reshape(prompts, *between, -1)).astype(np.float32))
    return found.assign_attrs(writers="some")


def _kind(name: str) -> str:
    return "joint" if "+" in name else name.split(".")[0]


def _first_layer(name: str) -> int:
    return min(int(part.split(".")[1]) for part in name.split("+"))


def _own_writers(name: str) -> set[str]:
    own = set()
    for part in name.split("+"):
        kind, layer = part.split(".")[:2]
        whole = {"layer": ("attn", "mlp"), "head": ("attn",), "kv": ("attn",), "neuron": ("mlp",)}.get(kind, (kind,))
        own |= {f"{each}.{layer}" for each in whole}
    return own


def _structure(names: list[str], writers: list[str], parallel: bool) -> tuple[np.ndarray, np.ndarray]:
    own = np.zeros((len(names), len(writers)), bool)
    downstream = np.zeros_like(own)
    for k, name in enumerate(names):
        mine = _own_writers(name)
        first = min(writers.index(w) for w in mine)
        for w, writer in enumerate(writers):
            own[k, w] = writer in mine
            beside = parallel and writer == f"mlp.{_first_layer(name)}"
            downstream[k, w] = w > first and writer not in ("bias", *mine) and not beside
    return own, downstream


def _removed(names: list[str]) -> np.ndarray:
    """Share of the writer that is removed: a head is a quarter of its attention layer."""
    return np.array([0.25 if "head." in name else 1.0 for name in names])


def _direct_effects(
    rng: np.random.Generator,
    n_prompts: int,
    n_layers: int,
    kind: np.ndarray,
    layer: np.ndarray,
    strength: float,
    mood: np.ndarray,
) -> np.ndarray:
    """Clean direct effects; the middle attention layer writes most, early layers almost nothing."""
    bump = np.exp(-(((layer - n_layers // 2) / max(1.0, n_layers / 5)) ** 2))
    level = np.where(kind == "attn", strength * bump, 0.2 * (layer + 1) / n_layers)
    spread = np.where(kind == "attn", 0.1 + 0.5 * bump, 0.1)
    direct = level * (1 + mood[:, None]) + spread * rng.normal(size=(n_prompts, len(kind)))
    direct[:, kind == "embed"] = rng.normal(0.1, 0.05, (n_prompts, 1))
    direct[:, kind == "bias"] = 0.3
    return direct


def _null(
    rng: np.random.Generator,
    lost: np.ndarray,
    own: np.ndarray,
    downstream: np.ndarray,
    noise: float,
    slope: float,
    without_bias: np.ndarray,
) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """What happens when the component is displaced in a random direction of the same length."""
    random_own = 0.4 * rng.normal(size=lost.shape[:2])
    change = np.where(downstream, rng.normal(0, noise, lost.shape), 0)
    change += random_own[:, :, None] * own / own.sum(1)[None, :, None]
    for k in range(own.shape[0]):
        if downstream[k].any():
            change[:, k, np.flatnonzero(downstream[k])[0]] -= slope * random_own[:, k]
    norm_effect = 0.01 * (without_bias[:, None] + change.sum(2))
    cell = ("prompt", "ablated")
    return {
        "null_change": ((*cell, "writer"), change),
        "null_norm_effect": (cell, norm_effect),
        "null_total_effect": (cell, change.sum(2) + norm_effect),
    }


def _prompt_coordinates(
    n_prompts: int, group: np.ndarray, rng: np.random.Generator
) -> dict[str, tuple[str, np.ndarray]]:
    places = ("Paris", "Rome", "Oslo", "Lima", "Cairo", "Quito", "Hanoi")
    ways = ("The capital of land {} is", "In land {} the government sits in", "Land {} is ruled from")
    target = [f" {places[i % len(places)]}" for i in range(n_prompts)]
    text = [ways[g % len(ways)].format(i) for i, g in enumerate(group)]
    return {
        "prompt": ("prompt", np.arange(n_prompts)),
        "text": ("prompt", np.array(text, dtype=object)),
        "target": ("prompt", np.array(target, dtype=object)),
        "target_token": ("prompt", np.array([100 + i % len(places) for i in range(n_prompts)])),
        "clean_top": ("prompt", np.array(target, dtype=object)),
        "group": ("prompt", np.array([f"way {g}" for g in group], dtype=object)),
        "length": ("prompt", rng.integers(5, 12, n_prompts)),
        "weight": ("prompt", 1 / np.bincount(group)[group]),
    }


def _attributes(
    n_prompts: int, n_layers: int, seed: int, donors: int, null: bool, closing: float, parallel: bool
) -> dict[str, str | int | float | bool]:
    return {
        "format": 1,
        "model": "synthetic",
        "model_name": "synthetic",
        "revision": "",
        "weight_digest": "0" * 16,
        "dtype": "float32",
        "device": "cpu",
        "engine": "last-token",
        "engines_passed_over": "[]",
        "positions": "last",
        "read": "last",
        "ablation": "resample",
        "ablation_caveat": "" if donors >= 4 else "Few donors are noisy.",
        "replaced_by": f"{donors} other prompts’ values" if donors > 1 else "another prompt’s values",
        "ablation_learned": False,
        "donors": donors,
        "null_draws": int(null),
        "seed": seed,
        "target_policy": "label",
        "prompts_name": "capitals",
        "prompts_digest": "1" * 16,
        "prompts_total": n_prompts + 7,
        "prompts_kept": n_prompts,
        "prompts_dropped_wrong": 7,
        "n_layers": n_layers,
        "n_heads": 4,
        "d_model": 64,
        "n_parameters": 123456,
        "parallel_blocks": parallel,
        "closing_error": closing,
        "closing_tolerance": 1e-3,
        "clean_closing_error": 1e-6,
        "parity_error": 2e-6,
        "command": f"hydrascope run synthetic --seed {seed}",
        "versions": json.dumps(
            {"hydrascope": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0", "python": "3.12.0"}
        ),
        "created": "2026-01-01",
        "seconds": 1.5,
    }
