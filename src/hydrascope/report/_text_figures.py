"""Figures of runs over ordinary text, as methods."""

from __future__ import annotations

from typing import Literal

from hydrascope import figures
from hydrascope.analysis import has_attention_split, self_repair_by_depth
from hydrascope.analysis import mechanisms_by_depth as by_depth
from hydrascope.report import _tokens
from hydrascope.report._figure import ONE, Chart, Choices, figure
from hydrascope.report._ledger_figures import LedgerFigures
from hydrascope.report._run import Run

Selected = Literal["top", "all"]
_PROMPTS = "it is of prompts (--protocol text reads whole texts)"


def _of_texts(run: Run) -> Choices:
    return ONE if run.of_tokens else ()


def _with_removed(run: Run) -> Choices:
    found = run.of_tokens and run.tables.self_repair["removed"].any()
    return [{"selection": name} for name in figures.SELECTED] if found else ()


def _with_split(run: Run) -> Choices:
    return _with_removed(run) if has_attention_split(run.ds) else ()


class TextFigures(LedgerFigures):
    """Figures of a run that reads every position of texts."""

    @figure(_with_removed, _PROMPTS)
    def repair_by_depth(self, selection: Selected = "top") -> Chart:
        """Self-repair of every part over relative depth, and the means of the layers.

        Args:
            selection: `top`, each part's top tokens, or `all`.
        """
        table, layers = self._run.tables.self_repair, self._run.layers
        return figures.repair_by_depth(table, self_repair_by_depth(table, layers), selection, n_layers=layers)

    @figure(_with_removed, _PROMPTS)
    def mechanisms_by_depth(self, selection: Selected = "top") -> Chart:
        """Self-repair by mechanism, stacked over depth.

        Args:
            selection: `top`, each part's top tokens, or `all`.
        """
        lines = by_depth(self._run.tables.mechanisms, self._run.layers)
        return figures.mechanisms_by_depth(lines, selection, n_layers=self._run.layers)

    @figure(_with_split, "attention was not split (--split-attention), or this run is of prompts")
    def attention_by_depth(self, selection: Selected = "top") -> Chart:
        """Pattern and value effect of attention behind each layer.

        Args:
            selection: `top`, each part's top tokens, or `all`.
        """
        lines = by_depth(self._run.tables.attention_split_on_tokens, self._run.layers)
        return figures.attention_by_depth(lines, selection, layers=self._run.layers)

    @figure(_of_texts, _PROMPTS)
    def effect_against_change(self, ablated: str | None = None) -> Chart:
        """Change of the logit against direct effect, a point per token.

        Args:
            ablated: the knock-out that is shown; the report's choice if None.
        """
        names, shown = self._choices(_tokens.CHOICES, ablated)
        return figures.effect_against_change(_tokens.token_points(self._run, names), names, shown)

    @figure(_of_texts, _PROMPTS)
    def norm_ratio(self, ablated: str | None = None) -> Chart:
        """Clean over ablated scale of the final norm, as a histogram over tokens.

        Args:
            ablated: the knock-out that is shown; the report's choice if None.
        """
        names, shown = self._choices(_tokens.CHOICES, ablated)
        return figures.norm_ratio(_tokens.norm_bins(self._run, names), names, shown)
