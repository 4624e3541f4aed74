"""The completions of one call while they are decoded: how tokens are chosen, what is kept of them.

A sampled token is the inverse of the cumulative distribution at a uniform number drawn beforehand
for (completion, step). So a completion does not depend on how the work was batched (beyond the
rounding of the logits), and the same generator state gives the same completions.

Letters: N completions, T steps, B rows in flight, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from retainbench.harness.scoring.stops import Stops


class Completions(NamedTuple):
    """N = len(prompts) * samples completions, the samples of a prompt next to each other."""

    tokens: list[list[int]]
    """Generated ids, with the token that ended the completion."""
    stopped: list[bool]
    """It ended by itself; False if `max_new_tokens` cut it off."""
    logprobs: list[list[float]] | None
    """Natural log-probability of each token under the distribution it was drawn from (greedy: the
    model's own); None unless asked for."""
    rows: int
    """Most completions in flight at the end: fewer than at the start if memory ran out."""
    cache_bytes: int
    """Most bytes that keys and values had at once; 0 where none were kept."""


class Decoded:
    """What was decoded so far; greedy and without log-probabilities unless asked for.

    Args:
        count: N, completions.
        steps: T, most tokens of each.
        uniforms_NT: numbers in [0, 1) for sampling; needed where `temperature` is above 0.
    """

    def __init__(
        self,
        count: int,
        steps: int,
        stops: Stops,
        device: Any,
        *,
        temperature: float = 0.0,
        top_p: float = 1.0,
        uniforms_NT: torch.Tensor | None = None,
        logprobs: bool = False,
    ) -> None:
        self.steps = steps
        self.cache_bytes: list[int] = []
        """Of each batch, the most."""
        self._stops = stops.to(device)
        self._temperature, self._top_p, self._uniforms_NT = temperature, top_p, uniforms_NT
        self._tokens_NT = torch.zeros(count, steps, dtype=torch.long, device=device)
        self._length_N = torch.full((count,), steps, device=device)
        self._stopped_N = torch.zeros(count, dtype=torch.bool, device=device)
        self._logprob_NT = torch.zeros(count, steps, device=device) if logprobs else None

    def __len__(self) -> int:
        return len(self._tokens_NT)

    def append(
        self, logits_BV: torch.Tensor, index_B: torch.Tensor, running_B: torch.Tensor, step: int
    ) -> torch.Tensor:
        """Choose and keep the next token of rows; returns the tokens.

        Args:
            index_B: the completion of each row.
            running_B: rows that have not ended; those that end now are taken out.
        """
        token_B = self._choose(logits_BV.float(), index_B, step)
        ended_B = self._ended(token_B, index_B, step) & running_B
        self._length_N[index_B] = torch.where(ended_B, step + 1, self._length_N[index_B])
        self._stopped_N[index_B] |= ended_B
        running_B &= ~ended_B
        return token_B

    def restart(self, index_B: torch.Tensor) -> None:
        """Forget what some completions have."""
        self._length_N[index_B] = self.steps
        self._stopped_N[index_B] = False

    def result(self, rows: int) -> Completions:
        """All completions; `rows` were in flight at most."""
        lengths = self._length_N.tolist()

        def cut(values_NT: torch.Tensor) -> list[list[Any]]:
            return [line[:n] for line, n in zip(values_NT.tolist(), lengths, strict=True)]

        logprobs = None if self._logprob_NT is None else cut(self._logprob_NT)
        stopped, most = self._stopped_N.tolist(), max(self.cache_bytes, default=0)
        return Completions(cut(self._tokens_NT), stopped, logprobs, rows, most)

    def _choose(self, logits_BV: torch.Tensor, index_B: torch.Tensor, step: int) -> torch.Tensor:
        """Next token of each row, recorded with its log-probability."""
        if self._uniforms_NT is not None:
            logits_BV = nucleus(logits_BV / self._temperature, self._top_p)
            total_BV = torch.softmax(logits_BV, dim=-1).cumsum(-1)
            # Scaled by the sum, which differs from 1 by rounding.
            at_B1 = self._uniforms_NT[index_B, step, None] * total_BV[:, -1:]
            token_B = torch.searchsorted(total_BV, at_B1, right=True)[:, 0]
            token_B = token_B.clamp_(max=logits_BV.shape[1] - 1)
        else:
            token_B = logits_BV.argmax(dim=-1)
        self._tokens_NT[index_B, step] = token_B
        if self._logprob_NT is not None:
            chosen_B = torch.log_softmax(logits_BV, dim=-1).gather(1, token_B[:, None])[:, 0]
            self._logprob_NT[index_B, step] = chosen_B
        return token_B

    def _ended(self, token_B: torch.Tensor, index_B: torch.Tensor, step: int) -> torch.Tensor:
        stops = self._stops
        ended_B = stops.ends_V[token_B]
        if stops.suspects_V is None:
            return ended_B
        for b in (stops.suspects_V[token_B] & ~ended_B).nonzero()[:, 0].tolist():
            begin = max(0, step + 1 - stops.reach)
            ended_B[b] = stops.completed(self._tokens_NT[index_B[b], begin : step + 1].tolist())
        return ended_B


def nucleus(logits_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Logits with those tokens at -inf that are not needed for a total probability of `top_p`.

    The most probable token stays, and so does the token with which the total is reached, as in
    transformers' `TopPLogitsWarper` (arXiv:1904.09751).
    """
    if top_p >= 1:
        return logits_BV
    rising_BV, order_BV = logits_BV.sort(descending=False)
    dropped_BV = rising_BV.softmax(-1).cumsum(-1) <= 1 - top_p
    dropped_BV[:, -1] = False
    return logits_BV.masked_fill(dropped_BV.scatter(1, order_BV, dropped_BV), -torch.inf)
