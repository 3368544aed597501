"""Check results as JUnit XML, which every CI service reads."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from flamingo_eval.report.visible import visible
from flamingo_eval.smoke.checks import CheckResult


def junit_xml(results: Sequence[CheckResult], model: str) -> bytes:
    """One test suite named by the model, a test case for each check."""
    counts = {status: sum(r.status == status for r in results) for status in ("failed", "skipped")}
    suite = ElementTree.Element(
        "testsuite",
        name=visible(f"flamingo-eval smoke: {model}"),
        tests=str(len(results)),
        failures=str(counts["failed"]),
        errors="0",
        skipped=str(counts["skipped"]),
        time=f"{sum(r.seconds for r in results):.3f}",
    )
    for result in results:
        case = ElementTree.SubElement(
            suite, "testcase", classname="flamingo_eval.smoke", name=result.name, time=f"{result.seconds:.3f}"
        )
        message = visible(result.message)
        if result.status == "failed":
            ElementTree.SubElement(case, "failure", message=message.splitlines()[0]).text = message
        elif result.status == "skipped":
            ElementTree.SubElement(case, "skipped", message=message)
        else:
            ElementTree.SubElement(case, "system-out").text = message
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    xml: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return xml + b"\n"
