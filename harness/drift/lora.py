"""Geometry of a LoRA adapter: W = W0 + s B A without building B A.

Reads `adapter_config.json` and `adapter_model.safetensors`; writes nothing. s = alpha / r, or
alpha / sqrt(r) for rsLoRA, with PEFT's per-module `rank_pattern` and `alpha_pattern`. Full tensors
next to the factors (`modules_to_save`, biases) are compared as such. `not_a_product` names the
adapters whose change is not s B A: DoRA, bias inside LoRA, other PEFT types, and initialisations
that alter the base (PiSSA, OLoRA, LoftQ, CorDA, LoRA-GA); `measure` merges those.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.foreign_json import read_object
from retainbench.harness.drift.files import read_folder
from retainbench.harness.drift.spectral import FloatMatrix, load
from retainbench.harness.models.checks.headers import StoredTensor

SAFE_INITS = (True, False, "gaussian", "orthogonal", "eva")
_FACTOR = re.compile(r"^(.*)\.lora_(embedding_)?([AB])(?:\.default)?(?:\.weight)?$")
_NOISE = (("base_model.model.", ""), (".base_layer", ""), (".modules_to_save", ""))


class LowRank(NamedTuple):
    """A change scale * b @ a, of the shape of the weight it is added to."""

    b: FloatMatrix
    """(rows, r), float32."""
    a: FloatMatrix
    """(r, columns), float32."""
    scale: float


class Adapter(NamedTuple):
    """What an adapter folder changes, by the base's parameter names."""

    changes: dict[str, LowRank]
    full: dict[str, StoredTensor]
    """Tensors that replace the base's (`modules_to_save`, trained biases)."""
    dtypes: dict[str, int]
    """Dtype as saved -> trained parameters."""
    copies: dict[str, StoredTensor]
    """Weights of the base that PEFT saved along, with an adapter on the embedding or the head."""


def read_adapter(folder: Path) -> Adapter:
    """Read an adapter folder.

    Raises:
        UsageError: the adapter's change is not s B A (`not_a_product`).
        IntegrityError: factors are missing, do not fit each other or hold NaN or infinity.
    """
    config = read_object(folder / "adapter_config.json")
    if reason := not_a_product(folder):
        raise UsageError(f"{folder}: the change of an adapter with {reason} is not s B A")
    tensors = read_folder(folder)
    factors: dict[str, dict[str, StoredTensor]] = {}
    full: dict[str, StoredTensor] = {}
    copies: dict[str, StoredTensor] = {}
    dtypes: dict[str, int] = {}
    for key, stored in tensors.items():
        if ".base_layer." in key:
            copies[_plain(key)] = stored._replace(name=_plain(key))
            continue
        dtypes[stored.dtype] = dtypes.get(stored.dtype, 0) + stored.numel
        match = _FACTOR.match(key)
        if match:
            side = (match.group(2) or "") + match.group(3)
            factors.setdefault(_plain(match.group(1)), {})[side] = stored
        elif "lora_" in key:
            raise IntegrityError(f"{folder}: {key} is not a factor of s B A")
        else:
            full[_plain(key)] = stored._replace(name=_plain(key))
    changes = {f"{m}.weight": _change(m, pair, config, folder) for m, pair in factors.items()}
    return Adapter(changes, full, dtypes, copies)


def not_a_product(folder: Path) -> str | None:
    """What makes an adapter's change something else than s B A; None if it is s B A."""
    config = read_object(folder / "adapter_config.json")
    init = config.get("init_lora_weights", True)
    reasons = (
        (config.get("peft_type") != "LORA", f"peft_type {config.get('peft_type')}"),
        (config.get("use_dora"), "DoRA"),
        (config.get("lora_bias"), "a bias inside LoRA"),
        (config.get("target_parameters"), "target_parameters"),
        (config.get("trainable_token_indices"), "trainable_token_indices"),
        (config.get("layer_replication"), "layer_replication"),
        (init not in SAFE_INITS, f"init_lora_weights {init!r}, which alters the base"),
    )
    return next((what for applies, what in reasons if applies), None)


def _plain(key: str) -> str:
    for noise, kept in _NOISE:
        key = key.replace(noise, kept)
    return key


def _change(
    module: str, pair: dict[str, StoredTensor], config: dict[str, Any], folder: Path
) -> LowRank:
    embedding = any(side.startswith("embedding_") for side in pair)
    prefix = "embedding_" if embedding else ""
    if pair.keys() != {prefix + "A", prefix + "B"}:
        raise IntegrityError(f"{folder}: {module} has only the factors {sorted(pair)}")
    a, b = load(pair[prefix + "A"]), load(pair[prefix + "B"])
    if a.ndim != 2 or b.ndim != 2 or b.shape[1] != a.shape[0]:
        raise IntegrityError(
            f"{folder}: factors of {module} do not fit: {list(b.shape)} x {list(a.shape)}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise IntegrityError(f"{folder}: a factor of {module} holds NaN or infinity")
    rank = a.shape[0]
    alpha = _for_module(config.get("alpha_pattern"), module, config.get("lora_alpha", 8))
    scale = float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)
    if embedding or config.get("fan_in_fan_out"):
        return LowRank(a.T, b.T, scale)
    return LowRank(b, a, scale)


def _for_module(pattern: dict[str, float] | None, module: str, default: float) -> float:
    """The value of the first key that matches the end of the module's name, as PEFT chooses it."""
    for key, value in (pattern or {}).items():
        if re.match(rf"(.*\.)?({key})$", module):
            return value
    return default


def square(change: LowRank) -> float:
    """|s B A|_F^2 = s^2 tr(B^T B A A^T), in float64 and O((rows + columns) r^2)."""
    return inner(change, change)


def inner(one: LowRank, other: LowRank) -> float:
    """<s1 B1 A1, s2 B2 A2> = s1 s2 tr((B1^T B2)(A2 A1^T)): how far two adapters agree.

    Example (METHODS 14): |D|_F = 1.802776 for s = 0.5.

    >>> b, a = np.array([[1.0, 0], [0, 2], [0, 0]]), np.array([[3.0, 0, 0], [0, 1, 0]])
    >>> round(square(LowRank(b, a, 0.5)) ** 0.5, 6)
    1.802776
    """
    b1, a1, b2, a2 = (f.astype(np.float64) for f in (one.b, one.a, other.b, other.a))
    return one.scale * other.scale * float(np.sum((b1.T @ b2) * (a1 @ a2.T)))


def singular_values(change: LowRank) -> FloatMatrix:
    """All r singular values of s B A, largest first: svd(R_B R_A^T) of the factors' QR."""
    upper_b = np.linalg.qr(change.b.astype(np.float64)).R
    upper_a = np.linalg.qr(change.a.T.astype(np.float64)).R
    values = np.linalg.svd(upper_b @ upper_a.T, compute_uv=False)
    return np.asarray(abs(change.scale) * values)


def rows(change: LowRank, start: int, stop: int) -> FloatMatrix:
    """Elements [start, stop) of the flattened s B A in float32, at the cost of whole rows."""
    columns = change.a.shape[1]
    first, last = start // columns, -(-stop // columns)
    block = (np.float32(change.scale) * change.b[first:last]) @ change.a
    return block.reshape(-1)[start - first * columns : stop - first * columns]
