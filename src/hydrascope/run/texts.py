"""A run over whole texts: block by block of texts that lend to each other, a ledger row for every read position."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from itertools import accumulate, groupby

import numpy as np
import torch

from hydrascope.ablation import Donation, ExtraRun, Mean, Optimal, PositionMean, Resample, with_donors
from hydrascope.anatomy import Site
from hydrascope.engine.account import Arrays
from hydrascope.engine.batch import Constants, Work
from hydrascope.engine.budget import ran_out
from hydrascope.engine.moments import Moments, moments_of_texts
from hydrascope.engine.optimal import Learning
from hydrascope.engine.passes import batches_of_texts, passes_of_texts
from hydrascope.engine.plan import Plan
from hydrascope.engine.text_batch import run_texts, text_footprint, text_variants_at_once, texts_at_once
from hydrascope.engine.text_values import Places, Values, blocks_of, extra_values, position_means, values_of
from hydrascope.engine.texts import Recorded, Resumed
from hydrascope.errors import OutOfBudget
from hydrascope.ledger import LedgerFile, rows_of_a_chunk
from hydrascope.prompts import EncodedPrompt, pose
from hydrascope.run.base import BaseRun
from hydrascope.run.unwritten import Unwritten

SHOWN = 16
"""Tokens of context that the ledger shows of a read position."""


@dataclass(frozen=True)
class Items:
    """What is read: positions of texts, text by text, shortest texts first.

    Attributes:
        texts: the texts that stay.
        positions: read positions of each.
        tokens: target of each read position.
        foils: the token whose logit is subtracted, where differences are read.
        dropped_wrong: texts left out because the model completes them otherwise.
        dropped_alike: texts left out because target and foil begin with the same token.
        dropped_alone: texts left out because too few others are as long to lend to them.
    """

    texts: tuple[EncodedPrompt, ...]
    positions: tuple[tuple[int, ...], ...]
    tokens: tuple[tuple[int, ...], ...]
    foils: tuple[int, ...] | None = None
    dropped_wrong: int = 0
    dropped_alike: int = 0
    dropped_alone: int = 0

    @cached_property
    def first_rows(self) -> tuple[int, ...]:
        """Ledger row of each text's first read position, and the number of rows."""
        return tuple(accumulate((len(some) for some in self.positions), initial=0))

    def rows(self, texts: range) -> range:
        """Ledger rows of some texts that follow on each other."""
        return range(self.first_rows[texts.start], self.first_rows[texts.stop])

    def blocks(self, least: int) -> Iterator[tuple[range, list[range]]]:
        """The texts of each length, and the blocks they are cut into."""
        lengths = [len(text.ids) for text in self.texts]
        start = 0
        for _, same in groupby(lengths):
            count = len(list(same))
            yield (
                range(start, start + count),
                [range(start + b.start, start + b.stop) for b in blocks_of(count, least)],
            )
            start += count


class TextRun(BaseRun):
    """One run over whole texts."""

    def finish(self, started: float) -> None:
        """Filter, then for every block of texts values, donors and knock-outs; closing."""
        items = self._items()
        self._require_donors(items)
        plan = self.task.plan(np.zeros((self.task.ablation.draws, 0), dtype=np.int64))
        file = self._file(plan, items)
        learned: dict[int, Constants] = {}
        if isinstance(self.task.ablation, Optimal):
            learned = self._constants(plan, partial(self._learning, plan, items, self.task.ablation))
        moments = cache(partial(self._moments, items))
        counted, total = 0, plan.variants * len(items.texts)

        def counting(variants: int) -> None:
            nonlocal counted
            counted += variants
            self.progress("knock-outs", counted, total)

        with Unwritten(file) as found:
            for same_length, blocks in items.blocks(self.task.ablation.draws + 1):
                reference: Values | None = None
                for block in blocks:
                    if found.is_done(items.rows(block)):
                        counting(plan.variants * len(block))
                        continue
                    if reference is None:
                        reference = self._reference(items, same_length, moments)
                    self._block(found, plan, items, block, reference, learned, counting)
        self._close(file, time.monotonic() - started)

    def _items(self) -> Items:
        scope, encoded = self.task.scope, self.task.encoded
        if scope.read == "each":
            lending = with_donors(encoded.prompts, self.task.ablation)
            texts = tuple(sorted(lending, key=lambda text: (len(text.ids), text.index)))
            positions = tuple(scope.positions(len(text.ids)) for text in texts)
            tokens = tuple(tuple(t.ids[p + 1] for p in some) for t, some in zip(texts, positions, strict=True))
            return Items(texts, positions, tokens, dropped_alone=len(encoded.prompts) - len(texts))
        runs = [ExtraRun(prompt.ids, pair=prompt.pair) for prompt in encoded.prompts]
        clean = self._store("clean", runs, (), None)
        options = self.task.options
        asked = pose(encoded, options.target, clean.answers, keep_wrong=options.keep_wrong, seed=options.seed)
        positions = tuple((len(text.ids) - 1,) for text in asked.prompts)
        tokens = tuple((token,) for token in asked.tokens)
        return Items(asked.prompts, positions, tokens, asked.foils, asked.dropped_wrong, asked.dropped_alike)

    def _require_donors(self, items: Items) -> None:
        for same_length, _ in items.blocks(1):
            with_donors([items.texts[i] for i in same_length], self.task.ablation)

    def _file(self, plan: Plan, items: Items) -> LedgerFile:
        scope = self.task.scope
        # of all texts, lest another ablation, which keeps others, number the same position otherwise
        longest = max(len(text.ids) for text in self.task.encoded.prompts)
        each = [(text, p) for text, some in zip(items.texts, items.positions, strict=True) for p in some]
        tokens = [token for some in items.tokens for token in some]
        foils = {} if items.foils is None else self._tokens("foil", items.foils)
        columns = {
            "prompt": np.array([t.index if scope.read == "last" else t.index * longest + p for t, p in each]),
            "text": np.array([self._shown(text, p) for text, p in each]),
            **self._tokens("target", tokens),
            **foils,
            "group": np.array([text.group for text, _ in each]),
            "length": np.array([len(text.ids) for text, _ in each]),
            "document": np.array([text.index for text, _ in each]),
            "position": np.array([p for _, p in each]),
        }
        return self._ledger(
            plan,
            columns,
            min(len(tokens), rows_of_a_chunk(len(plan.knockouts), len(plan.book.entries))),
            {
                "prompts_kept": len(items.texts),
                "prompts_dropped_wrong": items.dropped_wrong,
                "prompts_dropped_alike": items.dropped_alike,
                "prompts_dropped_alone": items.dropped_alone,
                "donors_sharing": self._sharing(items),
            },
        )

    def _shown(self, text: EncodedPrompt, position: int) -> str:
        if self.task.scope.read == "last":
            return text.text
        ids = list(text.ids[max(0, position + 1 - SHOWN) : position + 1])
        tokenizer = self.model.tokenizer
        return " ".join(map(str, ids)) if tokenizer is None else str(tokenizer.decode(ids))

    def _moments(self, items: Items) -> dict[Site, Moments]:
        """Of all tokens of all texts."""
        texts = [text.ids for text in items.texts]
        batches = batches_of_texts(texts, self._at_once(max(map(len, texts)), 1))
        return moments_of_texts(self.model, texts, batches, self.sites)

    def _reference(self, items: Items, texts: range, moments: Callable[[], Mapping[Site, Moments]]) -> Values:
        """What replacements are made of where that is not a single other run."""
        ids = [items.texts[i].ids for i in texts]
        places = self._places(len(ids[0]))
        match self.task.ablation:
            case PositionMean():
                return position_means(self.model, ids, places, self._at_once(len(ids[0]), 1))
            case Mean() if not isinstance(self.task.ablation, Optimal):
                means = {site: moment.mean.float() for site, moment in moments().items()}
                return {site: mean.expand(1, len(places.edited), -1) for site, mean in means.items()}
        return {}

    def _learning(self, plan: Plan, items: Items, ablation: Optimal) -> Learning:
        """One constant per place for texts of all lengths."""
        strategy, seed = self.task.engine.strategy, self.task.options.seed
        assert isinstance(strategy, Resumed)
        texts = [text.ids for text in items.texts]
        widest = max(Counter(knockout.first_layer for knockout in plan.knockouts).values())
        passes = passes_of_texts(self.model, texts, self.task.scope, widest, seed, self.budget)
        return Learning(self.model, plan, strategy.at, passes, self._moments(items), ablation)

    def _places(self, tokens: int) -> Places:
        scope = self.task.scope
        return Places(self.sites, scope.edited(tokens), scope.positions(tokens))

    def _at_once(self, tokens: int, variants: int) -> int:
        return texts_at_once(self.model.device, tokens, variants)

    def _block(
        self,
        found: Unwritten,
        plan: Plan,
        items: Items,
        block: range,
        reference: Values,
        learned: Mapping[int, Constants],
        done: Callable[[int], None],
    ) -> None:
        """Values of a block's texts, their donors among themselves, then the knock-outs of a few texts at a time."""
        texts = [items.texts[i] for i in block]
        tokens = len(texts[0].ids)
        places, at_once = self._places(tokens), self._at_once(tokens, plan.variants)
        values, passes = values_of(self.model, [text.ids for text in texts], places, at_once)
        donation = self._donate(texts, [items.tokens[i] for i in block], block.start)
        if donation.runs:
            extra = extra_values(self.model, donation.runs, places, at_once)
            values = {site: torch.cat([value, extra[site]]) for site, value in values.items()}
        here = replace(plan, table=donation.table)
        engine = self.task.engine.strategy
        work = Work(self.model, here, engine, values, len(texts), self.budget, self.tolerance, reference, learned)
        first = 0
        for recorded in passes:
            some = range(first, first + len(recorded.ids))
            whole = range(block.start + some.start, block.start + some.stop)
            if found.is_done(items.rows(whole)):
                done(len(some) * plan.variants)
            else:
                found.add(items.rows(whole), self._texts(work, items, whole, some, recorded, done))
            first = some.stop

    def _texts(
        self,
        work: Work,
        items: Items,
        whole: range,
        some: range,
        recorded: Recorded,
        done: Callable[[int], None],
    ) -> Arrays:
        """The knock-outs of a few texts, in smaller pushes where the device has less room than was thought."""
        targets = torch.tensor([token for i in whole for token in items.tokens[i]])
        foils = None if items.foils is None else torch.tensor([items.foils[i] for i in whole])
        names = [f"{items.texts[i].index}, position {p}" for i in whole for p in items.positions[i]]
        size = self._variants_at_once(recorded, work.plan)
        while True:
            try:
                return run_texts(
                    work,
                    list(some),
                    recorded,
                    targets,
                    foils,
                    names,
                    size,
                    measured=self.task.options.distribution,
                    done=done,
                )
            except (torch.cuda.OutOfMemoryError, RuntimeError) as error:
                if not ran_out(error):
                    raise
                if size == 1:
                    raise OutOfBudget(
                        f"the device has no room for a single knock-out of {recorded.ids.shape[1]} tokens; "
                        "take shorter texts or another --device"
                    ) from error
                size = max(1, size // 2)
                self.budget = self.budget.halved()
                self.progress(f"out of memory, now {size} at once", 0, 1)

    def _variants_at_once(self, recorded: Recorded, plan: Plan) -> int:
        texts, tokens = recorded.ids.shape
        row = text_footprint(self.model, tokens, len(recorded.layout.read), len(plan.columns), len(plan.attending))
        return text_variants_at_once(self.budget, row, texts, tokens, self.model.device)

    def _sharing(self, items: Items) -> int:
        """Donors of all blocks that name a token of the prompt's pair; only differences have pairs."""
        if items.foils is None:
            return 0
        blocks = [block for _, some in items.blocks(self.task.ablation.draws + 1) for block in some]
        donated = (
            self._donate([items.texts[i] for i in block], [items.tokens[i] for i in block], block.start)
            for block in blocks
        )
        return sum(donation.sharing for donation in donated)

    def _donate(self, texts: Sequence[EncodedPrompt], tokens: Sequence[tuple[int, ...]], block: int) -> Donation:
        # at every position no donor can be kept from sharing one of the targets; at the last one it can
        if self.task.scope.read == "last":
            targets = [some[0] for some in tokens]
        else:
            targets, texts = list(range(len(texts))), [replace(text, foil_id=None) for text in texts]
        seed = self.task.options.seed
        if isinstance(self.task.ablation, Resample):
            seed = int(np.random.SeedSequence((seed, block)).generate_state(1)[0])
        return self.task.ablation.donate(texts, targets, seed)
