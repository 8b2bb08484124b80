"""The site builds strictly and without a network, and its references are the code's."""

from __future__ import annotations

import html
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import hydrascope as hs
from tests.conftest import Cli

ROOT = Path(__file__).parent.parent
FOREIGN = re.compile(
    r"""<(?:script|img|iframe)[^>]+src=["']?(?:https?:)?//|<link[^>]+stylesheet[^>]+href=["']?(?:https?:)?//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `mkdocs build --strict` writes it, its notebook executed."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return folder


def text(page: Path) -> str:
    """What a page says, without markup and with single spaces."""
    body = re.sub(r"<(script|style).*?</\1>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        found = FOREIGN.search(page.read_text(encoding="utf-8"))
        assert found is None, f"{page.name}: {found}"


def test_reference_of_the_command_says_what_its_help_says(
    site: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")  # so that no description is broken over lines
    page = (site / "reference" / "command.html").read_text(encoding="utf-8")
    sections = re.split(r'<h2 id="([a-z-]+)">', page)
    told = dict(zip(sections[1::2], sections[2::2], strict=True))
    verbs = set(re.findall(r"^│ ([a-z][a-z-]*) ", cli("--help").out, flags=re.MULTILINE))
    assert {"run", "show", "freeze"} <= verbs
    assert set(told) == verbs
    for verb in verbs:
        said = cli(verb, "--help").out
        rows = re.findall(r"<tr>\s*<td>(.*?)</td>\s*<td>(.*?)</td>", told[verb], flags=re.DOTALL)
        options = set(re.findall(r"^│ +(--[a-z-]+)", said, flags=re.MULTILINE)) - {"--help"}
        assert {flags[0] for spelled, _ in rows if (flags := re.findall(r"--[a-z-]+", spelled))} == options, verb
        for _, description in rows:
            words = " ".join(html.unescape(re.sub(r"<[^>]+>", "", description)).split())
            assert words in " ".join(said.split()), f"{verb}: {words}"


def test_reference_of_python_has_every_name_once(site: Path) -> None:
    page = (site / "reference" / "python.html").read_text(encoding="utf-8")
    shown = re.findall(r'<h3 id="hydrascope\.(?:\w+\.)*(\w+)"', page)
    assert sorted(shown) == sorted(hs.__all__)


def test_notebook_ran_and_shows_what_it_found(site: Path) -> None:
    said = text(site / "notebook.html")
    assert re.search(r"Of the \d\.\d\d logits lost without attn\.\d", said)
    assert str(ROOT) not in said  # warnings and tracebacks name files
    assert "<svg" in (site / "notebook.html").read_text(encoding="utf-8")


def test_notebook_is_kept_without_outputs() -> None:
    cells = json.loads((ROOT / "docs" / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_a_release_reads_on_a_package_index(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None and spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 120

    def metadata() -> dict[str, Any]:
        made: dict[str, Any] = {}
        hook.Addresses(str(ROOT), {}).update(made)
        return made

    monkeypatch.delenv("HYDRASCOPE_REPOSITORY", raising=False)
    assert metadata() == {"readme": {"content-type": "text/markdown", "text": readme}}
    monkeypatch.setenv("HYDRASCOPE_REPOSITORY", "https://example.org/hydrascope/")
    released = metadata()
    targets = re.findall(r"\]\(([^)]+)\)", released["readme"]["text"])
    assert len(targets) == len(re.findall(r"\]\(", readme)) > 20
    for target in targets:
        path = re.sub(r"https://example\.org/hydrascope/(blob|raw)/main/", "", target)
        assert path != target and (ROOT / path).is_file()
    assert "(https://example.org/hydrascope/raw/main/docs/report.png)" in released["readme"]["text"]
    assert set(released["urls"]) == {"Repository", "Issues", "Changes"}


def test_the_page_on_reading_a_report_names_sections_that_reports_have() -> None:
    rows = re.findall(r"^\| ([A-Z][^|]*) \|", (ROOT / "docs/howto/report.md").read_text(encoding="utf-8"), re.M)
    modules = (ROOT / "src/hydrascope/report").glob("_*.py")
    titles = [title for module in modules for title in re.findall(r'Draft\("[\w-]+", "([^"]+)"\)', module.read_text())]
    named = [name for row in rows for name in row.split(", ") if not row.startswith("The claims")]
    assert len(named) > 8
    assert [name for name in named if not any(title.startswith(name) for title in titles)] == []
