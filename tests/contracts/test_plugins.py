"""A plug-in wheel: built and installed into a folder of its own, found by its entry points.

Each case runs in a process of its own, in which that folder is on the path.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from retainbench.harness.contracts import skeletons

METHODS = '[project.entry-points."retainbench.methods"]\n'
CONTENT = '[project.entry-points."retainbench.content"]\n'
MAIN = "import sys; from retainbench.harness.cli.main import run; sys.exit(run(sys.argv[1:]))"


def install(where: Path, name: str, entries: str) -> Path:
    """Build the package `name` with a method, a target, a task and a suite; install it."""
    source = where / f"{name}-source"
    package = source / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    skeletons.method("gentle", package)
    skeletons.target("sums", package / "targets")
    skeletons.task("fruit", package / "tasks", "safety")
    (package / "tasks" / "fruit.jsonl").unlink()
    suite = skeletons.suite("plugged", package / "suites", ["sums"], ["fruit"], ["gentle"])
    assert "method: gentle" in suite.read_text()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n{entries}'
        f'[tool.setuptools]\npackages = ["{name}"]\n'
        f'[tool.setuptools.package-data]\n"{name}" = ["**/*"]\n'
    )
    site = where / "site"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--disable-pip-version-check", "--target", str(site)]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return site


def shell(site: Path, *arguments: str) -> tuple[int, str]:
    """One command line with the plug-in on the path; exit code, both streams."""
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "COLUMNS": "250"}
    done = subprocess.run(
        [sys.executable, "-c", MAIN, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plug-in in order, and one whose module and package are not there."""
    where = tmp_path_factory.mktemp("plugin")
    whole = f'{METHODS}gentle = "acme_bench.gentle"\n{CONTENT}acme = "acme_bench"\n'
    install(where, "acme_bench", whole)
    broken = f'{METHODS}lost = "other_bench.nothing"\n{CONTENT}lost = "nothing_bench"\n'
    return install(where, "other_bench", broken)


def test_a_plug_in_is_listed_and_used(site: Path) -> None:
    code, text = shell(site, "methods")
    assert (code, "from acme_bench" in text) == (0, True)
    assert "discount" in text  # an option of its own
    code, text = shell(site, "tasks")
    rows = [line.split()[:3] for line in text.splitlines() if "acme_bench" in line]
    assert (code, rows) == (
        0,
        [["safety", "fruit", "acme_bench"], ["target", "sums", "acme_bench"]],
    )
    code, text = shell(site, "plan", "plugged")
    assert (code, "gentle on sums, seed 0" in text) == (0, True), text
    assert "3 cells, 1 retention tasks" in text
    code, text = shell(site, "suites")
    assert (code, "What is compared with what (from acme_bench)" in text) == (0, True)


def test_a_broken_entry_point_is_one_line_and_stops_nothing_else(
    site: Path, tmp_path: Path
) -> None:
    code, text = shell(site, "methods")
    broken = "other_bench: entry point lost of retainbench.methods is broken: ModuleNotFoundError"
    assert (code, broken in text) == (0, True)
    assert "\nsft  " in text
    code, text = shell(site, "tasks")
    assert code == 0
    assert "other_bench: entry point lost of retainbench.content is broken: ImportError" in text
    suite = skeletons.suite("mine", tmp_path, [], [], ["lost"])
    code, text = shell(site, "plan", str(suite))
    assert (code, broken in text, text.count("\n")) == (2, True, 1)
    suite = skeletons.suite("unknown", tmp_path, [], [], ["gentel"])
    code, text = shell(site, "plan", str(suite))
    assert (code, "unknown 'gentel'; did you mean 'gentle'?" in text) == (2, True)


def test_two_of_one_name_name_both_distributions(tmp_path: Path) -> None:
    site = install(tmp_path, "first_bench", f'{METHODS}sft = "first_bench.gentle"\n')
    code, text = shell(site, "methods")
    said = "two methods are named sft: one of retainbench, one of first_bench."
    assert (code, said in text, text.count("\n")) == (2, True, 1)
    assert shell(site, "tasks")[0] == 0
