"""What README and the guides tell a reader to type works, in an empty folder, in the given order.

`retainbench run quick` takes minutes: a stored run is in its place. Certifying asks three tasks
instead of twelve. tests/contracts/test_guide.py runs suites/README.md, tests/api/test_guide.py
harness/README.md, tests/gate/test_ci_documented.py .github/CI.md.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fixtures import runs
from fixtures.adoption import lm_eval_row, lm_eval_run
from fixtures.certify import suite as small_suite
from fixtures.gate import run_folder, suite
from fixtures.plain_english import BANNED
from retainbench.harness.core import paths
from retainbench.harness.core.files.storage import read_json, write_jsonl
from retainbench.harness.core.paths import RunFolder
from retainbench.harness.core.scorecards import Scorecard

ROOT = paths.PACKAGE
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDES = [
    ROOT / f"{name}/README.md" for name in ("harness", "results", "suites", "tasks", "trainers")
]
SCRIPT = Path(sys.executable).with_name("retainbench")


def shell(text: str, folder: Path) -> None:
    """Run what a reader types, with the installed program on the path."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=folder,
        env={"PATH": f"{SCRIPT.parent}:/usr/bin:/bin", "HOME": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (text, done.stdout, done.stderr)


def stored_run(folder: Path) -> None:
    """What `retainbench run quick --out runs/quick` leaves, for the verbs that read it."""
    good = suite(200)
    root = run_folder(folder / "runs/quick", {0: good}, good)
    cards = [read_json(path, Scorecard) for path in sorted(root.glob("cells/*/scorecard.json"))]
    write_jsonl(RunFolder(root).scorecards, cards)


def small_run(folder: Path) -> None:
    """A run of one recipe and two tasks under the name that the guide uses."""
    stated = runs.suite(Path("fruitfly"), tasks=["capitals", "dates"], trajectory=[1.0])
    runs.write_suite(folder / "few.yaml", stated.model_copy(update={"divergence_prompts": 0}))
    shell("retainbench run ./few.yaml --out runs/quick", folder)


def write_small(folder: Path) -> None:
    """`small.yaml`, three tasks in the place of the suite `quick`."""
    stated = small_suite(divergence_prompts=2, policy={"margin": 0.05})
    runs.write_suite(folder / "small.yaml", stated)


@pytest.mark.slow
def test_every_wish_of_the_readme_is_a_command_that_works(tmp_path: Path) -> None:
    wishes = re.findall(r"^\| [^|]+ \| `(retainbench [^`]+)` \|$", README, re.MULTILINE)
    assert len(wishes) == README.count(" | `retainbench ") >= 12
    stored_run(tmp_path)
    write_small(tmp_path)
    for wish in wishes:
        shell(wish.replace("--suite quick", "--suite ./small.yaml"), tmp_path)
    assert (tmp_path / "card").is_dir()
    assert (tmp_path / "retention-gate/junit.xml").is_file()
    assert (tmp_path / "mine.yaml").is_file()
    assert "flip-data" in (tmp_path / "lost.html").read_text("utf-8")


@pytest.mark.slow
def test_the_block_on_certificates_works(tmp_path: Path) -> None:
    """With the embedded base as both models, in folders, because `verify` takes folders."""
    for name in "BC":
        shutil.copytree(paths.BASES / "fruitfly", tmp_path / name)
    write_small(tmp_path)
    (block,) = re.findall(
        r"^## Certificates\n\n```sh\n(.*?)^```$", README, re.MULTILINE | re.DOTALL
    )
    shell(block.replace("--suite quick", "--suite ./small.yaml"), tmp_path)
    assert (tmp_path / "certificate/svr.json").is_file()


def test_the_gate_of_other_harnesses_works(tmp_path: Path) -> None:
    (command,) = re.findall(r"`(retainbench gate --base-results [^`]+)`", README)
    rows = [lm_eval_row(number) for number in range(120)]
    size = {"n-samples": {"tiny": {"original": 120, "effective": 120}}}
    for name in "AB":
        lm_eval_run(tmp_path / name, rows, **size)
    (tmp_path / "policy.yaml").write_text("margin: 0.05\nminimum_items: 50\n")
    shell(command, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["results", "tasks"])
def test_the_blocks_of_a_guide_work(name: str, tmp_path: Path) -> None:
    text = (ROOT / name / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert blocks
    if name == "results":
        small_run(tmp_path)
    for block in blocks:
        shell(block, tmp_path)


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 200
    table = README.split("<!-- headline:")[1].split("<!-- /headline -->")[0]
    assert 3 <= len(re.findall(r"^\| [a-z]", table, re.MULTILINE)) <= 8


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.parent.name)
def test_links_of_a_guide_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (path.parent / target).exists(), target
    assert [line for line in text.splitlines() if BANNED.search(line)] == []


def test_the_picture_shows_the_floors_that_are_checked() -> None:
    picture = GUIDES[0].read_text(encoding="utf-8").split("```mermaid")[1].split("```")[0]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    layers = contracts["contracts"][0]["layers"]
    rooms = [[room for room in layer.split(" | ") if room != "package"] for layer in layers]
    shown = re.findall(r"<b>(\w+)</b>", picture)
    assert shown == [room for floor in rooms for room in floor]
    for room in shown:
        assert (ROOT / "harness" / room / "__init__.py").is_file()


def test_the_citation_is_the_released_one() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert f"version = {{{version}}}" in README
