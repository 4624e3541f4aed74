"""Numbers of config.json and the tokenizer's files, checked before a library builds from them.

A config of a million layers or a width of zero makes transformers allocate, loop or raise from deep
inside. Here each number is bounded and compared with the stored tensors, in milliseconds and
without torch. What passes may still be wrong; then loading reports it. Reads JSON; writes nothing.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.foreign_json import parse_object, read_object, read_text
from retainbench.harness.models.checks.headers import FLOATS, StoredTensor
from retainbench.harness.models.checks.weights import Weights

CONFIG = "config.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json")
TOKENIZER_BYTES = 128 << 20
"""Gemma's tokenizer.json has 33 MB."""
MOST_IDS = 2**22
"""The largest vocabularies in use have 2^18 entries."""
LARGEST = 2**53

EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|embed_in|word_embeddings|tok_embeddings)\.weight$")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
_WIDTHS = ("hidden_size", "n_embd", "d_model")
_LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads")
_WINDOWS = ("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx", "seq_length")
_COUNTED = (
    *(*_WIDTHS, *_LAYERS, *_HEADS, *_WINDOWS),
    *("num_key_value_heads", "head_dim", "vocab_size", "intermediate_size", "n_inner"),
    *("moe_intermediate_size", "num_experts", "num_local_experts", "num_experts_per_tok"),
)
_MOST = dict.fromkeys((*_LAYERS, *_HEADS, "num_key_value_heads", "head_dim"), 65_536)
_MOST |= dict.fromkeys(("num_experts", "num_local_experts", "num_experts_per_tok"), 65_536)


def read_config(folder: Path, weights: Weights) -> dict[str, Any]:
    """The checked config.json of a full model.

    Raises:
        IntegrityError: missing, not JSON, remote code, or numbers out of bounds or at odds with the
            stored tensors.
    """
    if not (folder / CONFIG).exists():
        raise IntegrityError(f"{folder}: {CONFIG} is missing, so this is not a model folder")
    config = read_object(folder / CONFIG)
    refuse_remote_code(folder / CONFIG, config)
    inner = config.get("text_config", config)
    if not isinstance(config.get("model_type"), str) or not isinstance(inner, dict):
        raise IntegrityError(f"{folder / CONFIG}: model_type must name an architecture")
    _require_bounds(folder / CONFIG, config)
    _require_bounds(folder / CONFIG, inner)
    _require_divisible(folder / CONFIG, inner)
    if not config.get("quantization_config"):
        _require_agreement(folder / CONFIG, inner, weights.tensors)
    return config


def refuse_remote_code(file: Path, config: dict[str, Any]) -> None:
    """Raise `IntegrityError` if a config asks for code of the folder's choosing, at any depth."""
    level: list[Any] = [config]
    while level:
        for value in level:
            if isinstance(value, dict) and "auto_map" in value:
                raise IntegrityError(f"{file}: `auto_map` (remote code) is refused")
        inner = [v.values() if isinstance(v, dict) else v for v in level]
        level = [w for group in inner for w in group if isinstance(w, (dict, list))]


def window(config: dict[str, Any]) -> int | None:
    """Longest prompt in tokens that a config allows; None if it names no limit.

    >>> window({"max_position_embeddings": 2048}), window({})
    (2048, None)
    """
    inner = config.get("text_config", config)
    return next((inner[key] for key in _WINDOWS if isinstance(inner.get(key), int)), None)


def check_tokenizer(folder: Path, *, required: bool) -> None:
    """Read each file of the tokenizer within limits.

    Raises:
        IntegrityError: none here though `required`, or one that is broken or asks for code.
    """
    if required and not any((folder / name).exists() for name in TOKENIZERS):
        raise IntegrityError(f"{folder}: the tokenizer is missing (expected tokenizer.json)")
    if (file := folder / "tokenizer.json").exists():
        value = parse_object(read_text(file, TOKENIZER_BYTES), str(file), unique=False)
        model = value.get("model")
        if not isinstance(model, dict) or not isinstance(model.get("vocab"), (dict, list)):
            raise IntegrityError(f"{file}: expected an object with `model` and its `vocab`")
        _require_ids(file, value)
    if (file := folder / "tokenizer_config.json").exists():
        refuse_remote_code(file, read_object(file))
    for name in ("special_tokens_map.json", "added_tokens.json", "generation_config.json"):
        if (folder / name).exists():
            read_object(folder / name)
    if (folder / "chat_template.jinja").exists():
        read_text(folder / "chat_template.jinja")


def _require_ids(file: Path, tokenizer: dict[str, Any]) -> None:
    """Token ids are bounded: tokenizers allocates a place for each one up to the largest."""
    vocabulary = tokenizer["model"]["vocab"]
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else []
    added = tokenizer.get("added_tokens") or []
    ids += [token.get("id") for token in added if isinstance(token, dict)]
    wrong = next((n for n in ids if type(n) is not int or not 0 <= n < MOST_IDS), None)
    if not isinstance(added, list) or wrong is not None:
        raise IntegrityError(
            f"{file}: token ids must be whole numbers below {MOST_IDS}, found {str(wrong)[:40]}"
        )


def _require_bounds(file: Path, config: dict[str, Any]) -> None:
    for key, value in config.items():
        if isinstance(value, int) and abs(value) > LARGEST:
            raise IntegrityError(f"{file}: {key[:80]} is beyond 2^53")
    for key in _COUNTED:
        values = config.get(key)
        most = _MOST.get(key, 2**31)
        for value in values if isinstance(values, list) else [values]:
            if value is not None and not (type(value) is int and 1 <= value <= most):
                raise IntegrityError(f"{file}: {key} is {str(value)[:40]!r}; expected 1 to {most}")


def _first(config: dict[str, Any], keys: tuple[str, ...]) -> tuple[str, int] | None:
    """The first of these keys that holds a number, with its value."""
    return next(((key, config[key]) for key in keys if isinstance(config.get(key), int)), None)


def _require_divisible(file: Path, config: dict[str, Any]) -> None:
    width, heads = _first(config, _WIDTHS), _first(config, _HEADS)
    if width and heads and config.get("head_dim") is None and width[1] % heads[1]:
        raise IntegrityError(f"{file}: {width[0]} {width[1]} cannot be split into {heads[1]} heads")
    groups = config.get("num_key_value_heads")
    if heads and isinstance(groups, int) and heads[1] % groups:
        raise IntegrityError(f"{file}: {heads[1]} heads cannot share {groups} num_key_value_heads")


def _require_agreement(
    file: Path, config: dict[str, Any], tensors: dict[str, StoredTensor]
) -> None:
    """Layers, vocabulary and width that are configured must be stored."""
    layers = _first(config, _LAYERS)
    depths = [int(match[1]) for name in tensors if (match := _LAYER.search(name))]
    if layers and layers[1] > max(depths, default=65_535) + 1:
        raise IntegrityError(
            f"{file}: {layers[0]} is {layers[1]}; the weights hold {max(depths) + 1} layers"
        )
    largest = max((length for tensor in tensors.values() for length in tensor.shape), default=0)
    for key in (*_WIDTHS, "vocab_size"):
        value = config.get(key)
        if isinstance(value, int) and value > largest:
            raise IntegrityError(f"{file}: {key} is {value}; no stored tensor is that large")
    rows = {t.shape[0] for name, t in tensors.items() if _is_embedding(name, t)}
    if isinstance(size := config.get("vocab_size"), int) and rows and rows != {size}:
        raise IntegrityError(f"{file}: vocab_size is {size}; the embedding has {min(rows)} rows")


def _is_embedding(name: str, tensor: StoredTensor) -> bool:
    floats = tensor.dtype in FLOATS and len(tensor.shape) == 2
    return floats and EMBEDDING.search(name) is not None
