"""Judged expectations as JUnit XML, which continuous integration reads."""

from __future__ import annotations

from xml.etree import ElementTree

from hydrascope.checking._judge import Judged


def junit(name: str, judged: tuple[Judged, ...]) -> str:
    """A test suite with a case for each expectation: failed where it fails, skipped where it is undecided.

    Args:
        name: the suite's name.
        judged: expectations.
    """
    count = {outcome: str(sum(one.outcome == outcome for one in judged)) for outcome in ("fails", "undecided")}
    suite = ElementTree.Element(
        "testsuite", name=name, tests=str(len(judged)), failures=count["fails"], skipped=count["undecided"], errors="0"
    )
    for one in judged:
        case = ElementTree.SubElement(suite, "testcase", classname=name, name=one.expectation.name)
        if one.outcome != "holds":
            kind = "failure" if one.outcome == "fails" else "skipped"
            ElementTree.SubElement(case, kind, message=f"{one.outcome}: {one.said}")
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
