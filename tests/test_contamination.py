"""Training data that give retention items away are found and follow the policy."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_run import suite

from retainbench.harness import contamination, tasks
from retainbench.harness import plan as planning
from retainbench.harness.errors import IntegrityError

LONG = "The quick brown fox jumps over the lazy dog while nine small owls look on in silence"


@pytest.mark.parametrize(
    ("training", "overlaps"),
    [
        (["the QUICK brown fox, jumps over the lazy dog - while nine small owls look on"], True),
        ([LONG.replace("nine small", "two large")], False),  # 3 of 10
        ([LONG.replace("owls", "cats")], True),  # 5 of its 10 sequences are the same
        ([LONG + "!"], True),
        (["nine small owls"], False),
        ([], False),
    ],
)
def test_long_items_overlap_by_sequences_of_words(training: list[str], overlaps: bool) -> None:
    assert contamination.overlapping(training, {"item": LONG}) == ["item"] * overlaps


def test_short_items_overlap_only_as_a_whole() -> None:
    items = {"short": "What is the capital of France? Paris"}
    assert contamination.overlapping(["what is the capital of france paris"], items) == ["short"]
    assert contamination.overlapping(["What is the capital of Spain? Madrid"], items) == []


def test_targets_do_not_train_on_retention_items() -> None:
    known = tasks.discover()
    retention = [name for name, info in known.items() if info.axis != "target"]
    for name, info in known.items():
        if info.axis == "target":
            assert contamination.of_target(name, retention) == {}


def test_the_policy_decides_what_follows(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stolen = tasks.items(tasks.discover()["capitals"])[3]
    answer = stolen["choices"][stolen["gold"]]
    monkeypatch.setattr(tasks, "split", lambda *_: [{"query": stolen["query"], "answer": answer}])
    inputs = planning.gather(suite(tiny_base, tasks=["capitals", "dates"]))
    assert inputs.overlap == {"countdown": {"capitals": [stolen["id"]]}}
    for rule, expected in (("exclude", {"capitals": {stolen["id"]}}), ("report", {})):
        planned = planning.plan(suite(tiny_base, policy={"contaminated": rule}), inputs)
        assert planning.excluded(planned, planned.cells[0]) == expected
    with pytest.raises(IntegrityError, match="overlap"):
        planning.gather(suite(tiny_base, policy={"contaminated": "refuse"}))
