"""A model without gradients, on as many threads as serve it, and running out of its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SMALL = 10_000_000
"""Parameters below which one CPU thread does all. Its log-likelihoods then depend on no number of
threads (by 2e-5 otherwise), and a busy machine does not slow it down: scoring with the embedded
base takes 1.6 s. Two threads take 1.0 s on idle cores, 4 s next to two busy processes and up to
24 s next to eight, since they wait for each other."""


@contextmanager
def frozen(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, a small model on one thread; then all is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    threads = torch.get_num_threads()
    if sum(parameter.numel() for parameter in model.parameters()) < SMALL:
        torch.set_num_threads(1)
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)
        for module, training in modes:
            module.training = training


def ran_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch means that memory was too small, on any device."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
