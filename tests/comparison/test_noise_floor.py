"""The A/A noise floor: scoring a base again, what it shows, and whose flips it explains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fixtures.gate import sides, suite
from retainbench.harness.comparison.compare import compare
from retainbench.harness.comparison.noise_floor import noise_floor
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.schema import Policy
from retainbench.harness.gate.candidates import gate_records
from retainbench.harness.models import loading
from retainbench.harness.scoring import evaluate, sample_rows, stored
from retainbench.harness.tasks import catalogue

POLICY = Policy(margin=0.05, minimum_items=50)
NAMES = ("capitals", "capitals_free", "event_order")


def turned_over(records: list[ItemRecord], task: str, rows: range) -> list[ItemRecord]:
    """Records with the answers of some items of a task turned from right to wrong or back."""
    found, row = [], -1
    for record in records:
        row += record.task == task
        flip = record.task == task and row in rows
        found.append(record.model_copy(update={"score": 1 - record.score}) if flip else record)
    return found


@pytest.fixture(scope="module")
def scored(tiny_base: Path) -> dict[str, list[ItemRecord]]:
    """The tiny base in every way of scoring it."""
    loaded = loading.load(tiny_base)
    infos = [catalogue.own()[name] for name in NAMES]
    ways = {"": evaluate.FIRST_SCORING} | evaluate.REPEAT_SCORINGS
    return {
        name: evaluate.evaluate(
            loaded, [i for i in infos if evaluate.affects(way, i)], limit=40, repeat=way
        )
        for name, way in ways.items()
    }


def test_the_same_scoring_twice_gives_the_same_records(
    scored: dict[str, list[ItemRecord]],
) -> None:
    assert scored["repeat"] == scored[""]


def test_another_batch_size_moves_log_likelihoods_by_rounding_only(
    scored: dict[str, list[ItemRecord]],
) -> None:
    for one, other in zip(scored[""], scored["batch"], strict=True):
        assert (one.item_id, one.prompt_hash) == (other.item_id, other.prompt_hash)
        if one.choice_logprobs and other.choice_logprobs:
            assert other.choice_logprobs == pytest.approx(one.choice_logprobs, abs=1e-4)


def test_turned_options_are_judged_in_their_new_order(scored: dict[str, list[ItemRecord]]) -> None:
    """Without ties the order of the choices cannot matter, since no prompt shows it."""
    usual = {(r.task, r.item_id): r for r in scored[""]}
    assert {r.task for r in scored["options"]} == {"capitals", "event_order"}
    for other in scored["options"]:
        one = usual[other.task, other.item_id]
        assert one.choice_logprobs is not None
        assert other.choice_logprobs == pytest.approx(one.choice_logprobs, abs=1e-4)
        assert (other.doc_hash, other.target_hash) == (one.doc_hash, one.target_hash)
        ranked = sorted(one.choice_logprobs)
        if ranked[-1] - ranked[-2] > 1e-3:
            assert other.score == one.score


def test_a_tie_goes_to_whichever_option_comes_first() -> None:
    """The one thing that turning options can change: lm-eval takes the first of equals."""

    class Task:
        def process_results(
            self, doc: dict[str, object], answers: list[tuple[float, bool]]
        ) -> dict[str, float]:
            best = int(np.argmax([value for value, _ in answers]))
            return {"acc": float(best == doc["gold"])}

    class Request:
        def __init__(self, choice: int) -> None:
            self.doc = {"id": "x", "choices": ["a", "b", "c"], "gold": 0}
            self.filtered_resps = {"none": (0.0 if choice < 2 else -9.0, False)}
            self.resps = [(0.0, False)]

    rows = [sample_rows._row(Task(), [Request(n) for n in range(3)], "none", s) for s in (0, 1, 2)]
    assert [row["acc"] for row in rows] == [1.0, 0.0, 1.0]


def test_the_store_keeps_ways_of_scoring_apart(tmp_path: Path) -> None:
    store, info = (
        stored.Store(tmp_path, stored.scoring_settings("cpu")),
        catalogue.own()["capitals"],
    )
    ways = [evaluate.FIRST_SCORING, *evaluate.REPEAT_SCORINGS.values()]
    assert len({store.path("model", info, way) for way in ways}) == len(ways)
    assert store.path("model", info, evaluate.FIRST_SCORING) == store.path("model", info)


def test_the_floor_is_that_of_the_noisiest_way() -> None:
    base = sides("general0", 200, axis="general").base
    again = {
        "repeat": base,
        "batch": turned_over(base, "general0", range(3)),
        "options": turned_over(base, "general0", range(10, 18)),
    }
    floor = noise_floor(base, again)["general0"]
    assert floor.churns == {"repeat": 0.0, "batch": 0.015, "options": 0.04}
    assert floor.flipped is not None
    assert floor.flipped.sum() == 8
    change = compare(base, base, POLICY, repeats=again).tasks[0]
    assert (change.noise_churn, change.above_noise) == (0.04, False)


def test_a_repeated_scoring_of_other_items_is_refused() -> None:
    base = sides("general0", 200, axis="general").base
    with pytest.raises(IntegrityError, match="general0"):
        noise_floor(base, {"batch": base[:-1]})


def test_churn_that_the_floor_explains_is_not_a_regression() -> None:
    both = sides("general0", 200, lost=60, gained=0, axis="general")
    assert compare(both.base, both.candidate, POLICY).tasks[0].verdict == "REGRESSION"
    noisy = {"batch": turned_over(both.base, "general0", range(140, 200))}
    change = compare(both.base, both.candidate, POLICY, repeats=noisy).tasks[0]
    assert change.verdict == "INCONCLUSIVE"
    assert "the scoring itself may explain it" in change.reasons[-1]
    result = gate_records(both.base, both.candidate, POLICY, repeats=noisy)
    assert result.verdict == "INCONCLUSIVE"
    # A floor of exactly 0 explains nothing, however few flips there are.
    few = sides("general0", 300, lost=4, axis="general")
    silent = compare(few.base, few.candidate, POLICY, repeats={"batch": few.base}).tasks[0]
    assert (silent.noise_churn, silent.above_noise) == (0.0, False)
    assert not any("scoring itself" in reason for reason in silent.reasons)
    quiet = {"batch": turned_over(both.base, "general0", range(4))}
    result = gate_records(both.base, both.candidate, POLICY, repeats=quiet)
    assert result.verdict == "REGRESSION"


def test_a_tier_cuts_the_repeated_scorings_too() -> None:
    both = suite(300)
    result = gate_records(
        both.base, both.candidate, POLICY, tier="smoke", repeats={"batch": both.base}
    )
    assert {task.change.n for task in result.tasks} == {100}
    assert {task.change.noise_churn for task in result.tasks} == {0.0}
