"""Training data that give retention items away are found and follow the policy."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from fixtures.packs import write_jsonl
from fixtures.runs import suite
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import sha256_file
from retainbench.harness.suites import plan as planning
from retainbench.harness.tasks import catalogue, contamination, training_data
from retainbench.harness.tasks.catalogue import OWN

LONG = "The quick brown fox jumps over the lazy dog while nine small owls look on in silence"


def overlapping(training: list[str], text: str) -> bool:
    """Whether an item's text is in the training texts."""
    search = contamination.OverlapSearch({("task", "item"): text})
    search.read([line] for line in training)
    return search.found() == [("task", "item")]


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
    assert overlapping(training, LONG) == overlaps


def test_short_items_overlap_only_as_a_whole() -> None:
    short = "What is the capital of France? Paris"
    assert overlapping(["what is the capital of france paris"], short)
    assert not overlapping(["What is the capital of Spain? Madrid"], short)


TAUGHT = {"countries_brief": {"capitals", "capitals_free"}}
"""Targets that teach what retention tasks ask, as their cards say; plans leave the items out."""


def test_targets_do_not_train_on_retention_items() -> None:
    known = catalogue.own()
    retention = [name for name, info in known.items() if info.axis != "target"]
    for name, info in known.items():
        if info.axis == "target":
            found = contamination.of_target(name, retention, OWN)
            assert set(found) == TAUGHT.get(name, set()), name


def test_the_policy_decides_what_follows(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stolen = catalogue.items(catalogue.own()["capitals"])[3]
    answer = stolen["choices"][stolen["gold"]]
    monkeypatch.setattr(
        catalogue, "split", lambda *_: [{"query": stolen["query"], "answer": answer}]
    )
    inputs = planning.gather(suite(tiny_base, tasks=["capitals", "dates"]))
    assert inputs.overlap == {"countdown": {"capitals": [stolen["id"]]}}
    for rule, expected in (("exclude", {"capitals": {stolen["id"]}}), ("report", {})):
        planned = planning.plan(suite(tiny_base, policy={"contaminated": rule}), inputs)
        assert planning.excluded(planned, planned.cells[0]) == expected
    with pytest.raises(IntegrityError, match=r"countdown gives away 2 .*: refused"):
        planning.gather(suite(tiny_base, policy={"contaminated": "refuse"}))


def capital(number: int) -> tuple[str, str, str]:
    """Id, question and answer of a retention item."""
    item = catalogue.items(catalogue.own()["capitals"])[number]
    return item["id"], item["query"], item["choices"][item["gold"]]


def prompt_and_completion(question: str, answer: str) -> Any:
    return {"prompt": question, "completion": answer}


def text(question: str, answer: str) -> Any:
    return {"meta": {"source": "web"}, "text": f"{question} {answer}"}


def messages(question: str, answer: str) -> Any:
    turns = [("system", "Be kind."), ("user", question), ("assistant", answer)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def turns_of_two(question: str, answer: str) -> Any:
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


def bare(question: str, answer: str) -> Any:
    return f"{question} {answer}"


@pytest.mark.parametrize("form", [prompt_and_completion, text, messages, turns_of_two, bare])
def test_a_users_file_is_read_whatever_its_keys(form: Any, tmp_path: Path) -> None:
    """Items between other rows are found, and none besides; blank lines are skipped."""
    wanted = {number: capital(number) for number in (2, 5)}
    rows = [form("What do owls eat?", "Mice") for _ in range(3)]
    rows[1:1] = [form(question, answer) for _, question, answer in wanted.values()]
    path = tmp_path / "train.jsonl"
    path.write_text("\n\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    found = training_data.of_file(path, ["capitals", "dates"], OWN)
    assert found.overlap == {"capitals": [name for name, *_ in wanted.values()]}
    assert (found.rows, found.name, found.sha256) == (5, "train.jsonl", sha256_file(path))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a": "b"}\n{"a": ', "train.jsonl:2: not JSON"),
        (b'{"a": "\xff"}\n', "train.jsonl:1: not UTF-8"),
        (b'{"a": 1}\n', "train.jsonl:1: has no text"),
        (b"[" * 100_000 + b"\n", "train.jsonl:1: not JSON"),
        (b"\n\n", "has no rows"),
        (b"", "has no rows"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=said):
        training_data.of_file(path, ["capitals"], OWN)
    with pytest.raises(UsageError, match="not a file"):
        training_data.of_file(tmp_path, ["capitals"], OWN)


def test_a_row_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_data, "LONGEST_LINE", 100)
    path = write_jsonl(tmp_path / "train.jsonl", [{"a": "b"}, {"a": "b" * 100}])
    with pytest.raises(UsageError, match=r"train.jsonl:2: a row over 100 bytes"):
        training_data.of_file(path, ["capitals"], OWN)


def test_memory_does_not_grow_with_the_training_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the rows, and one row of as many words: the peak is that of a few blocks."""
    monkeypatch.setattr(contamination, "BLOCK", 5_000)
    search = contamination.OverlapSearch({("t", "i"): LONG})

    def peak(rows: int, per_row: int) -> int:
        tracemalloc.start()
        search.read(["w " * per_row] for _ in range(rows))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    small = peak(100, 500)
    assert peak(400, 500) < 1.2 * small
    assert peak(1, 200_000) < 1.2 * small + 3 * 400_000  # the text itself, and in lower case
    search.read([[LONG]])
    assert search.found() == [("t", "i")]


def test_a_sequence_is_found_across_blocks_and_not_across_rows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contamination, "BLOCK", 10)
    for before in range(25):
        search = contamination.OverlapSearch({("t", "i"): LONG})
        search.read([["and " * before + LONG + " and on"]])
        assert search.seen == contamination.sequences(contamination.words(LONG))
    search = contamination.OverlapSearch({("t", "i"): LONG})
    search.read([["The quick brown fox jumps over"], ["the lazy dog while nine small owls"]])
    assert not search.seen


def test_a_users_file_enters_the_plan_and_follows_the_policy(
    tiny_base: Path, tmp_path: Path
) -> None:
    """Its items are left out for every cell; ids of cells stay, the inputs differ."""
    (name, *pair), (other, *_) = capital(3), capital(4)
    path = write_jsonl(tmp_path / "mine.jsonl", [prompt_and_completion(*pair)])
    chosen = suite(tiny_base, tasks=["capitals", "dates"])
    inputs = planning.gather(chosen, [path])
    planned, without = planning.plan(chosen, inputs), planning.plan(chosen, planning.gather(chosen))
    assert inputs.train_data[0].sha256 == sha256_file(path)
    assert planned.inputs != without.inputs
    assert [cell.id for cell in planned.cells] == [cell.id for cell in without.cells]
    assert planning.excluded(planned, planned.cells[0]) == {"capitals": {name}}
    both = inputs.model_copy(update={"overlap": {"countdown": {"capitals": [other]}}})
    planned = planning.plan(chosen, both)
    assert planning.excluded(planned, planned.cells[0]) == {"capitals": {name, other}}
    assert planning.overlap_lines(chosen, both)[1] == (
        "mine.jsonl (1 row) gives away 1 retention item (capitals 1): excluded from the verdict"
    )
    report = suite(tiny_base, tasks=["capitals", "dates"], policy={"contaminated": "report"})
    planned = planning.plan(report, planning.gather(report, [path]))
    assert planning.excluded(planned, planned.cells[0]) == {}
    refusing = suite(tiny_base, tasks=["capitals"], policy={"contaminated": "refuse"})
    with pytest.raises(IntegrityError, match=r"mine.jsonl .* refused"):
        planning.gather(refusing, [path])
