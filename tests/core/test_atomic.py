"""Files and folders are replaced whole, leftovers go away, and the system's errors are one line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files import atomic, locks


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        atomic.write_bytes(tmp_path / "file", b"x")
        with atomic.replacing(tmp_path / "folder") as part:
            (part / "inside").write_text("x")
    finally:
        os.umask(before)
    modes = {name: (tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder")}
    assert modes == {"file": 0o640, "folder": 0o750}


def test_a_new_name_is_on_the_disk_before_the_writer_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut after a rename loses the name unless the folder was synced after it."""
    names: list[list[str]] = []
    sync, folder = os.fsync, tmp_path.stat().st_ino

    def watched(descriptor: int) -> None:
        if os.fstat(descriptor).st_ino == folder:
            names.append([path.name for path in tmp_path.iterdir()])
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    atomic.write_bytes(tmp_path / "file", b"x")
    assert names[-1] == ["file"]
    with atomic.replacing(tmp_path / "folder") as part:
        (part / "inside").write_text("x")
    assert "folder" in names[-1]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:  # a system without renameat2
        monkeypatch.setattr(atomic, "_exchange", lambda *_: False)
    goal = tmp_path / "pack"
    for content in ("old", "new"):
        with atomic.replacing(goal) as part:
            assert part.name == goal.name
            (part / content).write_text(content)
    assert [path.name for path in goal.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [goal]


def test_a_failure_keeps_the_old_folder(tmp_path: Path) -> None:
    goal = tmp_path / "pack"
    with atomic.replacing(goal) as part:
        (part / "old").write_text("x")
    with pytest.raises(ZeroDivisionError), atomic.replacing(goal):
        raise ZeroDivisionError
    assert [path.name for path in goal.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [goal]


def test_a_folder_between_two_renames_comes_back(tmp_path: Path) -> None:
    old = tmp_path / f"{atomic.TEMPORARY}old-pack"
    old.mkdir()
    (old / "item").write_text("x")
    (tmp_path / f"{atomic.TEMPORARY}new-pack" / "pack").mkdir(parents=True)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / f"{atomic.TEMPORARY}0-1-2").write_text("half")
    locks.recover(tmp_path)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == ["deep", "pack", "pack/item"]


def test_temporary_files_of_the_living_stay_in_a_shared_folder(tmp_path: Path) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    for process in (ended.pid, os.getpid()):
        (tmp_path / f"{atomic.TEMPORARY}{atomic.host()}-{process}-x").write_text("half")
    atomic.remove_abandoned(tmp_path)
    assert [path.name.split("-")[3] for path in tmp_path.iterdir()] == [str(os.getpid())]


def test_a_process_is_dead_before_its_parent_asks_for_it() -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        assert atomic.alive(process.pid)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not atomic.alive(process.pid)
    assert not atomic.alive(process.pid)


def test_a_process_that_ends_while_it_is_asked_for_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    monkeypatch.setattr(os, "kill", lambda *_: None)  # as if it had been there at that time
    assert not atomic.alive(ended.pid)


def test_numbers_of_processes_count_in_their_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two containers with one host name and one cache do not remove each other's files."""
    here = atomic.host.__wrapped__()
    monkeypatch.setattr(Path, "readlink", lambda _: Path("pid:[1]"))
    assert atomic.host.__wrapped__() != here


def test_errors_of_the_system_become_one_line(tmp_path: Path) -> None:
    full = pytest.raises(UsageError, match=r"cannot write .*x: No space left on device")
    with full, atomic.explained(tmp_path / "x"):
        raise ValueError("Error while serializing: I/O error: full (os error 28)")
    with pytest.raises(KeyError), atomic.explained(tmp_path):
        raise KeyError("a mistake of ours")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="not a folder"), atomic.replacing(tmp_path / "file"):
        pass
