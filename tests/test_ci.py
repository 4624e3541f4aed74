"""CI outputs: counts, limits, hostile text, and the documented commands run for real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from gate_fixtures import POLICY, Sides, run_folder, sides, suite

from retainbench.harness import ci, ci_markdown
from retainbench.harness.ci_junit import junit
from retainbench.harness.errors import IntegrityError, UsageError
from retainbench.harness.gate_command import Finished, Sources, command, printable, verdict_lines
from retainbench.harness.gate_policy import load
from retainbench.harness.gate_result import GateResult, failed
from retainbench.harness.gate_run import gate_records
from retainbench.harness.power import power_plan, power_run
from retainbench.harness.records import write_jsonl

ROOT = Path(__file__).resolve().parents[1]
ACTION = ROOT / ".github/actions/retention-gate"

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
    text = ci_markdown.summary(mixed)
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
    whole = ci_markdown.summary([two_hundred])
    assert len(whole.encode()) < 900_000
    assert whole.count("\n| task\\_") == 200
    assert len(ci_markdown.comment([two_hundred]).encode()) <= 60_000
    comment = ci_markdown.summary([two_hundred], limit=20_000)
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
    text = ci_markdown.summary([two_hundred] * 100)
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
    text = ci_markdown.summary([hostile])
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
    finished = Finished([hostile], verdict_lines(hostile), annotations, 1)
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


def files(folder: Path, both: Sides) -> Path:
    write_jsonl(folder / "base.jsonl", both.base)
    write_jsonl(folder / "candidate.jsonl", both.candidate)
    (folder / "policy.yaml").write_text("margin: 0.05\nminimum_items: 50\n")
    return folder


def test_the_command_writes_files_and_says_how_many_items_would_decide(tmp_path: Path) -> None:
    where = files(tmp_path, suite(60, {"general0": 3}))
    finished = command(
        Sources(base_records=where / "base.jsonl", candidate_records=where / "candidate.jsonl"),
        policy=where / "policy.yaml",
        out=where / "out",
        allow_inconclusive=True,
    )
    assert finished.exit_code == 0
    assert finished.lines[-1].startswith("gate: INCONCLUSIVE (1 candidate), exit 0")
    assert any("items would decide" in line for line in finished.lines)
    stored = json.loads((where / "out/gate.json").read_text())
    assert (stored["verdict"], stored["exit_code"]) == ("INCONCLUSIVE", 3)
    assert sorted(p.name for p in (where / "out").iterdir()) == [
        "comment.md",
        "gate.json",
        "junit.xml",
        "summary.md",
    ]


def test_a_pinned_digest_that_differs_is_an_integrity_failure(tmp_path: Path) -> None:
    where = files(tmp_path, suite(60))
    sources = Sources(
        base_records=where / "base.jsonl", candidate_records=where / "candidate.jsonl"
    )
    policy = where / "policy.yaml"
    digests = command(sources, policy=policy).results[0].digests
    pins = {name: digests[name] for name in ("policy", "base_records")}
    assert command(sources, policy=policy, pinned=pins).exit_code == 3
    policy.write_text("margin: 0.5\n")
    with pytest.raises(IntegrityError, match="policy has the digest"):
        command(sources, policy=policy, pinned=pins)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("marginn: 0.05", "unknown key 'policy.marginn'; did you mean 'margin'"),
        ("margin: 7", "policy.margin"),
        ("- 1", "a policy is a mapping"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_bad_policy_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load(path)
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "none.yaml")


def test_sources_are_named_once_and_whole(tmp_path: Path) -> None:
    for sources in (Sources(), Sources(run=tmp_path, base_records=tmp_path)):
        with pytest.raises(UsageError, match="name one thing to gate"):
            command(sources)
    policy = files(tmp_path, suite(60)) / "policy.yaml"
    with pytest.raises(UsageError, match="go together"):
        command(Sources(base_records=tmp_path), policy=policy)
    with pytest.raises(UsageError, match="--policy is needed"):
        command(Sources(base_records=tmp_path, candidate_records=tmp_path))


def test_power_measures_the_variance_on_a_pilot() -> None:
    """A base of 80 % against an unrelated model has variance .32; its own A/A run has .08."""
    both = suite(100)
    alone = power_plan(both.base, POLICY).tasks[0]
    measured = power_plan(both.base, POLICY, [both.candidate]).tasks[0]
    assert alone.variance == pytest.approx(2 * 0.8 * 0.2)
    assert measured.variance == pytest.approx(0.08)
    # 6.182557 q / m^2 (STATISTICS 7), and 1.82 times that for six tasks at once.
    assert measured.items_alone == 198
    assert 1.7 * 198 < measured.items_joint < 2.0 * 198
    still = power_plan(both.base, POLICY, [both.base]).tasks[0]
    assert still.variance == 0.5 / 100
    assert still.power_to_pass < 1


def test_power_of_a_run_says_how_many_seeds(tmp_path: Path) -> None:
    good = suite(100, noise=1)
    worse = suite(100, {"general0": 12}, noise=1)
    found = power_run(run_folder(tmp_path, {0: good, 1: worse, 2: good}, good))
    axes = {one.axis: one for one in found.seeds}
    assert set(axes) == {"general", "numeric", "temporal"}
    assert axes["numeric"].seeds_needed is not None
    general = axes["general"].seeds_needed
    assert general is None or general > axes["numeric"].seeds_needed
    assert 0 < found.joint_power < 1


def shell(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a documented script with `retainbench` on the path."""
    program = folder / "bin" / "retainbench"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!{sys.executable}\nfrom retainbench.harness.cli import main\nmain()\n")
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the documented commands name."""
    folder = tmp_path_factory.mktemp("ci")
    good = suite(200)
    run_folder(folder / "run", {0: good, 1: suite(200, {"temporal1": 60})}, good)
    return files(folder, good)


def documented(language: str) -> list[str]:
    text = (ACTION / "README.md").read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_documented_shell_commands_run(stored: Path) -> None:
    scripts = [script for script in documented("sh") if script.startswith(("retainbench", "cat"))]
    codes = [shell(script, stored).returncode for script in scripts]
    # The run holds a regression; the pair of files passes; smoke shows the same regression.
    assert codes == [1, 0, 1, 0]
    assert (stored / "retention-gate/junit.xml").is_file()
    assert (stored / "policy.yaml").read_text().startswith("margin: 0.05")


def test_documented_gitlab_job_runs(stored: Path) -> None:
    (text,) = (block for block in documented("yaml") if "retention-gate:\n" in block)
    job = yaml.safe_load(text)["retention-gate"]
    assert job["script"][0] == "pip install retainbench"
    assert shell("\n".join(job["script"][1:]), stored).returncode == 1
    assert (stored / job["artifacts"]["reports"]["junit"]).is_file()


def test_the_action_gates_and_reports(stored: Path) -> None:
    action = yaml.safe_load((ACTION / "action.yml").read_text("utf-8"))
    (step,) = action["runs"]["steps"]
    assert "${{" not in step["run"]
    inputs = {name: entry["default"] for name, entry in action["inputs"].items()}
    chosen = inputs | {"run": "run", "out": "from action; echo owned"}
    variables = {
        name: chosen[value.removeprefix("${{ inputs.").removesuffix(" }}")]
        for name, value in step["env"].items()
    }
    github = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_OUTPUT": str(stored / "outputs"),
        "GITHUB_STEP_SUMMARY": str(stored / "summary"),
    }
    done = shell(step["run"], stored, **variables, **github)
    assert done.returncode == 1, done.stderr
    assert (stored / "outputs").read_text() == "verdict=REGRESSION\nexit-code=1\n"
    assert (stored / "from action; echo owned/junit.xml").is_file()
    assert done.stdout.splitlines()[0].startswith("::stop-commands::")
    assert done.stdout.splitlines()[-1].startswith("::error title=REGRESSION%3A temporal1")
    assert set(action["outputs"]) == {"verdict", "exit-code"}


def test_the_workflow_uses_inputs_that_the_action_has() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/retention-gate.yml").read_text("utf-8"))
    action = yaml.safe_load((ACTION / "action.yml").read_text("utf-8"))
    steps = workflow["jobs"]["gate"]["steps"]
    (gate,) = (step for step in steps if step.get("uses", "").endswith("retention-gate"))
    assert set(gate["with"]) <= set(action["inputs"])
    assert workflow["permissions"] == {"contents": "read"}


def test_errors_have_their_exit_codes_and_one_line(stored: Path) -> None:
    """Codes 2 and 4 by the shell; 0, 1 and 3 are above."""
    usage = shell("retainbench gate elsewhere", stored)
    assert (usage.returncode, usage.stderr.count("\n")) == (2, 1)
    assert "elsewhere is not a run folder" in usage.stderr
    (stored / "short.jsonl").write_text(
        "".join((stored / "candidate.jsonl").read_text().splitlines(keepends=True)[1:])
    )
    broken = shell(
        "retainbench gate --base-records base.jsonl --candidate-records short.jsonl "
        "--policy policy.yaml",
        stored,
    )
    assert broken.returncode == 4
    assert "missing from the candidate" in broken.stderr
