"""Train a model of the zoo; killed at any moment, the same command continues.

Usage: ``python -m zoo.train zoo/recipes/NAME.toml``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from zoo.corpus import IGNORED, Batch, Corpus
from zoo.evaluate import evaluate
from zoo.model import add_ingredient, build_model, read_out_early
from zoo.recipe import Recipe, load_recipe
from zoo.vocabulary import save_tokenizer

_NO_MATRIX = ("embed_tokens.weight", "lm_head.weight")  # tables of vectors, one per word
_SEEDS_PER_RUN = 1_000_003  # more than the steps of any run, so that no two runs share a step's seed


def learning_rate(recipe: Recipe, step: int) -> float:
    """Return the learning rate of a step: linear warm-up, then the recipe's way down to zero."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    if recipe.schedule == "plateau":
        return recipe.learning_rate * min(1.0, (recipe.steps - step) / recipe.decay)
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return recipe.learning_rate * 0.5 * (1.0 + math.cos(math.pi * done))


def _optimisers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for name, weight in model.named_parameters():
        (matrices if weight.ndim == 2 and not name.endswith(_NO_MATRIX) else others).append(weight)
    rate, decay = recipe.learning_rate, recipe.weight_decay
    plain = {"params": others, "weight_decay": 0.0}
    if recipe.optimiser == "adamw":
        groups = [{"params": matrices, "weight_decay": decay}, plain]
        return [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98), fused=True)]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([plain], lr=rate, betas=(0.9, 0.98), fused=True),
    ]


def _loss_function(model: PreTrainedModel, recipe: Recipe) -> Callable[[Batch], Tensor]:
    device = model.device.type

    def entropy(logits: Tensor, labels: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED)

    def loss(tokens: Tensor, labels: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
            output = model(
                tokens,
                attention_mask=mask,
                position_ids=positions,
                use_cache=False,
                output_hidden_states=recipe.supervision > 0.0,
            )
            if recipe.supervision > 0.0:
                early = read_out_early(model, output.hidden_states)
        final = entropy(output.logits, labels)
        return final + recipe.supervision * entropy(early, labels) if recipe.supervision > 0.0 else final

    # A compiled step is reused for another model of the same shape, hooks and all: the hooks of an earlier run.
    torch.compiler.reset()
    run = torch.compile(loss) if recipe.compiled else loss
    return lambda batch: run(batch.tokens, batch.labels, batch.mask, batch.positions)


def _same_so_far(old: dict[str, Any], recipe: Recipe, step: int) -> bool:
    """Tell whether a recipe prescribes the steps taken so far exactly as an older one did."""
    new = recipe.as_dict()
    may_change = {"steps", "decay"} if recipe.schedule == "plateau" else set()
    if any(old[key] != new[key] for key in new if key not in may_change):
        return False
    unchanged = old["steps"] == recipe.steps and old["decay"] == recipe.decay
    return bool(unchanged or step <= min(old["steps"] - old["decay"], recipe.steps - recipe.decay))


class Run:
    """One training run with its folder: a checkpoint, a log and snapshots of the weights."""

    def __init__(self, recipe: Recipe, folder: Path, device: torch.device) -> None:
        self.recipe, self.folder, self.device = recipe, folder, device
        self.model = build_model(recipe)
        if recipe.start:
            weights = AutoModelForCausalLM.from_pretrained(
                (folder.parent / recipe.start).resolve(), dtype=torch.float32
            )
            self.model.load_state_dict(weights.state_dict())
        self.model.to(device)
        self._noise = add_ingredient(self.model, recipe)
        self._optimisers = _optimisers(self.model, recipe)
        self._loss = _loss_function(self.model, recipe)
        self._corpus = Corpus(recipe.seed, recipe.mixture, recipe.rows, recipe.length)
        self._log = folder / "log.jsonl"
        self._checkpoint = folder / "checkpoint.pt"
        self.step = 0
        self.tokens = 0
        folder.mkdir(parents=True, exist_ok=True)
        if self._checkpoint.exists():
            self._continue()
        (folder / "recipe.json").write_text(json.dumps(recipe.as_dict(), indent=1) + "\n")

    def _continue(self) -> None:
        state = torch.load(self._checkpoint, map_location=self.device, weights_only=True)
        if not _same_so_far(state["recipe"], self.recipe, state["step"]):
            raise SystemExit(f"{self.folder} holds a run with another recipe; use another name.")
        self.model.load_state_dict(state["model"])
        for optimiser, saved in zip(self._optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.tokens = state["step"], state["tokens"]
        # What was logged after the checkpoint is about to happen again.
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        kept = [line for line in lines if json.loads(line)["step"] <= self.step]
        self._log.write_text("".join(f"{line}\n" for line in kept))

    def save_checkpoint(self) -> None:
        """Write the checkpoint so that a kill leaves either the old or the new one."""
        state = {
            "recipe": self.recipe.as_dict(),
            "model": self.model.state_dict(),
            "optimisers": [optimiser.state_dict() for optimiser in self._optimisers],
            "step": self.step,
            "tokens": self.tokens,
        }
        fresh = self._checkpoint.with_suffix(".new")
        torch.save(state, fresh)
        os.replace(fresh, self._checkpoint)

    def save_model(self, folder: Path) -> None:
        """Write the weights in float16 as a plain Hugging Face model, with the tokenizer."""
        config = type(self.model.config)(**{**self.model.config.to_dict(), "attention_dropout": 0.0})
        plain: Any = AutoModelForCausalLM.from_config(config)
        plain.load_state_dict(self.model.state_dict())
        plain.half().save_pretrained(folder)
        save_tokenizer(folder, self.recipe.length)

    def record(self, **values: float) -> None:
        """Add a line to the log."""
        line = json.dumps({"step": self.step, "tokens": self.tokens, **values})
        with self._log.open("a") as file:
            file.write(f"{line}\n")

    def advance(self) -> float:
        """Take one optimiser step and return its loss."""
        recipe, step = self.recipe, self.step
        torch.manual_seed(recipe.seed * _SEEDS_PER_RUN + step)
        self.model.train()
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(recipe, step)
        batch = self._corpus.batch(step, min(1.0, step / recipe.curriculum)).to(self.device)
        self._noise.prepare(batch.tokens, recipe.drop * min(1.0, (step + 1) / max(1, recipe.ramp)))
        loss = self._loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimiser in self._optimisers:
            optimiser.step()
            optimiser.zero_grad()
        self.step += 1
        self.tokens += int((batch.labels != IGNORED).sum())
        return float(loss.detach())

    def train(self, until: int | None = None) -> list[float]:
        """Train to the end of the recipe, or to a step, and return the losses of the steps taken."""
        recipe = self.recipe
        losses: list[float] = []
        started = time.monotonic()
        while self.step < (recipe.steps if until is None else until):
            losses.append(self.advance())
            last = self.step == recipe.steps
            if self.step % 50 == 0 or last:
                recent = losses[-50:]
                seconds = round(time.monotonic() - started, 1)
                self.record(train_loss=sum(recent) / len(recent), seconds=seconds)
            if self.step % recipe.evaluate_every == 0 or last:
                self.record(**evaluate(self.model, thorough=False))
            if self.step % recipe.snapshot_every == 0 or last:
                self.save_model(self.folder / f"step-{self.step:06d}")
            if self.step % recipe.checkpoint_every == 0 or last:
                self.save_checkpoint()
        return losses


def main() -> None:
    """Train the model of a recipe, or continue where it stopped."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("checkpoints"), help="where the runs are kept")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--until", type=int, help="stop after this step of the recipe")
    options = parser.parse_args()
    recipe = load_recipe(options.recipe)
    Run(recipe, options.folder / recipe.name, torch.device(options.device)).train(until=options.until)


if __name__ == "__main__":
    main()
