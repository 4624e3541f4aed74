"""One writer per folder: a lock file that names the host and the process.

The system's own lock on that file (flock) ends with the last process that holds it, so a lock file
of a dead process of this machine is recognised and taken over. Worker processes hold the lock
together with the command that started them (`LockShare`): a command that resumes at once waits
until the workers of the killed one are gone.

Reads and writes `FOLDER/.lock` for folders that grow, and `.NAME.lock` next to folders that are
replaced as a whole.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import reduction
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.atomic import (
    TEMPORARY,
    alive,
    explained,
    recover_folder,
    replaced_name,
    undo,
    writer,
)

NAME = ".lock"
PATIENCE = 30.0
"""Seconds to wait for the workers of a command that was killed; they end within one or two."""
_held: list[int] = []


class Owner(NamedTuple):
    """Who wrote a lock file."""

    host: str
    process: int


@contextmanager
def growing(folder: Path, *, create: bool = False) -> Iterator[None]:
    """Lock a folder that files are added to, and remove what killed commands left in it.

    Args:
        create: make the folder if it is missing.

    Raises:
        UsageError: another process writes the folder, or it cannot be written.
    """
    if create:
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
    elif not folder.is_dir():
        raise UsageError(f"not a run folder: {folder}. Name one that `retainbench run` has written")
    with _locked(folder / NAME, folder):
        recover(folder)
        yield


@contextmanager
def replaced(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Lock a folder that is replaced as a whole (`atomic.replacing`).

    Args:
        wait: until another process of this machine has written it, as for a cache: nobody chose
            its place, so nobody can choose another.

    Raises:
        UsageError: another process writes the folder, its parent cannot be written, or somebody
            works in it, who would be left in a folder that was removed.
    """
    if Path.cwd().is_relative_to(folder.resolve()):
        raise UsageError(
            f"{folder} holds the working folder, so it cannot be replaced: name another"
        )
    with explained(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f".{folder.name}{NAME}"), folder, wait=wait):
        recover_folder(folder)
        yield


def recover(root: Path) -> None:
    """Undo what killed commands left below a folder that the caller has locked.

    What is locked by itself, and the files of a process that runs, are left to their owners: the
    folder may be a user's working folder, with a run in it.
    """
    with explained(root):
        for place, folders, files in os.walk(root):
            if NAME in files and Path(place) != root:
                folders.clear()
                continue
            for name in sorted(n for n in (*folders, *files) if n.startswith(TEMPORARY)):
                path = Path(place, name)
                process, replaced = writer(path), replaced_name(path)
                if replaced is not None and f".{replaced}{NAME}" in files:
                    continue
                if process in (None, os.getpid()) or not alive(process):
                    undo(path)
            folders[:] = [
                n for n in folders if not n.startswith(TEMPORARY) and f".{n}{NAME}" not in files
            ]


def held() -> tuple[int, ...]:
    """Descriptors of this process's locks, for a program that it starts to hold them too."""
    return tuple(_held)


class LockShare:
    """This process's locks, to be given to a worker process while it is started."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _keep, tuple(reduction.DupFd(descriptor) for descriptor in _held)


def _keep(*copies: Any) -> None:
    """In a worker: hold the locks until this process ends."""
    _held.extend(copy.detach() for copy in copies)


@contextmanager
def _locked(file: Path, folder: Path, *, wait: bool = False) -> Iterator[None]:
    with explained(file):
        descriptor = _acquire(file, folder, wait=wait)
    _held.append(descriptor)
    try:
        yield
    finally:
        _held.remove(descriptor)
        file.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(file: Path, folder: Path, *, wait: bool) -> int:
    """The descriptor of the lock file, locked and signed."""
    deadline = time.monotonic() + PATIENCE
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same_file(descriptor, file):
                _refuse_other_host(descriptor, file, folder)
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{socket.gethostname()} {os.getpid()}\n".encode(), 0)
                return descriptor
        except BlockingIOError:
            owner = _owner(descriptor)
            ending = _orphaned(owner) and time.monotonic() < deadline
            if not (wait or ending):
                os.close(descriptor)
                raise UsageError(_in_use(folder, owner)) from None
            time.sleep(0.1)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _same_file(descriptor: int, file: Path) -> bool:
    """Whether the lock file is still the one that was opened; its owner may have removed it."""
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


def _refuse_other_host(descriptor: int, file: Path, folder: Path) -> None:
    """Not every network file system tells one machine about the locks of another."""
    owner = _owner(descriptor)
    if owner is not None and owner.host != socket.gethostname():
        raise UsageError(f"{_in_use(folder, owner)}; if that process has ended, delete {file}")


def _orphaned(owner: Owner | None) -> bool:
    """Whether the command that took a lock has died and its workers are about to."""
    return owner is not None and owner.host == socket.gethostname() and not alive(owner.process)


def _owner(descriptor: int) -> Owner | None:
    """Who signed the lock file; None where it was not signed yet or is damaged."""
    host, _, process = os.pread(descriptor, 1000, 0).decode(errors="replace").partition(" ")
    return Owner(host, int(process)) if process.strip().isdecimal() else None


def _in_use(folder: Path, owner: Owner | None) -> str:
    who = f"process {owner.process} on {owner.host}" if owner else "another process"
    return f"{folder} is being written by {who}; wait until it ends, or choose another folder"
