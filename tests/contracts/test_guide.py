"""The commands of suites/README.md, "Your own data, reward, method", in an empty folder."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from retainbench.harness.core import paths

SCRIPT = Path(sys.executable).with_name("retainbench")


def commands() -> list[list[str]]:
    """Every command line of the section, in order."""
    text = (paths.SUITES / "README.md").read_text(encoding="utf-8").split("## Your own")[1]
    lines = [line.strip() for line in text.splitlines() if line.startswith("    retainbench ")]
    return [shlex.split(line)[1:] for line in lines]


def small(suite: Path, base: Path) -> None:
    """The suite on a tiny random model and a few samples; nothing else of it changes."""
    content = yaml.safe_load(suite.read_text(encoding="utf-8"))
    content |= {"base": str(base), "budget": {"unit": "samples", "amount": 64}}
    content |= {"trajectory": [1.0], "noise_floor": [], "divergence_prompts": 2}
    suite.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


@pytest.mark.slow
def test_the_guides_commands_run(tmp_path: Path, tiny_base: Path) -> None:
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
            [str(SCRIPT), *line], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert "FAIL" not in done.stdout
    table = json.loads((tmp_path / "run" / "table.json").read_text(encoding="utf-8"))
    assert [row["recipe"] for row in table["rows"]] == ["sft", "sft-lora", "gentle"]
    assert {tuple(row["axes"]) for row in table["rows"]} == {("general", "safety")}
    report = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "Safety drop, pp" in report
    plan = (tmp_path / "run" / "plan.json").read_text(encoding="utf-8")
    for name in ("tickets", "harmless", "gentle.py"):
        assert str(tmp_path / name) not in plan
    cards = (tmp_path / "run" / "scorecards.jsonl").read_text(encoding="utf-8").splitlines()
    provenance = json.loads(cards[0])["provenance"]
    assert {"method gentle", "task tickets", "task harmless"} <= provenance.keys()
