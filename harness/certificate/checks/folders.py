"""Whether a model folder is the one that a certificate names, and moved as far as it says.

Compares names and SHA-256 of every file: model-signing's digest of a folder has no names in it, so
that a damaged file could take the name of the loaded one. The reader of model folders then decides
which weights the folder holds. Given both folders, drift is measured again.
"""

from __future__ import annotations

from pathlib import Path

from retainbench.harness.certificate import measure
from retainbench.harness.certificate.bundle import Evidence, Tolerance, differences
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.models import bases, identity
from retainbench.harness.models.checked import check
from retainbench.harness.models.identity import ModelIdentity

SUMS = Tolerance(1e-6, 1e-6)
"""Two machines may add millions of weights in another order."""


def check_identity(known: ModelIdentity, side: str) -> None:
    """Raise `IntegrityError` unless a folder's digest follows from those of its files."""
    if identity.folder_sum(known.files) != known.sha256:
        raise IntegrityError(f"the {side}'s digest does not follow from its files' digests")


def check_folders(evidence: Evidence, base: Path | None, candidate: Path | None) -> list[str]:
    """Compare model folders with a certificate.

    Args:
        base: a folder or the name of a named base; so is `candidate`.

    Returns:
        Notes on what was not compared.

    Raises:
        UsageError: not a folder.
        IntegrityError: a file differs, is missing or new, or the drift is not what is stated.
    """
    base, candidate = (_folder(path) for path in (base, candidate))
    sides = (("candidate", candidate, evidence.candidate), ("base", base, evidence.base))
    notes = []
    for side, folder, known in sides:
        if folder is None:
            notes.append(f"the {side} folder was not given: its files were not compared")
        else:
            _check_folder(folder, known)
    if base is None or candidate is None:
        return notes
    return [*notes, *_check_drift(evidence, base, candidate)]


def _folder(path: Path | None) -> Path | None:
    if path is None:
        return None
    found = bases.gguf_file(str(path)) or bases.named().get(str(path), path)
    if not found.is_dir() and found.suffix != ".gguf":
        raise UsageError(f"not a model folder: {found}")
    return found


def _check_folder(folder: Path, known: ModelIdentity) -> None:
    found = identity.identify(folder)
    names = found.files.keys() | known.files.keys()
    changed = [name for name in names if found.files.get(name) != known.files.get(name)]
    if changed:
        changed.sort(key=lambda name: (not name.endswith(".safetensors"), name))
        raise IntegrityError(
            f"{folder}: is not {known.name} of the certificate; first difference: {changed[0]}"
        )
    if folder.is_dir():
        check(folder)


def _check_drift(evidence: Evidence, base: Path, candidate: Path) -> list[str]:
    if evidence.drift is None:
        return ["the certificate states no drift, so none was compared"]
    reference = bases.resolve(str(base))
    movement = measure.drift_only(reference, bases.resolve(str(candidate), reference))
    if movement.drift is None:
        return [f"drift was not compared: {note}" for note in movement.notes]
    stated, measured = (drift.model_dump(mode="json") for drift in (evidence.drift, movement.drift))
    if found := differences(stated, measured, tolerance=SUMS):
        raise IntegrityError(f"{candidate}: drift is not what is stated at {found[0].lstrip('.')}")
    return []
