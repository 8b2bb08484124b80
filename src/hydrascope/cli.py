"""The command line: one verb per function, no logic of its own."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hydrascope.errors import HydrascopeError, RunError

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Knock out any part of a language model and account exactly for what the rest does about it.",
)

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # click's, or the copy that newer versions of typer carry

ModelName = Annotated[
    str | None, typer.Argument(help="A folder, a bundled name or a hub id; the bundled model if left out.")
]
Device = Annotated[
    str, typer.Option(help="cpu, cuda, cuda:1 ...; auto: a GPU if there is one; map: spread over GPUs, memory, disk.")
]
Dtype = Annotated[str, typer.Option(help="float32, bfloat16, float16, or auto for the form the weights are stored in.")]
Trust = Annotated[bool, typer.Option("--trust-remote-code", help="Run code that comes with the weights.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def run(
    model: ModelName = None,
    prompts: Annotated[
        str | None,
        typer.Option(help="A JSONL, JSON or CSV file, a built-in set, a task (ioi) or TASK:FILE; see 'tasks'."),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            help="facts: layers at the last token of prompts; text: heads at every position of ordinary text. "
            "Sets what the options below leave out."
        ),
    ] = "facts",
    components: Annotated[
        str | None,
        typer.Option(help="What to knock out: attn,mlp or head.9.* or attn.3+attn.7 or head.2.1->mlp.5 ..."),
    ] = None,
    ablation: Annotated[
        str,
        typer.Option(
            help="zero, mean, position-mean, optimal, resample, noise or counterfactual; or several, with commas "
            "between: the first is the run, and how far the others agree with it is told."
        ),
    ] = "resample",
    dose: Annotated[
        str,
        typer.Option(help="How far parts are knocked out, 0 to 1; or several, such as 0.25,0.5,1, for dose curves."),
    ] = "1",
    donors: Annotated[int | None, typer.Option(help="Replacement values per prompt (resample 15, noise 5).")] = None,
    positions: Annotated[
        str | None, typer.Option(help="Where parts are knocked out: last, all, or positions such as 0,3,-1.")
    ] = None,
    read: Annotated[
        str | None, typer.Option(help="Where effects are read: last, or each position of the text but the last.")
    ] = None,
    skip: Annotated[int | None, typer.Option(help="First positions that are not read with --read each (1).")] = None,
    length: Annotated[int | None, typer.Option(help="Tokens of the pieces that text is cut into (128).")] = None,
    texts: Annotated[
        int | None, typer.Option(help="Most pieces of text, evenly spread over all; all if left out.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="label: each prompt's target; difference: its logit minus its foil's; top: the model's top token; "
            "random-top: one of its ten most probable; kl: the top token, ranked by KL divergence."
        ),
    ] = None,
    keep_wrong: Annotated[
        bool, typer.Option("--keep-wrong", help="Keep prompts that the model completes otherwise.")
    ] = False,
    bos: Annotated[
        str, typer.Option(help="Beginning-of-sequence token: auto (the tokenizer's way), always, never.")
    ] = "auto",
    null_draws: Annotated[
        int | None, typer.Option(help="Draws of the negative control, a random displacement (2; text 0).")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of donors, noise and control.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The run's folder; the same command continues it.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Throw away the run in that folder.")] = False,
    device: Device = "auto",
    dtype: Dtype = "float32",
    memory: Annotated[
        str | None, typer.Option(help="Memory budget such as 4GB; half of what is free if left out.")
    ] = None,
    writers: Annotated[
        str | None, typer.Option(help="What is accounted for apart: layers, heads, neurons, or head,neuron.6-7 ...")
    ] = None,
    detail: Annotated[
        str | None, typer.Option(help="full, or kinds: keep only sums by kind of writer, for very large sweeps.")
    ] = None,
    distribution: Annotated[
        bool | None,
        typer.Option(
            help="Also measure log-probability, rank and KL divergence (text: no, unless an ablation is optimal)."
        ),
    ] = None,
    split_attention: Annotated[
        bool,
        typer.Option(
            "--split-attention",
            help="Split what answering attention changes into moved weights and changed values: cheap at the last "
            "token; in whole texts, attention without its fast kernels.",
        ),
    ] = False,
    confirm: Annotated[
        bool,
        typer.Option(help="Hold the strongest responders of repaired attention layers, to learn whether they matter."),
    ] = True,
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
) -> None:
    """Knock out, store, analyse and write the report. Run again, it continues."""
    given = locals()  # every option by its name
    from hydrascope import console
    from hydrascope.asked import Asked
    from hydrascope.confirmation import at_most, confirming
    from hydrascope.run import estimate, execute, execute_belonging
    from hydrascope.task import default_folder

    task, also = Asked.of(given).family()
    if dry_run:
        held = at_most(task) if confirm else {}
        plans = ({name: estimate(one) for name, one in some.items()} for some in (also, held))
        console.show_estimates(estimate(task), *plans, as_json=as_json)
        return
    folder = out or default_folder(task)
    with console.progress_bars(quiet=as_json) as progress:
        dataset, directory = execute(task, folder, overwrite=overwrite, command=_command(), progress=progress)
        assert directory is not None
        if confirm:
            also |= confirming(task, dataset)
        execute_belonging(directory, also, command=_command(), progress=progress)
        ledger = console.reported(dataset, directory, progress)
    console.show_result(ledger, directory.report, as_json)


@app.command()
def confirm(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    device: Annotated[str | None, typer.Option(help="Where the model goes; as in the run, if left out.")] = None,
    memory: Annotated[str | None, typer.Option(help="Memory budget such as 4GB; as in the run, if left out.")] = None,
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Learn who is needed in a finished run: hold its strongest responders, without making it again."""
    from hydrascope import console
    from hydrascope.asked import Asked
    from hydrascope.confirmation import confirming, require_whole
    from hydrascope.results import Ledger
    from hydrascope.run import execute_belonging
    from hydrascope.run_directory import reopen

    ledger = Ledger.open(run)
    assert ledger.path is not None
    require_whole(ledger.dataset)
    given = {name: value for name, value in (("device", device), ("memory", memory)) if value is not None}
    recorded = _parameters(str(ledger.dataset.attrs["command"]))
    # a folder may come from someone else: what it says must not be enough to run code
    task, _ = Asked.of({**recorded, **given, "trust_remote_code": trust_remote_code}).family()
    directory = reopen(ledger.path, task.settings)
    held = confirming(task, ledger.dataset)
    with console.progress_bars(quiet=as_json) as progress:
        execute_belonging(directory, held, command=_command(), progress=progress)
        ledger = console.reported(ledger.dataset, directory, progress)
    console.show_result(ledger, directory.report, as_json)
    if not (held or as_json):
        _say("Nobody was held: later attention clearly makes up for none of the attention layers.")


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    as_json: AsJson = False,
) -> None:
    """Say again what a finished run found; of one that kept only sums by kind, list its knock-outs."""
    from hydrascope import console
    from hydrascope.results import Ledger
    from hydrascope.run_directory import REPORT

    ledger = Ledger.open(run)
    assert ledger.path is not None
    console.show_result(ledger, ledger.path / REPORT, as_json, listed=True)


@app.command()
def inspect(
    model: ModelName = None,
    device: Device = "auto",
    dtype: Dtype = "float32",
    trust_remote_code: Trust = False,
    as_json: AsJson = False,
) -> None:
    """Show a model's anatomy, the proof of it, and what can be knocked out."""
    from hydrascope.asked import open_model
    from hydrascope.inspection import inspect as look
    from hydrascope.inspection import render

    found = look(open_model(model, device, dtype, trust_remote_code))
    _say(json.dumps(found, indent=1) if as_json else render(found))


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    out: Annotated[Path | None, typer.Option(help="Where to write the page; report.html in the run's folder.")] = None,
) -> None:
    """Write a finished run's report again."""
    from hydrascope.results import Ledger

    ledger = Ledger.open(run)
    assert ledger.path is not None
    _say(str(ledger.report(out or ledger.path / "report.html")))


@app.command()
def models() -> None:
    """List the bundled models."""
    from hydrascope import zoo

    for model in zoo.bundled():
        _say(f"{model.name}: {model.description}")


@app.command()
def tasks() -> None:
    """List what --prompts takes beside files: built-in sets and tasks."""
    from hydrascope.prompts import builtin_names, listed_tasks
    from hydrascope.prompts import load as load_prompts

    for name in builtin_names():
        _say(f"{name}: {len(load_prompts(name))} prompts")
    for line in listed_tasks():
        _say(line)


def _say(what: Any) -> None:
    from rich.console import Console

    Console(soft_wrap=isinstance(what, str), highlight=False).print(what, markup=False) if not isinstance(
        what, str
    ) else print(what)


def _command() -> str:
    return shlex.join(["hydrascope", *sys.argv[1:]])


def _parameters(command: str) -> dict[str, Any]:
    """What a recorded command gave to `run`, and what it left out.

    Raises:
        RunError: it is no such command.
    """
    program, verb, *words = [*shlex.split(command), "", ""]
    if (program, verb) != ("hydrascope", "run"):
        raise RunError(
            "this run was made in Python and not by a command that could be read again; call "
            "hydrascope.knock_out with the same arguments, the same out and confirm=True"
        )
    runner = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]
    with runner.make_context("run", words[:-2]) as context:
        return dict(context.params)


def main() -> None:
    """Entry point: known conditions become one sentence on standard error and exit code 2."""
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="hydrascope", standalone_mode=False)
        sys.stdout.flush()
    except HydrascopeError as error:
        code = _fail(str(error), error.exit_code)
    except _UsageError as error:
        code = _fail(_as_clause(error), 2)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    if code == 130:
        _fail("interrupted; the same command continues where it stopped", code)
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    print(f"hydrascope: {message}", file=sys.stderr)
    return code


def _as_clause(error: Exception) -> str:
    message = " ".join(error.format_message().split()).rstrip(".?").replace(". ", "; ")  # type: ignore[attr-defined]
    message = message[:1].lower() + message[1:]
    context = getattr(error, "ctx", None)
    return f"{message}; see '{context.command_path if context else 'hydrascope'} --help'"
