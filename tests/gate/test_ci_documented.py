"""The documented shell, GitLab and GitHub steps, each run for real in a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from fixtures.gate import run_folder, stored_pair, suite

ROOT = Path(__file__).resolve().parents[2]
ACTION = ROOT / ".github/actions/retention-gate"


def shell(script: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a documented script with `retainbench` on the path."""
    program = folder / "bin" / "retainbench"
    program.parent.mkdir(exist_ok=True)
    program.write_text(
        f"#!{sys.executable}\nfrom retainbench.harness.cli.main import main\nmain()\n"
    )
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
    return stored_pair(folder, good)


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
