"""Small checkpoints for the tests of drift."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]
CONFIG = {"model_type": "llama", "tie_word_embeddings": False}


def example(seed: int = 0, scale: float = 0.02, dtype: torch.dtype = torch.float32) -> Tensors:
    """Tensors named like a two-layer Llama; the embedding spans many rows and a tail."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"model.embed_tokens.weight": (1501, 48), "model.norm.weight": (48,)}
    for layer in range(2):
        head = f"model.layers.{layer}"
        shapes[f"{head}.self_attn.q_proj.weight"] = (48, 48)
        shapes[f"{head}.self_attn.q_proj.bias"] = (48,)
        shapes[f"{head}.mlp.down_proj.weight"] = (48, 101)
    shapes["lm_head.weight"] = (1501, 48)
    return {n: (torch.randn(s, generator=generator) * scale).to(dtype) for n, s in shapes.items()}


def moved(tensors: Tensors, scale: float = 1e-4) -> Tensors:
    """Half of the entries of every tensor changed, in the tensors' dtype."""
    noise = example(1, scale)
    keep = example(2, 1.0)
    return {
        name: torch.where(keep[name] > 0, value.float() + noise[name], value.float()).to(
            value.dtype
        )
        for name, value in tensors.items()
    }


def write(folder: Path, tensors: Tensors, config: dict[str, Any] = CONFIG) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def dense(tensors: Tensors) -> NDArray[np.float64]:
    return np.concatenate([tensors[name].double().numpy().ravel() for name in sorted(tensors)])
