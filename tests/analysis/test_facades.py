"""A table has one name: in the registry, in the room's face, among the findings and as a method of a ledger."""

from __future__ import annotations

import typing

import pandas as pd
import pytest

import hydrascope as hs
from hydrascope import analysis
from hydrascope.analysis import TABLES, Findings
from hydrascope.errors import HydrascopeError
from tests.support.synthetic import divided, synthetic_ledger
from tests.support.texts import tiny_ledger

OF_LAYERS = ("late_mlps", "released", "freeze", "interactions")
"""Tables that a ledger gives of whole layers, also where heads or neurons are apart."""


def test_the_registry_the_face_and_the_ledger_know_the_same_tables() -> None:
    methods = {
        name
        for name, member in vars(hs.Ledger).items()
        if callable(member) and typing.get_type_hints(member).get("return") is pd.DataFrame
    }
    assert methods - {"table"} == set(TABLES), "table gives any of them by name"
    for name, function in TABLES.items():
        assert getattr(analysis, name) is function
        assert getattr(hs.Ledger, name).__doc__ and getattr(Findings, name).__doc__ == function.__doc__


@pytest.mark.parametrize("name", TABLES)
def test_a_method_gives_the_table_of_its_name(name: str) -> None:
    whole = synthetic_ledger(n_prompts=8, n_layers=4)
    apart = divided(whole, [*(f"attn.{layer}" for layer in range(4)), "mlp.3"], 3)
    shown = 0
    for ds in (whole, apart, tiny_ledger("kinds").dataset):
        ledger = hs.Ledger(ds)
        try:
            made = getattr(ledger, name)()
        except HydrascopeError as refused:
            with pytest.raises(type(refused)):
                getattr(ledger.findings, name)
            continue
        right = getattr(ledger.findings.by_layer if name in OF_LAYERS else ledger.findings, name)
        pd.testing.assert_frame_equal(made, right)
        assert made is not right
        shown += 1
    assert shown or name.startswith(("routing", "attention_split"))  # no ledger here split these
