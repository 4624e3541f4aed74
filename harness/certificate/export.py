"""A certificate's numbers in the formats that others read.

Reads a certificate's folder and writes one of

    model-index      the `model-index` block of a Hugging Face model card (YAML)
    eval-results     entries of `.eval_results/*.yaml` in a model repository (YAML)
    every-eval-ever  every_eval_ever 0.3.0: aggregate JSON and samples JSONL for base and candidate
    cyclonedx        a CycloneDX 1.6 BOM with a model card (JSON)

A file that exists with other content is refused, unless `overwrite`. Cards carry absolute scores;
drops, intervals and verdicts stand where the format has a place for words or named numbers.

Command: `retainbench export CERT --format F --out DIR`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from retainbench.harness.certificate import cyclonedx, every_eval_ever, hub
from retainbench.harness.certificate.bundle import Bundle, Evidence
from retainbench.harness.certificate.export_source import Source
from retainbench.harness.core import locks
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.storage import read_json, read_jsonl, write_text
from retainbench.harness.tasks.catalogue import OWN, Catalogue

Writer = Callable[[Source], dict[str, str]]
"""Content of the files to write, by path relative to the output folder."""

FORMATS: dict[str, Writer] = {
    "cyclonedx": cyclonedx.files,
    "eval-results": hub.eval_results,
    "every-eval-ever": every_eval_ever.files,
    "model-index": hub.model_index,
}


def export(
    cert: Path, format: str, out: Path, *, overwrite: bool = False, tasks: Catalogue = OWN
) -> list[Path]:
    """Write a certificate in one format; returns the files.

    Raises:
        UsageError: unknown format, no certificate, or a file is there already.
        IntegrityError: the certificate's files are broken; `verify` says more.
    """
    if format not in FORMATS:
        raise UsageError(f"no format {format!r}; choose one of {', '.join(FORMATS)}")
    contents = FORMATS[format](source(cert, tasks))
    with locks.growing(out, create=True):
        taken = [name for name, text in contents.items() if _differs(out / name, text)]
        if taken and not overwrite:
            raise UsageError(
                f"{out / taken[0]} exists already: choose another --out, or add --overwrite"
            )
        for name, text in contents.items():
            write_text(out / name, text)
    return [out / name for name in contents]


def _differs(path: Path, text: str) -> bool:
    """Whether a file exists with other content; an interrupted export left some equal ones."""
    return path.exists() and not (path.is_file() and path.read_bytes() == text.encode())


def source(cert: Path, tasks: Catalogue = OWN) -> Source:
    """What a certificate's folder holds, for the writers."""
    bundle = Bundle(cert if cert.is_dir() else cert.parent)
    if not bundle.scorecard.is_file():
        raise UsageError(f"{bundle.root}: no certificate there; `retainbench certify` makes one")
    return Source(
        evidence=read_json(bundle.scorecard, Evidence),
        base=read_jsonl(bundle.base_records, ItemRecord),
        candidate=read_jsonl(bundle.candidate_records, ItemRecord),
        tasks=tasks,
    )
