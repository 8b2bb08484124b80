"""Ledgers of texts: of a tiny model with random weights, and of models with a planted repair."""

from __future__ import annotations

import functools
from typing import Any

import torch

import hydrascope as hs
from hydrascope.ablations import Ablation
from hydrascope.anatomy import examine
from tests.support.planted import ANSWERS, BOS, FILLERS, QUERY, SUBJECTS, Planted, planted
from tests.support.tiny import WORDS, network

TOKENS, TEXTS, DOCUMENTS = 9, 24, 8


def options(components: str, detail: Any, writers: str = "heads") -> hs.Options:
    """Everything knocked out at all positions and read at each but the first."""
    return hs.Options(
        components=components,
        target="top",
        null_draws=0,
        writers=writers,
        detail=detail,
        positions="all",
        read="each",
        distribution=False,
    )


@functools.cache
def tiny_model() -> hs.Model:
    """A tiny GPT-2 of four layers."""
    return examine(network(n_layer=4), None, name="tiny")


def tiny_texts() -> hs.PromptSet:
    """Random texts, three from each document."""
    drawn = torch.randint(4, WORDS, (TEXTS, TOKENS), generator=torch.Generator().manual_seed(5))
    texts = tuple(
        hs.Prompt(input_ids=tuple(ids), group=f"document {i % DOCUMENTS}") for i, ids in enumerate(drawn.tolist())
    )
    return hs.PromptSet("random", texts)


@functools.cache
def tiny_ledger(detail: str, components: str = "head", donors: int = 1) -> hs.Ledger:
    """Every head of a tiny GPT-2 on random texts; treat it as read-only."""
    ablation = hs.Resample(donors=donors)
    return hs.knock_out(tiny_model(), tiny_texts(), options=options(components, detail), ablation=ablation)


def answers(model: Planted) -> tuple[hs.Prompt, ...]:
    """Beginning, filler, subject, filler, query, answer: one text for each subject and its filler."""
    return tuple(
        hs.Prompt(input_ids=(BOS, FILLERS[i % 6], subject, FILLERS[i % 5], QUERY, answer), group=f"document {i % 10}")
        for i, (subject, answer) in enumerate(zip(SUBJECTS, model.targets, strict=True))
    )


@functools.cache
def planted_ledger(name: str, detail: str, components: str = "head.1.0") -> hs.Ledger:
    """One head of a planted model zeroed on texts that name a subject and then its answer; treat it as read-only."""
    return run(planted(name), answers(planted(name)), hs.Zero(), detail, components)


def run(model: Planted, texts: tuple[hs.Prompt, ...], ablation: Ablation, detail: str, components: str) -> hs.Ledger:
    """A planted model on texts."""
    opened = examine(model.model, None, name="planted")
    return hs.knock_out(opened, hs.PromptSet("planted", texts), options=options(components, detail), ablation=ablation)


def same_subject(model: Planted, count: int) -> tuple[hs.Prompt, ...]:
    """Texts that differ in their fillers alone, so that a copier writes the same on all."""
    assert model.targets[0] == ANSWERS[0]
    return tuple(
        hs.Prompt(
            input_ids=(BOS, FILLERS[i % 6], SUBJECTS[0], FILLERS[i // 6], QUERY, ANSWERS[0]), group=f"document {i}"
        )
        for i in range(count)
    )


def many_answers(count: int, tokens: int = 8) -> hs.PromptSet:
    """Texts of one subject and random answers behind it, six to a document."""
    drawn = torch.randint(len(ANSWERS), (count, tokens - 2), generator=torch.Generator().manual_seed(3))
    texts = tuple(
        hs.Prompt(input_ids=(BOS, SUBJECTS[i % len(SUBJECTS)], *(ANSWERS[a] for a in row)), group=f"document {i // 6}")
        for i, row in enumerate(drawn.tolist())
    )
    return hs.PromptSet("answers", texts)
