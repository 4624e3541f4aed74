"""Held-out perplexity: the change in nats per token, its verdict, and what it may decide."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from fixtures.gate import POLICY, Sides, record, sides
from retainbench.harness.comparison.compare import compare
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import DOCUMENT_METRIC, ItemRecord
from retainbench.harness.core.schema import Policy
from retainbench.harness.gate import command, job_summary
from retainbench.harness.gate.candidates import gate_records

N = 160
NATS = np.linspace(2.0, 2.6, N)
"""Of the base, per token."""


def document(number: int, nats: float, tokens: int = 100, task: str = "general_text") -> ItemRecord:
    """A document of 100 tokens and 400 bytes."""
    return record(
        task,
        number,
        math.exp(-nats),
        metric=DOCUMENT_METRIC,
        chance=0.0,
        choice_logprobs=[-nats * tokens],
        document_tokens=tokens,
        document_bytes=400,
    )


def pair_of(rise: float, spread: float = 0.02) -> Sides:
    """A task with answers that nothing happens to, and documents that become less likely."""
    changes = rise + spread * np.random.default_rng(0).normal(size=N)
    answers = sides("capitals", 400, axis="general")
    base = [document(i, float(nats)) for i, nats in enumerate(NATS)]
    candidate = [document(i, float(nats)) for i, nats in enumerate(NATS + changes)]
    return Sides(answers.base + base, answers.candidate + candidate)


def test_the_change_is_the_paired_t_interval_of_scipy() -> None:
    both = pair_of(0.03)
    (found,) = compare(*both, POLICY).perplexity
    (task,) = found.tasks
    base, candidate = (
        np.array([-r.choice_logprobs[0] / 100 for r in side if r.choice_logprobs]) for side in both
    )
    expected = stats.ttest_rel(candidate, base).confidence_interval(0.9)
    assert found.change == task.change.model_copy(update={"n": N})
    assert found.change.value == pytest.approx(np.mean(candidate - base))
    assert (found.change.low, found.change.high) == pytest.approx(tuple(expected), abs=1e-12)
    assert task.base_nats == pytest.approx(NATS.mean())
    assert task.base_bits_per_byte == pytest.approx(100 * NATS.sum() / math.log(2) / (400 * N))


def test_documents_change_no_column_of_the_tasks_with_answers() -> None:
    both = pair_of(2.0)
    alone = sides("capitals", 400, axis="general")
    with_documents, without = compare(*both, POLICY), compare(*alone, POLICY)
    assert with_documents.tasks == without.tasks
    assert with_documents.axes == without.axes
    assert without.perplexity == []


def test_the_base_against_itself_is_exactly_0() -> None:
    base = pair_of(0.0).base
    (found,) = compare(base, base, POLICY).perplexity
    assert (found.change.value, found.change.low, found.change.high) == (0.0, 0.0, 0.0)
    assert found.verdict == "PASS"


@pytest.mark.parametrize(
    ("rise", "verdict"), [(0.0, "PASS"), (0.1, "INCONCLUSIVE"), (0.3, "REGRESSION")]
)
def test_only_a_policy_that_names_the_documents_lets_them_decide(rise: float, verdict: str) -> None:
    both, policy = pair_of(rise, spread=0.4), POLICY.model_copy(update={"perplexity_margin": 0.1})
    result = gate_records(*both, policy)
    assert result.perplexity[0].verdict == verdict
    assert result.verdict == "PASS"
    assert [task.change.task for task in result.tasks] == ["capitals"]
    assert bool(result.warnings) == (verdict == "REGRESSION")
    named = policy.model_copy(update={"mandatory": ["capitals", "general_text"]})
    assert gate_records(*both, named).verdict == verdict


@pytest.mark.parametrize("rise", [0.0, 0.3])
def test_what_a_warning_says_is_said_once(rise: float) -> None:
    result = gate_records(*pair_of(rise), POLICY)
    assert bool(result.warnings) == (rise > 0)
    assert "\n".join(command.verdict_lines(result)).count("perplexity") == 1
    assert job_summary.summary([result]).count("perplexity") == 1


def test_a_mandatory_task_of_documents_must_be_there() -> None:
    policy = POLICY.model_copy(update={"mandatory": ["general_text"]})
    with pytest.raises(IntegrityError, match="general_text"):
        gate_records(*sides("capitals", 400, axis="general"), policy)


def test_another_tokenizer_is_compared_over_the_tokens_of_the_base() -> None:
    base = [document(i, float(nats)) for i, nats in enumerate(NATS)]
    candidate = [document(i, float(nats) / 2, tokens=200) for i, nats in enumerate(NATS)]
    (found,) = compare(base, candidate, POLICY).perplexity
    assert found.change.value == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("count", [1, 20])
def test_too_few_documents_decide_nothing(count: int) -> None:
    base = [document(i, float(nats)) for i, nats in enumerate(NATS[:count])]
    (found,) = compare(base, base, Policy()).perplexity
    assert found.verdict == "INCONCLUSIVE"
    assert found.tasks[0].p_change_within_margin is None


def test_two_tasks_of_an_axis_are_averaged() -> None:
    rises = {"one": 0.1, "two": 0.3}
    base, candidate = (
        [document(i, float(n) + side * rises[t], task=t) for t in rises for i, n in enumerate(NATS)]
        for side in (0, 1)
    )
    (found,) = compare(base, candidate, POLICY).perplexity
    assert found.change.value == pytest.approx(0.2)
    assert found.change.n == 2 * N


def test_a_document_without_tokens_is_refused() -> None:
    broken = [document(0, 1.0).model_copy(update={"document_tokens": None})]
    with pytest.raises(IntegrityError, match="tokens or bytes"):
        compare(broken, broken, POLICY)
