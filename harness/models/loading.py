"""A checkpoint on disk -> model and tokenizer in evaluation mode; and back.

Reads full checkpoints and PEFT adapters as safetensors only; nothing is unpickled and no remote
code runs. `model_digest` names loaded weights by content.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from retainbench.harness.core.atomic import replacing
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.models.bases import preflight, resolve

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Loaded(NamedTuple):
    """A model in evaluation mode and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


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
    """Write a model and its tokenizer whole (`atomic.replacing`).

    Parameters are saved in the dtype they have.
    """
    with replacing(folder) as part:
        loaded.model.save_pretrained(part)
        loaded.tokenizer.save_pretrained(part)


def model_digest(loaded: Loaded) -> str:
    """SHA-256 of what determines a model's answers: weights as loaded, tokenizer, template, dtype.

    Equal weights give equal digests however they were stored: an adapter with no effect, merged,
    has the digest of its base.
    """
    hashed = hashlib.sha256()
    for name, value in sorted(loaded.model.state_dict().items()):
        hashed.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        hashed.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    hashed.update(loaded.tokenizer.backend_tokenizer.to_str().encode())
    hashed.update(str(loaded.tokenizer.chat_template).encode())
    return hashed.hexdigest()
