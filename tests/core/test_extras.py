"""A verb whose libraries are not installed says in one line what to install."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from retainbench.harness.core import extras, paths
from retainbench.harness.core.files.storage import write_jsonl

CALL = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == sys.argv[1]:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from retainbench.harness.cli import main
sys.exit(main.run(sys.argv[2:]))
"""


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("torch", "evaluate fruitfly capitals", "torch is not installed"),
        ("lm_eval", "evaluate fruitfly capitals", "lm-eval is not installed"),
        ("lm_eval", "freeze arc_easy --out packs", "lm-eval is not installed"),
        ("torch", "run quick --out run", "torch is not installed"),
    ],
)
def test_what_is_missing_is_named(module: str, command: str, extra: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CALL, module, *command.split()],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    last = ended.stderr.splitlines()[-1]
    assert last == f"retainbench: {extra}, and this needs it. Run: pip install 'retainbench[all]'"


@pytest.mark.parametrize("module", ["altair", "vl_convert"])
def test_the_report_names_its_extra(module: str, tmp_path: Path) -> None:
    folder = shutil.copytree(paths.PACKAGE / "results" / "quick", tmp_path / "run")
    ended = subprocess.run(
        [sys.executable, "-c", CALL, module, "report", str(folder)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[-1].endswith("Run: pip install 'retainbench[report]'")


def test_the_python_api_names_the_extra_too(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "records.jsonl", [])
    code = (
        CALL.partition("from retainbench")[0]
        + "import retainbench; retainbench.load_records('records.jsonl')"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "pandas"],
        cwd=tmp_path,  # what is installed says which extra it is, not an old build of the sources
        capture_output=True,
        text=True,
        check=False,
    )
    last = ended.stderr.splitlines()[-1]
    assert last.endswith(
        "UsageError: pandas is not installed, and this needs it. "
        "Run: pip install 'retainbench[report]'"
    )


def test_a_module_that_no_extra_holds_is_a_bug() -> None:
    error = ModuleNotFoundError("No module named 'nowhere'", name="nowhere")
    assert extras.not_installed(error) is None
