"""What every method must keep: determinism, resume to the same bytes, and the base at zero steps.

Runs over discovery, so a new trainer is tested by existing (give it small options in
`trainer_cases.SMALL`).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from fixtures.trainer_cases import SMALL, job, weights
from retainbench.harness.core import paths
from retainbench.harness.core.schema import Anchor
from retainbench.harness.suites import describe, methods
from retainbench.trainers._shared.contract import Job

METHODS = methods.methods()
CASES = [
    (method, adaptation) for method in METHODS for adaptation in methods.load(method).ADAPTATIONS
]
END = "checkpoints/s0-1.0000"


class KilledError(Exception):
    """Stands for SIGKILL in the middle of a run."""


def train(chosen: Job, method: str) -> None:
    methods.load(method).train(chosen)


@pytest.mark.parametrize("method", METHODS)
def test_method_has_small_options(method: str) -> None:
    assert method in SMALL, "add small options to trainer_cases.SMALL"


@pytest.mark.parametrize(("method", "adaptation"), CASES)
def test_interrupted_run_ends_in_the_same_bytes(
    tiny_base: Path, tmp_path: Path, method: str, adaptation: str
) -> None:
    """Adapters are anchored too: to their untrained state, which a resumed run must find again."""
    anchor = Anchor(kind="weights", strength=5.0) if adaptation == "lora" else None
    whole = job(tiny_base, tmp_path / "whole", method, adaptation=adaptation, anchor=anchor)
    train(whole, method)

    def die(share: float, _metrics: dict[str, float]) -> None:
        if share >= 0.75:
            raise KilledError

    cut = job(tiny_base, tmp_path / "cut", method, adaptation=adaptation, anchor=anchor)
    with pytest.raises(KilledError):
        train(dataclasses.replace(cut, progress=die), method)
    assert not (cut.out / END).exists()
    train(cut, method)
    assert weights(cut.out / END) == weights(whole.out / END)
    assert (cut.out / "steps.jsonl").read_text() == (whole.out / "steps.jsonl").read_text()


@pytest.mark.parametrize(("method", "adaptation"), CASES)
def test_training_moves_the_weights_and_stops_within_one_step(
    tiny_base: Path, tmp_path: Path, method: str, adaptation: str
) -> None:
    chosen = job(tiny_base, tmp_path, method, adaptation=adaptation)
    train(chosen, method)
    steps = [json.loads(line) for line in (tmp_path / "steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps] == [1, 2, 3, 4]
    assert weights(tmp_path / END) != weights(tmp_path / "checkpoints/s0-0.0000")
    ledger = json.loads((tmp_path / f"{END}.json").read_text())["ledger"]
    assert ledger["steps"] == 4
    assert ledger["flops"] > 0
    assert ledger["samples"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_no_budget_leaves_the_base_bit_for_bit(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    train(job(tiny_base, tmp_path, method, steps=0), method)
    assert weights(tmp_path / END) == weights(tiny_base)


def test_readme_of_the_methods_is_generated() -> None:
    assert (paths.TRAINERS / "README.md").read_text(encoding="utf-8") == describe.markdown()


@pytest.mark.parametrize("method", METHODS)
def test_every_option_is_documented(method: str) -> None:
    described = describe.describe(method)
    assert described.paper
    assert described.summary
    assert [option.name for option in described.options if not option.meaning] == []
