"""Workers end with the command that started them, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from retainbench.harness.core.files import locks
from retainbench.harness.core.files.atomic import alive
from retainbench.harness.running import pool

COMMAND = """
import functools, os, pathlib, sys, time
from retainbench.harness.core.files import locks
from retainbench.harness.running import pool

def work(folder):
    beats = folder / str(os.getpid())
    for _ in range(60_000):
        beats.touch()
        time.sleep(0.01)

if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    with locks.growing(folder):
        list(pool.side_by_side([functools.partial(work, folder)] * 2, 2, "cpu"))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_workers_end_with_their_command(tmp_path: Path, number: signal.Signals) -> None:
    script, folder = tmp_path / "command.py", tmp_path / "run"
    script.write_text(COMMAND)
    folder.mkdir()
    with subprocess.Popen([sys.executable, script, folder], stderr=subprocess.DEVNULL) as command:
        while len(workers := list(folder.glob("[0-9]*"))) < 2:
            assert command.poll() is None
            time.sleep(0.05)
        os.kill(command.pid, number)
        assert command.wait() == -number
    with locks.growing(folder):  # waits for the workers, which hold the lock too
        assert not any(alive(int(worker.name)) for worker in workers)
        last = [worker.stat().st_mtime_ns for worker in workers]
        time.sleep(0.3)
        assert [worker.stat().st_mtime_ns for worker in workers] == last


def test_workers_share_the_cores_that_their_command_may_use() -> None:
    """Of a machine with 64 cores a container may have two."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        asked = [partial(os.getenv, "OMP_NUM_THREADS")]
        assert list(pool.side_by_side(asked, 1, "cpu")) == [(0, "1")]
    finally:
        os.sched_setaffinity(0, cores)
