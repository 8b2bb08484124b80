"""What a run's folder keeps beside the numbers: the request and the prompts."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hydrascope.anatomy import Model
from hydrascope.errors import HydrascopeError, OutputError, RunError
from hydrascope.ledger import read_record, write_text
from hydrascope.prompts import Prompt, PromptSet, load
from hydrascope.run._request import RunRequest
from hydrascope.run_directory import JSON, PROMPTS, RunDirectory


def record_of(request: RunRequest, model: Model, prompts: PromptSet) -> dict[str, Any]:
    """Content of `run.json`: what was asked, and what was found.

    Args:
        request: what was asked.
        model: the opened model.
        prompts: the prompts as they are run.
    """
    return {
        "verb": request.verb,
        "request": request.model_dump(mode="json"),
        "command": request.command_line(),
        "sibling_command": request.sibling_command(model.source.sibling),
        "model": asdict(model.source),
        "prompts": {"name": prompts.name, "source": prompts.source, "unfit": prompts.unfit},
    }


def recorded_request(folder: Path) -> RunRequest:
    """What was asked of the run in a folder.

    Args:
        folder: the run's folder.

    Raises:
        RunError: the folder does not say.
    """
    request = read_record(folder / JSON).get("request")
    if not isinstance(request, dict):
        raise RunError(f"'{folder}' does not say what was asked of its run; run it again")
    return RunRequest(**request)


def store_prompts(directory: RunDirectory, prompts: PromptSet) -> None:
    """Keep the prompts in a run's folder, as a file that `--prompts` takes.

    Args:
        directory: the run's folder.
        prompts: the prompts as they are run.
    """
    path, text = directory.path / PROMPTS, "".join(f"{json.dumps(_row(prompt))}\n" for prompt in prompts)
    if not path.is_file() or path.read_bytes() != text.encode():
        write_text(path, text)


def _row(prompt: Prompt) -> dict[str, Any]:
    given = {name: value for name, value in asdict(prompt).items() if value is not None}
    return {"prompt" if name == "text" else name: value for name, value in given.items()}


def stored_prompts(folder: Path) -> PromptSet:
    """The prompts of the run in a folder.

    Args:
        folder: the run's folder.

    Raises:
        OutputError: the prompts are not there, or not those that were run.
    """
    record, path = read_record(folder / JSON), folder / PROMPTS
    try:
        found = replace(load(path), **record["prompts"])
    except (HydrascopeError, KeyError, TypeError) as error:
        raise OutputError(f"the prompts '{path}' cannot be read; run it again") from error
    if found.digest != record["settings"]["prompts"]:
        raise OutputError(f"the prompts '{path}' are not those of the run; put the file back, or run it again")
    return found
