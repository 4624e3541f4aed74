"""What is installed is what is tracked, and what must be light is light."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from retainbench.harness.core import paths

ROOT = paths.PACKAGE
TORCH_FREE = (
    "adoption.pair",
    "api.certify",
    "api.evaluate",
    "api.run",
    "certificate.certify",
    "certificate.export",
    "certificate.verify",
    "cli.main",
    "comparison.compare",
    "comparison.methods",
    "core.records",
    "core.schema",
    "drift.measure",
    "gate.command",
    "gate.decide",
    "report.publish",
    "report.report",
    "running.shards",
    "statistics.paired",
    "study_design.power_table",
    "suites.plan",
    "tasks.catalogue",
)
SLIM = (
    "adoption.pair",
    "certificate.export",
    "certificate.lost_items",
    "certificate.verify",
    "gate.command",
    "report.compare",
    "study_design.power_table",
)
BLOCK = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "trl", "peft", "lm_eval", "datasets"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
import importlib
importlib.import_module("retainbench.harness." + sys.argv[1])
"""


@pytest.mark.parametrize("module", TORCH_FREE)
def test_the_light_modules_import_without_torch(module: str) -> None:
    subprocess.run([sys.executable, "-c", BLOCK, module], check=True)


@pytest.mark.parametrize("module", SLIM)
def test_judging_imports_what_the_base_install_has(module: str) -> None:
    """Nothing of the extra `report`: what draws or reads Parquet imports it where it does."""
    heavy = '"torch", "scipy", "pandas", "pyarrow", "altair", "vl_convert",'
    subprocess.run([sys.executable, "-c", BLOCK.replace('"torch",', heavy), module], check=True)


def test_every_method_is_described_without_torch() -> None:
    listing = BLOCK.replace(
        '"retainbench.harness." + sys.argv[1]', '"retainbench.harness.suites.describe"'
    )
    listing += "\nimport retainbench.harness.suites.describe as d; d.markdown()"
    subprocess.run([sys.executable, "-c", listing, "-"], check=True)


def test_the_wheel_holds_exactly_the_tracked_files(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: there are no tracked files to compare with")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    copy = tmp_path / "source"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(copy)], check=True)
    subprocess.run([*command, str(tmp_path), str(copy)], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {
            n.removeprefix("retainbench/") for n in archive.namelist() if "dist-info" not in n
        }
    listed = subprocess.run(
        ["git", "-C", str(copy), "ls-files", "harness", "trainers", "tasks", "suites"],
        check=True,
        capture_output=True,
        text=True,
    )
    # The top of the package, next to the folders that are its parts.
    tracked = {name.removeprefix("harness/package/") for name in listed.stdout.split()}
    assert packed == tracked - {"harness/README.md", "trainers/README.md"}


@pytest.mark.parametrize(
    "line",
    [
        "evaluate fruitfly capitals",
        "run quick",
        "certify --base a --candidate b --suite quick --out c",
    ],
)
def test_without_torch_it_is_named_first_and_nothing_is_written(line: str, tmp_path: Path) -> None:
    call = (
        BLOCK.replace("import importlib\n", "")
        .rpartition("importlib.")[0]
        .replace(
            'raise ImportError(f"{name} is blocked")', "raise ModuleNotFoundError(name, name=name)"
        )
    )
    call += "from retainbench.harness.cli import main\nsys.exit(main.run(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", call, *line.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        [
            "retainbench: torch is not installed, and this needs it. "
            "Run: pip install 'retainbench[all]'"
        ],
    )
    assert list(tmp_path.iterdir()) == []
