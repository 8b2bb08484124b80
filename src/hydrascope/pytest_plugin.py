"""Lets pytest collect `expectations.toml`: every expectation of a model's parts is a test.

What is undecided is skipped with its interval, or fails where `hydrascope_strict = true` is set. Nothing of the package
is imported before such a file is met.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hydrascope.checking import Checks

ENDING = "expectations.toml"
STRICT = "hydrascope_strict"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the setting."""
    parser.addini(STRICT, "whether an expectation that its interval cannot decide fails", type="bool", default=False)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take files whose name ends in `expectations.toml`."""
    return _File.from_parent(parent, path=file_path) if file_path.name.endswith(ENDING) else None


class _File(pytest.File):
    """A file of expectations; they are judged together when the first is asked for."""

    checks: Checks | None = None

    def collect(self) -> Iterator[pytest.Item]:
        from hydrascope.checking import read_expectations

        for number, expected in enumerate(read_expectations(self.path).expected):
            yield _Item.from_parent(self, name=expected.name, number=number)

    def judged(self) -> Checks:
        from hydrascope.checking import check

        if self.checks is None:
            self.checks = check(self.path)
        return self.checks

    def repr_failure(self, excinfo: Any) -> Any:  # type: ignore[override]
        return _sentence(excinfo) or super().repr_failure(excinfo)


class _Item(pytest.Item):
    """One expectation."""

    def __init__(self, *, number: int, **given: Any) -> None:
        super().__init__(**given)
        self.number = number

    def runtest(self) -> None:
        assert isinstance(self.parent, _File)
        one = self.parent.judged().judged[self.number]
        if one.outcome == "undecided" and not self.config.getini(STRICT):
            pytest.skip(f"undecided: {one.said}")
        if one.outcome != "holds":
            raise _NotMet(f"{one.outcome}: {one.said}, expected {one.expectation.name}")

    def repr_failure(self, excinfo: Any, style: Any = None) -> Any:
        return _sentence(excinfo) or super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name


class _NotMet(Exception):
    """An expectation that does not hold."""


def _sentence(excinfo: Any) -> str:
    from hydrascope.errors import HydrascopeError

    return str(excinfo.value) if isinstance(excinfo.value, HydrascopeError | _NotMet) else ""
