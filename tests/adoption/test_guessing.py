"""Chance and gold follow from how a score was made; what cannot be explained is not judged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fixtures.adoption import inspect_log, lm_eval_row, lm_eval_run
from retainbench.harness.adoption import pair as adopt
from retainbench.harness.adoption.guessing import (
    UnscorableError,
    constant_answer,
    right_options,
    target_places,
)
from retainbench.harness.core.errors import UsageError


def run(folder: Path, rows: list[dict[str, Any]]) -> Path:
    counts = {"tiny": {"original": len(rows), "effective": len(rows)}}
    return lm_eval_run(folder, rows, **{"n-samples": counts})


def choice(number: int, target: str, texts: list[str], best: int, acc: float) -> dict[str, Any]:
    arguments = {
        f"gen_args_{k}": {"arg_0": f"Q{number}", "arg_1": f" {text}"}
        for k, text in enumerate(texts)
    }
    logprobs = [[str(-1.0 if k == best else -2.0), "False"] for k in range(len(texts))]
    changes: dict[str, Any] = {"arguments": arguments, "filtered_resps": logprobs, "target": target}
    return lm_eval_row(number, **changes, acc=acc, metrics=["acc"])


@pytest.mark.parametrize(
    ("texts", "target", "best", "acc", "gold"),
    [
        (["3", "1", "2"], "3", 0, 1.0, 0),
        (["1", "2", "3"], "1", 0, 1.0, 0),  # the place of the text, not the index
        (["1", "2", "3"], "1", 1, 1.0, 1),  # the score shows that it is an index
        (["1", "2", "3"], "2", 2, 1.0, 2),
        (["a", "b", "c"], "2", 2, 1.0, 2),
        (["a", "b", "c"], "[0, 2]", 2, 1.0, 0),
        (["yes", "no"], "no", 0, 0.0, 1),
        (["no", "yes"], "True", 1, 1.0, 1),
    ],
)
def test_numeric_targets_are_texts_or_indices_as_the_score_says(
    tmp_path: Path, texts: list[str], target: str, best: int, acc: float, gold: int
) -> None:
    rows = [choice(number, target, texts, best, acc) for number in range(3)]
    assert {record.gold for record in adopt.read(run(tmp_path, rows)).records} == {gold}


def test_a_score_that_nothing_explains_is_not_judged(tmp_path: Path) -> None:
    rows = [choice(number, "b", ["a", "b"], 0, 1.0) for number in range(3)]
    with pytest.raises(UsageError, match="acc does not follow from the log-likelihoods"):
        adopt.read(run(tmp_path / "argmax", rows))
    soft = [choice(number, "b", ["a", "b"], 0, 0.4) for number in range(3)]
    with pytest.raises(UsageError, match="no field of the item says which options are right"):
        adopt.read(run(tmp_path / "mass", soft))


def test_custom_metrics_of_multiple_choice_have_the_chance_of_the_choice(tmp_path: Path) -> None:
    rows = [choice(n, "b", ["a", "b"], 1, 1.0) | {"metrics": ["own"], "own": 1.0} for n in range(3)]
    (chance,) = {record.chance for record in adopt.read(run(tmp_path, rows)).records}
    assert chance == 1 / 2


def test_generated_letters_have_the_chance_of_the_commonest(tmp_path: Path) -> None:
    rows = [
        lm_eval_row(
            number,
            arguments={"gen_args_0": {"arg_0": f"Q{number}", "arg_1": {"until": ["\n"]}}},
            resps=[["A"]],
            filtered_resps=["A"],
            target="ABCD"[number % 4],
            metrics=["exact_match"],
            exact_match=float(number % 4 == 0),
        )
        for number in range(80)
    ]
    records = adopt.read(run(tmp_path, rows)).records
    assert {record.chance for record in records} == {1 / 4}
    assert constant_answer([str(number) for number in range(1000)]) == 0
    assert constant_answer(["x"] * 100) == 0


def test_generated_texts_of_listed_options_have_the_chance_of_the_list(tmp_path: Path) -> None:
    rows = [
        lm_eval_row(
            number,
            doc={"options": [f"{number}a", f"{number}b", f"{number}c", f"{number}d"]},
            arguments={"gen_args_0": {"arg_0": f"Q{number}", "arg_1": {"until": ["\n"]}}},
            resps=[[f"{number}a"]],
            filtered_resps=[f"{number}a"],
            target=f"{number}b",
            metrics=["exact_match"],
            exact_match=0.0,
        )
        for number in range(5)
    ]
    assert {record.chance for record in adopt.read(run(tmp_path, rows)).records} == {1 / 4}


def test_inspect_samples_with_several_right_options(tmp_path: Path) -> None:
    log = inspect_log("arc", ["C", "I"])
    log["samples"][0]["target"] = ["A", "B"]
    log["samples"][1]["target"] = "A"
    (tmp_path / "log.json").write_text(json.dumps(log))
    records = adopt.read(tmp_path).records
    assert [record.chance for record in records] == pytest.approx([2 / 3, 1 / 3])


def test_places_of_targets() -> None:
    assert target_places("[0, 1]", ["a", "b"]) == ([], [0, 1])
    assert target_places("7", ["a", "b"]) == ([], [])
    assert target_places("(" * 10_000, ["a"]) == ([], [])
    with pytest.raises(UnscorableError):
        right_options([], "acc") or right_options([_odd()], "acc")


def _odd() -> Any:
    from retainbench.harness.adoption.guessing import ScoredOptions

    return ScoredOptions(0.5, None, [-1.0, -2.0], [False, False], [(1, 1)] * 2, [], [], [], False)
