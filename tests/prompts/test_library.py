"""Tables read by the real `datasets` library, from folders and without a network; skipped where it is not installed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest

import hydrascope.prompts.tasks as tasks
from hydrascope.errors import MalformedPrompt, PromptError
from hydrascope.prompts import Prompt, documents, load
from hydrascope.prompts._hub import HubTable
from hydrascope.prompts.tasks import PromptTask

library = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def table(folder: Path, rows: Iterable[dict[str, object]], split: str = "train", kind: str = "jsonl") -> Path:
    folder.mkdir(exist_ok=True)
    if kind == "parquet":
        pd.DataFrame(list(rows)).to_parquet(folder / f"{split}.parquet")
    else:
        (folder / f"{split}.{kind}").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_prompts_of_lines_and_their_absent_values(tmp_path: Path) -> None:
    rows: tuple[dict[str, object], ...] = ({"prompt": "a", "target": "b"}, {"prompt": "c", "foil": "d", "group": 3})
    found = load(f"hub:{table(tmp_path / 'lines', rows)}")
    assert found.prompts == (Prompt("a", target="b"), Prompt("c", foil="d", group="3"))
    assert found.source == f"hub:{tmp_path / 'lines'}"


def test_token_ids_of_a_parquet_file_and_its_split(tmp_path: Path) -> None:
    rows = ({"input_ids": [1, 2], "target_id": 4}, {"input_ids": [3], "target_id": 5})
    folder = table(tmp_path / "ids", rows, "validation", "parquet")
    expected = (Prompt(input_ids=(1, 2), target_id=4), Prompt(input_ids=(3,), target_id=5))
    assert load(f"hub:{folder}:validation").prompts == expected
    assert load(f"hub:{folder}:validation[1:]").prompts == expected[1:]
    with pytest.raises(PromptError, match=r'cannot be loaded from the Hugging Face hub .*nknown split "train"'):
        load(f"hub:{folder}")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_documents_leave_empty_rows_out(tmp_path: Path, kind: str) -> None:
    rows: list[dict[str, object]] = [{"text": "one"}, {"text": ""}, {"text": "two"}, {"text": None}]
    found = documents(f"hub:{table(tmp_path / 'text', rows, kind=kind)}")
    assert [document.text for document in found] == ["one", "two"]
    assert found[1].name.endswith("text, row 2")


@pytest.mark.parametrize(
    ("task", "row", "prompt"),
    [
        ("lambada", {"text": "It was the last word"}, Prompt("It was the last", target="word")),
        (
            "counterfact",
            {
                "relation": "{} was born in",
                "relation_id": "P19",
                "prompt": "Ann was born in",
                "subject": "Ann",
                "target_true": "Rome",
                "target_false": "Oslo",
            },
            None,
        ),
    ],
)
def test_tasks_read_their_tables(
    task: str, row: dict[str, object], prompt: Prompt | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tasks.TASKS[task]
    assert known.hub is not None
    folder = table(tmp_path / task, [row], known.hub.split)
    at_hand = HubTable(str(folder), known.hub.split, known.hub.config)
    monkeypatch.setitem(tasks.TASKS, task, PromptTask(**{**vars(known), "hub": at_hand}))
    (found,) = load(task).prompts
    assert prompt is None or found == prompt
    assert found.target is not None


def test_what_is_wrong_with_a_row_names_its_place(tmp_path: Path) -> None:
    folder = table(tmp_path / "wrong", [{"prompt": "a"}, {"prompt": ""}])
    with pytest.raises(MalformedPrompt, match="wrong, row 1: the prompt is empty"):
        load(f"hub:{folder}")


def test_an_absent_table_is_told_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match=r"'.*gone' cannot be loaded from the Hugging Face hub"):
        load(f"hub:{tmp_path / 'gone'}")
