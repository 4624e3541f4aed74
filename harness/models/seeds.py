"""Python's, numpy's and torch's global generators, from which libraries draw and our code does not.

Whoever calls lm-eval or TRL does it inside `isolated`, so that no run leaves a trace in the
process, and seeds the generators itself where the draws have an effect.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def isolated() -> Iterator[None]:
    """Leave the global generators as they were found."""
    import torch

    python, legacy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)


def seed_all(seed: int) -> None:
    """Seed the global generators."""
    import torch

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
