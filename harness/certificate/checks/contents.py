"""A certificate's files -> checked records, each file exactly as retainbench writes it.

A file is parsed, written again in memory and compared byte by byte. So a key that is given twice,
a number in another spelling, an unknown or missing field, or text after the end is refused: no two
programs can read different things from one file. Reads; writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from retainbench.harness.certificate.bundle import Bundle, Evidence
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.foreign_json import parse_object, read_text, regular_file
from retainbench.harness.core.files.storage import canonical, json_text
from retainbench.harness.core.records import ItemRecord, Record
from retainbench.harness.core.schema import Policy
from retainbench.harness.tasks.lock import Lock

MOST_BYTES = 256 << 20
"""Of one JSON file; the lock of 100,000 items has 40 MB."""
LONGEST_LINE = 64 << 20
"""Bytes of one record; a long generation has some 100 kB."""


class CertificateContents(NamedTuple):
    """What a certificate's folder says, apart from its statements and what is made for people."""

    evidence: Evidence
    policy: Policy
    locks: dict[str, Lock]
    """By task."""
    base: list[ItemRecord]
    candidate: list[ItemRecord]
    repeats: dict[str, list[ItemRecord]]
    """Repeat scorings of the base, by name."""

    def sides(self) -> dict[str, list[ItemRecord]]:
        """All records, by how errors name them."""
        again = {f"base, {name}": records for name, records in self.repeats.items()}
        return {"base": self.base, "candidate": self.candidate, **again}


def read(bundle: Bundle) -> CertificateContents:
    """Read a certificate's folder.

    Raises:
        IntegrityError: a file is missing, too large or not exactly as retainbench writes it.
    """
    return CertificateContents(
        evidence=record(bundle.scorecard, Evidence),
        policy=record(bundle.policy, Policy),
        locks={path.stem: _lock(path) for path in sorted(bundle.locks.glob("*.lock"))},
        base=list(_records(bundle.base_records)),
        candidate=list(_records(bundle.candidate_records)),
        repeats={name: list(_records(path)) for name, path in bundle.noises().items()},
    )


R = TypeVar("R", bound=Record)


def record(path: Path, model: type[R]) -> R:
    """One record that is a file, exactly as retainbench writes it."""
    text = read_text(path, MOST_BYTES)
    found = _validated(text, model, str(path))
    if json_text(found) != text:
        raise IntegrityError(f"{path}: not written as retainbench writes it; a field was edited")
    return found


def _lock(path: Path) -> Lock:
    lock = record(path, Lock)
    if lock.task != path.stem:
        raise IntegrityError(f"{path}: is the lock of task {lock.task[:80]}")
    if len({item.id for item in lock.items}) != len(lock.items):
        raise IntegrityError(f"{path}: duplicate item ids")
    return lock


def _records(path: Path) -> Iterator[ItemRecord]:
    regular_file(path)
    with path.open("rb") as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            where = f"{path}:{number}"
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise IntegrityError(f"{where}: not UTF-8 at byte {error.start}") from error
            found = _validated(text, ItemRecord, where)
            if canonical(found.model_dump(mode="json")) + "\n" != text:
                raise IntegrityError(f"{where}: not written as retainbench writes a record")
            yield found


def _validated(text: str, model: type[R], where: str) -> R:
    value = parse_object(text, where)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "file"
        raise IntegrityError(f"{where}: {place[:200]}: {first['msg'][:200]}") from error
