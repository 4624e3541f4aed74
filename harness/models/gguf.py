"""A GGUF file -> an ordinary model folder in float32, checked and scored as any other.

Every weight is dequantised to the very value that the file's kernels multiply with; transformers
reads architecture, weights and tokenizer from the file, and no code is in it. The folder is kept in
the user's cache under the file's SHA-256, and takes four bytes a weight there. To score a file on
its own quantised kernels instead, choose the engine `llama.cpp` (scoring/engines/).
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.atomic import replacing
from retainbench.harness.core.files.storage import digest, sha256_file
from retainbench.harness.models.checked import Base
from retainbench.harness.models.checks.foreign import reading

MAGIC = b"GGUF"

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def dequantised(file: Path) -> Path:
    """The folder of a file's dequantised model in the user's cache; made if it is not there.

    Raises:
        UsageError: the library gguf is not installed.
        IntegrityError: transformers cannot read the file.
    """
    _require_magic(file)
    key = digest([sha256_file(file), version("transformers"), version("gguf")])[:32]
    folder = paths.cache() / "gguf" / key
    if not folder.exists():
        with locks.replaced(folder, wait=True):
            if not folder.exists():
                dequantise(file, folder)
    return folder


def _require_magic(file: Path) -> None:
    """Refuse another kind of file, such as a pointer of Git LFS, before libraries are loaded."""
    with file.open("rb") as opened:
        start = opened.read(len(MAGIC))
    if start != MAGIC:
        raise IntegrityError(
            f"{file}: not a GGUF file, which begins with GGUF. Download or convert it again"
        )


def require_vocabulary(model: Base, base: Base) -> None:
    """Raise `IntegrityError` unless every token of the base has the same number in a GGUF file."""
    from transformers import AutoTokenizer

    before, after = (
        AutoTokenizer.from_pretrained(side.reader, local_files_only=True).get_vocab()
        for side in (base, model)
    )
    for token, number in before.items():
        if after.get(token) != number:
            raise IntegrityError(
                f"{model.source}: its vocabulary is not that of {base.folder}; first difference: "
                f"token {number}, {token[:40]!r}. Certify it against the base that it was made from"
            )


def dequantise(file: Path, folder: Path) -> None:
    """Write a GGUF file as an ordinary float32 model with its tokenizer, whole.

    transformers refuses to save a model that remembers its quantisation, hence the fresh copy.

    Raises:
        UsageError, IntegrityError: as `dequantised`.
    """
    with reading(file, "the GGUF file"):
        model, tokenizer = _read(file)
    with replacing(folder) as part:
        model.save_pretrained(part)
        tokenizer.save_pretrained(part)


def _read(file: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    options: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
    source = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **options)
    config = source.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(source)(config)
    model.load_state_dict(source.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **options)
    return model.eval(), tokenizer
