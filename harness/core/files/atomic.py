"""Files and folders that are replaced whole, and what an interrupted command leaves behind.

Writing happens in a sibling whose name starts with `TEMPORARY`; it is synced to the disk and then
renamed, so that a kill at any moment leaves the old file or folder or the new one. `undo` removes
such a sibling of a killed command; core/files/locks.py looks for them when it locks a folder.

Leaves out: locking, and what the bytes mean (core/files/storage.py).
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from retainbench.harness.core.errors import RetainbenchError, UsageError

UNUSABLE = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
)
"""A disk, quota or limit that is reached; a disk that is read-only, closed to this user, broken."""
TEMPORARY = ".tmp-retainbench-"
_NEW, _OLD = f"{TEMPORARY}new-", f"{TEMPORARY}old-"
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h
_RUST_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")


@contextmanager
def explained(place: Path, doing: str = "write") -> Iterator[None]:
    """Turn an error of the system into one line that says what could not be done, where and why.

    Raises:
        UsageError: the disk is full, or a file cannot be read or written.
    """
    try:
        yield
    except RetainbenchError:
        raise
    except Exception as error:
        reason = system_error(error)
        if reason is None:
            raise
        raise UsageError(f"cannot {doing} {place}: {reason}") from error


def system_error(error: BaseException) -> str | None:
    """The system's reason behind an error of Python or of a Rust library; None if it has none."""
    number = _number(error)
    return None if number is None else os.strerror(number)


def storage_failure(error: BaseException | None) -> str | None:
    """What is wrong with the disk or with permissions, where that caused an error; else None."""
    while error is not None:
        if (number := _number(error)) in UNUSABLE:
            place = getattr(error, "filename", None)
            return os.strerror(number or 0) + (f": {place}" if place else "")
        error = error.__cause__ or error.__context__
    return None


def _number(error: BaseException) -> int | None:
    """The system's number for an error.

    safetensors and tokenizers report a full disk as an exception of their own whose text ends in
    `(os error 28)`.
    """
    if isinstance(error, OSError):
        return error.errno
    found = _RUST_SYSTEM_ERROR.search(str(error))
    return int(found[1]) if found else None


def require_writable(folder: Path) -> None:
    """Make a folder and refuse one that cannot be written, before hours of work for it.

    Raises:
        UsageError: naming the folder and the reason.
    """
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file; its permissions follow the umask.

    Raises:
        UsageError: the folder cannot be written or the disk is full; the old file is unchanged.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{TEMPORARY}{host()}-{os.getpid()}-{secrets.token_hex(4)}")
        try:
            with part.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        _sync(path.parent)


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """An empty folder of the same name to fill; it replaces `folder` when the block has ended.

    One process at a time may replace a folder: hold its lock, or be the only writer.

    Raises:
        UsageError: `folder` is a file, cannot be written, or the disk is full; the old folder is
            unchanged.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"not a folder: {folder}. Choose another name, or remove the file.")
    if folder.is_symlink():
        folder = folder.resolve()
    place = folder.with_name(_NEW + folder.name)
    part = place / folder.name
    with explained(folder):
        recover_folder(folder)
        part.mkdir(parents=True)
        try:
            yield part
            for path in (part, *part.rglob("*")):
                _sync(path)
            _swap(part, folder)
        finally:
            shutil.rmtree(place, ignore_errors=True)


def recover_folder(folder: Path) -> None:
    """`undo` for the siblings of one folder that is replaced as a whole."""
    with explained(folder):
        for prefix in (_OLD, _NEW):
            undo(folder.with_name(prefix + folder.name))


def remove_abandoned(folder: Path) -> None:
    """Remove the temporary files of dead processes from a folder that many processes share."""
    for path in folder.glob(f"{TEMPORARY}{host()}-*"):
        if not alive(writer(path) or 0):
            path.unlink(missing_ok=True)


def writer(path: Path) -> int | None:
    """The process of this machine that a temporary file belongs to, if its name says so."""
    name, _, rest = path.name.removeprefix(TEMPORARY).partition("-")
    process = rest.partition("-")[0]
    return int(process) if name == host() and process.isdecimal() else None


def replaced_name(path: Path) -> str | None:
    """The name of the folder that a temporary folder replaces or was replaced by."""
    prefix = next((prefix for prefix in (_NEW, _OLD) if path.name.startswith(prefix)), None)
    return prefix and path.name.removeprefix(prefix)


def alive(process: int) -> bool:
    """Whether a process of this machine may still write files.

    One that is about to end has closed them all before it gives up its number, and before its
    parent can ask for its exit status; Linux then says that its table of files has size 0.
    """
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):  # a number that no process has
        return False
    except PermissionError:  # it is somebody else's
        return True
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="utf-8", errors="replace")
    except OSError:  # it ended after the first question, or this is not Linux
        return not Path("/proc/self/status").exists()
    return "\nFDSize:\t0\n" not in status


def undo(path: Path) -> None:
    """Remove a temporary file or folder; an old folder without a successor goes back."""
    if path.name.startswith(_OLD):
        goal = path.with_name(path.name.removeprefix(_OLD))
        if path.exists() and not goal.exists():
            path.rename(goal)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _swap(part: Path, folder: Path) -> None:
    """Put `part` in the place of `folder`; afterwards `part` is the old folder or missing."""
    if not folder.exists():
        part.rename(folder)
    elif not _exchange(part, folder):
        old = folder.with_name(_OLD + folder.name)
        folder.rename(old)
        part.rename(folder)  # killed before this line: `recover` puts the old folder back
        shutil.rmtree(old)
    _sync(folder.parent)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; False where the system cannot (renameat2 is Linux's)."""
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    sys.audit("os.rename", str(first), str(second), -1, -1)  # as Python reports its own renames
    if not rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE):
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):  # the file system cannot
        return False
    raise OSError(number, os.strerror(number), str(first))


def _sync(path: Path) -> None:
    """Ask the system to put a file's bytes, or a folder's names, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@cache
def host() -> str:
    """A short name of where a process number means something, for file names.

    That is this machine, or a container on it: containers may share a host's name and a cache, and
    each counts processes on its own.
    """
    counted = Path("/proc/self/ns/pid")
    names = (socket.gethostname(), str(counted.readlink()) if counted.is_symlink() else "")
    return hashlib.sha256(" ".join(names).encode()).hexdigest()[:8]
