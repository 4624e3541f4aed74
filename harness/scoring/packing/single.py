"""Score requests one at a time: the reference for packed scoring, and its fallback.

It works for every model with logits, any attention and state; nothing is padded or shared,
except that identical inputs run once. Defines the types that packed scoring uses too.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from retainbench.harness.scoring.packing.trie import build_trie


class TokenRequest(NamedTuple):
    """Score the last `len(targets)` next-token predictions of `inputs`."""

    inputs: Sequence[int]
    targets: Sequence[int]


class ScoringWork(NamedTuple):
    """The work of one call."""

    requests: int
    unique_nodes: int
    """Distinct (context, token) pairs: the least number of tokens that can be computed."""
    computed: int
    """Tokens that went through the linear layers; there is no padding to add."""
    passes: int
    stems: int
    rows: int
    budget: int
    """Tokens per pass at the end: lower than at the start if memory ran out; 0 when not packed."""
    obstacle: str | None
    """Why requests were scored one by one; None when they were packed."""


class Scored(NamedTuple):
    """Log-likelihoods and greedy flags in the order of the requests."""

    loglikelihood: npt.NDArray[np.float64]
    """[N] natural log, summed over the targets."""
    greedy: npt.NDArray[np.bool_]
    """[N] every target is the arg max of its prediction."""
    work: ScoringWork


class Readings(NamedTuple):
    """Log-probability of one target per prediction, and whether it is the arg max."""

    logprob: npt.NDArray[np.float64]
    best: npt.NDArray[np.bool_]


def read(
    logits_KV: torch.Tensor, row: torch.Tensor, token: torch.Tensor, chunk_bytes: int = 2**26
) -> Readings:
    """Read log softmax of `token` [I] at predictions `row` [I], sorted; softmax taken in fp32.

    Chunks of rows bound the copy that the softmax makes. It is torch's log_softmax on purpose: it
    rounds worse than logsumexp (7e-5 against 2e-5 off fp64 on a request of ARC-easy, SmolLM2-135M
    on CPU), but lm-eval's numbers, which these have to equal, carry the same error.
    """
    rows = max(1, chunk_bytes // (4 * logits_KV.shape[1]))
    logprobs: list[torch.Tensor] = []
    bests: list[torch.Tensor] = []
    for first in range(0, len(logits_KV), rows):
        part_KV = torch.log_softmax(logits_KV[first : first + rows].float(), dim=-1)
        low, high = torch.searchsorted(row, torch.tensor([first, first + rows], device=row.device))
        at, wanted = row[low:high] - first, token[low:high]
        logprobs.append(part_KV[at, wanted])
        bests.append(part_KV.argmax(dim=-1)[at] == wanted)
    if not logprobs:
        return Readings(np.zeros(0), np.zeros(0, dtype=np.bool_))
    return Readings(torch.cat(logprobs).double().cpu().numpy(), torch.cat(bests).cpu().numpy())


def score_singly(model: Any, requests: Sequence[TokenRequest], obstacle: str) -> Scored:
    """One forward pass for each distinct input; the model must already be `frozen`."""
    same: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for i, request in enumerate(requests):
        same[tuple(request.inputs)].append(i)
    total = np.zeros(len(requests))
    greedy = np.ones(len(requests), dtype=np.bool_)
    for inputs, members in same.items():
        ids = torch.tensor([inputs], device=model.device)
        logits_TV = model(input_ids=ids, use_cache=False).logits[0]
        for i in members:
            targets = torch.tensor(requests[i].targets, device=model.device)
            where = torch.arange(len(inputs) - len(targets), len(inputs), device=model.device)
            readings = read(logits_TV, where, targets)
            total[i] = readings.logprob.sum()
            greedy[i] = readings.best.all()
    computed = sum(map(len, same))
    nodes = build_trie(list(same)).token.size
    work = ScoringWork(len(requests), nodes, computed, len(same), 0, len(same), 0, obstacle)
    return Scored(total, greedy, work)
