"""Command lines timed side by side: wall and processor seconds, peak memory.

`alternate` runs each way once per round, so that a slow moment of the machine hits all of them. A
small process of its own starts the command and reports on it: Linux counts the memory of whoever
starts a process as that process's own. Prints nothing; a command that fails is an error with the
end of what it wrote.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

OURS = "retainbench"
CLI = (sys.executable, "-c", "from retainbench.harness.cli.main import main; main()")
"""What the console script `retainbench` does, wherever the environment has put it."""
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
"""For the peers, which would ask the network for what is on disk."""

WATCH = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
with open(sys.argv[1], "wb") as log:
    code = subprocess.call(sys.argv[2:], stdout=log, stderr=log)
wall = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, wall, used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss]))
"""


class Spent(NamedTuple):
    """One run of a command, with the processes that it started and waited for."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    """Largest resident memory of one process."""


class CommandRow(NamedTuple):
    """One way of doing a piece of work; medians over the repeats."""

    work: str
    way: str
    """`retainbench`, or the peer."""
    wall_s: float
    wall_spread_s: float
    """Largest minus smallest."""
    cpu_s: float
    cpu_spread_s: float
    peak_mb: float
    """Largest of the repeats, in 10^6 bytes."""
    ours_over_this: float
    """Wall time of ours as a share of this way's: below 1, ours is faster."""


def spend(
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    accepted: Sequence[int] = (0,),
) -> Spent:
    """Run a command once.

    Args:
        environment: variables on top of this process's own.
        accepted: exit codes that are no failure.

    Raises:
        RuntimeError: the command ended with another code.
    """
    with tempfile.TemporaryDirectory(prefix="retainbench-bench-") as folder:
        log = Path(folder) / "log"
        watched = subprocess.run(
            [sys.executable, "-I", "-S", "-c", WATCH, str(log), *command],
            env={**os.environ, **(environment or {})},
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        code, wall, cpu, peak = json.loads(watched.stdout)
        if code not in accepted:
            end = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"{' '.join(command)} ended with {code}:\n{end}")
    return Spent(wall, cpu, peak)


def alternate(
    work: str, ways: Mapping[str, Callable[[], Spent]], repeats: int
) -> Iterator[CommandRow]:
    """Run all ways one after another, `repeats` times; rows in the order of `ways`, ours first."""
    taken: dict[str, list[Spent]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way, run in ways.items():
            taken[way].append(run())
    ours = statistics.median(one.wall_s for one in next(iter(taken.values())))
    for way, runs in taken.items():
        walls, cpus = [one.wall_s for one in runs], [one.cpu_s for one in runs]
        yield CommandRow(
            work=work,
            way=way,
            wall_s=statistics.median(walls),
            wall_spread_s=max(walls) - min(walls),
            cpu_s=statistics.median(cpus),
            cpu_spread_s=max(cpus) - min(cpus),
            peak_mb=max(one.peak_bytes for one in runs) / 1e6,
            ours_over_this=ours / statistics.median(walls),
        )
