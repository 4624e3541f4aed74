"""The commands of suites/README.md, "Your own data, reward, method", in an empty folder.

With RETAINBENCH_INSTALL_TESTS=1 also by the built wheel in a new environment, whose dependencies
are those of the environment of the tests.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import subprocess
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import pytest
import yaml

from retainbench.harness.core import paths

SCRIPT = Path(sys.executable).with_name("retainbench")
SCRIPTS = Path(str(distribution("trl").locate_file(""))).parents[2] / "bin"
"""Where the command `trl` is."""
WHEEL = pytest.param(
    "wheel",
    marks=pytest.mark.skipif(
        os.environ.get("RETAINBENCH_INSTALL_TESTS") != "1",
        reason="builds a wheel and an environment; set RETAINBENCH_INSTALL_TESTS=1",
    ),
)


@pytest.fixture(params=["source", WHEEL])
def script(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The installed command: of these sources, or of the wheel that is built from them."""
    if request.param == "source":
        return SCRIPT
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*pip, *build, str(paths.PACKAGE)], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    found = dict.fromkeys([sysconfig.get_path("purelib"), *sys.path])
    others = [place for place in found if place.endswith("site-packages")]
    (site / "dependencies.pth").write_text("\n".join(others))
    python = str(folder / "env" / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", str(wheel)], check=True)
    where = "import retainbench.harness as h; print(list(h.__path__)[0])"
    place = subprocess.run([python, "-c", where], cwd=folder, capture_output=True, text=True)
    assert place.stdout.startswith(str(folder)), place
    return folder / "env" / "bin" / "retainbench"


def commands() -> list[list[str]]:
    """Every command line of the section, in order."""
    text = (paths.SUITES / "README.md").read_text(encoding="utf-8").split("## Your own")[1]
    lines = [line.strip() for line in text.splitlines() if line.startswith("    retainbench ")]
    return [shlex.split(line)[1:] for line in lines]


def outside() -> dict[str, Any]:
    """The recipe of the guide that runs `trl sft`, for two steps on a CPU."""
    text = (paths.SUITES / "README.md").read_text(encoding="utf-8")
    block = text.split("**Compare a trainer of your own**")[1].split("```yaml\n")[1].split("```")[0]
    recipe: dict[str, Any] = yaml.safe_load(block)["recipes"]["mine"]
    short = "--max_steps 2 --use_cpu True --bf16 False --report_to none"
    recipe["options"]["command"] += short.split()
    return recipe


def small(suite: Path, base: Path) -> None:
    """The suite on a tiny random model and a few samples, next to an outside trainer."""
    content = yaml.safe_load(suite.read_text(encoding="utf-8"))
    content["recipes"]["trl"] = outside()
    content |= {"base": str(base), "budget": {"unit": "samples", "amount": 64}}
    content |= {"trajectory": [1.0], "noise_floor": [], "divergence_prompts": 2}
    suite.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


@pytest.mark.slow
def test_the_guides_commands_run(script: Path, tmp_path: Path, tiny_base: Path) -> None:
    dice = random.Random(1)
    pairs = dice.sample([(a, b) for a in range(2, 40) for b in range(2, 40)], 200)
    rows = [
        {"id": f"t{n}", "query": f"A ticket costs {a} and the fee is {b}. Total?", "answer": a + b}
        for n, (a, b) in enumerate(pairs)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "tickets.jsonl").write_text(lines, encoding="utf-8")
    asked = commands()
    assert [line[0] for line in asked].count("new") == 4
    for line in asked:
        if line[:1] == ["run"]:
            small(tmp_path / "mine.yaml", tiny_base)
        done = subprocess.run(
            [str(script), *line],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert "FAIL" not in done.stdout
    table = json.loads((tmp_path / "run" / "table.json").read_text(encoding="utf-8"))
    assert [row["recipe"] for row in table["rows"]] == ["sft", "sft-lora", "gentle", "trl"]
    assert "not metered" in (tmp_path / "run" / "table.md").read_text(encoding="utf-8")
    assert {tuple(row["axes"]) for row in table["rows"]} == {("general", "safety")}
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Safety drop, pp" in report
    plan = (tmp_path / "run" / "plan.json").read_text(encoding="utf-8")
    for name in ("tickets", "harmless", "gentle.py"):
        assert str(tmp_path / name) not in plan
    cards = (tmp_path / "run" / "scorecards.jsonl").read_text(encoding="utf-8").splitlines()
    provenance = json.loads(cards[0])["provenance"]
    assert {"method gentle", "task tickets", "task harmless"} <= provenance.keys()
