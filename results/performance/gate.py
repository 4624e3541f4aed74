"""`retainbench gate` on stored records of 100 tasks x 10,000 items, against pandas.

Writes the records of a base and a candidate (2 % of items flip; a log-likelihood for each of four
choices, as scored records have them) to a temporary folder: about 0.9 GB. The peer is a script that
reads both files with pandas, pairs the items and compares each task's mean with its error; it
checks no hash, knows no clusters and gates no axis.

Command: `python -m results.performance.build gate`
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from results.performance.process import CLI, OURS, CommandRow, Spent, alternate, spend
from retainbench.harness.core.files.storage import canonical, write_text
from retainbench.harness.core.records import ItemRecord

TASKS, ITEMS = 100, 10_000
FLIPPED = 0.02
SECONDS, BYTES = 10.0, 1e9
"""Goals of the gate."""
PANDAS = "pandas"

ABOUT = f"""`retainbench gate` on the stored records of two checkpoints, {TASKS} tasks of {ITEMS:,}
items each, beside a script that reads both files with pandas (its own reader, and pyarrow's), pairs
the items and compares each task's mean with its error."""

SCRIPT = """
import math, sys
import pandas as pd

engine = sys.argv[3]
base, candidate = (pd.read_json(name, lines=True, engine=engine) for name in sys.argv[1:3])
keys = ["task", "doc_hash"]
both = base[[*keys, "score"]].merge(candidate[[*keys, "score"]], on=keys)
for task, rows in both.groupby("task"):
    change = rows.score_y - rows.score_x
    error = change.std() / math.sqrt(len(change))
    verdict = "REGRESSION" if change.mean() + 1.64 * error < -0.05 else "ok"
    print(f"{task} {rows.score_x.mean():.4f} {rows.score_y.mean():.4f} +- {error:.4f} {verdict}")
"""


def bench(*, repeats: int, tasks: int = TASKS, items: int = ITEMS) -> Iterator[CommandRow]:
    """Write the records and measure all ways."""
    with tempfile.TemporaryDirectory(prefix="retainbench-bench-") as temporary:
        folder = Path(temporary)
        files = [str(folder / f"{side}.jsonl") for side in ("base", "candidate")]
        for file, share in zip(files, (0.0, FLIPPED), strict=True):
            write_records(Path(file), tasks, items, share)
        script, policy = folder / "compare.py", folder / "policy.yaml"
        write_text(script, SCRIPT)
        write_text(policy, "margin: 0.05\n")
        ours = [*CLI, "gate", "--base-records", files[0], "--candidate-records", files[1]]

        def pandas(engine: str) -> Spent:
            return spend([sys.executable, str(script), *files, engine])

        ways = {
            OURS: lambda: spend([*ours, "--policy", str(policy)], accepted=(0, 1, 3)),
            PANDAS: lambda: pandas("ujson"),
            f"{PANDAS}, pyarrow": lambda: pandas("pyarrow"),
        }
        yield from alternate(f"{tasks} tasks x {items} items", ways, repeats)


def write_records(file: Path, tasks: int, items: int, flipped: float) -> None:
    """Records of one checkpoint; the same items whatever the share that flips."""
    draws, flips = random.Random(0), random.Random(1)
    like = _like().model_dump(mode="json")
    with file.open("w", encoding="utf-8") as stream:
        for task in range(tasks):
            for item in range(items):
                right = (draws.random() < 0.7) != (flips.random() < flipped)
                record = like | _item(task, item) | {"score": float(right)}
                record["choice_logprobs"] = [round(-9 * draws.random(), 6) for _ in range(4)]
                stream.write(canonical(record) + "\n")


def _like() -> ItemRecord:
    """A record as scoring leaves it; `_item` and the answers replace what differs."""
    return ItemRecord(
        **_item(0, 0),
        metric="acc",
        chance=0.25,
        score=1.0,
        soft_score=0.5,
        response="Which of the four",
        gold=1,
    )


def _item(task: int, item: int) -> dict[str, Any]:
    digest = hashlib.sha256(f"{task} {item}".encode()).hexdigest()
    name = f"task-{task:03}"
    return {
        "task": name,
        "axis": ("general", "numeric", "temporal")[task % 3],
        "item_id": f"{name}:{item}",
        "cluster": f"{name}:{item}",
        "doc_hash": digest,
        "prompt_hash": digest[::-1],
        "target_hash": digest[32:] + digest[:32],
    }


def findings(rows: list[dict[str, Any]]) -> list[str]:
    """What the stored rows show."""
    ours = next(row for row in rows if row["way"] == OURS)
    best = max(row["ours_over_this"] for row in rows if row["way"] != OURS)
    return [
        f"{ours['wall_s']:.1f} s and {ours['peak_mb']:.0f} MB (goal: {SECONDS:g} s, "
        f"{BYTES / 1e6:.0f} MB); {best:.2f} of the fastest script's time.",
    ]
