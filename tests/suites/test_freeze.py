"""`freeze --suite`: datasets at pinned revisions, one lock, and scoring code by reference.

A hub on this machine has datasets with several commits, which differ; what a pack holds shows which
one was asked for.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from fixtures.hub import Hub, Repository, Result, Shell, jsonl, serve
from fixtures.packs import SUITE
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.suites import loading
from retainbench.harness.suites import lock as suite_lock
from retainbench.harness.suites import plan as planning
from retainbench.harness.tasks import catalogue, pack
from retainbench.harness.tasks.catalogue import Catalogue

OLD, PINNED, NEWEST = "a" * 40, "b" * 40, "c" * 40
CHOICE = """task: NAME
dataset_path: o/sums
output_type: multiple_choice
test_split: test
doc_to_text: "{{q}}"
doc_to_choice: o
doc_to_target: 0
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
FILES = """task: by_address
dataset_path: json
dataset_kwargs: {data_files: {test: "hf://datasets/o/files/data/two.jsonl"}}
output_type: loglikelihood
test_split: test
doc_to_text: "{{q}}"
doc_to_target: "{{o[0]}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""
GROUP = "group: both\ntask: [one, two]\nmetadata: {version: 1.0}\n"
SOURCES = {
    "pinned": {"axis": "numeric", "task": "sums", "revision": PINNED},
    "moving": {"axis": "temporal", "task": "one"},
    "address": {"axis": "general", "task": "by_address", "revision": PINNED},
    "both": {"axis": "general", "revision": OLD, "cluster": "page"},
}


def sums(commit: str) -> bytes:
    """Six items that name their commit."""
    rows = [(f"{commit[0]}: {i}+1?", str(i + 1), f"page {i // 2}") for i in range(6)]
    return jsonl(
        *({"q": question, "o": [answer, "?"], "page": page} for question, answer, page in rows)
    )


def repository(path: str, **branches: str) -> Repository:
    return Repository({c: {path: sums(c)} for c in (OLD, PINNED, NEWEST)}, **branches)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Hub, Shell]]:
    """The hub, and a shell that knows no other; both for all tests here."""
    made = Hub()
    with serve(made) as address:
        shell = Shell(address, tmp_path_factory.mktemp("hub"))
        try:
            yield made, shell
        finally:
            shell.close()


@pytest.fixture
def stage(hub: tuple[Hub, Shell], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Datasets as they were, a folder of tasks, and a suite of four sources."""
    made, shell = hub
    made.datasets = {
        "o/sums": repository("data/test.jsonl", main=NEWEST),
        "o/files": repository("data/two.jsonl", main=NEWEST),
    }
    made.asked.clear()
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name in ("sums", "one", "two"):
        (folder / f"{name}.yaml").write_text(CHOICE.replace("NAME", name))
    (folder / "by_address.yaml").write_text(FILES)
    (folder / "both.yaml").write_text(GROUP)
    return Stage(made, shell, folder, tmp_path / "small.yaml", tmp_path / "packs")


class Stage(NamedTuple):
    """What a test works with."""

    hub: Hub
    shell: Shell
    tasks: Path
    suite: Path
    packs: Path

    def write(self, sources: Mapping[str, Any] = SOURCES, **changes: Any) -> None:
        """The suite file."""
        content = SUITE | {"base": "fruitfly", "tasks": ["units"], "sources": dict(sources)}
        self.suite.write_text(yaml.safe_dump(content | changes, sort_keys=False))

    def freeze(self, *more: object) -> Result:
        """The command."""
        asked = ["freeze", "--suite", self.suite, "--out", self.packs, "--include-path", self.tasks]
        return self.shell(*asked, *more)

    def frozen(self) -> dict[str, str]:
        """Pack -> first letter of the commit that its items are of."""
        found = {}
        for info in pack.read(self.packs):
            (letter,) = {item["query"][0] for item in catalogue.items(info)}
            found[info.name] = letter
        return found

    def lock(self) -> suite_lock.SuiteLock:
        """As it is on disk."""
        return suite_lock.read(self.packs, "small")


def test_every_source_is_frozen_at_its_revision(stage: Stage) -> None:
    """A commit is asked for and kept; a branch becomes the commit at which it is now."""
    stage.write()
    made = stage.freeze()
    assert (made.code, made.err) == (0, ""), made.out
    assert stage.frozen() == {"address": "b", "both": "a", "moving": "c", "pinned": "b"}
    assert {("o/sums", PINNED), ("o/sums", OLD), ("o/sums", "main"), ("o/files", PINNED)} <= (
        stage.hub.asked
    )
    assert ("o/files", "main") not in stage.hub.asked
    locked = stage.lock().tasks
    assert {name: entry.revision for name, entry in locked.items()} == {
        "pinned": PINNED,
        "moving": NEWEST,
        "address": PINNED,
        "both": OLD,
    }
    assert "moving: 6 items, o/sums at " + NEWEST + ", pinned from now on" in made.out
    assert "pinned: 6 items, o/sums at " + PINNED + "\n" in made.out
    infos = {info.name: info for info in pack.read(stage.packs)}
    assert {name: info.axis for name, info in infos.items()} == {
        name: source["axis"] for name, source in SOURCES.items()
    }
    assert infos["both"].licence == "licence of o/sums"
    assert infos["both"].n_items == 12, "the tasks of a group are one pack"
    assert len({item.cluster for item in catalogue.lock(infos["both"]).items}) == 3
    assert json.loads((infos["both"].folder / "provenance.json").read_text())["name"] == "both"


def test_a_suite_is_loaded_with_its_packs_only(stage: Stage) -> None:
    """Without them the command to make them is said; with others, or changed ones, it fails."""
    stage.write()
    with pytest.raises(UsageError, match=r"--suite .*small.yaml --out packs/small`, then"):
        loading.load(str(stage.suite))
    assert loading.read(str(stage.suite)).tasks == ["units"]
    assert stage.freeze().code == 0
    known = Catalogue.of([stage.packs])
    chosen = loading.load(str(stage.suite), known)
    assert chosen.tasks == ["units", *SOURCES]
    assert set(planning.gather(chosen, tasks=known).tasks) == {"countdown", *chosen.tasks}
    stage.write(SOURCES | {"pinned": SOURCES["pinned"] | {"revision": NEWEST}})
    with pytest.raises(IntegrityError, match=f"pinned is locked at revision {PINNED}"):
        loading.load(str(stage.suite), known)
    stage.write()
    info = pack.read(stage.packs / "moving")[0]
    items = info.folder / "items.jsonl"
    items.write_bytes(items.read_bytes().replace(b"c: 1+1?", b"c: 1+2?"))
    catalogue.write_lock(info)  # a good pack, and not the one that was frozen
    known = Catalogue.of([stage.packs])
    with pytest.raises(IntegrityError, match=r"items.jsonl: differs from .*small.lock"):
        loading.load(str(stage.suite), known)
    suite_lock.place(stage.packs, "small").unlink()
    with pytest.raises(UsageError, match=r"is not in small.lock"):
        loading.load(str(stage.suite), known)


def test_the_lock_makes_another_machine_freeze_the_same(stage: Stage) -> None:
    """What is there is kept; what is not is frozen at the lock's revision, though main moved on."""
    stage.write()
    assert stage.freeze().code == 0
    before = {path.name: path.read_bytes() for path in stage.packs.rglob("items.jsonl")}
    locked = stage.lock()
    stage.hub.datasets["o/sums"].branches["main"] = OLD
    stage.hub.asked.clear()
    shutil.rmtree(stage.packs / "moving")
    again = stage.freeze()
    assert again.code == 0
    assert again.out.count(": kept") == 3
    assert "pinned from now on" not in again.out
    assert ("o/sums", "main") not in stage.hub.asked
    assert stage.lock() == locked
    assert {path.name: path.read_bytes() for path in stage.packs.rglob("items.jsonl")} == before


def test_what_comes_out_otherwise_than_locked_ends_with_4(stage: Stage) -> None:
    """Other items at the locked revision, another pin in the suite, a changed pack."""
    stage.write({"pinned": SOURCES["pinned"]})
    assert stage.freeze().code == 0
    stage.write({"pinned": SOURCES["pinned"] | {"revision": NEWEST}})
    other = stage.freeze()
    assert other.code == 4
    assert f"locked at revision {PINNED} of o/sums, but the suite pins {NEWEST}" in other.err
    stage.write({"pinned": SOURCES["pinned"]})
    lock = stage.lock()
    entry = lock.tasks["pinned"]
    forged = entry.model_copy(update={"files": entry.files | {"items.jsonl": "0" * 64}})
    path = suite_lock.place(stage.packs, "small")
    path.write_text(lock.model_copy(update={"tasks": {"pinned": forged}}).model_dump_json())
    kept = stage.freeze()
    assert kept.code == 4
    assert "items.jsonl is not what the suite's lock says" in kept.err
    shutil.rmtree(stage.packs / "pinned")
    fresh = stage.freeze()
    assert fresh.code == 4
    assert f"pinned at {PINNED} (locked with lm-eval" in fresh.err
    assert not (stage.packs / "pinned").exists()
    assert [p.name for p in stage.packs.iterdir()] == ["small.lock"], "nothing is left behind"


def test_one_source_that_fails_stops_no_other(stage: Stage) -> None:
    """It is named with its reason, the exit code says so, and running again goes on."""
    missing = {"axis": "numeric", "task": "two", "revision": "d" * 40}
    nowhere = {"axis": "numeric", "task": "three"}
    stage.write({"missing": missing, "nowhere": nowhere, **SOURCES})
    made = stage.freeze()
    assert made.code == 2
    assert "2 of 6 tasks could not be frozen (missing, nowhere)" in made.err
    assert "nowhere: lm-eval knows no task 'three'" in made.out
    assert "missing: o/sums: the hub cannot be asked: RevisionNotFoundError" in made.out
    assert set(stage.lock().tasks) == set(SOURCES)
    stage.hub.datasets["o/sums"].commits["d" * 40] = {"data/test.jsonl": sums("d" * 40)}
    stage.write({"missing": missing, **SOURCES})
    assert stage.freeze().code == 0
    assert stage.frozen()["missing"] == "d"


def test_what_is_no_suite_of_sources_is_a_usage_error(stage: Stage) -> None:
    stage.write({})
    assert "names no sources" in stage.freeze().err
    stage.write(tasks=[], sources={})
    assert "name at least one task or one source" in stage.freeze().err
    stage.write({"pinned": {"axis": "numeric", "revison": PINNED}})
    said = stage.freeze()
    assert (said.code, "revison" in said.err, "revision" in said.err) == (2, True, True)
    assert stage.shell("freeze", "sums", "--suite", stage.suite, "--out", stage.packs).code == 2
