"""Damaged files of a run are made again to the same bytes, or refused; a moved base is the same."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fixtures.runs import SFT, plan_of, suite
from retainbench.harness.core.errors import RetainbenchError, UsageError
from retainbench.harness.core.files.storage import digest_file
from retainbench.harness.core.paths import RunFolder
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.gate import candidates
from retainbench.harness.models import checked, loading, shared
from retainbench.harness.report import report
from retainbench.harness.running import run as runner
from retainbench.harness.suites.plan import Plan

SMALL = {
    "budget": {"unit": "steps", "amount": 2},
    "trajectory": [1.0],
    "items_per_task": 8,
    "tasks": ["capitals"],
    "divergence_prompts": 2,
    "divergence_tokens": 2,
}


def damaged(path: Path) -> None:
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def stored(root: Path) -> dict[str, bytes]:
    """Contents of the files that hold no wall time."""
    timed = ("train.json", "scorecard.json", "scorecards.jsonl", "progress.jsonl")
    files = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".sha256")
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in files
        if path.name not in timed and path.parent.name != "checkpoints"
    }


@pytest.fixture(scope="module")
def finished(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A run of one cell, and its plan."""
    plan = plan_of(suite(tiny_base, **SMALL))
    root = tmp_path_factory.mktemp("damage") / "run"
    runner.run(plan, root)
    return plan, root


def test_every_damaged_file_is_made_again(finished: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, whole = finished
    root = tmp_path / "run"
    shutil.copytree(whole, root)
    run = RunFolder(root)
    base, cell = run.base_point(plan.suite.base), run.cell(plan.cells[0].id)
    point = cell.point("s0-1.0000")
    for file in (
        run.items("capitals"),
        *base.root.glob("*.jsonl"),
        *run.evaluations.glob("*.jsonl"),
        *(cell.train, cell.steps, cell.scorecard, cell.checkpoint_record("s0-1.0000")),
        *(point.records, point.drift, point.divergence),
    ):
        damaged(file)
    runner.run(plan, root)
    assert stored(root) == stored(whole)


def test_damaged_weights_are_trained_again(finished: tuple[Plan, Path], tmp_path: Path) -> None:
    plan, whole = finished
    root = tmp_path / "run"
    shutil.copytree(whole, root)
    cell = RunFolder(root).cell(plan.cells[0].id)
    damaged(cell.checkpoint("s0-1.0000") / "model.safetensors")
    cell.point("s0-1.0000").records.unlink()  # what is measured already is not loaded again
    runner.run(plan, root)
    assert stored(root) == stored(whole)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda _: b"",
    "truncated": lambda data: data[: len(data) // 2],
    "one bit": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "deep": lambda data: b"[" * 100_000 + data,
    "not UTF-8": lambda data: data.replace(b"a", b"\xff", 1),
    "BOM": lambda data: b"\xef\xbb\xbf" + data,
    "NaN": lambda data: data.replace(b"1.0", b"NaN"),
    "missing": lambda data: data,
}


READ = {
    "gate": (candidates.gate_run, ["base", "noise", "plan", "point", "scorecard"]),
    "report": (report.report, ["base", "noise", "plan", "point", "scorecards"]),
}
"""What reads a finished run, and which of its files."""


def read_files(plan: Plan, root: Path) -> dict[str, Path]:
    """The files of `READ`."""
    run = RunFolder(root)
    base, cell = run.base_point(plan.suite.base), run.cell(plan.cells[0].id)
    return {
        "base": base.records,
        "noise": base.noise("repeat"),
        "plan": run.plan,
        "point": cell.point("s0-1.0000").records,
        "scorecard": cell.scorecard,
        "scorecards": run.scorecards,
    }


@pytest.mark.parametrize("verb", READ)
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_reads_a_run_refuses_damage(
    finished: tuple[Plan, Path], tmp_path: Path, damage: str, verb: str
) -> None:
    plan, whole = finished
    root = Path(shutil.copytree(whole, tmp_path / "run"))
    read, names = READ[verb]
    for name, file in read_files(plan, root).items():
        if name in names[: 1 if damage not in ("truncated", "missing") else None]:
            before = file.read_bytes()
            file.unlink()
            if damage != "missing":
                file.write_bytes(DAMAGE[damage](before))
                assert file.read_bytes() != before
            outcome = _outcome(read, root)
            assert str(file) in outcome, (name, outcome)
            file.write_bytes(before)


def _outcome(read: Callable[[Path], object], root: Path) -> str:
    """The error, or what a gate says of the cell."""
    try:
        found = read(root)
    except RetainbenchError as error:
        return str(error)
    results = found if isinstance(found, list) else []
    return " ".join(reason for result in results for reason in result.reasons)


def test_another_device_is_refused(finished: tuple[Plan, Path]) -> None:
    plan, root = finished
    with pytest.raises(UsageError, match="was begun with --device cpu"):
        runner.open_folder(plan, root, "cuda:1")


def test_a_base_that_moved_trains_nothing_again(
    finished: tuple[Plan, Path], tiny_base: Path, tmp_path: Path
) -> None:
    plan, whole = finished
    moved, root = tmp_path / "moved" / tiny_base.name, tmp_path / "run"
    shutil.copytree(tiny_base, moved)
    shutil.copytree(whole, root)
    again = plan_of(suite(moved, **SMALL))
    assert [cell.id for cell in again.cells] == [cell.id for cell in plan.cells]
    train = RunFolder(root).cell(plan.cells[0].id).train
    before = train.stat().st_mtime_ns
    runner.run(again, root)
    assert train.stat().st_mtime_ns == before


def test_a_base_is_hashed_and_loaded_once(
    tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted where files are read: a run of four checkpoints of full weights and adapters."""
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    loads: list[Path] = []
    hashes: list[Path] = []
    load, digest = loading._load_full, checked.folder_digest
    monkeypatch.setattr(loading, "_load_full", lambda f, *how: loads.append(f) or load(f, *how))
    monkeypatch.setattr(checked, "folder_digest", lambda f: hashes.append(f) or digest(f))
    shared._resident.cache_clear()
    lora = SFT | {"adaptation": {"kind": "lora", "rank": 2}}
    changes = SMALL | {"trajectory": [0.5, 1.0], "recipes": {"sft": SFT, "lora": lora}}
    cards: list[Scorecard] = runner.run(plan_of(suite(base, **changes)), tmp_path / "run")
    assert [card.status for card in cards] == ["done", "done"]
    assert loads.count(base.resolve()) == 1
    assert hashes.count(base) == 1


def test_digests_are_next_to_their_files(finished: tuple[Plan, Path]) -> None:
    _, root = finished
    names = {path.name for path in root.rglob("*.sha256")}
    assert {digest_file(Path(n)).name for n in ("plan.json", "train.json", "steps.jsonl")} <= names
