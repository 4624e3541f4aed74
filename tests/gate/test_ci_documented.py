"""The documented shell and GitLab steps, each run for real in a shell."""

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
GUIDE = ROOT / ".github/CI.md"


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
    text = GUIDE.read_text("utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_documented_shell_commands_run(stored: Path) -> None:
    scripts = [script for script in documented("sh") if script.startswith(("retainbench", "cat"))]
    codes = [shell(script, stored).returncode for script in scripts]
    # The run holds a regression; the pair of files passes; smoke shows the same regression.
    assert codes == [1, 0, 1, 0]
    assert (stored / "retention-gate/junit.xml").is_file()
    assert (stored / "policy.yaml").read_text().startswith("margin: 0.05")


def test_documented_gitlab_job_runs(stored: Path) -> None:
    (text,) = (block for block in documented("yaml") if block.startswith("retention-gate:\n"))
    job = yaml.safe_load(text)["retention-gate"]
    assert job["script"][0] == "pip install retainbench"
    assert shell("\n".join(job["script"][1:]), stored).returncode == 1
    assert (stored / job["artifacts"]["reports"]["junit"]).is_file()


def test_the_documented_workflow_uses_inputs_that_the_action_has() -> None:
    (text,) = (block for block in documented("yaml") if block.startswith("name: Retention"))
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    *_, step = yaml.safe_load(text)["jobs"]["gate"]["steps"]
    assert set(step["with"]) <= set(action["inputs"])
    named = re.findall(
        r"`([a-z-]+)`", GUIDE.read_text("utf-8").split("| inputs |")[1].split("[")[0]
    )
    assert set(named) <= set(action["inputs"])


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
