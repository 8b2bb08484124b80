"""What `inspect` shows: a model's anatomy, its proof, and what can be knocked out."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from rich.console import Group
from rich.table import Table
from rich.text import Text

from hydrascope.anatomy import CLOSING, UNTESTED, Check, Model, precision, prove_anatomy
from hydrascope.engine import Engine, choose_engine


def examine(model: Model) -> dict[str, Any]:
    """Everything known about a model, as plain values.

    Raises:
        AnatomyRefused: a check fails, which the error names.
    """
    engine = choose_engine(model)
    anatomy, tail = model.anatomy, model.anatomy.tail
    return {
        "model": asdict(model.source),
        "anatomy": {
            "layers": anatomy.n_layers,
            "d_model": anatomy.d_model,
            "vocabulary": anatomy.n_vocab,
            "blocks": "parallel" if anatomy.parallel else "sequential",
            "embed_gain": anatomy.embed_gain,
            "writers": [{**asdict(w), "component": str(w.component)} for w in anatomy.writers],
            "heads": [asdict(site) for site in anatomy.heads],
            "neurons": [asdict(site) for site in anatomy.neurons],
            "experts": [asdict(site) for site in anatomy.experts],
            "final_norm": tail.norm,
            "final_norm_kind": "none" if tail.norm is None else "LayerNorm" if tail.centred else "RMSNorm",
            "final_norm_eps": tail.eps,
            "head": tail.head,
            "logit_scale": tail.scale * tail.pre_gain,
            "soft_cap": tail.softcap,
        },
        "proof": [_check(check) for check in (*prove_anatomy(model.network, anatomy), *engine.checks)],
        "precision": {
            "arithmetic": str(precision(model.network)).removeprefix("torch."),
            "anatomy_tolerance": anatomy.tolerance,
            "closing_tolerance": model.closing_tolerance,
        },
        "capabilities": _capabilities(model, engine),
    }


def render(found: dict[str, Any]) -> Group:
    """The values of `examine`, laid out for a terminal."""
    source, anatomy, able = found["model"], found["anatomy"], found["capabilities"]
    numbers = source["dtype"] + (f" with quantised weights ({source['packing']})" if source["packing"] else "")
    head = Text.assemble(
        (source["label"], "bold"),
        f"  {source['family']}, {source['n_parameters']:,} parameters, {numbers} on {source['device']}"
        f"{_opened(source)}\n{anatomy['layers']} {anatomy['blocks']} blocks, width {anatomy['d_model']}, "
        f"vocabulary {anatomy['vocabulary']}, {anatomy['final_norm_kind']} before '{anatomy['head']}'"
        + (f", logits x {anatomy['logit_scale']:g}" if anatomy["logit_scale"] != 1 else "")
        + (f", soft-cap {anatomy['soft_cap']:g}" if anatomy["soft_cap"] else ""),
    )
    writers = Table("writer", "module", "gain", title="Writers", title_justify="left", box=None, pad_edge=False)
    shown = anatomy["writers"]
    for writer in shown if len(shown) <= 8 else [*shown[:4], None, *shown[-2:]]:
        writers.add_row(*(("...", "", "") if writer is None else _writer_row(writer)))
    units = Table("blocks", "heads", "KV groups", "head width", "neurons", box=None, pad_edge=False)
    units.title, units.title_justify = "Units", "left"
    for row in _unit_rows(anatomy):
        units.add_row(*row)
    proof = Table("check", "measured", "allowed", "", title="Proof", title_justify="left", box=None, pad_edge=False)
    for check in found["proof"]:
        mark = Text("holds", "green") if check["passed"] else Text("fails", "red")
        proof.add_row(
            check["name"], f"{check['value']:.1e}", f"{check['allowed']:.0e}", mark + Text(f"  {check['meaning']}")
        )
    can = Text(f"Engine: {able['engine']}\n")
    for reason in able["passed_over"]:
        can.append(f"  not {reason}\n", "dim")
    can.append(f"Can be knocked out: {', '.join(able['components'])}\n")
    can.append(f"Can be accounted for apart: {', '.join(able['writers'])}")
    if able["routing"]:
        can.append(f"\nRouted MLPs: {able['routing']}")
    exact = Text(_how_exact(found["precision"], source))
    return Group(head, Text(), writers, Text(), units, Text(), proof, Text(), exact, Text(), can)


def _opened(source: dict[str, Any]) -> str:
    """What is told of how a model was put together, where it was."""
    told = [
        "a kind of device on which this package was never tried; the proof below was made on it"
        if source["device"].startswith(UNTESTED)
        else "",
        f"with the adapter '{source['adapter']}' " + ("merged" if source["merged"] else "beside the weights")
        if source["adapter"]
        else "",
        f"weights of '{source['gguf']}' made plain numbers" if source["gguf"] else "",
        ""
        if source["random_weights"] is None
        else f"with random weights (seed {source['random_weights']}), never trained",
        f"without {len(source['unused'])} tensors of the checkpoint" if source["unused"] else "",
    ]
    return "".join(f"\n{one}" for one in told if one)


def _how_exact(found: dict[str, Any], source: dict[str, Any]) -> str:
    closing = found["closing_tolerance"]
    said = f"Accounts must close to {closing:g} of the total effect, and to {closing:g} logits where that is small."
    if closing <= CLOSING[torch.float32]:
        return said
    what = "The quantised weights round" if source["packing"] else f"{found['arithmetic']} rounds"
    mend = "an unquantised copy in float32" if source["packing"] else "--dtype float32"
    return f"{said} {what} the residual stream itself; every run says how much, and {mend} is held to 0.001."


def _writer_row(writer: dict[str, Any]) -> tuple[str, str, str]:
    return writer["component"], " + ".join(writer["modules"]), ", ".join(f"{gain:g}" for gain in writer["gains"])


def _unit_rows(anatomy: dict[str, Any]) -> list[tuple[str, ...]]:
    """Units of each stretch of blocks that share them; a dash where there are none."""
    heads, neurons = ({site["layer"]: site for site in anatomy[kind]} for kind in ("heads", "neurons"))
    rows: list[tuple[int, int, tuple[str, ...]]] = []
    for layer in range(anatomy["layers"]):
        of_heads = [heads[layer][name] for name in ("n_heads", "n_kv", "head_dim")] if layer in heads else ["-"] * 3
        counts = tuple(map(str, (*of_heads, neurons[layer]["n_neurons"] if layer in neurons else "-")))
        if rows and rows[-1][2] == counts:
            rows[-1] = (rows[-1][0], layer, counts)
        else:
            rows.append((layer, layer, counts))
    return [(str(first) if first == last else f"{first}-{last}", *counts) for first, last, counts in rows]


def _check(check: Check) -> dict[str, Any]:
    return {**asdict(check), "passed": check.passed}


def _capabilities(model: Model, engine: Engine) -> dict[str, Any]:
    units = model.anatomy.inventory.units
    components = []
    for kind, counts in units.items():
        if counts:
            first, last = min(counts), max(counts)
            components.append(f"{kind}.{first}-{last}" + (f" x {counts[last]}" if counts[last] > 1 else ""))
    return {
        "engine": engine.strategy.name,
        "passed_over": list(engine.passed_over),
        "components": components,
        "routing": _routing(model),
        "writers": ["layers", *(f"{kind}s" for kind in ("head", "neuron") if units.get(kind))],
        "positions": ["last"],
    }


def _routing(model: Model) -> str:
    """Whether changes of routed MLPs can be split, in words; empty without such MLPs."""
    sites = model.anatomy.experts
    if not sites:
        return ""
    found = f"{len(sites)}, each asks {sites[0].top_k} of {sites[0].n_experts} experts; their changes "
    unknown = [f"mlp.{site.layer}" for site in sites if site.link is None]
    if not unknown:
        return found + "are split into same experts and re-routed ones"
    return found + (
        f"are not split by their routing, since what the experts of {', '.join(unknown)} return enters the write "
        "neither times a number nor through a single post-norm"
    )
