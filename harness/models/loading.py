"""A checkpoint on disk -> model and tokenizer in evaluation mode; and back.

Reads full checkpoints and PEFT adapters as safetensors only; nothing is unpickled and no remote
code runs. `model_digest` names loaded weights by content.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.atomic import replacing
from retainbench.harness.core.files.storage import digest
from retainbench.harness.models import adapters, bases
from retainbench.harness.models.checked import Base
from retainbench.harness.models.checks.foreign import reading
from retainbench.harness.models.checks.headers import FLOATS
from retainbench.harness.models.identity import weights_digest

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Loaded(NamedTuple):
    """A model in evaluation mode and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load(
    model: Base | Path,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    device_map: str | None = None,
    parent: PreTrainedModel | None = None,
) -> Loaded:
    """Load a full checkpoint, or an adapter merged into its base, in evaluation mode.

    Args:
        model: a checked folder, or a folder to check; an adapter then names its base itself.
        dtype: a torch dtype by name, to which parameters are cast; `auto` keeps the stored one.
        device: a torch device.
        device_map: `auto` spreads the layers over the GPUs instead (see `placement`).
        parent: an adapter's base if the caller has it loaded; the adapter is merged into it.

    Raises:
        IntegrityError: weights are missing, unused, reshaped, NaN or infinite, or a library cannot
            read the folder.
        UsageError: a library that a quantised checkpoint needs is not installed, or the model does
            not fit on the devices of a device map.
    """
    checked = model if isinstance(model, Base) else bases.of_folder(model)
    if checked.model.config.get("quantization_config") and device != "cpu":
        device_map = device_map or device  # quantised weights cannot be moved once they are loaded
    loaded = load_model(checked, dtype, parent, device_map)
    tokenizer = _load_tokenizer(checked.reader, loaded)
    made = Loaded(loaded if device_map else loaded.to(device), tokenizer)
    _require_answer(made, checked.folder)
    return made


def load_model(
    checked: Base,
    dtype: str = "float32",
    parent: PreTrainedModel | None = None,
    device_map: str | None = None,
) -> PreTrainedModel:
    """`load` without the tokenizer, on the CPU unless there is a device map."""
    if parent is None:
        _require_stored(checked.model)
    model = parent or _load_full(checked.model.folder, dtype, device_map)
    if parent is None:
        _require_tied(checked.model, model)
    if checked.parent:
        model = adapters.merge(model, checked.folder)
    check_finite(model, str(checked.folder))
    text = model.config.get_text_config()
    if getattr(text, "output_router_logits", False):
        # Only the auxiliary loss of a mixture of experts reads them, and it fails on shared
        # prefixes and packed rows. No method here trains with it.
        text.output_router_logits = False
    return model.eval()


def _require_stored(checked: Base) -> None:
    """Refuse a config of far more parameters than are stored, before they are allocated, and
    parameters stored as integers or in 8 bits without the scales of a quantisation.

    The model is built on the meta device, which holds shapes only. A head that is tied is not
    stored, and a vocabulary may be padded, hence the factor of two.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if checked.config.get("quantization_config"):
        return
    with reading(checked.folder, "config.json"), torch.device("meta"):
        config = AutoConfig.from_pretrained(checked.folder, local_files_only=True)
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    for name, _ in model.named_parameters():
        tensor = checked.weights.tensors.get(name)
        if tensor is not None and tensor.dtype not in FLOATS:
            raise IntegrityError(
                f"{tensor.file}: {name} is stored as {tensor.dtype}, but config.json has no "
                "quantization_config; dequantise the checkpoint first"
            )
    described = sum(parameter.numel() for parameter in model.parameters())
    stored = sum(tensor.numel for tensor in checked.weights.tensors.values())
    if described > 2 * stored:
        raise IntegrityError(
            f"{checked.folder / 'config.json'}: describes a model of {described} parameters; the "
            f"weights hold {stored}"
        )


def _require_tied(checked: Base, model: PreTrainedModel) -> None:
    """Refuse a stored head that config.json ties to another embedding: transformers uses the head,
    other programs do not."""
    import torch

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    if not checked.config.get("tie_word_embeddings") or head is None:
        return
    one, other = head.weight, embedding.weight
    if one is not other and not torch.equal(one.to("cpu"), other.to("cpu")):
        raise IntegrityError(
            f"{checked.folder}: the stored head differs from the embedding, to which config.json "
            "ties it; set tie_word_embeddings to false if both are meant"
        )


def _require_answer(loaded: Loaded, folder: Path) -> None:
    """One forward pass over a few tokens: a config that loads may still not compute."""
    import torch

    with reading(folder, "a first forward pass"), torch.inference_mode():
        ids = loaded.tokenizer("1 + 1 =", return_tensors="pt")["input_ids"]
        if not ids.numel():
            raise IntegrityError(f"{folder}: the tokenizer makes no token of '1 + 1 ='")
        logits = loaded.model(input_ids=ids.to(loaded.model.device), use_cache=False).logits
    if not bool(torch.isfinite(logits).all()):
        raise IntegrityError(f"{folder}: the model answers '1 + 1 =' with NaN or infinity")


def _load_full(folder: Path, dtype: str, device_map: str | None = None) -> PreTrainedModel:
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()  # its report of keys is what is raised below
    try:
        with reading(folder, "the model"):
            model, report = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=dtype,
                device_map=device_map,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
            )
    finally:
        logging.set_verbosity(level)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if keys := report.get(kind):
            shown = "; ".join(str(key) for key in sorted(keys, key=str)[:3])
            raise IntegrityError(f"{folder}: {len(keys)} {kind.replace('_', ' ')}: {shown}")
    if any(parameter.is_meta for parameter in model.parameters()):
        raise UsageError(
            f"{folder}: does not fit into the memory of the GPUs in {dtype}; use more of them, or "
            "a smaller --dtype"
        )
    return cast("PreTrainedModel", model)


def _load_tokenizer(folder: Path, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    with reading(folder, "the tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        largest = max(tokenizer.get_vocab().values(), default=-1)
    if not isinstance(tokenizer.eos_token_id, int):
        raise IntegrityError(
            f"{folder}: the tokenizer has no end-of-text token; name eos_token in "
            "tokenizer_config.json"
        )
    rows = model.get_input_embeddings().weight.shape[0]
    if largest >= rows:
        raise IntegrityError(
            f"{folder}: the tokenizer has token {largest}, the model's embedding {rows} rows"
        )
    return cast("PreTrainedTokenizerBase", tokenizer)


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
    return digest(
        [
            weights_digest(loaded.model.state_dict().items()),
            loaded.tokenizer.backend_tokenizer.to_str(),
            str(loaded.tokenizer.chat_template),
        ]
    )
