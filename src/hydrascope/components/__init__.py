"""Addresses of the parts of a model, of sets of parts, and of knock-outs.

embed  attn.5  mlp.5  mixer.5  layer.5      whole writers; a layer is all writers of a block
head.5.3  kv.5.1  neuron.5.77  expert.5.2   units of a writer; a kv group is all heads with its key and value
L5H3  L5N77  L5E2  a5  m5                   short forms, as papers write them
attn  head  attn.4-9  head.9.*  head.9.0-3  sets; `writers` is every attn, mixer and mlp
attn.3,mlp.5                                a list: one knock-out for each entry
attn.3+attn.7                               one joint knock-out
head.2.1->head.5.3  attn->mlp.7             edges: from a sender, or a set of them, to a receiver
attn.4/attn.6  attn.4/attn.5-7/mlp.7        a knock-out with the parts behind a slash frozen

Knocking an edge out (path patching) replaces what the receiver writes by what it would write if it read the sender's
ablated output and all else clean; every other component reads the clean output. An attention receiver reads it in
query, key and value of the last token. Between two sets, those pairs are edges in which the receiver reads the sender.

A frozen part keeps its value of the clean run, so that it cannot compensate for the knock-out.
"""

from hydrascope.components._component import (
    ARROW,
    FREEZES,
    UNIT_KINDS,
    WRITER_KINDS,
    Component,
    Inventory,
    Knockout,
    in_order,
)
from hydrascope.components._parsing import (
    MOST_PAIRS,
    RECEIVER_KINDS,
    check_addresses,
    parse_component,
    parse_knockouts,
    parse_writers,
)

__all__ = [
    "ARROW",
    "FREEZES",
    "MOST_PAIRS",
    "RECEIVER_KINDS",
    "UNIT_KINDS",
    "WRITER_KINDS",
    "Component",
    "Inventory",
    "Knockout",
    "check_addresses",
    "in_order",
    "parse_component",
    "parse_knockouts",
    "parse_writers",
]
