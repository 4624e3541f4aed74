"""The base install: no torch, and a verdict on stored records from nothing.

Installs from the package index, minutes on a slow machine, so it runs only if asked for:
`RETAINBENCH_INSTALL_TESTS=1 pytest -s tests/project/test_install.py` prints what it measured.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fixtures.certify import answers
from retainbench.harness.core import paths
from retainbench.harness.core.files.storage import write_jsonl

HEAVY = {"torch", "transformers", "trl", "peft", "datasets", "lm_eval", "accelerate"}
HEAVY |= {"scipy", "pandas", "pyarrow", "altair", "vl_convert"}
INSTALLER = {"pip", "setuptools", "pkg_resources", "_distutils_hack"}
"""What a new environment has before anything is installed in it."""
MOST_MEGABYTES = 150
"""Of what is installed; numpy is half of it. With the extra `all` it is several gigabytes."""

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
    installed = [path for path in packages.iterdir() if path.name not in INSTALLER]
    assert not HEAVY & {path.name for path in installed}
    files = [file for path in installed for file in (path, *path.rglob("*"))]
    size = sum(file.lstat().st_size for file in files) / 1e6
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


@pytest.mark.parametrize(
    ("arguments", "library", "extra"),
    [
        (["evaluate", "fruitfly", "capitals"], "torch", "all"),
        (["run", "quick"], "torch", "all"),
        (["report", str(paths.PACKAGE / "results" / "quick")], "vl-convert-python", "report"),
    ],
)
def test_a_verb_that_needs_more_names_the_extra(
    environment: Path, tmp_path: Path, arguments: list[str], library: str, extra: str
) -> None:
    if arguments[0] == "report":
        arguments[1] = str(shutil.copytree(arguments[1], tmp_path / "run"))
    command = [str(environment / "retainbench"), *arguments]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.splitlines() == [
        f"retainbench: {library} is not installed, and this needs it. "
        f"Run: pip install 'retainbench[{extra}]'"
    ]
