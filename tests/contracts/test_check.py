"""`retainbench check` refuses what breaks a contract, by the rule's name, and passes our own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fixtures.packs import write_jsonl
from retainbench.harness.contracts import check, rows, skeletons, target, task
from retainbench.harness.contracts import method as contract
from retainbench.harness.contracts.new_target import REWARDS, TargetSpec, write
from retainbench.harness.contracts.rules import Rule
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files import code_files
from retainbench.harness.tasks import catalogue, freeze

KNOWN = catalogue.own()
TARGETS = [name for name, info in KNOWN.items() if info.kind == "target"]
TASKS = [name for name in KNOWN if name not in TARGETS]


def failed(rules: Iterator[Rule]) -> list[str]:
    return [rule.name for rule in rules if not rule.passed]


@pytest.mark.parametrize("name", TARGETS)
def test_our_targets_keep_the_contract(name: str) -> None:
    assert [rule for rule in target.check(KNOWN[name]) if not rule.passed] == []


@pytest.mark.parametrize("name", TASKS)
def test_our_tasks_keep_the_contract(name: str) -> None:
    broken = [rule for rule in task.check(KNOWN[name]) if not rule.passed]
    if float(KNOWN[name].version) < 2:  # from version 2 on no choice is the beginning of another
        broken = [rule for rule in broken if rule.name != "no prefix choice"]
    assert broken == []


def with_reward(folder: Path, text: str) -> Path:
    """The sample target with another reward.py."""
    info = skeletons.target("sample", folder)
    (info.folder / "reward.py").write_text(text)
    return info.folder


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("def reward(response, item):\n    return 1.5", "rewards in [0, 1]"),
        (
            "import time\n\ndef reward(response, item):\n"
            "    late = time.time() % 2 < 1\n    return float(late and bool(response.strip()))",
            "pure reward",
        ),
        (
            "from datetime import datetime\nBEGIN = datetime.now()\n\ndef reward(response, item):\n"
            "    return float(BEGIN.year % 2 and item['answer'] in response)",
            "pure reward",
        ),
        (
            "import random\n\ndef reward(response, item):\n"
            "    return float(item['answer'] in response) * random.random()",
            "pure reward",
        ),
        (
            "def reward(response, item):\n    item['seen'] = True\n"
            "    return float(item['answer'] in response)",
            "pure reward",
        ),
        ("def reward(response, item):\n    return 0.0", "gold answers 1.0"),
        ("def reward(response, item):\n    return 1.0", "empty and hostile answers low"),
        (
            "def reward(response, item):\n    return float(bool(response.strip()))",
            "constant answers low",
        ),
        ("def reward(response, item):\n    return 1 / 0", "rewards in [0, 1]"),
    ],
)
def test_a_broken_reward_is_refused_by_rule(tmp_path: Path, text: str, rule: str) -> None:
    folder = with_reward(tmp_path, text)
    assert rule in failed(check.check(folder, freeze=True))


def test_a_changed_target_is_refused_until_it_is_frozen_again(tmp_path: Path) -> None:
    folder = skeletons.target("sample", tmp_path).folder
    assert failed(check.check(folder)) == []
    with (folder / "reward.py").open("a") as file:
        file.write("\n# a remark\n")
    assert failed(check.check(folder)) == ["lock"]
    assert failed(check.check(folder, freeze=True)) == []
    assert failed(check.check(folder)) == []


def test_overlapping_splits_are_refused(tmp_path: Path) -> None:
    folder = skeletons.target("sample", tmp_path).folder
    first = json.loads((folder / "items.jsonl").read_text().splitlines()[0])
    again = first | {"id": "again", "query": f" {first['query'].upper()} "}
    with (folder / "train.jsonl").open("a") as file:
        file.write(json.dumps(again) + "\n")
    assert failed(check.check(folder, freeze=True)) == ["splits disjoint"]


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"choices": ["7", "77", "8", "9"], "gold": 0}, "no prefix choice"),
        ({"query": "the same"}, "different questions"),
        ({"gold": 0}, "no shortcut"),
    ],
)
def test_a_broken_task_is_refused_by_rule(
    tmp_path: Path, changes: dict[str, Any], rule: str
) -> None:
    skeletons.task("sample", tmp_path, "safety")
    lines = [json.loads(line) for line in (tmp_path / "sample.jsonl").read_text().splitlines()]
    file = tmp_path / "changed.jsonl"
    file.write_text("".join(json.dumps(row | changes) + "\n" for row in lines))
    info = freeze.write(freeze.from_jsonl(file, "changed", "safety"), tmp_path)
    assert rule in failed(check.check(info.folder))


def test_documents_are_a_task(tmp_path: Path) -> None:
    """Rows with a text become a task of perplexity; too few of them, or one twice, are refused."""
    file = tmp_path / "letters.jsonl"
    texts = [f"Letter {number}.\n\nAll is well, {number} times." for number in range(60)]
    write_jsonl(file, ({"id": str(n), "text": text} for n, text in enumerate(texts)))
    info = freeze.write(freeze.from_jsonl(file, "letters", "safety"), tmp_path)
    assert (info.kind, info.prompt(catalogue.items(info)[0])) == ("perplexity", texts[0])
    assert failed(check.check(info.folder)) == []
    write_jsonl(file, ({"id": str(n), "text": texts[n // 2]} for n in range(40)))
    info = freeze.write(freeze.from_jsonl(file, "few", "safety"), tmp_path)
    assert failed(check.check(info.folder)) == ["different questions", "documents"]
    with pytest.raises(UsageError, match="without a prompt"):
        freeze.from_jsonl(file, "asked", "safety", prompt="Read: {{query}}")


BROKEN = {
    "no global random state": (
        "    noise = float(torch.rand(()))\n",
        "sft.supervised(job, lambda l, p, t: loss(l, p, t, 1.0 + noise))",
    ),
    "budget within one step": (
        "    budget = job.budget.model_copy(update={'amount': 1.3 * job.budget.amount})\n"
        "    job = dataclasses.replace(job, budget=budget)\n",
        "sft.supervised(job, lambda l, p, t: loss(l, p, t, 1.0))",
    ),
    "no test items reachable": (
        "    from retainbench.harness.tasks import catalogue\n"
        "    catalogue.items(catalogue.own()['countdown'])\n",
        "sft.supervised(job, lambda l, p, t: loss(l, p, t, 1.0))",
    ),
}


@pytest.mark.parametrize("rule", list(BROKEN))
def test_a_broken_method_is_refused_by_rule(tmp_path: Path, tiny_base: Path, rule: str) -> None:
    path = skeletons.method("broken", tmp_path)
    before, call = BROKEN[rule]
    head = path.read_text().split("    options: Options = job.options")[0]
    text = head + "    import dataclasses\n\n    import torch\n\n" + before + f"    return {call}\n"
    path.write_text(text)
    module = code_files.module(code_files.read(path))
    assert rule in {
        name.split(" (")[0] for name in failed(contract.check(module, tiny_base, "full"))
    }


def test_a_method_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("PAPER = 'x'\nimport nothing_of_the_kind\n")
    (rule,) = check.check(path)
    assert (rule.name, rule.passed) == ("contract", False)
    assert "mine.py:2: cannot be imported: ModuleNotFoundError" in rule.why
    path.write_text("PAPER = 'x'\n")
    (rule,) = check.check(path)
    assert "missing: ADAPTATIONS, ANCHORS, Options, train" in rule.why
    with pytest.raises(UsageError, match="nothing to check"):
        list(check.check(tmp_path / "none"))


ANSWERS: dict[str, tuple[dict[str, Any], str, list[tuple[str, float]]]] = {
    "exact": ({}, "Blue sky", [(" blue  sky.", 1.0), ("blue", 0.0)]),
    "numeric": ({"tolerance": 0.5}, "12", [("it is 12.4", 1.0), ("13", 0.0), ("none", 0.0)]),
    "choice": ({"options": ["yes", "no"]}, "yes", [("Yes!", 1.0), ("yes or no", 0.0)]),
    "contains": ({}, "Paris", [("I think it is paris, yes", 1.0), ("London", 0.0)]),
    "regex": (
        {"pattern": "is ([a-z]+)"},
        "red",
        [("it is blue, no, is red", 1.0), ("so red", 0.0)],
    ),
    "json": (
        {"fields": ["a", "b"]},
        '{"a": 1, "b": 2}',
        [('so {"a": 1, "b": 3}', 0.5), ('{"b": 2, "a": 1}', 1.0), ("{", 0.0)],
    ),
    "math": ({}, "$\\frac{1}{2}$", [("$0.5$", 1.0), ("$0.6$", 0.0)]),
}


@pytest.mark.parametrize("kind", REWARDS)
def test_built_in_rewards(tmp_path: Path, kind: str) -> None:
    settings, answer, cases = ANSWERS[kind]
    given = [
        rows.completed({"id": n, "query": f"question {n}", "answer": answer}) for n in range(40)
    ]
    wish = TargetSpec("mine", kind, settings, provenance={"source": "jsonl", "name": "rows"})
    info = write(wish, rows.split(given), tmp_path)
    module = catalogue.reward(info)
    assert module.reward(f" {answer}", given[0]) == 1.0
    assert module.valid(f" {answer}", given[0]) is True
    assert [module.reward(response, given[0]) for response, _ in cases] == [v for _, v in cases]
    names = failed(check.check(info.folder))
    assert names == ["constant answers low"]  # all rows have the same answer here


def test_rows_are_split_by_cluster_and_what_is_wrong_is_reported() -> None:
    given = [
        rows.completed(
            {"id": n, "messages": [{"role": "user", "content": f"what is {n}?"}], "answer": n}
            | {"cluster": n // 4},
        )
        for n in range(80)
    ]
    found = rows.split([*given, given[0] | {"id": "twice"}])
    parts = [{row["cluster"] for row in part} for part in found[:3]]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 20
    assert min(map(len, parts)) >= 2
    assert found.remarks == ["1 row of --train left out: the same question is there already"]
    tested = rows.split(given, [given[5]])
    assert [row["id"] for row in tested.test] == ["5"]
    assert "1 cluster in --train and in --test" in tested.remarks
    with pytest.raises(UsageError, match="too few for three splits"):
        rows.split(given[:5])
    item = catalogue.items(KNOWN["capitals"])[0]
    stolen = {"query": item["query"], "answer": item["choices"][item["gold"]]}
    remarks = rows.given_away([stolen], [])
    assert "1 item of the retention task capitals in the training items" in remarks
