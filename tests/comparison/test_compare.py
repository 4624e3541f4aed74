"""Pairing rules, task and axis changes, points and scorecards, on synthetic records."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures.gate import Sides, record, sides, suite, target
from retainbench.harness.comparison.columns import columns
from retainbench.harness.comparison.compare import PointInput, compare, gain, point_score, scorecard
from retainbench.harness.comparison.pairing import pair
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import canonical, write_jsonl
from retainbench.harness.core.records import CheckpointRecord, ItemRecord, Ledger, TrainRecord
from retainbench.harness.core.schema import Policy
from retainbench.harness.suites.plan import Cell

POLICY = Policy(margin=0.05, minimum_items=50)


def renamed(records: Sequence[ItemRecord], row: int, **changes: object) -> list[ItemRecord]:
    """Records with one changed."""
    changed = [*records]
    changed[row] = changed[row].model_copy(update=changes)
    return changed


def written(folder: Path, both: Sides) -> tuple[Path, Path]:
    """Both sides as files."""
    folder.mkdir(exist_ok=True)
    write_jsonl(folder / "base.jsonl", both.base)
    write_jsonl(folder / "candidate.jsonl", both.candidate)
    return folder / "base.jsonl", folder / "candidate.jsonl"


def test_base_against_itself_changes_nothing() -> None:
    both = suite(200)
    found = compare(both.base, both.base, POLICY)
    assert [change.task for change in found.tasks] == list(
        dict.fromkeys(one.task for one in both.base)
    )
    for change in found.tasks:
        assert (change.drop.value, change.lost, change.gained, change.churn) == (0.0, 0, 0, 0.0)
        assert change.verdict == "PASS"
        assert change.drop.low == -change.drop.high
    assert [(axis.axis, axis.drop.value) for axis in found.axes] == [
        ("general", 0.0),
        ("numeric", 0.0),
        ("temporal", 0.0),
    ]


def test_worked_example_of_the_statistics() -> None:
    """Case B of STATISTICS 2: n11 600, n10 60, n01 45, n00 295 at a margin of 2 points."""
    outcomes = [(1, 1)] * 600 + [(1, 0)] * 60 + [(0, 1)] * 45 + [(0, 0)] * 295
    base = [record("t", i, b) for i, (b, _) in enumerate(outcomes)]
    candidate = [record("t", i, c) for i, (_, c) in enumerate(outcomes)]
    change = compare(base, candidate, Policy(margin=0.02)).tasks[0]
    assert (change.n, change.lost, change.gained, change.verdict) == (1000, 60, 45, "INCONCLUSIVE")
    # Tango -.001876, .032132; the worst-item limit of 1,000 items is a tenth of a point wider.
    assert (change.drop.low, change.drop.high) == pytest.approx((-0.002910, 0.032871), abs=1e-6)
    assert change.drop.method == "tango, newcombe, worst item"
    assert change.crosscheck is not None
    assert change.crosscheck.low == pytest.approx(-0.001917, abs=1e-6)
    assert change.mcnemar_p == pytest.approx(0.171565, abs=1e-6)
    assert change.drop.level == pytest.approx(0.90)
    assert change.churn == pytest.approx(0.105)
    assert change.minimum_detectable_effect is not None
    # The sides' chance is 1/4: the rescaled drop that axes average is 4/3 of the raw one.
    assert change.rescaled_drop == pytest.approx(0.015 * 4 / 3)


def test_a_file_and_a_list_give_the_same_comparison(tmp_path: Path) -> None:
    both = suite(60, {"numeric1": 20})
    files = written(tmp_path, both)
    assert compare(*files, POLICY) == compare(*both, POLICY)


def test_the_order_of_records_changes_nothing(tmp_path: Path) -> None:
    """Also for graded scores, whose bootstrap draws items by position."""
    both = suite(60, {"numeric1": 20})
    goal = target(90, 20, 40)
    base, candidate = [*both.base, *goal.base], [*both.candidate, *goal.candidate]
    expected = compare(base, candidate, POLICY)
    random.Random(0).shuffle(base)
    random.Random(1).shuffle(candidate)
    found = compare(base, candidate, POLICY)
    by_name = {change.task: change for change in [*found.tasks, *found.targets]}
    assert by_name == {change.task: change for change in [*expected.tasks, *expected.targets]}
    assert found.axes == expected.axes
    shuffled = written(tmp_path, Sides(base, candidate))
    assert compare(*shuffled, POLICY).axes == expected.axes


@settings(max_examples=25, deadline=None)
@given(st.integers(50, 90), st.integers(0, 20), st.integers(0, 10))
def test_swapping_the_sides_mirrors_the_drop(items: int, lost: int, gained: int) -> None:
    both = sides("t", items, lost=lost, gained=gained)
    there = compare(both.base, both.candidate, POLICY).tasks[0]
    back = compare(both.candidate, both.base, POLICY).tasks[0]
    assert back.drop.value == -there.drop.value
    assert (back.drop.low, back.drop.high) == (-there.drop.high, -there.drop.low)
    assert (back.lost, back.gained) == (there.gained, there.lost)


Damage = Callable[[Sides], tuple[list[ItemRecord], list[ItemRecord]]]

BROKEN: dict[str, tuple[Damage, str]] = {
    "missing item": (lambda s: (s.base, s.candidate[:-1]), "1 missing from the candidate.*'i59'"),
    "extra item": (lambda s: (s.base[:-1], s.candidate), "1 unknown to the base.*'i59'"),
    "shrunken set": (lambda s: (s.base, s.candidate[:30]), "30 missing from the candidate"),
    "duplicate": (
        lambda s: (s.base, [*s.candidate, s.candidate[3]]),
        "items 'i3' and 'i3' of the candidate have the same key",
    ),
    "same question twice": (
        lambda s: (renamed(s.base, 5, doc_hash=s.base[4].doc_hash), s.candidate),
        "items 'i[45]' and 'i[45]' of the base have the same key",
    ),
    "prompt": (
        lambda s: (s.base, renamed(s.candidate, 7, prompt_hash="other")),
        "item 'i7': prompt_hash differs.*1 of 60 items",
    ),
    "target": (
        lambda s: (s.base, renamed(s.candidate, 7, target_hash="other")),
        "item 'i7': target_hash differs",
    ),
    "metric": (
        lambda s: (s.base, renamed(s.candidate, 7, metric="f1")),
        "metric differs: base 'acc', candidate 'f1'",
    ),
    "chance": (lambda s: (s.base, renamed(s.candidate, 7, chance=0.5)), "chance differs"),
    "cluster": (lambda s: (s.base, renamed(s.candidate, 7, cluster="x")), "cluster differs"),
    "filter": (lambda s: (s.base, renamed(s.candidate, 7, filter="strict")), "'t'"),
    "repeat": (lambda s: (s.base, renamed(s.candidate, 7, repeat=1)), "different items"),
    "two metrics": (
        lambda s: (renamed(s.base, 7, metric="f1"), renamed(s.candidate, 7, metric="f1")),
        "mixes several values of metric",
    ),
    "no candidate": (lambda s: (s.base, []), "'t' was scored for the base, not for the candidate"),
    "no base": (lambda s: ([], s.candidate), "'t' was scored for the candidate, not for the base"),
    "certain item": (
        lambda s: (renamed(s.base, 7, chance=1.0), renamed(s.candidate, 7, chance=1.0)),
        "item 'i7': chance is 1",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_unequal_sides_are_refused_by_name(name: str) -> None:
    damage, message = BROKEN[name]
    base, candidate = damage(sides("t", 60))
    with pytest.raises(IntegrityError, match=message):
        pair(base, candidate)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"score": 1.0', '"score": NaN', "item 'i3': score is nan"),
        ('"score": 1.0', '"score": 1.5', "item 'i3': score is 1.5"),
        ('"score": 1.0, ', "", "item 'i3': score is missing"),
        ('"score": 1.0', '"score": null', "item 'i3': score is missing"),
        ('"score": 1.0', '"score": "1"', "not valid records"),
        ('"valid": true', '"valid": true', None),
        ('"soft_score": null', '"soft_score": NaN', "soft_score is nan"),
        ('"task": "t"', '"task": ', "not valid records"),
    ],
)
def test_a_bad_value_in_a_file_names_task_and_item(
    tmp_path: Path, old: str, new: str, message: str | None
) -> None:
    base, candidate = written(tmp_path, sides("t", 60))
    lines = candidate.read_text().splitlines()
    assert old in lines[3]
    lines[3] = lines[3].replace(old, new)
    candidate.write_text("\n".join(lines) + "\n")
    if message is None:
        assert compare(base, candidate, POLICY).tasks[0].n == 60
        return
    with pytest.raises(IntegrityError, match=message):
        compare(base, candidate, POLICY)


def test_truncated_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    base, candidate = written(tmp_path, sides("t", 60))
    candidate.write_bytes(candidate.read_bytes()[:-40])
    with pytest.raises(IntegrityError, match="not valid"):
        compare(base, candidate, POLICY)
    with pytest.raises(IntegrityError, match="is missing"):
        compare(base, tmp_path / "nothing.jsonl", POLICY)
    candidate.write_text('{"unknown": 1}\n')
    with pytest.raises(IntegrityError, match=r"candidate\.jsonl:1"):
        compare(base, candidate, POLICY)
    candidate.write_text("")
    with pytest.raises(IntegrityError, match="not for the candidate"):
        compare(base, candidate, POLICY)


def test_a_response_of_a_megabyte_is_read(tmp_path: Path) -> None:
    both = sides("t", 60)
    long = renamed(both.candidate, 5, response="x" * 1_000_000)
    files = written(tmp_path, Sides(both.base, long))
    assert compare(*files, POLICY).tasks[0].n == 60


def test_repeats_are_averaged_inside_the_item() -> None:
    """Pooled as items, three repeats of the same flips would look like three times the evidence."""
    once = sides("t", 100, lost=8)
    thrice = Sides(
        *[[one.model_copy(update={"repeat": r}) for one in side for r in range(3)] for side in once]
    )
    single = compare(*once, POLICY).tasks[0]
    repeated = compare(*thrice, POLICY).tasks[0]
    assert (repeated.n, repeated.repeats) == (100, 3)
    assert repeated.drop == single.drop


def test_two_filters_of_one_task_are_two_rows() -> None:
    both = sides("gsm8k", 60, lost=2)
    twice = Sides(
        *[
            [
                one.model_copy(update={"filter": name})
                for name in ("strict", "flexible")
                for one in side
            ]
            for side in both
        ]
    )
    found = compare(*twice, POLICY)
    assert [(change.task, change.n) for change in found.tasks] == [
        ("gsm8k/strict", 60),
        ("gsm8k/flexible", 60),
    ]


def test_clustered_items_use_their_clusters() -> None:
    both = sides("t", 120, lost=12)
    grouped = Sides(
        *[
            [one.model_copy(update={"cluster": f"c{int(one.item_id[1:]) // 6}"}) for one in side]
            for side in both
        ]
    )
    alone, together = (compare(*one, POLICY).tasks[0] for one in (both, grouped))
    assert (together.clusters, together.drop.method) == (
        20,
        "cluster-t, tango, worst item",
    )
    # The twelve lost items are two whole clusters: far less evidence than twelve items.
    assert together.drop.high - together.drop.low > 1.5 * (alone.drop.high - alone.drop.low)


def test_contaminated_items_are_left_out_on_both_sides() -> None:
    both = suite(100)
    out = {"general0": frozenset({"i0", "i5", "i7", "elsewhere"})}
    found = compare(*both, POLICY, excluded=out)
    assert {c.task: (c.n, c.excluded) for c in found.tasks[:2]} == {
        "general0": (97, 3),
        "general1": (100, 0),
    }
    everything = {"general0": frozenset(f"i{i}" for i in range(100))}
    with pytest.raises(IntegrityError, match="all 100 items overlap"):
        compare(*both, POLICY, excluded=everything)


def test_soft_scores_and_validity_stand_beside_the_drop() -> None:
    rng = np.random.default_rng(0)
    both = sides("t", 80, lost=4)
    soft = [
        [
            one.model_copy(update={"soft_score": min(1.0, shift + 0.4 * float(rng.random()))})
            for one in side
        ]
        for side, shift in zip(both, (0.4, 0.3), strict=True)
    ]
    invalid = renamed(soft[1], 0, valid=False)
    change = compare(soft[0], invalid, POLICY).tasks[0]
    assert change.soft_drop is not None
    assert change.soft_drop.low < 0.1 < change.soft_drop.high
    assert (change.base_valid, change.candidate_valid) == (1.0, 79 / 80)
    assert change.candidate_score_given_valid == pytest.approx(60 / 79)
    partly = compare(soft[0], both.candidate, POLICY).tasks[0]
    assert partly.soft_drop is None


def test_an_axis_averages_rescaled_drops_and_names_tasks_at_chance() -> None:
    known, lucky = sides("known", 200, lost=20), sides("lucky", 200, right=0.25)
    both = Sides([*known.base, *lucky.base], [*known.candidate, *lucky.candidate])
    found = compare(*both, POLICY)
    (axis,) = found.axes
    assert (axis.tasks, axis.at_chance, axis.n) == (1, ["lucky"], 200)
    assert axis.drop.value == pytest.approx(0.1 * 4 / 3)
    assert axis.base_score - axis.candidate_score == pytest.approx(axis.drop.value)
    assert {c.task: c.base_at_chance for c in found.tasks} == {"known": False, "lucky": True}
    alone = compare(*lucky, POLICY)
    assert alone.axes == []
    assert alone.tasks[0].verdict == "INCONCLUSIVE"


def test_the_gain_is_the_target_s_drop_with_its_sign_turned() -> None:
    goal = target(120, 30, 60)
    found = compare(*goal, POLICY)
    assert (found.tasks, found.axes) == ([], [])
    (change,) = found.targets
    assert (change.verdict, change.margin, change.lost) == (None, None, None)
    won = gain(change)
    assert won.value == pytest.approx(change.candidate_score - change.base_score)
    assert won.low < won.value < won.high
    assert won.low > 0.15


def test_a_margin_of_zero_is_a_usage_error() -> None:
    both = suite(60)
    with pytest.raises(UsageError, match="'numeric0' is 0"):
        compare(*both, Policy(task_margins={"numeric0": 0.0}))


def checkpoint(fraction: float, stage: int = 0) -> CheckpointRecord:
    return CheckpointRecord(
        stage=stage,
        fraction=fraction,
        folder=f"checkpoints/s{stage}-{fraction:.4f}",
        weights_digest=f"{fraction}",
        ledger=Ledger(steps=int(100 * fraction)),
    )


def cell() -> Cell:
    return Cell.model_validate(
        {
            "id": "c0",
            "base": "fruitfly",
            "target": "countdown",
            "name": "sft-full",
            "recipe": {"method": "sft"},
            "seed": 3,
            "budget": {"unit": "steps", "amount": 100},
            "trajectory": [0.0, 1.0],
            "dtype": "float32",
        }
    )


def trained(status: str = "done", reason: str | None = None) -> TrainRecord:
    return TrainRecord.model_validate(
        {
            "cell": "c0",
            "status": status,
            "reason": reason,
            "checkpoints": [],
            "trainable_parameters": 10,
            "total_parameters": 20,
            "metrics": {"loss": 1.0},
            "dtypes": {},
            "environment": {},
        }
    )


def test_a_scorecard_orders_its_points_and_keeps_a_failed_cell(tmp_path: Path) -> None:
    both, goal = suite(60), target(60, 10, 30)
    base, end = [*both.base, *goal.base], [*both.candidate, *goal.candidate]
    write_jsonl(tmp_path / "end.jsonl", end)
    points = [
        PointInput(checkpoint(1.0), tmp_path / "end.jsonl"),
        PointInput(checkpoint(0.0), base),
    ]
    card = scorecard(cell(), trained(), base, points, POLICY, provenance={"base": "digest"})
    assert [point.fraction for point in card.points] == [0.0, 1.0]
    assert (card.points[0].gain.value, card.points[0].axes[0].drop.value) == (0.0, 0.0)
    assert card.points[1].gain.value > 0.25
    assert (card.recipe, card.method, card.seed, card.budget) == ("sft-full", "sft", 3, "100 steps")
    broken = scorecard(cell(), trained("failed", "loss is NaN"), [], [], POLICY, provenance={})
    assert (broken.status, broken.reason, broken.points) == ("failed", "loss is NaN", [])
    with pytest.raises(IntegrityError, match="none of its checkpoints"):
        scorecard(cell(), trained(), base, [], POLICY, provenance={})


def test_a_point_says_how_many_responses_are_alike() -> None:
    both, goal = suite(60), target(60, 10, 30)
    words = [f"answer {n}" for n in range(60)]

    def answered(records: Sequence[ItemRecord], texts: Sequence[str]) -> list[ItemRecord]:
        return [
            one.model_copy(update={"response": text})
            for one, text in zip(records, texts, strict=True)
        ]

    base = [*both.base, *answered(goal.base, words)]
    same = [*both.candidate, *answered(goal.candidate, ["no"] * 57 + words[:3])]
    card = scorecard(
        cell(), trained(), base, [PointInput(checkpoint(1.0), same)], POLICY, provenance={}
    )
    end = card.points[0]
    assert (end.base_commonest, end.candidate_commonest) == (1 / 60, 57 / 60)
    assert end.candidate_length == pytest.approx((57 * 2 + 3 * 8) / 60)


def test_a_point_without_its_target_is_refused() -> None:
    both = suite(60)
    with pytest.raises(IntegrityError, match="0 scored tasks are the target 'countdown'"):
        point_score(both.base, PointInput(checkpoint(1.0), both.candidate), "countdown", POLICY)


def test_a_long_generation_is_read(tmp_path: Path) -> None:
    both = sides("t", 3)
    long = both.base[1].model_copy(update={"response": "x" * (5 << 20)})
    write_jsonl(tmp_path / "r.jsonl", [both.base[0], long, both.base[2]])
    assert len(columns(tmp_path / "r.jsonl")["t"]) == 3


def test_columns_keep_what_the_file_says(tmp_path: Path) -> None:
    both = sides("t", 5)
    golds = [1, "x", None, 2, 3]
    mixed = [
        one.model_copy(update={"gold": gold}) for one, gold in zip(both.base, golds, strict=True)
    ]
    write_jsonl(tmp_path / "r.jsonl", mixed)
    table = columns(tmp_path / "r.jsonl")["t"]
    assert table["item_id"].tolist() == [one.item_id for one in mixed]
    assert table["score"].tolist() == [one.score for one in mixed]
    assert json.loads(canonical(mixed[1].model_dump(mode="json")))["gold"] == "x"


def test_a_key_that_occurs_twice_is_refused_whatever_is_left_out(tmp_path: Path) -> None:
    """The count of keys alone would not see it; an older record without a key is read."""
    write_jsonl(tmp_path / "r.jsonl", sides("t", 3).base)
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    older = [line.replace('"cut": null, ', "") for line in lines]
    assert older != lines
    twice = older[1].replace('"score": 1.0', '"score": 0.0, "score": 1.0')
    (tmp_path / "r.jsonl").write_text("\n".join([lines[0], *older[1:]]))
    assert len(columns(tmp_path / "r.jsonl")["t"]) == 3
    (tmp_path / "r.jsonl").write_text("\n".join([lines[0], twice, lines[2]]))
    with pytest.raises(IntegrityError, match="not valid records: duplicate key"):
        columns(tmp_path / "r.jsonl")
    text = json.loads(lines[1]) | {"response": 'a \\ "quoted": \\"key\\": "score": 0'}
    (tmp_path / "r.jsonl").write_text("\n".join([lines[0], canonical(text), lines[2]]))
    assert len(columns(tmp_path / "r.jsonl")["t"]) == 3


HEAVY = ("torch", "transformers", "lm_eval", "trl", "peft", "datasets")


def test_comparing_and_gating_never_import_torch() -> None:
    steps = (
        "comparison.compare, comparison.methods, core.text.escaping, gate.candidates, gate.ci, "
        "gate.decide, gate.tiers, study_design.power"
    )
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({HEAVY}));"
        f"import {', '.join(f'retainbench.harness.{step}' for step in steps.split(', '))}"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_log_likelihood_that_no_text_has_is_refused(tmp_path: Path) -> None:
    """Its square overflows; margins and slopes would be no numbers, and the verdict a traceback."""
    both = sides("capitals", 30, axis="general", chance=0.25)
    rows = [
        record.model_dump(mode="json") | {"choice_logprobs": [-1.0, -2.0]} for record in both.base
    ]
    rows[3]["choice_logprobs"] = [-1.0, -1e200]
    file = tmp_path / "r.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(IntegrityError, match="not valid records"):
        compare(file, file, POLICY)
    with pytest.raises(ValueError, match="choice_logprobs"):
        ItemRecord.model_validate(rows[3])
