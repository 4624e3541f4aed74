"""Whether a certificate asked what its suite and tasks ask, and when it was made.

Compares the certificate with the suite and the tasks that are installed here, as far as they are. A
certificate of the installed version of retainbench must agree with them; one of another version may
have had other ones, which becomes a note.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import NamedTuple

from retainbench.harness.certificate.bundle import Evidence
from retainbench.harness.certificate.checks.contents import CertificateContents
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import digest
from retainbench.harness.core.schema import Suite
from retainbench.harness.suites import loading, plan
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import Catalogue

EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""The year in which retainbench began."""
CLOCK_ERROR = timedelta(days=1)


ASKED = {"sources", "items_per_task", "policy", "noise_floor"}
ASKED |= {
    "divergence_prompts",
    "divergence_tokens",
    "divergence_minimum_tokens",
    "format",
    "scoring",
}
"""What a certificate takes from a suite besides the tasks, to which a command may add packs.
Recipes, targets and budget are for training: they change nothing that the candidate is asked."""


def suite_digest(suite: Suite) -> str:
    """SHA-256 of `ASKED`, as far as the suite departs from the defaults."""
    return digest(suite.model_dump(mode="json", include=ASKED, exclude_defaults=True))


def check(contents: CertificateContents, tasks: Catalogue, suite: Suite | None) -> list[str]:
    """Compare a certificate with what is installed.

    Args:
        suite: what must have been asked; None takes the packaged suite of that name, if any.

    Returns:
        Notes on what could not be compared.

    Raises:
        IntegrityError: a task was dropped, the suite or a lock differs, or the date is impossible.
    """
    evidence = contents.evidence
    check_date(evidence.created)
    _check_overlap(contents)
    if missing := sorted(set(evidence.expected) - contents.locks.keys()):
        raise IntegrityError(f"{missing[0]}: the suite asks for this task, but there is no lock")
    trust = _Trust(evidence, [])
    _check_suite(evidence, suite, trust)
    for name, lock in contents.locks.items():
        info = tasks.tasks.get(name)
        if info is None:
            trust.notes.append(f"task {name}: not installed here, so its items were not compared")
        elif catalogue.lock(info) != lock:
            trust.differs(f"task {name}: its lock is not the installed task's")
    return trust.notes


class _Trust(NamedTuple):
    """Decides what a difference from what is installed means."""

    evidence: Evidence
    notes: list[str]

    def differs(self, what: str) -> None:
        """Refuse, or note it for a certificate of another version."""
        if made_here(self.evidence):
            raise IntegrityError(what)
        self.notes.append(f"{what}; the certificate is of retainbench {made_by(self.evidence)}")


def made_by(evidence: Evidence) -> str:
    """The version of retainbench that a certificate names."""
    return evidence.environment.get("retainbench", "unknown")


def made_here(evidence: Evidence) -> bool:
    """Whether the installed version made a certificate."""
    return made_by(evidence) == version("retainbench")


def check_date(created: str) -> None:
    """Raise `IntegrityError` unless a text is a UTC time in seconds at which retainbench existed.

    >>> check_date("2026-11-28T12:00:00+00:00")
    """
    try:
        moment = datetime.fromisoformat(created)
        zoned = moment.astimezone(UTC).isoformat(timespec="seconds") == created
    except (ValueError, OverflowError, OSError) as error:
        raise IntegrityError(f"created {created[:40]!r} is not a time in ISO 8601") from error
    if not zoned:
        raise IntegrityError(f"created {created[:40]!r} is not a UTC time in seconds")
    if not EARLIEST <= moment <= datetime.now(UTC) + CLOCK_ERROR:
        raise IntegrityError(f"created {created}: in the future, or before there was retainbench")


def _check_suite(evidence: Evidence, suite: Suite | None, trust: _Trust) -> None:
    """The suite's tasks, all of them, were asked; packs may have added some."""
    name = evidence.suite
    if suite is None and name in loading.available():
        suite = loading.read(name)
    if plan.tasks_named(evidence.suite_tasks) != evidence.expected:
        trust.differs(f"the tasks of suite {name} are not those that were compared")
    if suite is None:
        trust.notes.append(f"suite {name}: not installed here; give it with --suite to compare it")
        return
    lost = {*suite.tasks, *suite.sources} - set(evidence.suite_tasks)
    if lost:
        trust.differs(f"suite {name} has a task that was not compared: {min(lost)}")
    if suite.name != name or suite_digest(suite) != evidence.suite_sha256:
        trust.differs(f"suite {name}: the certificate was made with other contents of it")


def _check_overlap(contents: CertificateContents) -> None:
    """Items that training data give away are items of the locks, each once."""
    known = {name: {item.id for item in lock.items} for name, lock in contents.locks.items()}
    for data in contents.evidence.train_data:
        for task, ids in data.overlap.items():
            unknown = set(ids) - known.get(task, set())
            if unknown or not ids or max(Counter(ids).values()) > 1:
                raise IntegrityError(
                    f"training data {data.name[:80]}: unknown items of {task[:80]}"
                )
