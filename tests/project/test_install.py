"""The base install: no torch, and a verdict on stored records from nothing.

Installs from the package index, minutes on a slow machine, so it runs only if asked for:
`RETAINBENCH_INSTALL_TESTS=1 pytest -s tests/project/test_install.py` prints what it measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixtures.certify import answers
from retainbench.harness.core import paths
from retainbench.harness.core.files.storage import write_jsonl

HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "lm_eval", "accelerate"}
MOST_MEGABYTES = 700
"""Of site-packages. pyarrow (170 MB), scipy (143), pandas (84), vl-convert (84) and numpy (73) are
most of it; with the extra `all` it is several gigabytes."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("RETAINBENCH_INSTALL_TESTS") != "1",
        reason="installs from the package index; set RETAINBENCH_INSTALL_TESTS=1",
    ),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of scripts of a fresh environment with the base install."""
    folder = tmp_path_factory.mktemp("slim") / "env"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    constraints = str(paths.PACKAGE / "constraints.txt")
    started = time.monotonic()
    subprocess.run([*pip, "-c", constraints, str(paths.PACKAGE)], check=True)
    sys.stdout.write(f"\ninstall: {time.monotonic() - started:.0f} s\n")
    return folder / "bin"


def test_the_base_install_has_no_torch(environment: Path) -> None:
    (packages,) = (environment.parent / "lib").glob("python*/site-packages")
    assert not HEAVY & {path.name for path in packages.iterdir()}
    size = sum(path.lstat().st_size for path in packages.rglob("*")) / 1e6
    sys.stdout.write(f"\nsite-packages: {size:.0f} MB\n")
    assert size < MOST_MEGABYTES


def test_it_gates_stored_records(environment: Path, tmp_path: Path) -> None:
    for name, lost in (("base", 0.0), ("same", 0.0), ("worse", 0.3)):
        write_jsonl(tmp_path / f"{name}.jsonl", answers("arithmetic", lost))
    (tmp_path / "policy.yaml").write_text("margin: 0.05\n")
    command = [str(environment / "retainbench"), "gate", "--policy", "policy.yaml"]
    for name, code in (("same", 0), ("worse", 1)):
        sides = ["--base-records", "base.jsonl", "--candidate-records", f"{name}.jsonl"]
        started = time.monotonic()
        ended = subprocess.run([*command, *sides], cwd=tmp_path, check=False)
        sys.stdout.write(f"gate: {time.monotonic() - started:.1f} s\n")
        assert ended.returncode == code


def test_a_verb_that_scores_names_the_extra(environment: Path, tmp_path: Path) -> None:
    command = [str(environment / "retainbench"), "evaluate", "fruitfly", "capitals"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        "retainbench: torch is not installed, and this needs it. "
        "Run: pip install 'retainbench[all]'"
    ]
