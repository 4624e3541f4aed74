"""Nobody reads, nothing can be written, the encoding is poor: the exit code is the verdict."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fixtures.gate import stored_pair, suite

SCRIPT = Path(sys.executable).with_name("retainbench")
GATE = ("gate", "--base-records", "base.jsonl", "--candidate-records", "candidate.jsonl")


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose gate is a REGRESSION on many lines."""
    return stored_pair(tmp_path_factory.mktemp("gate"), suite(200, {"general0": 90}))


def run(folder: Path, shell: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A shell line in which `$GATE` is the command; POSIX sh without pipefail."""
    gate = " ".join((str(SCRIPT), *GATE, "--policy", "policy.yaml"))
    return subprocess.run(
        ["/bin/sh", "-c", shell],
        cwd=folder,
        env=os.environ | {"GATE": gate, "SCRIPT": str(SCRIPT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "shell",
    [
        "$GATE",
        "($GATE; echo $? >code) | true; exit $(cat code)",
        "($GATE; echo $? >code) | head -1; exit $(cat code)",
        "$GATE >&-",
        "$GATE <&- >&- 2>&-",
        "PYTHONIOENCODING=ascii $GATE",
        "PYTHONIOENCODING=latin-1 $GATE >out; code=$?; cat out | tr -d '\\200-\\377'; exit $code",
        "PYTHONUTF8=0 LC_ALL=POSIX PYTHONCOERCECLOCALE=0 $GATE",
    ],
)
def test_the_exit_code_is_the_verdict(regression: Path, shell: str) -> None:
    done = run(regression, shell)
    assert (done.returncode, done.stderr) == (1, "")
    assert "\\u" not in done.stdout


@pytest.mark.parametrize("verb", ["$GATE", "$SCRIPT --help"])
def test_a_full_disk_behind_standard_output_is_one_line(regression: Path, verb: str) -> None:
    done = run(regression, f"{verb} >/dev/full")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "cannot write to standard output: No space left on device" in done.stderr


def test_a_reader_that_left_is_no_regression(tmp_path: Path) -> None:
    done = run(tmp_path, "($SCRIPT methods; echo $? >code) | true; exit $(cat code)")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_working_folder_that_was_removed_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, 'mkdir gone && cd gone && rmdir "$PWD" && $SCRIPT freeze a --out b')
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "the working folder cannot be used" in done.stderr


def test_no_home_is_one_line(tmp_path: Path) -> None:
    """An unknown user id has no home in the password file either."""
    program = (
        "import os\nfrom retainbench.harness.cli.main import main\n"
        "from retainbench.harness.models import bases\nos.setuid(54321)\nmain()"
    )
    if os.getuid() != 0:
        pytest.skip("only root can become an unknown user")
    homes = ("HOME", "XDG_CACHE_HOME", "RETAINBENCH_CACHE")
    done = subprocess.run(
        [sys.executable, "-c", program, "bases", "list"],
        cwd="/",
        env={k: v for k, v in os.environ.items() if k not in homes},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "RETAINBENCH_CACHE" in done.stderr
