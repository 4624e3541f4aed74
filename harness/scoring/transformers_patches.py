"""Every use of transformers' private parts, in one place.

They were tested on `TESTED`, and pyproject.toml has the upper bound. The decoder's cache
(scoring/decoding_rows.py) is a subclass of the public `CacheLayerMixin`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

TESTED = {"transformers": "5.23.0"}
"""The version that this file was tested on."""


def is_stateful(model: Any) -> bool:
    """Whether a recurrent state is carried from token to token."""
    return bool(getattr(model, "_is_stateful", False))


def has_attention_interface(model: Any) -> bool:
    """Whether the model's attention goes through `AttentionInterface` and a `Cache`."""
    return bool(getattr(model, "_supports_attention_backend", False))


@contextmanager
def attention(model: Any, name: str) -> Iterator[None]:
    """Let the model attend by a registered function within the context."""
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}
    before = {key: config._attn_implementation for key, config in configs.items()}
    for config in configs.values():
        config._attn_implementation = name
    try:
        yield
    finally:
        for key, config in configs.items():
            config._attn_implementation = before[key]
