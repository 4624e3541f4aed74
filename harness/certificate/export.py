"""A certificate's numbers in the formats that others read.

Reads a certificate that `verify` accepts, and writes one of

    model-index      the `model-index` block of a Hugging Face model card (YAML)
    eval-results     entries of `.eval_results/*.yaml` in a model repository (YAML)
    every-eval-ever  every_eval_ever 0.3.0: aggregate JSON and samples JSONL for base and candidate
    cyclonedx        a CycloneDX 1.6 BOM with a model card (JSON)

A file that exists with other content is refused, unless `overwrite`. Cards carry absolute scores;
drops, intervals and verdicts are where the format has a place for words or named numbers.

Command: `retainbench export CERT --format F --out DIR`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from retainbench.harness.certificate.formats import cyclonedx, every_eval_ever, hub
from retainbench.harness.certificate.formats.source import ExportSource
from retainbench.harness.certificate.verify import bundle_of, verify
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.storage import write_text
from retainbench.harness.core.text.escaping import one_line
from retainbench.harness.tasks.catalogue import OWN, Catalogue

Writer = Callable[[ExportSource], dict[str, str]]
"""Content of the files to write, by path relative to the output folder."""

FORMATS: dict[str, Writer] = {
    "cyclonedx": cyclonedx.files,
    "eval-results": hub.eval_results,
    "every-eval-ever": every_eval_ever.files,
    "model-index": hub.model_index,
}


def export(
    cert: Path,
    format: str,
    out: Path,
    *,
    overwrite: bool = False,
    key: Path | None = None,
    allow_unsigned: bool = False,
    tasks: Catalogue = OWN,
) -> list[Path]:
    """Verify a certificate and write it in one format; returns the files.

    Args:
        key: PEM file of the public key that must have signed.
        allow_unsigned: accept a certificate without a signature that was checked.

    Raises:
        UsageError: unknown format, no certificate, or a file exists already.
        IntegrityError: `verify` refuses the certificate.
    """
    if format not in FORMATS:
        raise UsageError(f"no format {format!r}; choose one of {', '.join(FORMATS)}")
    certificate = bundle_of(cert).root.resolve()
    if certificate in (out.resolve(), *out.resolve().parents):
        raise UsageError(f"{out} is inside the certificate, which holds its own files only")
    verified = verify(cert, key=key, allow_unsigned=allow_unsigned, tasks=tasks).contents
    contents = FORMATS[format](
        ExportSource(verified.evidence, verified.base, verified.candidate, tasks)
    )
    for name in contents:
        if not {"", ".", ".."}.isdisjoint(name.split("/")) or "\0" in name:
            raise UsageError(f"a model's name cannot be part of a file name: {one_line(name, 200)}")
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
