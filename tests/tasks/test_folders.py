"""Every task folder keeps what it promises; parametrised over discovery.

Reads tasks/**; the heaviest step is one run of lm-eval over all tasks with a model that answers
nothing, for its hashes.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from retainbench.harness.contracts import task as contract
from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.running.training.jobs import load_target
from retainbench.harness.suites import loading, plan
from retainbench.harness.tasks import catalogue, folder
from retainbench.harness.tasks.rendering.prompts import reference
from retainbench.tasks._build import normalised

KNOWN = catalogue.own()
ALL = sorted(KNOWN)
CHOICE = [name for name in ALL if KNOWN[name].kind == "multiple_choice"]
FREE = [name for name in ALL if KNOWN[name].kind == "free_form"]
TARGETS = [name for name in ALL if KNOWN[name].kind == "target"]
AXES = ("general", "numeric", "temporal")
CORE = [
    name for name in plan.retention_tasks(loading.load("core")) if KNOWN[name].kind != "perplexity"
]


def test_there_are_three_core_tasks_and_a_free_form_one_on_each_axis() -> None:
    """Issue of the core suite: at least three tasks per axis, one of them free form."""
    for axis in AXES:
        kinds = [info.kind for info in KNOWN.values() if info.axis == axis]
        assert kinds.count("multiple_choice") >= 3, axis
        assert kinds.count("free_form") >= 1, axis


@pytest.mark.parametrize("name", CORE)
def test_core_tasks_have_items_clusters_and_headroom(name: str) -> None:
    """300 items in 60 clusters rule out a drop of 5 points; a base at 1.00 hides what is eroded."""
    info = KNOWN[name]
    assert info.n_items >= 300
    assert len({row["cluster"] for row in catalogue.items(info)}) >= 60
    assert 0.60 <= folder.base_scores(info)["fruitfly"] <= 0.97


def test_core_has_a_free_form_task_with_room_on_both_sides_on_each_axis() -> None:
    """Base score .60-.90: nothing but the model's own words counts, and it can lose and gain."""
    for axis in AXES:
        free = [KNOWN[name] for name in CORE if name in FREE and KNOWN[name].axis == axis]
        assert any(0.60 <= folder.base_scores(info)["fruitfly"] <= 0.90 for info in free), axis


@pytest.mark.parametrize("name", [*CHOICE, *FREE])
def test_retention_tasks_keep_the_contract(name: str) -> None:
    """Lock, different questions, chance, no prefix, no shortcut, gold answers that match."""
    broken = [f"{rule.name}: {rule.why}" for rule in contract.check(KNOWN[name]) if not rule.passed]
    assert broken == []


@pytest.mark.parametrize("name", TARGETS)
def test_targets_are_as_frozen_and_ask_each_question_once(name: str) -> None:
    """`check` asks the same of retention tasks; targets have more rules of their own below."""
    catalogue.verify_lock(KNOWN[name])
    asked = [normalised(row["query"]) for row in catalogue.items(KNOWN[name])]
    assert len(set(asked)) == len(asked)


@pytest.mark.parametrize("name", ALL)
def test_folder_is_complete(name: str) -> None:
    """README with version, licence and change log; 135 items at least; names agree."""
    info = KNOWN[name]
    readme = (info.folder / "README.md").read_text(encoding="utf-8")
    for word in ("## What", "## Licence", "## Change log", f"Version {info.version}"):
        assert word in readme, word
    assert info.lm_eval_name == f"rb_{name}"
    assert 135 <= info.n_items <= 400
    assert (info.folder / "build.py").is_file()


@pytest.mark.parametrize("name", [name for name in ALL if KNOWN[name].shots])
def test_frozen_shots_are_those_of_the_build_and_no_items(name: str) -> None:
    """The YAML's literal preamble equals SHOTS; no item asks for a shot's answer."""
    info = KNOWN[name]
    shots = importlib.import_module(f"retainbench.tasks.{info.axis}.{name}.build").SHOTS
    preamble = "".join(f"Question: {query}\nAnswer: {answer}\n\n" for query, answer in shots)
    assert info.template.text == preamble + "Question: {{query}}\nAnswer:"
    assert len(shots) == info.shots
    assert not {row["query"] for row in catalogue.items(info)} & {query for query, _ in shots}


@pytest.mark.parametrize("name", CHOICE)
def test_choices_stand_in_the_order_of_their_hash(name: str) -> None:
    """Order depends on id and text alone."""
    for row in catalogue.items(KNOWN[name]):
        key = [
            hashlib.sha256(f"{row['id']}|{choice}".encode()).hexdigest()
            for choice in row["choices"]
        ]
        assert key == sorted(key)


@pytest.mark.parametrize("name", TARGETS)
def test_gold_answers_score_one(name: str) -> None:
    """Of every split; with the leading space and the line end of a generation."""
    info = KNOWN[name]
    target = load_target(name)
    following = "\n\nQuestion: next" if info.stop else ""
    rows = [
        *catalogue.items(info),
        *catalogue.split(info, "validation"),
        *catalogue.split(info, "train")[:300],
    ]
    for row in rows:
        assert target.reward(f" {reference(row)}{following}", row) == 1.0, row
        assert target.valid(f" {reference(row)}", row), row


@pytest.mark.parametrize("name", TARGETS)
def test_constant_answer_scores_at_chance(name: str) -> None:
    """The best constant out of the 20 commonest answers earns chance plus three standard errors."""
    info = KNOWN[name]
    module, rows = catalogue.reward(info), catalogue.items(info)
    common = Counter(row["answer"] for row in rows).most_common(20)
    best = max(sum(module.reward(answer, row) for row in rows) / len(rows) for answer, _ in common)
    format_only = 0.1 if name.startswith("countdown") else 0.0
    assert best <= format_only + (info.chance or 0.0) + 0.12, best


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(
    "response",
    [
        "",
        "\n",
        "(" * 50_000,
        "9" * 100_000,
        "9**9**9**9",
        "__import__('os').system('true')",
        "1/0",
        "((((((((((((((1))))))))))))))",
        "\x00\ud800"[:1] + "nan",
        "1e999, inf",
        "lambda: 0",
        "-" * 10_000 + "1",
    ],
)
def test_hostile_responses_score_low_and_never_raise(name: str, response: str) -> None:
    """A reward is total: whatever a model writes, it is a number in [0, 0.1]."""
    info = KNOWN[name]
    module, row = catalogue.reward(info), catalogue.items(info)[0]
    assert 0.0 <= module.reward(response, row) <= 0.1
    assert module.valid(response, row) in (True, False)


def test_countdown_reward_by_hand() -> None:
    """Right, wrong value, a number left out, a number used twice, no expression."""
    module = catalogue.reward(KNOWN["countdown"])
    item = {"numbers": [4, 7, 9], "target": 12}
    for response in ("9+7-4", "7 - 4 + 9", "(9+7)-4", "9+7-4 = 12", "9-(4-7)"):
        assert module.reward(response, item) == 1.0, response
    for response in ("9+7+4", "12", "9+3", "9+7-4+0", "9+7-4-4+4", "9*7/4"):
        assert module.reward(response, item) == 0.1, response
    for response in ("nine", "9+", "+9", "9 7", "(9", "9//4", "9+7-4;", "x=9"):
        assert module.reward(response, item) == 0.0, response


@pytest.mark.parametrize("name", [name for name in TARGETS if name != "new_facts"])
def test_splits_are_disjoint(name: str) -> None:
    """No query of one split is in another, after normalisation; nor is a problem reworded."""
    info = KNOWN[name]
    splits = [
        catalogue.items(info),
        catalogue.split(info, "validation"),
        catalogue.split(info, "train"),
    ]
    for key in ("query", "id"):
        seen = [{normalised(row[key]) for row in rows} for rows in splits]
        assert sum(map(len, seen)) == len(set.union(*seen)), key
    if "numbers" in splits[0][0]:
        problems = [{(*sorted(row["numbers"]), row["target"]) for row in rows} for rows in splits]
        assert sum(map(len, problems)) == len(set.union(*problems))


def test_new_facts_splits_share_facts_but_no_phrasing() -> None:
    """Test phrasings are new; the people, towns and answers are those of training."""
    info = KNOWN["new_facts"]
    splits = [
        catalogue.items(info),
        catalogue.split(info, "validation"),
        catalogue.split(info, "train"),
    ]
    facts = [{(row["cluster"], row["answer"]) for row in rows} for rows in splits]
    assert facts[0] == facts[1] == facts[2]
    forms = [{row["query"].replace(row["cluster"], "X") for row in rows} for rows in splits]
    assert sum(map(len, forms)) == len(set.union(*forms))


@pytest.mark.parametrize("name", ALL)
def test_rebuilt_items_are_byte_identical(name: str, tmp_path: Path) -> None:
    """build.py in a copy of the folder writes the very bytes that are frozen."""
    info = KNOWN[name]
    module = importlib.import_module(f"retainbench.tasks.{info.axis}.{name}.build")
    written = {path.name: path.read_bytes() for path in info.folder.glob("*.jsonl")}
    copy = tmp_path / name
    copy.mkdir()
    module.write_to(copy)
    for path in copy.glob("*.jsonl"):
        assert path.read_bytes() == written[path.name], path.name
    assert (copy / "items.jsonl").is_file()


@pytest.fixture
def copied(tmp_path: Path) -> catalogue.TaskInfo:
    """A pack: one task copied out of the package, with the base YAML and code that it uses."""
    axis = tmp_path / "tasks" / "general"
    shutil.copytree(KNOWN["capitals"].folder, axis / "capitals")
    for path in paths.TASKS.glob("_*"):
        if path.is_file():
            shutil.copy(path, tmp_path / "tasks" / path.name)
    return catalogue.read_task(axis / "capitals")


@pytest.mark.parametrize(
    "relative", ["items.jsonl", "capitals.yaml", "../../_dataset.py", "../../_multiple_choice.yaml"]
)
def test_one_changed_byte_is_named(copied: catalogue.TaskInfo, relative: str) -> None:
    """Tampering is exit 4 and says which file."""
    catalogue.verify_lock(copied)
    path = copied.folder / relative
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(IntegrityError, match=Path(relative).name.replace(".", r"\.")):
        catalogue.verify_lock(copied)


def _spoil(row: dict[str, Any], change: dict[str, Any]) -> bytes:
    return json.dumps(row | change).encode() + b"\n"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"gold": 7}, "gold 7"),
        ({"gold": True}, "gold True"),
        ({"choices": ["a"]}, "choices"),
        ({"choices": ["a", "a"], "gold": 0}, "duplicate"),
        ({"choices": None}, "choices"),
        ({"query": 3}, "query"),
    ],
)
def test_malformed_items_are_named(
    copied: catalogue.TaskInfo, change: dict[str, Any], said: str
) -> None:
    """The message holds file, item and fault."""
    path = copied.folder / "items.jsonl"
    first = json.loads(path.read_bytes().splitlines()[0])
    path.write_bytes(_spoil(first, change))
    with pytest.raises(IntegrityError, match=f"items.jsonl:1: item {first['id']}.*{said}"):
        catalogue.items(copied)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"id": "\xff"}\n', "UTF-8"),
        (b"{" * 5_000 + b"\n", "JSON"),
        (b"[" * 500_000 + b"\n", "JSON"),
        (b'"' + b"x" * 2_000_000, "bytes"),
        (b"[]\n", "not an object"),
        (b"", "no items"),
    ],
)
def test_malformed_files_are_named(copied: catalogue.TaskInfo, data: bytes, said: str) -> None:
    """Bad bytes never reach lm-eval."""
    path = copied.folder / "items.jsonl"
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=f"items.jsonl.*{said}"):
        catalogue.items(copied)


def test_duplicate_id_is_named(copied: catalogue.TaskInfo) -> None:
    """Two rows with one id."""
    path = copied.folder / "items.jsonl"
    line = path.read_bytes().splitlines(keepends=True)[0]
    path.write_bytes(line + line)
    with pytest.raises(IntegrityError, match=r"items\.jsonl:2: item .*: duplicate id"):
        catalogue.items(copied)


def test_unknown_task_gets_the_nearest_name() -> None:
    """A typing error is a usage error."""
    with pytest.raises(UsageError, match="did you mean 'capitals'"):
        catalogue.OWN.find(["capitels"])
    assert catalogue.OWN.find(["rb_capitals", "capitals"]) == [KNOWN["capitals"]]


def test_split_and_reward_are_for_targets_only() -> None:
    """Retention tasks have neither."""
    with pytest.raises(UsageError, match="no split"):
        catalogue.split(KNOWN["capitals"], "train")
    with pytest.raises(UsageError, match="no split"):
        catalogue.split(KNOWN["countdown"], "test")
    with pytest.raises(UsageError, match="no reward"):
        catalogue.reward(KNOWN["capitals"])


@pytest.mark.filterwarnings("ignore")
def test_hashes_equal_those_of_lm_eval() -> None:
    """One run of lm-eval over every task: documents, prompts and targets hash as in the locks."""
    from lm_eval import simple_evaluate
    from lm_eval.api.model import LM
    from lm_eval.tasks import TaskManager

    class Silent(LM):  # type: ignore[misc,unused-ignore]
        """Answers every request alike."""

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            return [(-float(n % 3), False) for n, _ in enumerate(requests)]

        def generate_until(self, requests: list[Any]) -> list[str]:
            return [" nothing"] * len(requests)

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            return [0.0] * len(requests)

    manager = TaskManager(include_path=str(paths.TASKS), include_defaults=False)
    names = [info.lm_eval_name for info in KNOWN.values()]
    assert set(names) <= set(manager.all_tasks)
    results = simple_evaluate(
        model=Silent(), tasks=names, task_manager=manager, bootstrap_iters=0, log_samples=True
    )
    for info in KNOWN.values():
        rows = {row["doc"]["id"]: row for row in results["samples"][info.lm_eval_name]}
        locked = catalogue.lock(info).items
        assert len(rows) == len(locked) == info.n_items
        for item in locked:
            for kind in ("doc_hash", "prompt_hash", "target_hash"):
                assert rows[item.id][kind] == getattr(item, kind), (info.name, item.id, kind)
