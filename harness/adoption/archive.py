"""Members of an untrusted ZIP, read into memory under caps; nothing is unpacked to the disk.

Refuses what a results archive has no use for: paths that leave the archive, links, encrypted or
doubled members, rare compression methods (their decoders allocate what a header asks for), and more
members or bytes than a real log has. Zstandard members (Inspect since 2026) need the module that
Python 3.14 has and backports.zstd brings to older ones.
"""

from __future__ import annotations

import stat
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from retainbench.harness.adoption.json_files import (
    LARGEST_VALUE,
    most_unfolded,
)
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.foreign_json import regular_file

if sys.version_info >= (3, 14):
    import zipfile

    from compression.zstd import ZstdError
else:
    from backports.zstd import ZstdError, zipfile

LARGEST_ARCHIVE = 4 * 2**30
MOST_MEMBERS = 500_000
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_ZSTANDARD)


class Archive:
    """An open archive whose directory was checked."""

    def __init__(self, path: Path, opened: zipfile.ZipFile) -> None:
        self.path = path
        self._opened = opened
        self.names = [info.filename for info in opened.infolist() if not info.is_dir()]

    def read(self, name: str) -> bytes:
        """Content of one member; never more than its directory entry declares."""
        with _damage(self.path):
            return self._opened.read(name)


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open an archive and check its whole directory.

    Raises:
        IntegrityError: not a ZIP, damaged, hostile or beyond the caps.
    """
    regular_file(path, LARGEST_ARCHIVE)
    with _damage(path):
        archive = zipfile.ZipFile(path)
    with archive:
        _check(path, archive.infolist())
        yield Archive(path, archive)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """What the ZIP reader raises on a damaged file, as an error that names the file."""
    try:
        yield
    except (
        zipfile.BadZipFile, ZstdError, zlib.error, EOFError, OSError, ValueError, RuntimeError,
    ) as error:  # fmt: skip
        raise IntegrityError(f"{path}: damaged archive: {error}") from error


def _check(path: Path, listed: list[zipfile.ZipInfo]) -> None:
    unfolded = sum(info.file_size for info in listed)
    if len(listed) > MOST_MEMBERS or unfolded > most_unfolded(path, LARGEST_ARCHIVE):
        raise IntegrityError(f"{path}: more members or bytes than a results archive has")
    if len({info.filename for info in listed}) != len(listed):
        raise IntegrityError(f"{path}: two members have the same name")
    for info in listed:
        place = f"{path}: member {info.filename!r}"
        parts = PurePosixPath(info.filename).parts
        if info.filename.startswith("/") or ".." in parts or "\\" in info.filename:
            raise IntegrityError(f"{place} points outside the archive")
        if stat.S_ISLNK(info.external_attr >> 16) or info.flag_bits & 1:
            raise IntegrityError(f"{place} is a link or encrypted")
        if info.file_size > LARGEST_VALUE:
            raise IntegrityError(f"{place} is larger than {LARGEST_VALUE >> 20} MiB")
        if info.compress_type not in METHODS:
            raise IntegrityError(f"{place} has the unknown compression {info.compress_type}")
