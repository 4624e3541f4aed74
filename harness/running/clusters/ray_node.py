"""What a node of a Ray cluster does: one cell, or the base's scoring, in a folder of its own.

Runs in a worker of Ray on any machine of the cluster; takes the plan and the base's records as data
and yields the files that it wrote, in pieces, and the scorecard. Driver: running/clusters/ray.py.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.atomic import write_bytes
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.models import bases
from retainbench.harness.models.checked import Base
from retainbench.harness.running.cell import execute
from retainbench.harness.running.context import Context
from retainbench.harness.running.reference import prepare
from retainbench.harness.suites.plan import Cell, Plan
from retainbench.harness.tasks.catalogue import Catalogue

PIECE = 1 << 25
"""Bytes of a file that travel at once."""

Files = dict[str, bytes]
"""Contents by path below the run folder."""


class FileChunk(NamedTuple):
    """The next bytes of a file."""

    name: str
    data: bytes


def work(
    plan: Plan,
    cell: Cell | None,
    device: str,
    report_to: tuple[str, ...],
    tasks: Catalogue,
    inputs: Files,
) -> Iterator[FileChunk | Scorecard]:
    """On a node: one cell, or the base's scoring, in a folder of its own; yields what is new."""
    base = check_node(plan)
    with tempfile.TemporaryDirectory(prefix="retainbench-") as scratch:
        root = Path(scratch)
        run = Context(plan, root, base, device, report_to, tasks)
        for name, data in inputs.items():
            write_bytes(root / name, data)
        scorecard = None
        if cell is None:
            prepare(run)
        else:
            scorecard = execute(run, cell)
        for file in sorted(path for path in root.rglob("*") if path.is_file()):
            name = file.relative_to(root).as_posix()
            if name not in inputs:
                yield from pieces(file, name)
        if scorecard is not None:
            yield scorecard


def check_node(plan: Plan) -> Base:
    """Compare this node with what the plan rests on; returns the base as it is here.

    Raises:
        IntegrityError: other versions, or another base under the same name.
    """
    here = {name: version(name) for name in plan.inputs.versions}
    if here != plan.inputs.versions:
        other = {n: v for n, v in here.items() if v != plan.inputs.versions[n]}
        raise IntegrityError(f"node {socket.gethostname()} has other versions: {other}")
    base = _base_here(plan.suite.base)
    if base.digest != plan.inputs.base:
        raise IntegrityError(f"node {socket.gethostname()} has another {plan.suite.base}")
    return base


@cache
def _base_here(reference: str) -> Base:
    """Hashed once per process: a worker of Ray runs one cell after another."""
    return bases.resolve(reference)


def pieces(file: Path, name: str) -> Iterator[FileChunk]:
    """A file in order; an empty one is one empty piece."""
    with file.open("rb") as stream:
        yield FileChunk(name, stream.read(PIECE))
        while data := stream.read(PIECE):
            yield FileChunk(name, data)
