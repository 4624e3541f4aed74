"""Which items a certified candidate lost and gained, as a page outside of the certificate.

Reads the records of a certificate (of a chain: of every step and of the whole) and the texts of the
installed tasks and packs; returns HTML. `verify` refuses the page inside the
certificate, because it could not make it again: the prompts are not in the certificate's files.

Command: `retainbench report CERTIFICATE --out PAGE.html [--pack DIR]`.
"""

from __future__ import annotations

from pathlib import Path

from retainbench.harness.certificate.bundle import Bundle, Evidence
from retainbench.harness.certificate.chain.records import ChainBundle, ChainRecord, is_chain
from retainbench.harness.certificate.checks import contents
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.foreign_json import regular_file
from retainbench.harness.core.files.storage import write_text
from retainbench.harness.report.page import explorer
from retainbench.harness.report.page.flips import FlipPair
from retainbench.harness.tasks.catalogue import OWN, Catalogue


def is_certificate(folder: Path) -> bool:
    """Whether a folder is a certificate."""
    return Bundle(folder).certificate.is_file()


def write(cert: Path, out: Path, tasks: Catalogue = OWN) -> None:
    """Write the page of a certificate; does not verify it.

    Raises:
        UsageError: `out` is inside the certificate, or cannot be written.
        IntegrityError: a file of the certificate is missing or malformed.
    """
    if out.resolve().is_relative_to(cert.resolve()):
        raise UsageError(
            f"--out {out}: inside the certificate, which holds its own files only. Name a file "
            "outside of it"
        )
    pairs = _pairs(cert)
    write_text(out, explorer.page(pairs[-1].name, pairs, explorer.of_tasks(tasks)))


def _pairs(cert: Path) -> list[FlipPair]:
    """The comparisons of a certificate, the whole last."""
    if not is_chain(cert):
        return [_pair(Bundle(cert))]
    bundle = ChainBundle(cert)
    steps = contents.record(bundle.chain, ChainRecord).steps
    parts = [_pair(bundle.step(n), f"step {n}: ") for n in range(1, len(steps) + 1)]
    return [*parts, _pair(bundle.whole, "whole: ")]


def _pair(bundle: Bundle, place: str = "") -> FlipPair:
    evidence = contents.record(bundle.scorecard, Evidence)
    for records in (bundle.base_records, bundle.candidate_records):
        regular_file(records)
    name = f"{place}{evidence.candidate.name} against {evidence.base.name}"
    return FlipPair(name, bundle.base_records, bundle.candidate_records)
