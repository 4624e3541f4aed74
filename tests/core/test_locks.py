"""One writer per folder: the second is refused, a dead one's lock is taken over."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.atomic import TEMPORARY, host

HOLD = """
import pathlib, sys, time
from retainbench.harness.core.files import locks
with locks.growing(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
WORKER = """
import multiprocessing, pathlib, sys, time
from retainbench.harness.core.files import locks

def work(share, folder):
    print("working", flush=True)
    time.sleep(1)
    (folder / "last").touch()

if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    with locks.growing(folder):
        context = multiprocessing.get_context("spawn")
        context.Process(target=work, args=(locks.LockShare(), folder)).start()
        time.sleep(60)
"""


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A process that has printed its first line; killed with SIGKILL at the end."""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
        process.kill()


def test_a_second_writer_is_refused_and_a_dead_one_succeeded(tmp_path: Path) -> None:
    with running("-c", HOLD, str(tmp_path)) as first:
        refused = pytest.raises(UsageError, match=f"written by process {first.pid} on ")
        with refused, locks.growing(tmp_path):
            pass
    assert (tmp_path / locks.NAME).exists()
    with locks.growing(tmp_path):
        assert f" {os.getpid()}\n" in (tmp_path / locks.NAME).read_text()
    assert list(tmp_path.iterdir()) == []


def test_a_lock_of_another_machine_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / locks.NAME).write_text("elsewhere 1\n")
    refused = pytest.raises(UsageError, match=r"process 1 on elsewhere.*if that process has ended")
    with refused, locks.growing(tmp_path):
        pass


def test_the_workers_of_a_killed_command_are_waited_for(tmp_path: Path) -> None:
    script = tmp_path / "work.py"
    script.write_text(WORKER)
    folder = tmp_path / "run"
    folder.mkdir()
    with running(str(script), str(folder)):
        pass
    with locks.growing(folder):
        assert (folder / "last").exists()


def test_a_folder_of_a_cache_is_waited_for(tmp_path: Path) -> None:
    folder, order = tmp_path / "model", list[str]()

    def second() -> None:
        with locks.replaced(folder, wait=True):
            order.append("second")

    waiting = threading.Thread(target=second)
    with locks.replaced(folder):
        waiting.start()
        waiting.join(0.2)
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]
    assert list(tmp_path.iterdir()) == []


def test_folders_that_are_replaced_are_locked_from_outside(tmp_path: Path) -> None:
    refused = pytest.raises(UsageError, match="being written")
    one, other = tmp_path / "one", tmp_path / "other"
    with locks.replaced(one), locks.replaced(other), refused, locks.replaced(one):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UsageError, match="not a run folder"), locks.growing(tmp_path / "missing"):
        pass


def test_what_others_write_below_a_locked_folder_is_theirs(tmp_path: Path) -> None:
    """A pack is frozen into the working folder while a run and a certificate grow in it."""
    begun = [f"runs/quick/{TEMPORARY}0-1-2", f"{TEMPORARY}new-cert/cert/table.md"]
    begun += [f"{TEMPORARY}{host()}-{os.getppid()}-x"]
    ended = [f"runs/{TEMPORARY}0-1-2", f"{TEMPORARY}new-pack/pack/items.jsonl"]
    ended += [f"{TEMPORARY}{host()}-{os.getpid()}-x"]
    for name in (*begun, *ended, f"runs/quick/{locks.NAME}", f".cert{locks.NAME}"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with locks.growing(tmp_path):
        assert [name for name in (*begun, *ended) if (tmp_path / name).exists()] == begun
