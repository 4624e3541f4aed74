"""What the processes that share a stage's batches tell each other; a process alone talks to nobody.

`_shared/processes.py` starts them.
"""

from __future__ import annotations

from collections.abc import Sequence


def number() -> int:
    """Processes that share the batches; 1 where there is no other."""
    import torch.distributed as dist

    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def first() -> bool:
    """Whether this process is the one that writes."""
    import torch.distributed as dist

    return number() == 1 or dist.get_rank() == 0


def summed(values: Sequence[float]) -> list[float]:
    """The sum over the processes of each value; all of them call this, and wait for each other."""
    if number() == 1:
        return list(values)
    import torch
    import torch.distributed as dist

    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    total = torch.tensor(list(values), dtype=torch.float64, device=device)
    dist.all_reduce(total)
    sums: list[float] = total.tolist()
    return sums


def averaged(metrics: dict[str, float]) -> dict[str, float]:
    """The mean over the processes of each metric; they have the same ones in the same order."""
    if number() == 1:
        return metrics
    totals = summed(list(metrics.values()))
    return {name: total / number() for name, total in zip(metrics, totals, strict=True)}
