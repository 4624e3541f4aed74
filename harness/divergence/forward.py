"""Two models over the same continuations: token ids -> divergences in nats at every token.

Reads and writes nothing; the models must already be frozen. Rows of similar length go through
both models together, only the positions that predict a continuation reach the heads, and logits are
compared in chunks, so memory stays within `LOGIT_BYTES` and a few `CHUNK_BYTES` whatever the
vocabulary (one row's logits are the floor).

Letters: B rows, T tokens, S positions read, K continuation tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.divergence.records import Continuation

Vector = NDArray[np.float64]

LOGIT_BYTES = 2**28
"""Most bytes of float32 logits in one pass, both models together; at least one row is computed."""
PASS_TOKENS = 2**13
"""Most tokens in one forward pass."""
CHUNK_BYTES = 2**25
"""Bytes of one float64 chunk of log-probabilities; about five of them exist at once."""


class PerToken(NamedTuple):
    """Divergences in nats at each of K tokens; p is who sampled them, q the other model."""

    p_to_q: Vector
    """Exact KL(p || q) at the token's context."""
    q_to_p: Vector
    k1: Vector
    """log p(y) - log q(y): unbiased for KL(p || q), of either sign."""
    k2: Vector
    """k1^2 / 2: biased."""
    k3: Vector
    """r - 1 - log r with r = q(y) / p(y): unbiased, never negative."""


def per_continuation(
    p: Any,
    q: Any,
    continuations: Sequence[Continuation],
    logit_bytes: int = LOGIT_BYTES,
    shared: int | None = None,
) -> list[PerToken]:
    """Divergences at each token of each continuation that `p` sampled, in their order.

    Args:
        shared: compare the probabilities of the first so many tokens, each model's normalised to
            them; None compares whole vocabularies of one size.

    Raises:
        IntegrityError: the models' vocabularies differ in size.
    """
    width = p.config.get_text_config().vocab_size
    found: dict[int, PerToken] = {}
    for batch in _batches(continuations, width, logit_bytes):
        rows = [continuations[n] for n in batch]
        parts = [_logits(model, rows)[:, :shared] for model in (p, q)]
        if parts[0].shape != parts[1].shape:
            sizes = [part.shape[-1] for part in parts]
            raise IntegrityError(f"the models' vocabularies have {sizes[0]} and {sizes[1]} entries")
        ids_K = torch.tensor([token for row in rows for token in row.ids])
        values = compare(parts[0], parts[1].to(parts[0].device), ids_K.to(parts[0].device))
        edges = np.cumsum([len(row.ids) for row in rows])[:-1]
        split = [np.split(column, edges) for column in values]
        found |= {n: PerToken(*columns) for n, *columns in zip(batch, *split, strict=True)}
    return [found[n] for n in range(len(continuations))]


def _batches(
    continuations: Sequence[Continuation], vocabulary: int, logit_bytes: int
) -> Iterator[list[int]]:
    """Indices of rows that go through the models together, of similar lengths."""

    def cost(rows: Sequence[int]) -> tuple[int, int]:
        longest = max(len(continuations[n].prompt_ids) + len(continuations[n].ids) for n in rows)
        first = min(len(continuations[n].prompt_ids) for n in rows)
        return 8 * vocabulary * len(rows) * (longest - first + 1), len(rows) * longest

    order = sorted(
        range(len(continuations)),
        key=lambda n: (len(continuations[n].prompt_ids), len(continuations[n].ids), n),
    )
    batch: list[int] = []
    for n in order:
        size, tokens = cost([*batch, n])
        if batch and (size > logit_bytes or tokens > PASS_TOKENS):
            yield batch
            batch = []
        batch.append(n)
    if batch:
        yield batch


def _logits(model: Any, rows: Sequence[Continuation]) -> torch.Tensor:
    """Logits [K, V] that predict each continuation token of each row, rows in order.

    Rows are padded on the right, where a causal model's earlier positions cannot see it.
    """
    inputs = [[*row.prompt_ids, *row.ids][:-1] for row in rows]
    width = max(map(len, inputs))
    first = min(len(row.prompt_ids) for row in rows) - 1
    ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
    mask_BT = torch.zeros_like(ids_BT)
    wanted_BS = torch.zeros(len(rows), width - first, dtype=torch.bool)
    for b, (row, tokens) in enumerate(zip(rows, inputs, strict=True)):
        ids_BT[b, : len(tokens)] = torch.tensor(tokens)
        mask_BT[b, : len(tokens)] = 1
        wanted_BS[b, len(row.prompt_ids) - 1 - first : len(tokens) - first] = True
    kept = torch.arange(first, width)
    options: dict[str, Any] = {"use_cache": False}
    if _can_select(model):
        options["logits_to_keep"] = kept.to(model.device)
    logits_BSV = model(
        input_ids=ids_BT.to(model.device), attention_mask=mask_BT.to(model.device), **options
    ).logits
    if not _can_select(model):
        logits_BSV = logits_BSV[:, first:]
    wanted_KV: torch.Tensor = logits_BSV[wanted_BS.to(model.device)]
    return wanted_KV


def _can_select(model: Any) -> bool:
    """Whether the head can be asked for some positions only, which saves the prompt's logits."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


def compare(p_KV: torch.Tensor, q_KV: torch.Tensor, ids_K: torch.Tensor) -> PerToken:
    """Divergences at each token from both models' logits, in chunks of tokens."""
    rows = max(1, CHUNK_BYTES // (8 * p_KV.shape[1]))
    split = (torch.split(one, rows) for one in (p_KV, q_KV, ids_K))
    parts = zip(*split, strict=True)
    columns = [_chunk(*part) for part in parts]
    return PerToken(*(torch.cat(c).cpu().numpy() for c in zip(*columns, strict=True)))


def _chunk(p_KV: torch.Tensor, q_KV: torch.Tensor, ids_K: torch.Tensor) -> tuple[torch.Tensor, ...]:
    log_p_KV = torch.log_softmax(p_KV.double(), dim=-1)
    log_q_KV = torch.log_softmax(q_KV.double(), dim=-1)
    ratio_KV = log_p_KV - log_q_KV
    k1 = ratio_KV.gather(1, ids_K[:, None])[:, 0]
    return (
        _expected(log_p_KV.exp_(), ratio_KV),
        _expected(log_q_KV.exp_(), -ratio_KV),
        k1,
        k1.square() / 2,
        torch.expm1(-k1) + k1,
    )


def _expected(weight_KV: torch.Tensor, ratio_KV: torch.Tensor) -> torch.Tensor:
    """Sum over the vocabulary; tokens without probability add 0, and 1e-16 below 0 is rounding."""
    return torch.where(weight_KV > 0, weight_KV * ratio_KV, 0).sum(-1).clamp(min=0)
