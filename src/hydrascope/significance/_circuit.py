"""Scores as a circuit file of the MIB benchmark's circuit track, and back.

The file (Mueller et al. 2025, arXiv 2504.13151; the graph JSON of EAP-IG) has `cfg`, the shape of the model; `nodes`,
by name, with `score` and `in_graph`; `edges`, by name. A node is a head, `a9.h6`, or an MLP, `m9`; what is no node
there, such as a whole attention layer, cannot be written. Of edges only those to `logits` are written, with minus the
own change, which the answer loses when that edge alone is cut: all others divide what a knock-out takes together.

The benchmark keeps the nodes with the largest scores, so that a score says what the answer loses: the total effect is
written with its sign turned.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from hydrascope.components import parse_component
from hydrascope.errors import ComponentError, RunError

_NODE = re.compile(r"(?:a(?P<layer>\d+)\.h(?P<head>\d+)|m(?P<mlp>\d+))")
_ENDS = ("input", "logits")
_TO_LOGITS = "->logits"


def node_of(part: str) -> str:
    """Name of a part's node.

    Args:
        part: address of a head or an MLP.

    Raises:
        ComponentError: the format has no node for it.
    """
    component = parse_component(part)
    if component.kind == "head":
        return f"a{component.layer}.h{component.unit}"
    if component.kind == "mlp":
        return f"m{component.layer}"
    raise ComponentError(
        f"'{part}' is no node of a circuit file, which knows heads and MLPs alone; make the ranking of "
        "heads and MLPs (--components head,mlp)"
    )


def part_of(node: str) -> str | None:
    """Address of a node's part; None where it is none, as of `input`."""
    found = _NODE.fullmatch(node)
    if found is None:
        return None
    return f"mlp.{found['mlp']}" if found["mlp"] is not None else f"head.{found['layer']}.{found['head']}"


def circuit_text(scores: pd.DataFrame, shape: Mapping[str, Any], keep: int) -> str:
    """A circuit file.

    Args:
        scores: of each `part` its `score`, what the answer loses without it, and `direct`, what it loses when the
            part's edge to the logits is cut.
        shape: a ledger's attributes, with the model's numbers of layers and heads and its width.
        keep: nodes that are in the circuit, those with the largest scores.

    Raises:
        ComponentError: a part has no node in the format.
    """
    cfg = {name: int(shape[name]) for name in ("n_layers", "n_heads", "d_model")}
    names, kept = list(map(node_of, scores["part"])), scores["score"].rank(ascending=False, method="first") <= keep
    nodes: dict[str, Any] = {"input": {"in_graph": True}}
    nodes |= {
        name: {"in_graph": bool(inside), "score": float(score)}
        for name, inside, score in zip(names, kept, scores["score"], strict=True)
    }
    nodes["logits"] = {"in_graph": True}
    edges = {
        f"{name}{_TO_LOGITS}": {"score": float(score), "in_graph": bool(inside)}
        for name, inside, score in zip(names, kept, scores["direct"], strict=True)
    }
    made = {"cfg": cfg | {"parallel_attn_mlp": bool(shape["parallel_blocks"])}, "nodes": nodes, "edges": edges}
    return json.dumps(made, indent=1)


def read_circuit(text: str) -> pd.DataFrame:
    """The nodes of a circuit file, of this package or another.

    Args:
        text: content of the file.

    Returns:
        One row per node: `part`, its address; `in_circuit`; `score`, and `direct` of its edge to the logits, NaN where
        the file has none.

    Raises:
        RunError: it is no circuit file.
    """
    try:
        read = json.loads(text)
        nodes, edges = read["nodes"], read["edges"]
        rows = [
            {
                "part": part,
                "in_circuit": bool(node["in_graph"]),
                "score": float(node.get("score", float("nan"))),
                "direct": float(edges.get(f"{name}{_TO_LOGITS}", {}).get("score", float("nan"))),
            }
            for name, node in nodes.items()
            if (part := part_of(name)) is not None
        ]
        unknown = [name for name in nodes if part_of(name) is None and name not in _ENDS]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError("this is no circuit file; it needs nodes with in_graph, and edges") from error
    if unknown:
        raise RunError(f"a circuit file has no node '{unknown[0]}'; it knows heads, a9.h6, and MLPs, m9")
    return pd.DataFrame(rows, columns=["part", "in_circuit", "score", "direct"])


def is_circuit(content: Any) -> bool:
    """Whether what a JSON file holds is a circuit."""
    return isinstance(content, Mapping) and {"cfg", "nodes", "edges"} <= set(content)
