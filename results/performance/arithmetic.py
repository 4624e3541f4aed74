"""The arithmetic that exact scoring cannot do without, and how fast this machine does arithmetic.

`flops` counts what a layout needs when each trie node is computed once; `gemm_rate` measures matrix
products of the model's own shapes. Their quotient is the time that nothing exact can undercut.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from retainbench.harness.scoring.packing.layout import TrieLayout
from retainbench.harness.scoring.packing.packed import attention_width, linear_parameters

ROWS = 2048
"""Tokens of the measured products: those of a full pass on a CPU."""


def flops(model: Any, layout: TrieLayout) -> float:
    """Two per multiply-add: linear layers per node, attention per pair of node and ancestor, the
    head per node that predicts something."""
    config = model.config.get_text_config()
    nodes = layout.token.size
    pairs = float((layout.depth + 1).sum())
    predicting = int((np.diff(layout.wanted.start) > 0).sum())
    linear = linear_parameters(model) * nodes
    attention = 2 * config.num_hidden_layers * attention_width(config) * pairs
    return 2.0 * (linear + attention + config.hidden_size * config.vocab_size * predicting)


def gemm_rate(model: Any) -> float:
    """FLOP per second of products in the shape of the feed-forward layers, best of five."""
    config = model.config.get_text_config()
    width, inner = config.hidden_size, getattr(config, "intermediate_size", 4 * config.hidden_size)
    make = {"dtype": model.dtype, "device": model.device}
    x_TC, up_FC = torch.randn(ROWS, width, **make), torch.randn(inner, width, **make)
    hidden_TF, down_CF = torch.randn(ROWS, inner, **make), torch.randn(width, inner, **make)

    def call() -> None:
        x_TC @ up_FC.T
        hidden_TF @ down_CF.T

    return 4.0 * ROWS * width * inner / _best(call, model.device)


def _best(call: Callable[[], None], device: torch.device) -> float:
    """Wall seconds of one call; enough of them at a time to be long against the clock."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(20):
            call()
        wait(device)
        times.append((time.perf_counter() - start) / 20)
    return min(times)


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
