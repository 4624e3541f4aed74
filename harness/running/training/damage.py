"""Whether what training wrote for a cell is still what is there; what is not is trained again."""

from __future__ import annotations

import shutil
from pathlib import Path

from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.atomic import explained
from retainbench.harness.core.files.storage import intact
from retainbench.harness.core.records import CheckpointRecord
from retainbench.harness.models import checked


class DamagedError(Exception):
    """A checkpoint is not the one that was trained; training the cell again gives it back."""


def intact_record(folder: paths.CellFolder) -> bool:
    """Whether what training has written so far, weights apart, is what it wrote."""
    logged = [folder.train, folder.steps] if folder.train.exists() else []
    records = folder.checkpoints.glob("*.json")
    return all(intact(file) for file in (*records, *logged) if file.exists())


def require_trained(checkpoint: Path, record: CheckpointRecord) -> None:
    """Check a checkpoint's files against the digest of the time when it was written.

    Raises:
        DamagedError: a file was changed or is missing.
    """
    try:
        digest = checked.check(checkpoint).digest
    except IntegrityError as error:
        raise DamagedError(str(error)) from error
    if digest != record.weights_digest:
        raise DamagedError(f"{checkpoint} was damaged after it was written")


def discard(folder: paths.CellFolder) -> None:
    """Remove all that a cell has written, so that it starts again."""
    with explained(folder.root, "remove"):
        shutil.rmtree(folder.root)
