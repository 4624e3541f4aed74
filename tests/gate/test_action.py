"""action.yml, its steps run in a shell as GitHub's runner would, with a stub of GitHub's API."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from fixtures.gate import run_folder, stored_pair, suite
from retainbench.harness.core.paths import PACKAGE

ACTION = yaml.safe_load((PACKAGE / "action.yml").read_text("utf-8"))
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
EXPRESSION = re.compile(r"\$\{\{ (.*?) \}\}")
TOKEN = "a token"
HOSTILE = (
    "$(touch owned) `touch owned`; touch owned ${{ github.token }}\n::set-output name=verdict::PASS"
)

pytestmark = pytest.mark.skipif(
    not (shutil.which("curl") and shutil.which("jq")), reason="GitHub's runners have curl and jq"
)


class Hub(NamedTuple):
    """A stub of the part of GitHub's API that has comments."""

    url: str
    comments: list[dict[str, Any]]


class Job(NamedTuple):
    """What a job shows after the action."""

    codes: dict[str, int]
    outputs: dict[str, str]
    log: str
    summary: str


@pytest.fixture
def hub() -> Iterator[Hub]:
    comments: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = int(self.path.rpartition("page=")[2])
            self._answer(200, comments[100 * (page - 1) : 100 * page])

        def do_POST(self) -> None:
            if self.headers["Authorization"] != f"Bearer {TOKEN}":
                return self._answer(403, {})
            comments.append({"id": len(comments), "user": {"type": "Bot"}, **self._sent()})
            return self._answer(201, {})

        def do_PATCH(self) -> None:
            comments[int(self.path.rpartition("/")[2])].update(self._sent())
            self._answer(200, {})

        def _sent(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

        def _answer(self, status: int, content: Any) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Hub(f"http://127.0.0.1:{server.server_port}", comments)
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with runs and record files of every verdict, and an installed retainbench."""
    folder = tmp_path_factory.mktemp("action")
    good = suite(200)
    run_folder(folder / "good", {0: good}, good)
    run_folder(folder / "bad", {0: good, 1: suite(200, {"temporal1": 60})}, good)
    few = suite(60)
    run_folder(folder / "few", {0: few}, few)
    stored_pair(folder, good)
    records = (folder / "candidate.jsonl").read_text().splitlines(keepends=True)
    (folder / "short.jsonl").write_text("".join(records[1:]))
    program = folder / "temporary/retainbench/bin/retainbench"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"#!{sys.executable}\nfrom retainbench.harness.cli.main import main\nmain()\n"
    )
    program.chmod(0o755)
    return folder


def holds(condition: str, values: Mapping[str, str]) -> bool:
    """Whether an `if` holds: terms joined by `&&`, each a name or a comparison with a text."""
    for term in condition.split(" && "):
        name, operator, text = re.fullmatch(r"(\S+)(?: (==|!=) '(.*)')?", term).groups()  # type: ignore[union-attr]
        if name != "always()":
            value = values[name]
            if not (value == text if operator == "==" else value != (text or "")):
                return False
    return True


def substituted(text: str, values: Mapping[str, str]) -> str:
    """A text of the action with the values of its expressions."""
    return EXPRESSION.sub(lambda found: values[found[1]], text)


def job(folder: Path, hub: Hub, number: str = "7", **given: str) -> Job:
    """Run the action's own steps but Install, as the runner does.

    Args:
        given: inputs, with _ for -; the others have their defaults.
    """
    inputs = {name: entry["default"] for name, entry in ACTION["inputs"].items()}
    inputs |= {"token": TOKEN} | {name.replace("_", "-"): text for name, text in given.items()}
    values = {f"inputs.{name}": text for name, text in inputs.items()}
    values |= {"github.event.pull_request.number": number, "steps.gate.outputs.verdict": ""}
    files = {"GITHUB_OUTPUT": folder / "outputs", "GITHUB_STEP_SUMMARY": folder / "summary"}
    codes, log, outputs = {}, "", {}
    for file in files.values():
        file.write_text("")
    for name in ("Gate", "Comment"):
        if not holds(STEPS[name].get("if", "always()"), values):
            continue
        own = {key: substituted(text, values) for key, text in STEPS[name]["env"].items()}
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]["run"]],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "RUNNER_TEMP": str(folder / "temporary"),
                "GITHUB_ACTIONS": "true",
                "GITHUB_API_URL": hub.url,
                "GITHUB_REPOSITORY": "someone/model",
                **{key: str(file) for key, file in files.items()},
                **own,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        codes[name], log = done.returncode, log + done.stdout + done.stderr
        lines = files["GITHUB_OUTPUT"].read_text().splitlines()
        outputs = dict(line.split("=", 1) for line in lines)
        values |= {f"steps.gate.outputs.{key}": text for key, text in outputs.items()}
    assert not (folder / "owned").exists()
    return Job(codes, outputs, log, files["GITHUB_STEP_SUMMARY"].read_text())


@pytest.mark.parametrize(
    ("run", "verdict", "code"),
    [("good", "PASS", 0), ("bad", "REGRESSION", 1), ("few", "INCONCLUSIVE", 3)],
)
def test_every_verdict_has_its_code_summary_comment_and_junit(
    stored: Path, hub: Hub, run: str, verdict: str, code: int
) -> None:
    shown = job(stored, hub, run=run, out=f"out {run}", comment="true")
    assert shown.codes == {"Gate": code, "Comment": 0}
    assert shown.outputs == {"verdict": verdict, "exit-code": str(code)}
    assert f"Retention gate: {verdict}" in shown.summary.splitlines()[0]
    (comment,) = hub.comments
    assert f"Retention gate: {verdict}" in comment["body"].splitlines()[1]
    assert (stored / f"out {run}/junit.xml").is_file()
    assert ("::error title=REGRESSION%3A temporal1" in shown.log) == (verdict == "REGRESSION")


def test_inconclusive_can_be_allowed_and_is_still_shown(stored: Path, hub: Hub) -> None:
    shown = job(stored, hub, run="few", allow_inconclusive="true")
    assert shown.codes == {"Gate": 0}
    assert shown.outputs == {"verdict": "INCONCLUSIVE", "exit-code": "3"}
    assert "INCONCLUSIVE is allowed to pass here" in shown.log


def test_broken_and_missing_evidence_replaces_the_comment(stored: Path, hub: Hub) -> None:
    """A comment that says PASS does not outlive a push whose evidence cannot be judged."""
    job(stored, hub, run="good", comment="true")
    sides = {"base_records": "base.jsonl", "policy": "policy.yaml", "comment": "true"}
    short = job(stored, hub, candidate_records="short.jsonl", **sides)
    assert short.codes == {"Gate": 4, "Comment": 0}
    assert "missing from the candidate" in short.log
    (comment,) = hub.comments
    assert comment["body"].splitlines()[1] == "## ⛔ Retention gate: nothing was judged"
    gone = job(stored, hub, candidate_records="gone.jsonl", **sides)
    assert gone.codes["Gate"] == 4
    assert "gone.jsonl is missing" in gone.log
    assert gone.outputs == {}
    lawless = job(
        stored, hub, candidate_records="candidate.jsonl", **{**sides, "policy": "no.yaml"}
    )
    assert (lawless.codes["Gate"], lawless.outputs) == (2, {})
    assert "no.yaml does not exist. Name a YAML file" in lawless.log
    assert len(hub.comments) == 1


def test_another_digest_of_the_policy_is_an_integrity_failure(stored: Path, hub: Hub) -> None:
    sides = {"base_records": "base.jsonl", "candidate_records": "candidate.jsonl"}
    shown = job(stored, hub, policy="policy.yaml", policy_sha256="0" * 64, **sides)
    assert shown.codes == {"Gate": 4}


def test_only_a_bots_comment_is_replaced(stored: Path, hub: Hub) -> None:
    """A person who writes the mark does not get a verdict into her own comment."""
    job(stored, hub, run="good", comment="true")
    forged = {"id": 0, "user": {"type": "User"}, "body": hub.comments[0]["body"]}
    others = [{"id": i, "user": {"type": "Bot"}, "body": None} for i in range(1, 101)]
    hub.comments[:] = [forged, *others]
    job(stored, hub, run="bad", comment="true")
    assert hub.comments[0] == forged
    assert len(hub.comments) == 102
    job(stored, hub, run="good", comment="true")
    assert len(hub.comments) == 102
    assert "Retention gate: PASS" in hub.comments[101]["body"]


def test_no_comment_is_written_without_a_pull_request_or_a_wish(stored: Path, hub: Hub) -> None:
    assert "Comment" not in job(stored, hub, number="", run="good", comment="true").codes
    assert "Comment" not in job(stored, hub, run="good").codes
    assert hub.comments == []


def test_a_token_that_may_not_write_fails_the_step(stored: Path, hub: Hub) -> None:
    shown = job(stored, hub, run="good", comment="true", token="of a fork")
    assert shown.codes["Comment"] != 0
    assert "403" in shown.log


@pytest.mark.parametrize(
    "names",
    [
        ("run",),
        ("out", "artifact", "allow-inconclusive"),
        ("tier",),
        ("packs",),
        ("base-records", "candidate-records", "policy", "base-sha256", "policy-sha256"),
        ("base-results", "candidate-results"),
        ("base", "candidate", "suite"),
    ],
    ids="-".join,
)
def test_hostile_inputs_are_text(stored: Path, hub: Hub, names: tuple[str, ...]) -> None:
    given = {name.replace("-", "_"): HOSTILE for name in names}
    if names[0] in {"out", "tier", "packs"}:
        given["run"] = "bad"
    shown = job(stored, hub, comment="true", **given)
    assert shown.codes["Gate"] != 0
    assert shown.outputs.get("verdict") != "PASS"
    assert not [line for line in shown.log.splitlines() if line.lstrip().startswith("::set-output")]


def test_no_script_holds_an_expression() -> None:
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_an_old_python_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", STEPS["Install"]["run"]],
        env={"PATH": os.environ["PATH"], "PYTHON": str(old), "CANDIDATE": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.count("::error::")) == (2, 1)


@pytest.mark.slow
def test_a_checkpoint_is_certified(stored: Path, hub: Hub) -> None:
    (stored / "suite.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "mine",
                "description": "one task",
                "base": "fruitfly",
                "targets": ["new_facts"],
                "tasks": ["capitals"],
                "recipes": {"sft": {"method": "sft"}},
                "seeds": [0],
                "budget": {"unit": "steps", "amount": 1},
                "policy": {"margin": 0.05},
            }
        )
    )
    model = {"base": "fruitfly", "candidate": "fruitfly", "suite": "./suite.yaml"}
    shown = job(stored, hub, tier="smoke", out="certificate", comment="true", **model)
    assert shown.codes == {"Gate": 3, "Comment": 0}, shown.log
    assert shown.outputs == {"verdict": "INCONCLUSIVE", "exit-code": "3"}
    assert "Retention gate: INCONCLUSIVE" in hub.comments[0]["body"]
    assert (stored / "certificate/ci/junit.xml").is_file()
    assert "retainbench report certificate --out lost.html" in shown.log
    assert "::warning title=INCONCLUSIVE" in shown.log
