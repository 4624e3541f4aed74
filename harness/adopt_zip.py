"""Read members of an untrusted ZIP into memory, under caps and without unpacking anything.

Refuses what a results archive has no use for: paths that leave the archive, links, encrypted or
doubled members, more members or bytes than any real log. Zstandard members (Inspect since 2026)
are read with pyarrow, because `zipfile` knows them from Python 3.14 on only.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pyarrow as pa

from retainbench.harness.adopt_read import LARGEST_FILE, LARGEST_VALUE
from retainbench.harness.errors import IntegrityError

MOST_MEMBERS = 500_000
ZSTANDARD = 93
LOCAL_HEADER = 30
"""Bytes of a local file header before its name (APPNOTE 4.3.7)."""


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of an archive, in the order of its directory.

    Raises:
        IntegrityError: not a ZIP, damaged, hostile or beyond the caps.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.infolist()
            _check(path, listed)
            for info in listed:
                if not info.is_dir():
                    yield info.filename, _read(path, archive, info)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise IntegrityError(f"{path}: damaged archive: {error}") from error


def _check(path: Path, listed: list[zipfile.ZipInfo]) -> None:
    if len(listed) > MOST_MEMBERS or sum(info.file_size for info in listed) > LARGEST_FILE:
        raise IntegrityError(f"{path}: more members or bytes than a results archive has")
    if len({info.filename for info in listed}) != len(listed):
        raise IntegrityError(f"{path}: two members have the same name")
    for info in listed:
        where = f"{path}: member {info.filename!r}"
        parts = PurePosixPath(info.filename).parts
        if info.filename.startswith("/") or ".." in parts or "\\" in info.filename:
            raise IntegrityError(f"{where} points outside the archive")
        if stat.S_ISLNK(info.external_attr >> 16) or info.flag_bits & 1:
            raise IntegrityError(f"{where} is a link or encrypted")
        if info.file_size > LARGEST_VALUE:
            raise IntegrityError(f"{where} is larger than {LARGEST_VALUE >> 20} MiB")


def _read(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Content of one member; never more than its directory entry declares."""
    if info.compress_type != ZSTANDARD:
        with archive.open(info) as file:
            return file.read(info.file_size + 1)
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER)
        name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        file.seek(info.header_offset + LOCAL_HEADER + name + extra)
        packed = file.read(info.compress_size)
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        data: bytes = stream.read(info.file_size + 1)
    if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
        raise IntegrityError(f"{path}: member {info.filename!r} is damaged")
    return data
