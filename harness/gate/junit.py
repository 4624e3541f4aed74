"""Gate results as JUnit XML: one suite per candidate, one case per task, axis and verdict.

PASS has no child; REGRESSION and INCONCLUSIVE are failures of that type (never `skipped`, which
runners count as fine), ERROR is an error. A task that is not mandatory and INCONCLUSIVE does not
fail the gate and is the one thing that is marked as skipped. The case `gate` carries the verdict on
the candidate, so a file whose tasks all pass still fails when the gate does not. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from retainbench.harness.core.text.escaping import xml
from retainbench.harness.core.verdicts import AxisGate, GateOutcome, GateResult, TaskGate, deciding

COUNTED = ("failure", "error", "skipped")


def junit(results: Sequence[GateResult], timestamp: str = "1970-01-01T00:00:00") -> str:
    """The document as text; equal results and timestamp give equal bytes.

    Args:
        timestamp: ISO 8601 without zone, of the evaluation; the default says that none is known.
    """
    root = ElementTree.Element("testsuites", name="retainbench")
    for result in results:
        root.append(_suite(result, timestamp))
    for suite in root:
        for name in ("tests", "failures", "errors", "skipped"):
            root.set(name, str(int(root.get(name, "0")) + int(suite.get(name, "0"))))
    ElementTree.indent(root, " ")
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(result: GateResult, timestamp: str) -> ElementTree.Element:
    suite = ElementTree.Element("testsuite", name=xml(result.label), time="0")
    suite.set("timestamp", timestamp)
    suite.append(_verdict_case(result))
    suite.extend(_task_case(task) for task in result.tasks)
    suite.extend(_axis_case(axis) for axis in result.axes if axis.gated)
    suite.set("tests", str(len(suite)))
    for tag, name in zip(COUNTED, ("failures", "errors", "skipped"), strict=True):
        suite.set(name, str(len(suite.findall(f"testcase/{tag}"))))
    return suite


def _case(name: str, classname: str) -> ElementTree.Element:
    return ElementTree.Element("testcase", name=xml(name), classname=xml(classname), time="0")


def _verdict_case(result: GateResult) -> ElementTree.Element:
    case = _case("gate", "retention.gate")
    values: dict[str, object] = {"tier": result.tier, "alpha": result.alpha, **result.digests}
    if result.gain:
        values |= {"gain": result.gain.value, "gain_low": result.gain.low}
    values |= {f"warning_{i}": line for i, line in enumerate(result.warnings, 1)}
    values |= {f"remark_{i}": line for i, line in enumerate(result.remarks, 1)}
    _properties(case, values)
    _outcome(case, result.verdict, result.reasons)
    return case


def _task_case(task: TaskGate) -> ElementTree.Element:
    change = task.change
    case = _case(f"{change.task}/{change.metric}", f"retention.{change.axis}")
    values = {
        "verdict": task.verdict,
        "mandatory": task.mandatory,
        "n": change.n,
        "clusters": change.clusters,
        "base_score": change.base_score,
        "candidate_score": change.candidate_score,
        "drop": change.drop.value,
        "drop_low": change.drop.low,
        "drop_high": change.drop.high,
        "level": change.drop.level,
        "method": change.drop.method,
        "margin": change.margin,
        "holm_p": task.holm_p,
        "lost": change.lost,
        "gained": change.gained,
        "minimum_detectable_effect": change.minimum_detectable_effect,
        "items_to_decide": task.items_to_decide,
    }
    _properties(case, values)
    reasons = [*task.reasons, *filter(None, [deciding(task)])]
    if task.verdict == "INCONCLUSIVE" and not task.mandatory and not task.unadjusted:
        message = xml(f"inconclusive, not mandatory: {'; '.join(reasons)}")
        ElementTree.SubElement(case, "skipped", message=message)
    else:
        _outcome(case, task.verdict, reasons)
    return case


def _axis_case(axis: AxisGate) -> ElementTree.Element:
    case = _case(f"axis/{axis.axis}", f"retention.{axis.axis}")
    if axis.change:
        drop = axis.change.drop
        limits = {"drop": drop.value, "drop_low": drop.low, "drop_high": drop.high}
        _properties(case, {"margin": axis.change.margin, **limits})
    _outcome(case, axis.verdict, axis.reasons)
    return case


def _outcome(case: ElementTree.Element, verdict: GateOutcome, reasons: Sequence[str]) -> None:
    if verdict == "PASS":
        return
    message = xml("; ".join(reasons) or verdict)
    if verdict == "ERROR":
        ElementTree.SubElement(case, "error", type="integrity", message=message)
    else:
        ElementTree.SubElement(case, "failure", type=verdict.lower(), message=message)


def _properties(case: ElementTree.Element, values: Mapping[str, object]) -> None:
    found = ElementTree.SubElement(case, "properties")
    for name, value in values.items():
        if value is not None:
            ElementTree.SubElement(found, "property", name=xml(name), value=xml(str(value)))
