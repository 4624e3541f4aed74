"""Packs that lm-eval's own code scores: what is frozen, what is scored, and what is refused.

truthfulqa_mc2 is frozen from invented rows on a hub on this machine; its function is lm-eval's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from fixtures.hub import Hub, Repository, Result, Shell, jsonl, serve
from retainbench.harness.core.errors import IntegrityError, RetainbenchError, UsageError
from retainbench.harness.models import loading
from retainbench.harness.scoring import evaluate
from retainbench.harness.tasks import catalogue, lm_eval_index, scoring_code
from retainbench.harness.tasks import pack as tasks_pack
from retainbench.tasks import _code

COMMIT = "e" * 40
CARD = """---
configs:
- config_name: multiple_choice
  data_files: [{split: validation, path: validation.jsonl}]
---
"""
LABELS = ([1, 0, 0, 0], [1, 1, 0], [1, 1, 1, 0, 0])
MC2 = "truthfulqa/truthfulqa_mc2.yaml"


def targets(labels: list[int], number: int) -> dict[str, list[int] | list[str]]:
    return {"choices": [f"Answer {number}, {i}." for i, _ in enumerate(labels)], "labels": labels}


@pytest.fixture(scope="module")
def frozen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Result, Result]]:
    """The pack, what was said when the code was not allowed, and when it was."""
    folder = tmp_path_factory.mktemp("code")
    rows = [
        {"question": f"Is {n} a number?", "mc1_targets": made, "mc2_targets": made}
        for n, made in enumerate(targets(labels, n) for n, labels in enumerate(LABELS))
    ]
    hub = Hub()
    files = {"README.md": CARD.encode(), "validation.jsonl": jsonl(*rows)}
    hub.datasets["truthfulqa/truthful_qa"] = Repository({COMMIT: files}, main=COMMIT)
    asked = ["freeze", "truthfulqa_mc2", "--include-path", scoring_code.root() / "truthfulqa"]
    asked += ["--out", folder / "pack"]
    with serve(hub) as address:
        shell = Shell(address, folder / "home")
        try:
            yield folder / "pack", shell(*asked), shell(*asked, "--allow-code")
        finally:
            shell.close()


@pytest.fixture
def pack(frozen: tuple[Path, Result, Result], tmp_path: Path) -> Path:
    """A copy for this test."""
    shutil.copytree(frozen[0], tmp_path / "pack")
    return tmp_path / "pack"


def info_of(pack: Path) -> catalogue.TaskInfo:
    (info,) = tasks_pack.read(pack)
    return info


def test_the_users_word_is_asked_for(frozen: tuple[Path, Result, Result]) -> None:
    _, refused, made = frozen
    assert refused.code == 2
    assert f"is scored by code of lm-eval ({MC2})" in refused.err
    assert "--allow-code" in refused.err
    assert (made.code, made.err) == (0, "")


def test_items_code_and_chance_are_frozen(pack: Path) -> None:
    """Chance is what a guesser gets who is sure of one choice: the share of true ones."""
    info = info_of(pack)
    catalogue.verify_lock(info)
    assert info.code is not None
    assert (info.code.config, info.code.metric) == (MC2, "acc")
    assert list(info.code.files) == [
        "truthfulqa/truthfulqa_mc1.yaml",
        MC2,
        "truthfulqa/utils.py",
    ]
    expected = [sum(labels) / len(labels) for labels in LABELS]
    assert [item.chance for item in catalogue.lock(info).items] == expected
    assert catalogue.prompts(info)[1].endswith("Q: Is 1 a number?\nA:")
    assert {"datasets", "numpy"} <= scoring_code.packages(info).keys()


def test_scores_are_those_of_the_tasks_own_metric(pack: Path, tiny_base: Path) -> None:
    """The normalised probability of the true answers (arXiv:2109.07958), from the records."""
    info = info_of(pack)
    records = evaluate.evaluate(loading.load(tiny_base), [info], allow_code=True)
    assert len(records) == len(LABELS)
    for record, labels in zip(records, LABELS, strict=True):
        assert record.choice_logprobs is not None
        mass = np.exp(np.array(record.choice_logprobs) - max(record.choice_logprobs))
        assert record.score == pytest.approx((mass * labels).sum() / mass.sum(), rel=1e-6)
        assert record.metric == "acc"
    assert not evaluate.affects(evaluate.REPEAT_SCORINGS["options"], info)
    assert evaluate.affects(evaluate.REPEAT_SCORINGS["repeat"], info)


def test_nothing_is_scored_without_the_users_word(pack: Path, tiny_base: Path) -> None:
    with pytest.raises(UsageError, match=f"is scored by code of lm-eval .{MC2}.*--allow-code"):
        evaluate.evaluate(loading.load(tiny_base), [info_of(pack)], limit=1)


def rewrite(pack: Path, old: str, new: str) -> None:
    """Change a pack's YAML and freeze what came of it, as a forger would."""
    path = pack / "truthfulqa_mc2" / "truthfulqa_mc2.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    catalogue.write_lock(catalogue.read_task(path.parent))


def test_code_that_was_changed_is_not_run(pack: Path) -> None:
    """The installed file differs from the one that was frozen, or there are more of them."""
    code = info_of(pack).code
    assert code is not None
    rewrite(pack, code.files["truthfulqa/utils.py"], "f" * 64)
    with pytest.raises(IntegrityError, match=r"truthfulqa/utils\.py: is not what scored"):
        scoring_code.scoring(info_of(pack), allowed=True)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (MC2, "../../../evil.yaml", r"metadata\.code\.config"),
        (MC2, "/evil/evil.yaml", r"metadata\.code\.config"),
        (MC2, "evil/evil.yaml", r"evil\.yaml"),
        (f"config: {MC2}", "config: truthfulqa/truthfulqa_mc1.yaml", r"mc\d\.yaml"),
        ("metric: acc", "metric: __class__.x", r"metadata\.code\.metric"),
        ("process_results: !function '_code.score'\n", "", "go together"),
    ],
)
def test_a_forged_reference_is_refused(pack: Path, old: str, new: str, said: str) -> None:
    """Another path, another task, no task: by name, and without running anything."""
    path = pack / "truthfulqa_mc2" / "truthfulqa_mc2.yaml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(RetainbenchError, match=said):
        scoring_code.scoring(info_of(pack), allowed=True)


@pytest.mark.parametrize("change", [{"chance": 1.5}, {"chance": "1"}, {"doc": {}}, {"doc": None}])
def test_a_forged_item_is_refused(pack: Path, change: dict[str, object]) -> None:
    path = pack / "truthfulqa_mc2" / "items.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row | change) + "\n" for row in rows))
    with pytest.raises(IntegrityError, match=r"item truthfulqa_mc2:0: lacks doc, or a chance"):
        catalogue.write_lock(info_of(pack))


def test_code_that_fails_names_the_item(pack: Path) -> None:
    score = scoring_code.scoring(info_of(pack), allowed=True)
    with pytest.raises(IntegrityError, match=r"item x: not scored: KeyError: 'mc2_targets'"):
        score({"id": "x", "doc": "{}"}, [(-1.0, False)])


def test_plain_lm_eval_stops_instead_of_scoring_otherwise() -> None:
    with pytest.raises(RuntimeError, match="--allow-task-code"):
        _code.score({"id": "x"}, [(-1.0, False)])


@pytest.mark.parametrize("name", ["agieval/sat-math.yaml", "ifeval/ifeval.yaml", MC2])
def test_the_code_of_a_task_is_all_that_it_imports(name: str) -> None:
    """YAML, bases and the Python beside them; digests are of what is installed."""
    found = scoring_code.of_config(scoring_code.root() / name, "acc").files
    folder = name.split("/")[0]
    assert name in found
    assert {path for path in found if path.endswith(".py")} == {
        f"{folder}/{path.name}" for path in (scoring_code.root() / folder).glob("*.py")
    }


def test_a_task_of_the_users_own_is_not_lm_evals(tmp_path: Path) -> None:
    """Its code lies outside lm-eval, so no reference to it can be kept."""
    (tmp_path / "mine.yaml").write_text("task: mine\nprocess_results: !function code.judge\n")
    (tmp_path / "code.py").write_text("def judge(doc, results): ...\n")
    with pytest.raises(UsageError, match="is not lm-eval's own"):
        scoring_code.of_config(tmp_path / "mine.yaml", "acc")


def test_a_dataset_is_found_where_a_task_says(tmp_path: Path) -> None:
    """On the hub, behind an address, or nowhere on it."""
    (tmp_path / "hub.yaml").write_text("task: hub\ndataset_path: o/n\n")
    files = 'dataset_kwargs: {data_files: {test: "hf://datasets/o/m/x.jsonl"}}\n'
    (tmp_path / "address.yaml").write_text(f"task: address\ndataset_path: json\n{files}")
    (tmp_path / "local.yaml").write_text("task: local\ndataset_path: json\n")
    index = lm_eval_index.Index(tmp_path)
    assert [index.dataset(name) for name in ("hub", "address", "local")] == ["o/n", "o/m", None]
