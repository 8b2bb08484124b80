"""Measure every run of a grid and write the table and the figures of docs/zoo.md.

Usage: ``python -m zoo.growth zoo/grid.toml``. What has been measured is not measured again. A replicate is
a seed: intervals are Student's over seeds, of the quantity that a run shows.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

import altair as alt
import pandas as pd
import vl_convert
from scipy import stats

from hydrascope.figures import LIGHT, themed
from zoo.bundle import prompt_sets
from zoo.effects import SETS, measured
from zoo.grid import Grid, load_grid
from zoo.prompts import write_prompts

DOCS = Path(__file__).parent.parent / "docs"
LEVEL = 0.95
LEAST_PROMPTS = 60
LEAST_LOSS = 0.3
BASELINE = "none"
TASKS = ("facts", "retrieval", "indirect")
KEYS = ("condition", "set", "step")
SHARES = ("attention", "mlp", "norm")
_TITLES = {"attention": "later attention's share", "slope": "slope", "r2": "R²"}
_MARK = "<!-- grid -->"


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """Put the layers of every run together.

    The layers that count are fixed beforehand, so that no layer is picked for its effect: those from
    the first third of the depth on that have attention after them.

    Args:
        rows: One row per run, prompt set and attention layer: `condition`, `seed`, `step` and the names
            of :func:`zoo.effects.layer_rows`.

    Returns:
        One row per `condition`, `seed`, `step` and `set`: `attention`, `mlp` and `norm`, what came back
        through them as a share of what the knock-outs took (ratios of sums over layers); `slope` and
        `r2`, `slope_attn` and `r2_attn`, means over the layers, the slopes with their signs turned so that
        repair is positive;
        `relaxed`, what late MLPs let go, as a share of what was taken; `right`, `late_mlp`, `taken` as
        they are. Runs that answer too few prompts of a set are left out.
    """
    known = rows[rows["prompts"] >= LEAST_PROMPTS]
    counted = known[(3 * known["layer"] >= known["layers"]) & (known["layer"] < known["layers"] - 1)]
    groups = counted.groupby(["condition", "seed", "step", "set"], sort=False)
    sums, means = groups.sum(numeric_only=True), groups.mean(numeric_only=True)
    table = sums[[*SHARES, "relaxed"]].div(-sums["own_change"], axis=0)
    for name in ("slope", "slope_attn"):
        table[name] = -means[name]
    for name in ("r2", "r2_attn", "right", "late_mlp", "taken"):
        table[name] = means[name]
    return table.reset_index()


def by_layer(rows: pd.DataFrame) -> pd.DataFrame:
    """Take every attention layer for itself: what later attention gives back of what its knock-out took.

    Returns:
        The `rows` that answer enough prompts and lose at least `LEAST_LOSS` logits, with the column `share`.
    """
    known = rows[(rows["prompts"] >= LEAST_PROMPTS) & (rows["own_change"] <= -LEAST_LOSS)]
    return known.assign(share=-known["attention"] / known["own_change"])


def with_intervals(table: pd.DataFrame, quantities: Sequence[str], keys: Sequence[str] = KEYS) -> pd.DataFrame:
    """Average over seeds, with Student's interval over them.

    Returns:
        One row for each of the `keys` and each `quantity`: `mean`, `lo`, `hi`, `seeds`. The interval is
        missing with one seed.
    """
    long = table.melt(id_vars=[*keys, "seed"], value_vars=list(quantities), var_name="quantity")
    groups = long.groupby([*keys, "quantity"], sort=False)["value"]
    result = groups.agg(["mean", "std", "count"]).reset_index().rename(columns={"count": "seeds"})
    half = stats.t.ppf(0.5 + LEVEL / 2, result["seeds"] - 1) * result["std"] / result["seeds"] ** 0.5
    result["lo"], result["hi"] = result["mean"] - half, result["mean"] + half
    return result.drop(columns="std")


def against(table: pd.DataFrame, baseline: str, quantities: Sequence[str]) -> pd.DataFrame:
    """Subtract the baseline's run of the same seed, which read the same tokens, from every run."""
    index = ["set", "step", "seed"]
    base = table[table["condition"] == baseline].set_index(index)[list(quantities)]
    other = table[table["condition"] != baseline].set_index(["condition", *index])[list(quantities)]
    paired = other.sub(base).dropna(how="all").reset_index()
    return with_intervals(paired, quantities)


def collect(grid: Grid, checkpoints: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure all snapshots of all finished runs.

    Returns:
        Rows as `summarise` takes them; and the last evaluation of every run: `condition`, `seed`, `loss`,
        `facts`, `retrieval`, `indirect`, `tokens`.
    """
    rows, ends = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, prompts in prompt_sets().items():
            write_prompts(prompts, Path(folder) / f"{name}.jsonl")
        for run in grid.runs:
            home = checkpoints / grid.name / run.recipe.name
            if not (home / run.last / "model.safetensors").exists():
                print(f"{run.recipe.name} is not finished and is left out")
                continue
            key = {"condition": run.condition, "seed": run.recipe.seed}
            snapshots = {int(path.name.removeprefix("step-")): path for path in sorted(home.glob("step-*"))}
            if run.recipe.start:
                snapshots = {0: (home.parent / run.recipe.start).resolve()} | snapshots
            for step, snapshot in snapshots.items():
                rows += [key | {"step": step} | row for row in measured(snapshot, Path(folder))]
            log = [json.loads(line) for line in (home / "log.jsonl").read_text().splitlines()]
            last = [line for line in log if "loss" in line][-1]
            ends.append(key | {name: last[name] for name in ("loss", "tokens", *TASKS)})
    table = pd.DataFrame(rows)
    return table[table["set"].isin(SETS)], pd.DataFrame(ends)


def _cell(row: pd.Series[float]) -> str:
    return f"{row['mean']:+.2f} [{row['lo']:+.2f}, {row['hi']:+.2f}]"


def markdown(grid: Grid, averages: pd.DataFrame, differences: pd.DataFrame, ends: pd.DataFrame) -> str:
    """Write the tables of the last step: what every condition learned, and what repairs in it."""
    learned = ends.groupby("condition").mean(numeric_only=True)
    counts = ends.groupby("condition").size()
    lines = [
        "| condition | seeds | tokens | loss | facts | retrieval | indirect |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in grid.conditions:
        if name in learned.index:
            end = learned.loc[name]
            right = " | ".join(f"{100 * end[task]:.0f} %" for task in TASKS)
            lines.append(f"| {name} | {counts[name]} | {end['tokens']:,.0f} | {end['loss']:.3f} | {right} |")
    last = averages[averages["step"] == averages["step"].max()]
    more = differences[(differences["step"] == last["step"].max()) & (differences["quantity"] == "attention")]
    for task in SETS:
        here = last[last["set"] == task].set_index(["condition", "quantity"])
        beyond = more[more["set"] == task].set_index("condition")
        if here.empty:
            continue
        lines += [
            "",
            f"**{task}**",
            "",
            f"| condition | later attention | beyond {BASELINE} | slope, attention | slope, all later | R² "
            "| later MLPs | final norm | late MLPs, clean | let go |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for name in grid.conditions:
            if name in here.index.get_level_values(0):
                order = ("slope_attn", "slope", "r2", "mlp", "norm", "late_mlp", "relaxed")
                cells = [_cell(here.loc[(name, "attention")]), _cell(beyond.loc[name]) if name in beyond.index else ""]
                cells += [_cell(here.loc[(name, item)]) for item in order]
                lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _conditions(
    grid: Grid, table: pd.DataFrame, averages: pd.DataFrame, quantity: str, title: str
) -> alt.LayerChart | alt.FacetChart:
    """Draw one quantity of every condition at the last step: seeds, mean and interval."""
    order = alt.Y("condition:N", sort=list(grid.conditions), title=None)
    ends = alt.Chart(averages[averages["quantity"] == quantity])
    seeds = alt.Chart(table.rename(columns={quantity: "value"})[["condition", "seed", "value"]])
    zero = alt.Chart(pd.DataFrame({"x": [0.0]})).mark_rule(color=LIGHT.muted, strokeDash=[3, 3]).encode(x="x:Q")
    bar = ends.mark_rule(color=LIGHT.attn, strokeWidth=2).encode(x=alt.X("lo:Q", title=title), x2="hi:Q", y=order)
    mean = ends.mark_point(filled=True, opacity=1, size=70, color=LIGHT.attn).encode(x="mean:Q", y=order)
    each = seeds.mark_tick(color=LIGHT.ink, thickness=1.5, size=12).encode(x="value:Q", y=order)
    return alt.layer(zero, bar, each, mean).properties(width=230, height=24 * len(grid.conditions))


def _by_step(grid: Grid, averages: pd.DataFrame, quantity: str, title: str) -> alt.LayerChart | alt.FacetChart:
    """Draw how one quantity grows with training, a line for every condition."""
    colour = alt.Color("condition:N", sort=list(grid.conditions), title=None)
    steps = alt.Chart(averages[averages["quantity"] == quantity]).encode(x=alt.X("step:Q", title="optimiser steps"))
    bar = steps.mark_rule(strokeWidth=1.5).encode(y=alt.Y("lo:Q", title=title), y2="hi:Q", color=colour)
    line = steps.mark_line(point=True).encode(y="mean:Q", color=colour)
    return alt.layer(bar, line).properties(width=230, height=180)


def _by_layer(grid: Grid, layers: pd.DataFrame, title: str) -> alt.LayerChart | alt.FacetChart:
    """Draw the share that later attention gives back over the depth of the layer that was knocked out."""
    colour = alt.Color("condition:N", sort=list(grid.conditions), title=None)
    depth = alt.Chart(layers).encode(x=alt.X("layer:O", title="attention layer", axis=alt.Axis(labelAngle=0)))
    line = depth.mark_line(point=True).encode(y=alt.Y("mean:Q", title=title), color=colour)
    zero = alt.Chart(pd.DataFrame({"y": [0.0]})).mark_rule(color=LIGHT.muted, strokeDash=[3, 3]).encode(y="y:Q")
    return alt.layer(zero, line).properties(width=230, height=180)


def save_svg(chart: alt.TopLevelMixin, path: Path) -> None:
    """Write a chart in the package's light theme."""
    path.write_text(vl_convert.vegalite_to_svg(themed(chart)))


def draw(grid: Grid, table: pd.DataFrame, averages: pd.DataFrame, layers: pd.DataFrame, folder: Path) -> None:
    """Draw the conditions at the last step, and how repair by attention grows with training and depth.

    Args:
        grid: Gives the order of the conditions.
        table: From `summarise`.
        averages: The same with intervals.
        layers: From `by_layer`, with intervals.
        folder: Where `conditions.svg`, `steps.svg` and `layers.svg` are written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    last = averages["step"].max()
    ends, seeds = averages[averages["step"] == last], table[table["step"] == last]
    tasks = [task for task in SETS if task in set(ends["set"])]
    across = alt.vconcat(
        *(
            alt.hconcat(
                *(
                    _conditions(grid, seeds[seeds["set"] == task], ends[ends["set"] == task], name, f"{title}, {task}")
                    for name, title in _TITLES.items()
                )
            )
            for task in tasks
        )
    )
    growing = alt.hconcat(
        *(
            _by_step(grid, averages[averages["set"] == task], "attention", f"{_TITLES['attention']}, {task}")
            for task in tasks
        )
    )
    deep = layers[(layers["step"] == last) & (layers["layer"] < layers["layer"].max())]
    depths = alt.hconcat(
        *(_by_layer(grid, deep[deep["set"] == task], f"{_TITLES['attention']}, {task}") for task in tasks)
    )
    for chart, name in ((across, "conditions"), (growing, "steps"), (depths, "layers")):
        save_svg(chart, folder / f"{name}.svg")


def main() -> None:
    """Measure the grid and write the table and the figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("grid", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("checkpoints"), help="where the runs are kept")
    options = parser.parse_args()
    grid = load_grid(options.grid)
    rows, ends = collect(grid, options.folder)
    table = summarise(rows)
    quantities = [*SHARES, "slope_attn", "r2_attn", "slope", "r2", "relaxed", "late_mlp", "taken", "right"]
    averages = with_intervals(table, quantities)
    differences = against(table, BASELINE, quantities)
    layers = with_intervals(by_layer(rows), ["share"], (*KEYS, "layer"))
    draw(grid, table, averages, layers, DOCS / "zoo")
    table.round(4).to_csv(DOCS / "zoo" / f"{grid.name}.csv", index=False)
    page = DOCS / "zoo.md"
    before, _, after = page.read_text().split(_MARK)
    page.write_text(_MARK.join((before, f"\n{markdown(grid, averages, differences, ends)}\n", after)))


if __name__ == "__main__":
    main()
