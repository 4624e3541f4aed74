"""Models by content: a folder by its files' SHA-256, loaded weights by their values.

`identify` is what certificates name (model-signing's rule, with every file's name and digest),
`folder_digest` is the key of caches and runs, `weights_digest` names tensors in memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import digest, sha256_file
from retainbench.harness.core.records import Record

if TYPE_CHECKING:
    import torch

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
IGNORED = (".git", ".gitattributes", ".github", ".gitignore", "model.sig")


class ModelIdentity(Record):
    """A model folder by content."""

    name: str
    sha256: Sha256
    """Of the whole folder, by model-signing's rule (`folder_sum`)."""
    files: dict[str, Sha256]
    """SHA-256 by relative path."""


def identify(folder: Path, name: str | None = None) -> ModelIdentity:
    """Digest a model folder as model-signing does; a single file as a folder that holds it.

    Raises:
        IntegrityError: a linked folder or something that is neither file nor folder.
    """
    files = {}
    root = folder.parent if folder.is_file() else folder
    for path in [folder] if folder.is_file() else folder.rglob("*"):
        relative = PurePosixPath(path.relative_to(root))
        if relative.parts[0] in IGNORED:
            continue
        if path.is_file():
            files[str(relative)] = sha256_file(path)
        elif path.is_symlink() or not path.is_dir():
            raise IntegrityError(f"{path}: a link to a folder or a special file in a model folder")
    return ModelIdentity(
        name=name or folder.resolve().name,
        sha256=folder_sum(files),
        files={path: files[path] for path in _ordered(files)},
    )


def folder_sum(files: Mapping[str, str]) -> str:
    """Model-signing's digest of a folder from the SHA-256 of each file: it has no file names in it,
    so that two files of one folder may exchange their names unnoticed."""
    return hashlib.sha256(
        b"".join(bytes.fromhex(files[path]) for path in _ordered(files))
    ).hexdigest()


def _ordered(files: Mapping[str, str]) -> list[str]:
    """Relative paths in the order of their parts."""
    return sorted(files, key=PurePosixPath)


def folder_digest(folder: Path) -> str:
    """SHA-256 over the sorted (name, SHA-256) pairs of the files that determine a model's output.

    Documentation and pictures do not count; everything that is loaded does.
    """
    kept = (".safetensors", ".json", ".jinja", ".model", ".txt")
    files = sorted(p for p in folder.iterdir() if p.suffix in kept)
    return digest({p.name: sha256_file(p) for p in files})


def weights_digest(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """SHA-256 over names, shapes, dtypes and values, in the order of the names."""
    import torch

    hashed = hashlib.sha256()
    for name, value in sorted(tensors, key=lambda item: item[0]):
        hashed.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        flat = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        hashed.update(flat.numpy().data)
    return hashed.hexdigest()
