"""What CI shows: counts that add up, limits that hold, hostile text that stays text."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fixtures.gate import POLICY, Sides, sides, suite
from retainbench.harness.core.verdicts import GateResult, failed
from retainbench.harness.gate import ci, job_summary
from retainbench.harness.gate.candidates import gate_records
from retainbench.harness.gate.command import FinishedGate, printable, verdict_lines
from retainbench.harness.gate.junit import junit

HOSTILE = (
    "<script>alert(1)</script><img src=x onerror=alert(1)> | `code` **bold** [x](http://evil) "
    "@everyone #1 ![i](http://evil/i.png)\n::error::owned\n\x1b[31mred\x1b[0m \u202egnp.exe "
    "\x00\ufffe ]]> &amp; --- ```"
)


def judged(both: Sides, name: str = "candidate") -> GateResult:
    return gate_records(both.base, both.candidate, POLICY, name=name)


@pytest.fixture(scope="module")
def mixed() -> list[GateResult]:
    """One result of each verdict."""
    return [
        judged(suite(200), "good"),
        judged(suite(200, {"general0": 60}), "bad"),
        judged(suite(60), "small"),
        failed("gone", "", "records are missing", 0.05),
    ]


@pytest.fixture(scope="module")
def two_hundred() -> GateResult:
    """A candidate that failed on 200 tasks."""
    many = [sides(f"task_{i:03d}", 60, lost=30 + i % 20) for i in range(200)]
    return judged(Sides([r for s in many for r in s.base], [r for s in many for r in s.candidate]))


def test_junit_counts_add_up_and_every_verdict_has_its_form(mixed: list[GateResult]) -> None:
    root = ElementTree.fromstring(junit(mixed))  # noqa: S314 - written by the line itself
    totals = {key: int(root.get(key, "-1")) for key in ("tests", "failures", "errors", "skipped")}
    found = {
        "tests": len(root.findall(".//testcase")),
        "failures": len(root.findall(".//failure")),
        "errors": len(root.findall(".//error")),
        "skipped": len(root.findall(".//skipped")),
    }
    assert totals == found
    for suite_ in root:
        assert int(suite_.get("tests", "-1")) == len(suite_.findall("testcase"))
    good, bad, small, gone = root
    assert not [child for case in good for child in case if child.tag != "properties"]
    regressed = bad.findall("testcase/failure[@type='regression']/..")
    assert [(c.get("classname"), c.get("name")) for c in regressed] == [
        ("retention.gate", "gate"),
        ("retention.general", "general0/acc"),
    ]
    assert {f.get("type") for f in small.iter("failure")} == {"inconclusive"}
    assert [e.get("type") for e in gone.iter("error")] == ["integrity"]
    properties = {p.get("name"): p.get("value") for p in regressed[1].iter("property")}
    assert properties["lost"] == "64"
    assert properties["margin"] == "0.05"


def test_a_gate_that_does_not_pass_fails_junit_even_if_all_tasks_pass() -> None:
    both = suite(300, noise=0)
    smoke = gate_records(both.base, both.candidate, POLICY, tier="smoke")
    assert {task.verdict for task in smoke.tasks} == {"PASS"}
    root = ElementTree.fromstring(junit([smoke]))  # noqa: S314 - as above
    (failure,) = root.iter("failure")
    assert failure.get("type") == "inconclusive"


def test_only_a_task_that_is_not_mandatory_may_be_skipped() -> None:
    big, small = sides("big", 300, lost=2, gained=2), sides("small", 60, lost=3)
    both = Sides([*big.base, *small.base], [*big.candidate, *small.candidate])
    policy = POLICY.model_copy(update={"mandatory": ["big"]})
    result = gate_records(both.base, both.candidate, policy)
    assert result.verdict == "PASS"
    root = ElementTree.fromstring(junit([result]))  # noqa: S314 - as above
    assert (root.get("failures"), root.get("skipped")) == ("0", "1")


def test_the_summary_has_the_verdict_first_and_the_worst_task_next(
    mixed: list[GateResult],
) -> None:
    text = job_summary.summary(mixed)
    assert text.startswith("## ⛔ Retention gate: ERROR")
    order = [text.index(f"### {sign}") for sign in "⛔❌❔✅"]
    assert order == sorted(order)
    bad = text[order[1] : order[2]]
    first = next(line for line in bad.splitlines() if line.startswith("| general"))
    assert "REGRESSION" in first
    assert "64 / 4" in first
    assert "left out" not in text


def test_a_failure_of_two_hundred_tasks_fits_and_drops_whole_rows(
    two_hundred: GateResult,
) -> None:
    whole = job_summary.summary([two_hundred])
    assert len(whole.encode()) < 900_000
    assert whole.count("\n| task\\_") == 200
    assert len(job_summary.comment([two_hundred]).encode()) <= 60_000
    comment = job_summary.summary([two_hundred], limit=20_000)
    assert 18_000 < len(comment.encode()) <= 20_000
    shown = [line for line in comment.splitlines() if line.startswith("| task\\_")]
    left = re.search(r"\*\*(\d+) rows left out", comment)
    assert left is not None
    assert len(shown) + int(left[1]) == 200
    columns = comment[comment.index("| task |") :].splitlines()[0].count("|")
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in shown} == {columns}
    # The rows that are shown are the worst ones.
    drops = [task.change.drop.value for task in two_hundred.tasks]
    assert drops == sorted(drops, reverse=True)


def test_a_hundred_failed_candidates_of_two_hundred_tasks_stay_below_the_limit(
    two_hundred: GateResult,
) -> None:
    text = job_summary.summary([two_hundred] * 100)
    assert 800_000 < len(text.encode()) <= 900_000
    assert "rows left out for size" in text


def test_annotations_are_ten_of_a_kind_largest_first(two_hundred: GateResult) -> None:
    lines = ci.github_annotations([two_hundred])
    assert len(lines) == 10
    assert all(line.startswith("::error title=REGRESSION%3A task_") for line in lines[:9])
    assert lines[9] == "::error title=Retention gate::and 191 more; see the job summary"


def test_every_verdict_but_pass_is_annotated(mixed: list[GateResult]) -> None:
    for result, kind in zip(mixed, (None, "error", "warning", "error"), strict=True):
        lines = ci.github_annotations([result])
        assert (kind is None and not lines) or lines[0].startswith(f"::{kind} ")


@pytest.fixture(scope="module")
def hostile() -> GateResult:
    """Task, metric, candidate and warning written by an enemy; a megabyte in one name."""
    both = sides(HOSTILE, 100, lost=40, metric=HOSTILE)
    long = sides("x" * 1_000_000, 100, lost=40)
    result = gate_records(
        [*both.base, *long.base], [*both.candidate, *long.candidate], POLICY, name=HOSTILE
    )
    return result.model_copy(update={"label": HOSTILE, "warnings": [HOSTILE]})


def test_hostile_text_harms_no_surface(hostile: GateResult, tmp_path: Path) -> None:
    ci.write(tmp_path, [hostile])
    ElementTree.parse(tmp_path / "junit.xml")  # noqa: S314 - well-formed is what is tested
    for name in ("junit.xml", "summary.md", "comment.md"):
        text = (tmp_path / name).read_text("utf-8")
        assert len(text) < 50_000
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ufffe]", text)
    assert json.loads((tmp_path / "gate.json").read_text())["verdict"] == "REGRESSION"


def test_hostile_markdown_is_literal(hostile: GateResult) -> None:
    text = job_summary.summary([hostile])
    for active in ("[x](", "@everyone", "**bold**", "`code`", "http://", " #1 "):
        assert active not in text
    assert not re.search(r"(?<!\\)<(?!/?sub>)", text)
    rows = [line for line in text.splitlines() if line.startswith("| \\<script")]
    assert len(rows) == 2
    assert not [line for line in text.splitlines() if line.lstrip().startswith("::")]


def test_hostile_lines_are_no_workflow_commands(hostile: GateResult) -> None:
    annotations = ci.github_annotations([hostile])
    for line in annotations:
        assert "\n" not in line
        assert "\r" not in line
        assert line.startswith(("::error title=", "::warning title="))
        title = line.split("title=", 1)[1].split("::", 1)[0]
        assert "," not in title
        assert ":" not in title
    finished = FinishedGate([hostile], verdict_lines(hostile), annotations, 1)
    log = printable(finished, {"GITHUB_ACTIONS": "true"})
    opening, *body = log.splitlines()
    token = opening.removeprefix("::stop-commands::")
    assert len(token) == 32
    inside = body[: body.index(f"::{token}::")]
    assert not [line for line in inside if line.lstrip().startswith("::")]
    assert "\x1b" not in log


def test_github_files_are_appended_and_only_hold_words_of_ours(
    hostile: GateResult, tmp_path: Path
) -> None:
    summary, output = tmp_path / "summary", tmp_path / "output"
    summary.write_text("before\n")
    environment = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_OUTPUT": str(output),
    }
    assert ci.github([hostile], environment) == ci.github_annotations([hostile])
    assert summary.read_text().startswith("before\n## ❌ Retention gate: REGRESSION")
    assert output.read_text() == "verdict=REGRESSION\nexit-code=1\n"
    assert ci.github([hostile], {}) == []
