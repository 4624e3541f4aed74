"""What a suite brings by path: found from anywhere, known by content, refused if missing."""

from __future__ import annotations

import dataclasses
import pickle
import shutil
from pathlib import Path

import pytest
import yaml

from retainbench.harness.api import certify as api
from retainbench.harness.certificate.verify import verify
from retainbench.harness.contracts import skeletons
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.suites import loading, methods
from retainbench.harness.suites import plan as planning
from retainbench.harness.tasks.catalogue import Catalogue


@pytest.fixture
def project(tmp_path: Path, tiny_base: Path) -> Path:
    """A folder with a target, a task, a method, a model and a suite that names all by path."""
    folder = tmp_path / "project"
    skeletons.target("sums", folder)
    skeletons.task("fruit", folder / "packs", "safety")
    (folder / "packs" / "fruit.jsonl").unlink()
    skeletons.method("gentle", folder)
    shutil.copytree(tiny_base, folder / "model")
    skeletons.suite("mine", folder, ["./sums"], ["./packs", "capitals"], ["./gentle.py"])
    return folder


def edit(folder: Path, **changes: object) -> str:
    """The suite's path, after a change of it."""
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes, sort_keys=False))
    return str(path)


def ids(reference: str) -> list[str]:
    """Of the suite's cells, through a pickle as worker processes and Ray nodes get them."""
    suite, known = pickle.loads(pickle.dumps(loading.opened(reference)))  # noqa: S301 - our own
    inputs = planning.gather(suite, (), known)
    return [cell.id for cell in planning.plan(suite, inputs, known).cells]


def test_paths_become_names_and_content(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal ids from another folder and after a move, others after any change of content."""
    reference = edit(project, base="./model")
    suite, known = loading.opened(reference)
    assert (suite.targets, suite.tasks) == (["sums"], ["fruit", "capitals"])
    assert suite.recipes["gentle"].method == "gentle"
    assert known.tasks["fruit"].axis == "safety"
    assert methods.load("gentle", known.methods).Options().discount == 1.0
    before = ids(reference)
    monkeypatch.chdir(tmp_path)
    assert ids("project/mine.yaml") == before
    moved = project.rename(tmp_path / "elsewhere")
    assert ids(str(moved / "mine.yaml")) == before
    with (moved / "gentle.py").open("a") as file:
        file.write("\n# a remark\n")
    after = ids(str(moved / "mine.yaml"))
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, True, False]
    suite, known = loading.opened(str(moved / "mine.yaml"))
    assert planning.gather(suite, (), known).methods.keys() == {"gentle"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"targets": ["./none"]}, "targets: not a folder: ./none .*new target none"),
        ({"tasks": ["./none"]}, "tasks: not a folder: ./none .*new task none"),
        ({"targets": ["./packs"]}, "./packs is not the folder of one target"),
        ({"recipes": {"a": {"method": "./none.py"}}}, "not a file: .*none.py.*new method"),
        ({"recipes": {"a": {"method": "./sft.py"}}}, "another method is named sft: rename"),
        ({"recipes": {"a": {"method": "./gentle.py", "options": {"x": 1}}}}, "unknown option 'x'"),
        ({"base": "./none"}, "unknown base"),
    ],
)
def test_what_is_not_there_is_one_line(
    project: Path, changes: dict[str, object], message: str
) -> None:
    shutil.copy(project / "gentle.py", project / "sft.py")
    with pytest.raises(UsageError, match=message) as caught:
        ids(edit(project, **changes))
    assert "\n" not in str(caught.value)


def test_code_of_a_pack_needs_permission(project: Path) -> None:
    """The same target: named by the user's own suite it runs, as a pack it does not."""
    with pytest.raises(UsageError, match=r"reward\.py: code that came with a target.*--allow-code"):
        Catalogue.of([project / "sums"])
    allowed = Catalogue.of([project / "sums"], allow_code=True)
    assert allowed.packed["sums"].kind == "target"
    assert loading.opened(edit(project)).tasks.packed["sums"].kind == "target"


def test_a_changed_target_is_broken_evidence(project: Path) -> None:
    with (project / "sums" / "reward.py").open("a") as file:
        file.write("\n# a remark\n")
    with pytest.raises(IntegrityError, match=r"reward\.py: differs from the lock of sums"):
        loading.opened(edit(project))


def test_the_catalogue_is_data(project: Path) -> None:
    known = loading.opened(edit(project)).tasks
    again = pickle.loads(pickle.dumps(known))  # noqa: S301 - our own
    assert dataclasses.asdict(again) == dataclasses.asdict(known)


def test_a_certificate_judges_what_the_suite_brings(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base and a candidate on the suite's own task and target; verified with the suite."""
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))
    policy = {"minimum_gain": -1.0, "minimum_items": 2, "margin": 0.9}
    small = {"items_per_task": 20, "noise_floor": [], "divergence_prompts": 0, "policy": policy}
    reference = edit(project, base="./model", tasks=["./packs"], **small)
    model = str(project / "model")
    made = api.certify(model, model, reference, tmp_path / "certificate")
    assert made.evidence.expected == ["fruit"]
    assert {task.change.task for task in made.gate.tasks} == {"fruit"}
    suite, known = loading.opened(reference)
    verify(tmp_path / "certificate", suite=suite, tasks=known, allow_unsigned=True)
    (project / "packs" / "fruit" / "items.jsonl").write_text("")
    with pytest.raises(IntegrityError, match="fruit"):
        api.certify(model, model, reference, tmp_path / "second")
