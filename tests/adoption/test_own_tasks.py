"""lm-eval's own command line run on our tasks, adopted, gives the scorecard of our own run."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retainbench.harness.adoption import pair as adopt
from retainbench.harness.comparison.compare import compare
from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.schema import Policy
from retainbench.harness.gate.candidates import gate_records
from retainbench.harness.models import bases, loading
from retainbench.harness.scoring import evaluate
from retainbench.harness.tasks import catalogue

NAMES = ["capitals", "arithmetic_free"]


def run_lm_eval(model: Path, out: Path) -> None:
    """lm-eval's command as its users type it; indexing its own 13,000 tasks takes most of it."""
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf"]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"]
    command += ["--tasks", ",".join(f"rb_{name}" for name in NAMES)]
    command += ["--include_path", str(paths.TASKS), "--batch_size", "16"]
    command += ["--log_samples", "--output_path", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def damaged(base: Path, folder: Path) -> Path:
    """A copy with one layer's output scaled down."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.py"))
    weights = load_file(folder / "model.safetensors")
    name = sorted(key for key in weights if key.endswith("down_proj.weight"))[-1]
    weights[name] *= 0.1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


UNLOGGED = ("brier", "calibration_error", "cut")


def without_floats(records: list[ItemRecord]) -> list[dict[str, Any]]:
    """Records without what differs in the last digits, and without what lm-eval does not log."""
    return [r.model_dump(exclude={"choice_logprobs", "soft_score", "cut"}) for r in records]


@pytest.mark.slow
def test_lm_evals_own_run_adopted_equals_our_evaluation(tmp_path: Path) -> None:
    base = bases.resolve("fruitfly").folder
    models = {"base": base, "candidate": damaged(base, tmp_path / "damaged")}
    ours: dict[str, list[ItemRecord]] = {}
    for side, folder in models.items():
        run_lm_eval(folder, tmp_path / side)
        ours[side] = evaluate.evaluate(loading.load(folder), catalogue.OWN.find(NAMES))
    theirs = adopt.pair(tmp_path / "base", tmp_path / "candidate")
    assert (theirs.part, theirs.base.harness) == ("full", "lm-eval 0.4.13")
    by_name = {r.task: r.axis for r in theirs.base.records}
    assert by_name == {"capitals": "general", "arithmetic_free": "numeric"}
    for side, adopted in (("base", theirs.base), ("candidate", theirs.candidate)):
        mine = sorted(ours[side], key=lambda r: (r.task, r.item_id))
        other = sorted(adopted.records, key=lambda r: (r.task, r.item_id))
        assert without_floats(mine) == without_floats(other)
        for one, two in zip(mine, other, strict=True):
            # 1e-4 per log-likelihood is the tolerance between our backend and lm-eval's in fp32
            assert one.choice_logprobs == pytest.approx(two.choice_logprobs, abs=1e-4)
    policy = Policy()
    found = compare(theirs.base.records, theirs.candidate.records, policy)
    own = compare(ours["base"], ours["candidate"], policy)
    here = sorted(own.tasks, key=lambda change: change.task)
    there = sorted(found.tasks, key=lambda change: change.task)
    for our_change, their_change in zip(here, there, strict=True):
        # these rest on log-likelihoods, which differ in the last digits, or on what lm-eval does
        # not log: whether an answer was cut
        hidden = {"soft_drop", "erosion", "margin_drop", "margin_slope", "brier_rise"}
        hidden |= {f"{side}_{what}" for side in models for what in UNLOGGED}
        assert our_change.model_dump(exclude=hidden) == their_change.model_dump(exclude=hidden)
    # Logged choices give an adopted result its erosion too; capitals has choices.
    (ours_eroded, theirs_eroded) = (
        next(c.erosion.value for c in changes if c.task == "capitals" and c.erosion)
        for changes in (here, there)
    )
    assert theirs_eroded == pytest.approx(ours_eroded, abs=1e-4)
    assert any(change.drop.value != 0 for change in found.tasks)
    verdicts = [
        gate_records(one, two, policy).verdict
        for one, two in (
            (ours["base"], ours["candidate"]),
            (theirs.base.records, theirs.candidate.records),
        )
    ]
    assert verdicts == ["REGRESSION"] * 2


def test_our_own_tasks_are_held_against_their_locks(tmp_path: Path) -> None:
    from fixtures.adoption import lm_eval_row, lm_eval_run

    rows = [lm_eval_row(number) for number in range(4)]
    lm_eval_run(tmp_path, rows)
    for file in tmp_path.iterdir():
        file.write_text(file.read_text().replace('"tiny"', '"rb_capitals"'))
        file.rename(file.with_name(file.name.replace("tiny", "rb_capitals")))
    with pytest.raises(IntegrityError, match=r"capitals: item .* the lock"):
        adopt.read(tmp_path)
