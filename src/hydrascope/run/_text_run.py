"""A run over whole texts, by blocks of each other's donors, with a ledger row for every read position.

Each intervention costs a whole text from its block on; where the last token is enough, `_prompt_run` costs far less.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby

import numpy as np
import torch

from hydrascope.ablations import Donation, ExtraRun, with_donors
from hydrascope.anatomy import Site
from hydrascope.engine import (
    ActivationStatistics,
    BatchContext,
    Constants,
    Learning,
    Plan,
    Values,
    batches_of_texts,
    blocks_of,
    position_means,
    statistics_of_texts,
    texts_at_once,
    values_of,
)
from hydrascope.ledger import LedgerFile, rows_of_a_chunk
from hydrascope.prompts import EncodedPrompt, LeftOut, select_prompts
from hydrascope.run._runner import Batch, Group, Runner, Selection

SHOWN = 16
"""Tokens of context that the ledger shows of a read position."""


class TextRun(Runner):
    """One run over whole texts, shortest texts first, those of one length in an order that no file gives them."""

    wait = 10.0

    def select(self) -> Selection:
        """Every position of texts that have donors, or the last one of those that the target policy wants."""
        task, positions = self.task, self.task.positions
        if positions.read == "each":
            lending = with_donors(task.encoded.prompts, task.ablation)
            texts = tuple(sorted(lending, key=_by_content))
            read = tuple(positions.read_in(len(text.ids)) for text in texts)
            tokens = tuple(tuple(t.ids[p + 1] for p in some) for t, some in zip(texts, read, strict=True))
            given = task.encoded.prompts
            repeated = len(given) - len({text.ids for text in given}) if task.ablation.deals else 0
            alone = len(given) - repeated - len(texts)
            return self._selection(texts, read, tokens, alone=alone, repeated=repeated)
        runs = [ExtraRun(prompt.ids, pair=prompt.pair) for prompt in task.encoded.prompts]
        clean, options = self._store("clean", runs, ()), task.options
        asked = select_prompts(
            task.encoded, options.target, clean.answers, keep_wrong=options.keep_wrong, seed=options.seed
        )
        order = repeats_apart(asked.prompts)
        prompts = tuple(asked.prompts[i] for i in order)
        found = self._selection(
            prompts,
            tuple((len(text.ids) - 1,) for text in prompts),
            tuple((asked.tokens[i],) for i in order),
            None if asked.foils is None else tuple(asked.foils[i] for i in order),
            wrong=asked.dropped_wrong,
            alike=asked.dropped_alike,
            left_out=asked.left_out,
        )
        for same_length, blocks in donor_blocks(found.prompts, task.ablation.draws + 1):
            with_donors([found.prompts[i] for i in same_length], task.ablation)
            for block in blocks:
                self.require_donors([found.prompts[i] for i in block], [found.tokens[i][0] for i in block])
        return found

    def _selection(
        self,
        texts: tuple[EncodedPrompt, ...],
        read: tuple[tuple[int, ...], ...],
        tokens: tuple[tuple[int, ...], ...],
        foils: tuple[int, ...] | None = None,
        left_out: tuple[LeftOut, ...] = (),
        summed: bool = False,
        **dropped: int,
    ) -> Selection:
        self._texts = texts
        reasons = ("wrong", "alike", "alone", "repeated")
        counts = {f"prompts_dropped_{why}": dropped.get(why, 0) for why in reasons}
        return Selection(texts, read, tokens, foils, counts, left_out, summed)

    def plan(self, selection: Selection) -> Plan:
        """The plan without a table: donors are dealt out block by block."""
        return self.task.plan(np.zeros((self.task.ablation.draws, 0), dtype=np.int64))

    def labels(self, selection: Selection) -> Mapping[str, np.ndarray]:
        """One row a read position."""
        last = self.task.positions.read == "last"
        # over all texts, so that ablations which keep other texts number a position alike
        longest = max(len(text.ids) for text in self.task.encoded.prompts)
        each = [(text, p) for text, some in zip(selection.prompts, selection.positions, strict=True) for p in some]
        foils = {} if selection.foils is None else self._tokens("foil", selection.foils)
        return {
            "prompt": np.array([t.index if last else t.index * longest + p for t, p in each]),
            "text": np.array([self._shown(text, p) for text, p in each]),
            **self._tokens("target", [token for some in selection.tokens for token in some]),
            **foils,
            "group": np.array([text.group for text, _ in each]),
            "length": np.array([len(text.ids) for text, _ in each]),
            "document": np.array([text.index for text, _ in each]),
            "position": np.array([p for _, p in each]),
        }

    def _shown(self, text: EncodedPrompt, position: int) -> str:
        if self.task.positions.read == "last":
            return text.text
        ids = list(text.ids[max(0, position + 1 - SHOWN) : position + 1])
        tokenizer = self.model.tokenizer
        return " ".join(map(str, ids)) if tokenizer is None else str(tokenizer.decode(ids))

    def rows_together(self, plan: Plan, selection: Selection) -> int:
        """Rows that make a file of a good size."""
        return rows_of_a_chunk(len(plan.knockouts), len(plan.aggregation.entries))

    def indivisible(self, selection: Selection, file: LedgerFile) -> Iterator[range]:
        """The rows of texts that are each other's donors, whose values are made together."""
        for _, blocks in donor_blocks(selection.prompts, self.task.ablation.draws + 1):
            yield from map(selection.rows, blocks)

    def sharing(self, selection: Selection) -> int:
        """The count over all blocks."""
        blocks = [block for _, some in donor_blocks(selection.prompts, self.task.ablation.draws + 1) for block in some]
        return sum(self._donate(selection, block).sharing for block in blocks)

    def learning(self, plan: Plan, selection: Selection) -> Learning:
        """One constant per place for texts of all lengths."""
        texts, seed = [text.ids for text in selection.prompts], self.task.options.seed
        widest = max(Counter(knockout.first_layer for knockout in plan.knockouts).values())
        batches = batches_of_texts(self.model, texts, self.task.positions, widest, seed, self.budget)
        return Learning(self.model, plan, self.task.engine.strategy.at, batches, self._statistics)

    @cached_property
    def _statistics(self) -> dict[Site, ActivationStatistics]:
        """Statistics over all tokens of all texts."""
        longest = max(len(text.ids) for text in self._texts)
        at_once = texts_at_once(self.model.device, longest, 1)
        return statistics_of_texts(self.model, _runs(self._texts), self.task.sites, lambda tokens: at_once)

    def groups(
        self,
        plan: Plan,
        selection: Selection,
        written: Iterable[range],
        learned: Mapping[int, Constants],
        is_done: Callable[[range], bool],
    ) -> Iterator[Group]:
        """A few texts at a time, block by block."""
        for same_length, blocks in donor_blocks(selection.prompts, self.task.ablation.draws + 1):
            reference: Values | None = None
            for block in blocks:
                if is_done(selection.rows(block)):
                    yield Group(selection.rows(block), len(block), iter(()))
                    continue
                if reference is None:
                    reference = self._reference([selection.prompts[i] for i in same_length])
                yield from self._block(plan, selection, block, reference, learned)

    def _reference(self, texts: Sequence[EncodedPrompt]) -> Values:
        """Means that replace values in texts of one length; empty where single runs do."""
        ablation, positions = self.task.ablation, self.task.positions_of(texts[0])
        if ablation.basis == "runs" or ablation.learning is not None:
            return {}
        tokens = len(texts[0].ids)
        if ablation.basis == "positions":
            at_once = texts_at_once(self.model.device, tokens, 1)
            return position_means(self.model, _runs(texts), positions, self.task.sites, at_once)
        edited = len(positions.ablated_in(tokens))
        return {site: found.mean.float().expand(1, edited, -1) for site, found in self._statistics.items()}

    def _block(
        self,
        plan: Plan,
        selection: Selection,
        block: range,
        reference: Values,
        learned: Mapping[int, Constants],
    ) -> Iterator[Group]:
        """Values of a block's texts, then the knock-outs of a few texts at a time."""
        texts = [selection.prompts[i] for i in block]
        strategy, positions, sites = self.task.engine.strategy, self.task.positions_of(texts[0]), self.task.sites
        at_once = texts_at_once(self.model.device, len(texts[0].ids), plan.interventions)
        values, cleans = values_of(self.model, _runs(texts), positions, sites, at_once, strategy.keep)
        donation = self._donate(selection, block)
        if donation.runs:
            extra, _ = values_of(self.model, donation.runs, positions, sites, at_once)
            values = {site: torch.cat([value, extra[site]]) for site, value in values.items()}
        here, first = replace(plan, table=donation.table), 0
        keys = [text.key for text in texts]
        for clean in cleans:
            some = range(first, first + len(clean.ids))
            whole = range(block.start + some.start, block.start + some.stop)
            names = [f"{selection.prompts[i].index}, position {p}" for i in whole for p in selection.positions[i]]
            rows = selection.rows(whole)
            context = BatchContext(
                self.model, here, strategy, values, keys, self.budget, self.tolerance, reference, learned
            )
            items = selection.items(whole, names)
            batch = Batch(context, whole, list(some), range(len(rows)), clean, items)
            yield Group(rows, len(some), iter((batch,)))
            first = some.stop

    def _donate(self, selection: Selection, block: range) -> Donation:
        texts: Sequence[EncodedPrompt] = [selection.prompts[i] for i in block]
        # only at the last position can a donor be kept from sharing the target
        if self.task.positions.read == "last":
            targets = [selection.tokens[i][0] for i in block]
        else:
            targets, texts = list(range(len(texts))), [replace(text, foil_id=None) for text in texts]
        return self.task.ablation.donate(texts, targets, self.task.options.seed, block=block.start)


def donor_blocks(texts: Sequence[EncodedPrompt], least: int) -> Iterator[tuple[range, list[range]]]:
    """The stretch of texts of each length and span, and the blocks of at least `least` that it is cut into."""
    start = 0
    for _, same in groupby(map(shape, texts)):
        count = len(list(same))
        blocks = blocks_of(count, least)
        yield range(start, start + count), [range(start + b.start, start + b.stop) for b in blocks]
        start += count


def _by_content(text: EncodedPrompt) -> tuple[int, tuple[str, int, int], int]:
    return len(text.ids), text.content, text.index


def repeats_apart(texts: Sequence[EncodedPrompt]) -> list[int]:
    """An order by length and content in which texts of the same tokens seldom meet in one block of donors."""
    seen: Counter[tuple[int, ...]] = Counter()
    times: dict[int, int] = {}
    for i in sorted(range(len(texts)), key=lambda i: _by_content(texts[i])):
        times[i] = seen[texts[i].ids]
        seen[texts[i].ids] += 1
    return sorted(range(len(texts)), key=lambda i: (shape(texts[i]), times[i], _by_content(texts[i])))


def shape(text: EncodedPrompt) -> tuple[int, int]:
    """Length and span, in which a text and its donors agree."""
    return len(text.ids), text.span


def _runs(texts: Sequence[EncodedPrompt]) -> list[ExtraRun]:
    return [ExtraRun(text.ids) for text in texts]
