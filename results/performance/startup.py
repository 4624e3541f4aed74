"""From nothing to an answer on a small model: our command lines and those people type today.

    help      `retainbench --help` and `lm_eval --help`
    certify   `retainbench certify` with an empty cache, with and without the noise floor; against
              `lm_eval` on the base, `lm_eval` on the candidate (batch 32) and a script that pairs
              and compares their samples
    gate      `retainbench gate` on the records of both, against that script alone

The candidate is the base with its last layers damped, written to a temporary folder. Both sides
score the same items of the same tasks; `certify` also measures drift, and digests, decides and
writes the evidence of the certificate; its noise floor scores the base three times more.

Command: `python -m results.performance.build startup`
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from results.performance.process import (
    CLI,
    OFFLINE,
    OURS,
    CommandRow,
    Spent,
    alternate,
    spend,
)
from retainbench.harness.certificate.bundle import Bundle
from retainbench.harness.core import paths
from retainbench.harness.core.files.storage import write_json, write_text
from retainbench.harness.models import bases, loading
from retainbench.harness.suites import loading as suite_loading
from retainbench.harness.tasks import catalogue

SUITE = "quick"
JUDGED = (0, 1, 3)
"""Exit codes of a verdict, whichever."""
WITHOUT = "retainbench, no noise floor"
SHARE = 0.25
"""Of the peers' wall time that a certificate may take."""

ABOUT = f"""Command lines on the embedded base, each in a fresh process. `certify` scores the
{SUITE} suite's tasks from an empty cache, the base three times more for its noise floor; its peer
is `lm_eval` (batch 32) on base and candidate and a pandas script that pairs the logged samples.
`gate` judges what both have stored."""

DIFF = """
import json, math, sys
from pathlib import Path
import pandas as pd

def read(folder):
    parts = []
    for file in sorted(Path(folder).rglob("samples_*.jsonl")):
        rows = [json.loads(line) for line in file.open()]
        parts.append(pd.DataFrame({"task": file.stem.rsplit("_", 1)[0],
                                   "hash": [row["doc_hash"] for row in rows],
                                   "acc": [row["acc"] for row in rows]}))
    return pd.concat(parts)

both = read(sys.argv[1]).merge(read(sys.argv[2]), on=["task", "hash"], suffixes=("_a", "_b"))
for task, rows in both.groupby("task"):
    change = rows.acc_b - rows.acc_a
    error = change.std() / math.sqrt(len(change))
    verdict = "REGRESSION" if change.mean() + 1.64 * error < -0.05 else "ok"
    print(f"{task} {rows.acc_a.mean():.4f} {rows.acc_b.mean():.4f} +- {error:.4f} {verdict}")
"""


def bench(*, repeats: int) -> Iterator[CommandRow]:
    """Measure all three on the embedded base."""
    with tempfile.TemporaryDirectory(prefix="retainbench-bench-") as temporary:
        folder = Path(temporary)
        work = _Work(folder, bases.resolve("fruitfly").folder, _candidate(folder / "candidate"))
        yield from alternate(
            "help",
            {
                OURS: lambda: spend([*CLI, "--help"]),
                "lm_eval --help": lambda: spend([sys.executable, "-m", "lm_eval", "--help"]),
            },
            repeats,
        )
        ways = {
            OURS: lambda: work.certify(SUITE),
            WITHOUT: lambda: work.certify(str(work.plain)),
            "lm_eval twice and a script": work.lm_eval_twice,
        }
        yield from alternate("certify", ways, repeats)
        yield from alternate("gate", {OURS: work.gate, "the script": work.script}, repeats)


def _candidate(folder: Path) -> Path:
    """The base with every layer's output a little damped."""
    loaded = loading.load(bases.resolve("fruitfly").folder)
    for name, weights in loaded.model.named_parameters():
        if name.endswith("down_proj.weight"):
            weights.data *= 0.97
    loading.save(loaded, folder)
    return folder


class _Work:
    """What the ways share: two models, and where results go."""

    def __init__(self, folder: Path, base: Path, candidate: Path) -> None:
        self.folder = folder
        self.models = {"base": base, "candidate": candidate}
        self.bundle = Bundle(folder / "certificate")
        write_text(folder / "diff.py", DIFF)
        write_text(folder / "policy.yaml", "margin: 0.05\n")
        self.plain = folder / "plain.yaml"
        content = suite_loading.load(SUITE).model_dump(mode="json") | {"noise_floor": []}
        write_json(self.plain, content)  # JSON is YAML

    def certify(self, chosen: str) -> Spent:
        cache = self.folder / "cache"
        shutil.rmtree(cache, ignore_errors=True)
        command = [*CLI, "certify", "--base", str(self.models["base"]), "--overwrite"]
        command += ["--candidate", str(self.models["candidate"])]
        command += ["--suite", chosen, "--out", str(self.bundle.root)]
        return spend(command, environment={"RETAINBENCH_CACHE": str(cache)}, accepted=JUDGED)

    def lm_eval_twice(self) -> Spent:
        return _sum(*(self._lm_eval(side) for side in self.models), self.script())

    def _lm_eval(self, side: str) -> Spent:
        out = self.folder / "lm_eval" / side
        shutil.rmtree(out, ignore_errors=True)
        names = [info.lm_eval_name for info in catalogue.OWN.find(suite_loading.load(SUITE).tasks)]
        return spend(lm_eval(self.models[side], names, out), environment=OFFLINE)

    def gate(self) -> Spent:
        command = [*CLI, "gate", "--base-records", str(self.bundle.base_records)]
        command += ["--candidate-records", str(self.bundle.candidate_records)]
        return spend([*command, "--policy", str(self.folder / "policy.yaml")], accepted=JUDGED)

    def script(self) -> Spent:
        folders = [str(self.folder / "lm_eval" / side) for side in self.models]
        return spend([sys.executable, str(self.folder / "diff.py"), *folders])


def lm_eval(model: Path, names: list[str], out: Path) -> list[str]:
    """lm-eval's command on our tasks, as its users type it."""
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf", "--device", "cpu"]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--tasks", ",".join(names)]
    command += ["--include_path", str(paths.TASKS), "--batch_size", "32"]
    return [*command, "--log_samples", "--output_path", str(out)]


def _sum(*runs: Spent) -> Spent:
    """One after another."""
    return Spent(
        sum(run.wall_s for run in runs),
        sum(run.cpu_s for run in runs),
        max(run.peak_bytes for run in runs),
    )


def findings(rows: list[dict[str, Any]]) -> list[str]:
    """What the stored rows show."""
    peers = {row["work"]: row for row in rows if row["way"] not in (OURS, WITHOUT)}
    share = {work: row["ours_over_this"] for work, row in peers.items()}
    plain = next(row for row in rows if row["way"] == WITHOUT)
    return [
        f"A cold certificate takes {share['certify']:.2f} of the peers' wall time (goal: at most "
        f"{SHARE:g}); without the noise floor, which the peers do not have, "
        f"{plain['wall_s'] / peers['certify']['wall_s']:.2f}.",
        f"Help takes {share['help']:.2f} of the time of `lm_eval --help`; the gate "
        f"{share['gate']:.2f} of the script's.",
    ]
