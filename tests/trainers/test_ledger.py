"""What the ledger counts means the same for every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fixtures.trainer_cases import job
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.records import CheckpointRecord, Ledger
from retainbench.harness.core.stages import Anchor
from retainbench.harness.suites import methods
from retainbench.trainers._shared.contract import Job

SAMPLES = {
    "sft": 4,
    "dft": 4,
    "dpo": 2 * 4,
    "grpo": 16,
    "rloo": 16,
    "sdft": 8,
    "ppo": 126 // 3,
    "kto": 4,
    "orpo": 2 * 4,
    "simpo": 2 * 4,
    "gkd": 4,
    "es": 4 * 8,
    "eggroll": 8 * 8,
}
"""Completions that an update learns from, by the options of the fixtures: trained rows (two of a
pair, a minibatch of a rollout) or scored members x prompts. What RFT accepts is not known before:
`test_rft` counts it."""


def spent(chosen: Job, method: str) -> Ledger:
    """The ledger at the end of a stage."""
    methods.load(method).train(chosen)
    return read_json(chosen.out / "checkpoints/s0-1.0000.json", CheckpointRecord).ledger


@pytest.mark.parametrize("method", SAMPLES)
def test_samples_are_the_completions_that_updates_learn_from(
    tiny_base: Path, tmp_path: Path, method: str
) -> None:
    ledger = spent(job(tiny_base, tmp_path, method, steps=2), method)
    assert ledger.samples == 2 * SAMPLES[method]


def test_every_method_is_listed() -> None:
    assert {*SAMPLES, "rft"} == set(methods.methods())


def test_a_prompt_costs_dense_and_low_rank_members_the_same(
    tiny_base: Path, tmp_path: Path
) -> None:
    """Prompts begin alike; EGGROLL paid for that once and dense ES every time."""
    read = []
    for method in ("es", "eggroll"):
        options = {"population": 8, "prompts_per_step": 8}
        ledger = spent(job(tiny_base, tmp_path / method, method, steps=2, options=options), method)
        read.append(ledger.forward_tokens - ledger.generated_tokens)
    assert read[0] == read[1] > 0


@pytest.mark.parametrize(("anchor", "passes"), [(None, 1), (Anchor(kind="kl", strength=0.1), 3)])
def test_rloo_scores_its_samples_only_where_that_is_read(
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    anchor: Anchor | None,
    passes: int,
) -> None:
    """One pass per update; with a KL in the reward also the old policy's and the reference's."""
    from trl import RLOOTrainer

    scored, calls = RLOOTrainer._get_per_token_logps_and_entropies, []

    def counted(self: Any, *args: Any, **named: Any) -> Any:
        calls.append(1)
        return scored(self, *args, **named)

    monkeypatch.setattr(RLOOTrainer, "_get_per_token_logps_and_entropies", counted)
    ledger = spent(job(tiny_base, tmp_path, "rloo", steps=2, anchor=anchor), "rloo")
    assert len(calls) == 2 * passes
    sampling = ledger.forward_tokens - passes * ledger.backward_tokens
    assert sampling > ledger.generated_tokens
