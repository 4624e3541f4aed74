"""The page of claims: written from the stored rows, and right on rows whose answer is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from results.claims import evolution, finding, policy
from results.claims.build import CLAIMS, RESULTS, page
from results.claims.published import Published
from retainbench.harness.comparison.matched import MatchedPairRow
from retainbench.harness.comparison.methods import Methods
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.records import Ledger
from retainbench.harness.core.scorecards import DriftSummary, PointScore, Scorecard


def test_the_page_is_written_from_the_rows() -> None:
    assert (RESULTS / "README.md").read_text() == page(RESULTS.parent)


def test_every_claim_is_asked_once() -> None:
    names = [claim.name for claim in CLAIMS]
    assert names == [*(f"C{n}" for n in range(1, 17)), "Seed"]


def test_folders_without_rows_decide_nothing(tmp_path: Path) -> None:
    assert "17 undecided" in page(tmp_path)


def interval(value: float, width: float = 0.01) -> Interval:
    return Interval(
        value=value, low=value - width, high=value + width, level=0.9, n=400, method="t"
    )


def point(
    share: float, gain: float, drift: float, *, stage: int = 0, valid: float = 1.0
) -> PointScore:
    geometry = DriftSummary(
        frobenius=drift,
        relative=drift,
        changed_parameters=1,
        parameters=1,
        unchanged_exact=0.0,
        unchanged_1e5=0.0,
        unchanged_bf16=0.0,
        cosine=1.0,
        by_kind={},
        by_layer={},
        relative_by_kind={},
        over_null=1.05,
        dtypes="F32",
    )
    return PointScore(
        stage=stage,
        fraction=share,
        ledger=Ledger(steps=round(1000 * share), flops=share),
        weights_digest="",
        base_reward=0.2,
        candidate_reward=0.2 + gain,
        gain=interval(gain),
        base_valid=0.5,
        candidate_valid=valid,
        tasks=[],
        axes=[],
        drift=geometry,
        divergence=None,
    )


def card(recipe: str, points: Sequence[PointScore], target: str = "countdown") -> Scorecard:
    return Scorecard(
        cell=recipe,
        base="fruitfly",
        target=target,
        recipe=recipe,
        method="es",
        adaptation="full",
        seed=0,
        budget="1 flops",
        status="done",
        points=list(points),
        metrics={},
        trainable_parameters=1,
        total_parameters=1,
        provenance={},
    )


def walk(recipe: str, drift: float, power: float = 0.5) -> Scorecard:
    """Gains in proportion to the budget, drift by a power of it."""
    return card(recipe, [point(t, t / 5, drift * t**power) for t in (0.1, 0.2, 0.4, 0.7, 1.0)])


@pytest.mark.parametrize(
    ("drift", "status"), [(0.4, "reproduced"), (0.11, "undecided"), (0.02, "contradicted")]
)
def test_drift_is_compared_where_the_gains_are_equal(drift: float, status: str) -> None:
    runs = Published("es-forgetting", [walk("es-16", drift), walk("grpo", 0.01)], None)
    assert evolution.drift_at_equal_gain(runs).status == status


def test_a_random_walk_is_told_from_steady_drift() -> None:
    walking = Published("es-forgetting", [walk("es-16", 0.3), walk("es-64", 0.2)], None)
    steady = Published("es-forgetting", [walk("es-16", 0.3, 1.0)], None)
    assert evolution.random_walk(walking).status == "reproduced"
    assert evolution.random_walk(steady).status == "contradicted"


@pytest.mark.parametrize(
    ("valid", "reward", "status"),
    [(0.9, 0.3, "reproduced"), (0.5, 0.3, "undecided"), (0.9, -0.1, "contradicted")],
)
def test_stages_bring_form_and_score(valid: float, reward: float, status: str) -> None:
    both = [point(0.2, 0.0, 0.1, valid=valid), point(1.0, reward, 0.1, stage=1, valid=valid)]
    runs = Published("staged", [card("sft-grpo", both, "countdown_large")], None)
    assert policy.stages(runs).status == status


def test_drops_are_compared_at_the_first_crossing_from_either_side() -> None:
    later, first = interval(0.3), interval(0.1)
    pairs = [
        MatchedPairRow(
            target="countdown",
            first="sft",
            second="grpo",
            axis="numeric",
            gain=0.1,
            share=share,
            difference=difference,
            p=0.5,
            holm_p=None if share else 0.5,
            reason=None,
        )
        for share, difference in ((0.8, later), (None, first))
    ]
    runs = Published("frontier", [], Methods(rows=[], absent={}, matched_pairs=pairs))
    assert runs.matched("sft", "grpo", "numeric") == first
    turned = runs.matched("grpo", "sft", "numeric")
    assert turned is not None
    assert (turned.low, turned.value, turned.high) == (-first.high, -first.value, -first.low)
    assert runs.matched("sft", "grpo", "general") is None


def test_both_parts_of_a_claim_must_hold() -> None:
    assert finding.both("reproduced", "undecided") == "undecided"
    assert finding.both("undecided", "contradicted") == "contradicted"
