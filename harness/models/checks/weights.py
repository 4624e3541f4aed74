"""Which weights a model folder holds. The only place that decides it.

Loading, drift, digests and certificates all ask `read`, so none of them can look at other weights
than the rest. A folder holds one set: `model.safetensors`, the shards that
`model.safetensors.index.json` lists, or a PEFT adapter. Two sets are refused, because two programs
may choose differently. Reads headers and the index; never opens a pickle or a Python file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.foreign_json import read_object, regular_file
from retainbench.harness.models.checks.headers import StoredTensor, read_header

Kind = Literal["full", "adapter"]

WHOLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"

_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_TRAINER_STATE = re.compile(
    r"(training_args|optimizer|scheduler|scaler|sampler|rng_state|random_states?|dl_state)"
    r"[\w.-]*\.(bin|pt|pth|pkl)"
)
"""State that transformers, accelerate and DeepSpeed write next to the weights; nobody opens it."""

_COMPILED = {"_orig_mod.": "torch.compile"}
"""The prefix of each compiled module, at any depth."""
_WRAPPERS = {
    **_COMPILED,
    "module.": "DistributedDataParallel or DeepSpeed",
    "base_model.model.": "PEFT",
}


class Weights(NamedTuple):
    """One set of weights."""

    kind: Kind
    files: tuple[Path, ...]
    tensors: dict[str, StoredTensor]
    notes: tuple[str, ...]
    """What is in the folder and was not used, a sentence each."""


def read(folder: Path) -> Weights:
    """The one set of weights in a folder, from its headers.

    Raises:
        IntegrityError: no weights in safetensors, two sets, pickled weights, a broken header, an
            index that disagrees with its shards, or names of a wrapped model.
    """
    names = _entries(folder)
    kind: Kind = "adapter" if ADAPTER_CONFIG in names else "full"
    _refuse_pickles(folder, names)
    stored = [name for name in names if name.endswith(".safetensors")]
    gguf = [name for name in names if name.endswith(".gguf")]
    files, tensors = _adapter(folder) if kind == "adapter" else _full(folder, stored, gguf)
    other = sorted({*stored, *gguf} - {file.name for file in files})
    if other:
        raise IntegrityError(
            f"{folder}: two sets of weights, {files[0].name} and {other[0]}; move one of them away"
        )
    if not tensors:
        raise IntegrityError(f"{files[0]}: holds no tensor")
    _refuse_wrapped(folder, tensors, _WRAPPERS if kind == "full" else _COMPILED)
    return Weights(kind, files, tensors, _notes(names))


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter instead of full weights."""
    return (folder / ADAPTER_CONFIG).is_file()


def _entries(folder: Path) -> list[str]:
    """Names in the folder; each is a folder or a regular file that can be opened."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise IntegrityError(f"{folder}: cannot be listed ({error.strerror})") from error
    for entry in entries:
        if not entry.is_dir() or entry.suffix in (".safetensors", ".json", ".jinja", ".model"):
            regular_file(entry)
    return [entry.name for entry in entries if not entry.is_dir()]


def _refuse_pickles(folder: Path, names: list[str]) -> None:
    for name in names:
        if name.endswith(_PICKLED) and not _TRAINER_STATE.fullmatch(name):
            raise IntegrityError(
                f"{folder / name}: pickled weights are refused, since loading them can run code; "
                "save the model with safe_serialization=True and remove this file"
            )


def _adapter(folder: Path) -> tuple[tuple[Path, ...], dict[str, StoredTensor]]:
    file = folder / ADAPTER
    if not file.exists() and not file.is_symlink():
        raise IntegrityError(
            f"{folder}: {ADAPTER_CONFIG} without {ADAPTER}; copy the adapter again"
        )
    return (file,), read_header(file)


def _full(
    folder: Path, stored: list[str], gguf: list[str]
) -> tuple[tuple[Path, ...], dict[str, StoredTensor]]:
    if (folder / INDEX).exists():
        return _sharded(folder)
    if WHOLE in stored:
        return (folder / WHOLE,), read_header(folder / WHOLE)
    if gguf and not stored:
        raise IntegrityError(
            f"{folder}: its weights are in GGUF files; name the file itself, as in "
            f"{folder}:{gguf[0]}"
        )
    found = f", found {', '.join(stored[:3])}" if stored else ""
    raise IntegrityError(f"{folder}: no {WHOLE} and no {INDEX}{found}")


def _sharded(folder: Path) -> tuple[tuple[Path, ...], dict[str, StoredTensor]]:
    index = folder / INDEX
    shard_of = read_object(index).get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of:
        raise IntegrityError(f"{index}: weight_map must map tensor names to files")
    for name, shard in shard_of.items():
        plain = isinstance(shard, str) and Path(shard).name == shard and "\0" not in shard
        if not plain or not shard.endswith(".safetensors"):
            raise IntegrityError(
                f"{index}: {name[:80]} is in {str(shard)[:80]!r}, which is not the plain name of a "
                ".safetensors file in this folder"
            )
    tensors: dict[str, StoredTensor] = {}
    shards = tuple(folder / shard for shard in sorted(set(shard_of.values())))
    for shard in shards:
        for name, tensor in read_header(shard).items():
            if shard_of.get(name) != shard.name:
                raise IntegrityError(f"{index}: does not list {name[:80]} of {shard.name}")
            tensors[name] = tensor
    absent = sorted(shard_of.keys() - tensors.keys())
    if absent:
        raise IntegrityError(f"{index}: {absent[0][:80]} is missing in {shard_of[absent[0]]}")
    return shards, tensors


def _refuse_wrapped(
    folder: Path, tensors: dict[str, StoredTensor], wrappers: Mapping[str, str]
) -> None:
    for name in tensors:
        for prefix, wrapper in wrappers.items():
            if name.startswith(prefix) or (prefix in _COMPILED and f".{prefix}" in name):
                raise IntegrityError(
                    f"{folder}: tensor names contain {prefix!r} ({name[:80]}), the prefix of "
                    f"{wrapper}; save the unwrapped model"
                )


def _notes(names: list[str]) -> tuple[str, ...]:
    state = [name for name in names if name.endswith(_PICKLED)]
    python = [name for name in names if name.endswith(".py")]
    notes = []
    if state:
        notes.append(f"not opened: {', '.join(state[:4])} (state of a trainer)")
    if python:
        notes.append(f"never imported: {', '.join(python[:4])}")
    return tuple(notes)
