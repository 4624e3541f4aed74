"""Freeze every task that a suite names a source of: once with internet, then usable offline.

Reads `sources:` of a suite and SUITE.lock; writes OUT/NAME/ per source and OUT/SUITE.lock. What the
lock has is frozen at its revision and must come out as it says. Else the suite's revision is taken,
or, where the suite names a branch, the commit at which that is now; the lock keeps it. What is
there already is kept, so a command that was cut off or lacked a task goes on when it is run again.

Command: `retainbench freeze --suite NAME --out DIR [--allow-code]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.atomic import replacing
from retainbench.harness.core.files.storage import write_json
from retainbench.harness.core.schema import Source, Suite
from retainbench.harness.suites import lock as suite_lock
from retainbench.harness.suites.lock import LockedSource
from retainbench.harness.tasks import catalogue, freeze, from_lm_eval, pack
from retainbench.harness.tasks.lm_eval_index import Index, card


class FreezeOutcome(NamedTuple):
    """What became of one source."""

    name: str
    frozen: catalogue.TaskInfo | None
    """The pack; None: it could not be frozen now."""
    line: str
    """One line for people."""


@dataclass(frozen=True)
class FreezeRequest:
    """One command."""

    suite: Suite
    out: Path
    include: Path | None = None
    """Folder of lm-eval tasks, instead of lm-eval's own."""
    overwrite: bool = False
    command: Sequence[str] = ()
    allow_code: bool = False
    """Whether packs may name scoring code of lm-eval's own."""

    @cached_property
    def index(self) -> Index:
        """Built when the first task is loaded."""
        return Index(self.include)


def run(order: FreezeRequest) -> Iterator[FreezeOutcome]:
    """Freeze source by source; a task that cannot be loaded is reported and left out.

    Raises:
        UsageError: the suite names no sources, or a folder is taken.
        IntegrityError: a task comes out otherwise than it is locked or pinned. Earlier ones stay.
    """
    if not order.suite.sources:
        raise UsageError(f"suite {order.suite.name} names no sources: there is nothing to freeze")
    lock = suite_lock.read(order.out, order.suite.name)
    for name, source in order.suite.sources.items():
        locked = lock.tasks.get(name)
        if locked is not None:
            where = suite_lock.place(order.out, order.suite.name)
            suite_lock.require_pinned(name, source.revision, locked, where)
        if kept := _kept(order, name, locked):
            yield FreezeOutcome(name, kept, "kept")
            continue
        try:
            made, locking = _frozen(order, name, source, locked)
        except UsageError as error:
            yield FreezeOutcome(name, None, str(error))
            continue
        info = _write(order, made, locking, lock)
        first = locked is None and not suite_lock.is_commit(source.revision)
        yield FreezeOutcome(name, info, _line(info, locking, first, made))


def _kept(
    order: FreezeRequest, name: str, locked: LockedSource | None
) -> catalogue.TaskInfo | None:
    """The pack that is there already, as it is locked."""
    folder = order.out / name
    if order.overwrite or not folder.exists():
        return None
    (info,) = pack.read(folder)
    catalogue.verify_lock(info)
    if locked is None:
        raise UsageError(f"{folder} exists and is not in the suite's lock: --overwrite it")
    _require_same(info, locked, f"{folder}")
    return info


def _frozen(
    order: FreezeRequest, name: str, source: Source, locked: LockedSource | None
) -> tuple[freeze.Frozen, LockedSource]:
    task = source.task or name
    dataset = order.index.dataset(task)
    wanted = (locked and locked.revision) or source.revision
    commit, licence = card(dataset, wanted) if dataset is not None else (None, None)
    choices = from_lm_eval.FreezeChoices(
        source.axis, source.filter, licence, source.cluster, allow_code=order.allow_code
    )
    parts = [
        from_lm_eval.frozen(one, loaded, choices, order.command)
        for one, loaded in order.index.load(task, commit).items()
    ]
    made = freeze.joined(name, task, parts, commit)
    locking = LockedSource(
        task=task, dataset=dataset, revision=commit, lm_eval=version("lm-eval"), files={}
    )
    return made, locking


def _write(
    order: FreezeRequest, made: freeze.Frozen, locking: LockedSource, lock: suite_lock.SuiteLock
) -> catalogue.TaskInfo:
    """OUT/NAME/, once it is known to be what the lock says, and its line of the lock.

    The lock is written first: killed before the pack is in its place, the same command freezes it
    again and finds that it is what was locked.
    """
    goal, locked = order.out / made.name, lock.tasks.get(made.name)
    freeze.check_name(made.name)
    with replacing(goal) as folder:
        info = freeze.fill(folder, made)
        if locked is not None:
            versions = f"locked with lm-eval {locked.lm_eval}, now {locking.lm_eval}"
            _require_same(info, locked, f"{made.name} at {locking.revision} ({versions})")
        lock.tasks[made.name] = locking.model_copy(update={"files": suite_lock.digests(info)})
        write_json(suite_lock.place(order.out, order.suite.name), lock)
    return pack.read(goal)[0]


def _require_same(info: catalogue.TaskInfo, locked: LockedSource, what: str) -> None:
    for file, digest in suite_lock.digests(info).items():
        if digest != locked.files.get(file):
            raise IntegrityError(f"{what}: {file} is not what the suite's lock says")


def _line(info: catalogue.TaskInfo, locking: LockedSource, first: bool, made: freeze.Frozen) -> str:
    at = f"{locking.dataset} at {locking.revision}" + (", pinned from now on" if first else "")
    left_out = len(made.provenance.left_out)
    return (
        f"{info.n_items} items, {at if locking.dataset else 'not from the hub'}"
        + (f", {left_out} left out: {made.provenance.left_out[0].reason}" if left_out else "")
        + (", scored by lm-eval's own code" if info.code else "")
    )
