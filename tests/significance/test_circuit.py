"""Circuit files: written, read back, and refused."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from hydrascope.errors import ComponentError, RunError
from hydrascope.significance import circuit_text, is_circuit, read_circuit

SHAPE = {"n_layers": 2, "n_heads": 2, "d_model": 8, "parallel_blocks": np.False_}
SCORES = pd.DataFrame(
    {"part": ["head.0.1", "mlp.0", "head.1.0", "mlp.1"], "score": [0.5, -0.25, 2.0, 0.125], "direct": [0.5, 0, 1, 0.25]}
)


def test_a_circuit_is_read_back_as_it_was_written():
    text = circuit_text(SCORES, SHAPE, keep=2)
    found = read_circuit(text)
    pd.testing.assert_frame_equal(found[["part", "score", "direct"]], SCORES)
    assert list(found["in_circuit"]) == [True, False, True, False]
    assert is_circuit(json.loads(text))


def test_a_circuit_has_what_the_benchmark_reads():
    made = json.loads(circuit_text(SCORES, SHAPE, keep=1))
    assert made["cfg"] == {"n_layers": 2, "n_heads": 2, "d_model": 8, "parallel_attn_mlp": False}
    assert list(made["nodes"]) == ["input", "a0.h1", "m0", "a1.h0", "m1", "logits"]
    assert made["nodes"]["a1.h0"] == {"in_graph": True, "score": 2.0}
    assert made["edges"]["m1->logits"] == {"in_graph": False, "score": 0.25}


def test_a_circuit_of_another_tool_is_read():
    nodes = {"input": {"in_graph": True}, "a0.h0": {"in_graph": True}, "m0": {"in_graph": False}}
    edges = {"input->a0.h0<q>": {"score": 1, "in_graph": True}}
    found = read_circuit(json.dumps({"cfg": {}, "nodes": nodes, "edges": edges}))
    assert dict(zip(found["part"], found["in_circuit"], strict=True)) == {"head.0.0": True, "mlp.0": False}
    assert found["score"].isna().all()


def test_what_is_no_circuit_is_refused():
    with pytest.raises(ComponentError, match=r"'attn.1' is no node .* \(--components head,mlp\)"):
        circuit_text(SCORES.assign(part=["attn.1", "mlp.0", "head.1.0", "mlp.1"]), SHAPE, 1)
    for text in ("{", "[]", '{"nodes": {}}', '{"nodes": {"m0": 1}, "edges": {}}'):
        with pytest.raises(RunError, match="no circuit file"):
            read_circuit(text)
    with pytest.raises(RunError, match="no node 'x9'"):
        read_circuit('{"nodes": {"x9": {"in_graph": true}}, "edges": {}}')
    assert not is_circuit(["a3"])
