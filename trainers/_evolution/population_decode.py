"""Greedy completions of many prompts by many low-rank perturbed models at once.

The decoder is scoring/decoding.py's; this file gives it the forward pass. Rows are members x
prompts: each member reads what all prompts begin with once, then every prompt's own tokens, a few
members at a time; after that all rows decode together, and rows that have ended leave the batch.

Works for transformers' causal models with ordinary keys and values (Llama, Qwen, Gemma, SmolLM,
GPT-2 families), not for state-space models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from retainbench.harness.scoring.decoding import generate_together
from retainbench.harness.scoring.decoding_rows import Forward
from retainbench.harness.scoring.stops import Stops
from retainbench.trainers._evolution.population import Active, Factors, select


class Members(Forward):
    """A forward pass in which every group of rows is one member."""

    def __init__(self, model: Any, active: Active, factors: Mapping[str, Factors]) -> None:
        """active: of the `perturbed` context that hooks the model; what it holds is replaced."""
        super().__init__(model)
        self.active, self.factors = active, factors
        self.groups = len(next(iter(factors.values())).a_Grm)

    def use(self, groups: slice | torch.Tensor) -> None:
        """Perturb the next passes by the factors of these members."""
        whole = groups == slice(0, self.groups) if isinstance(groups, slice) else False
        self.active.factors = self.factors if whole else select(self.factors, groups)


def complete(
    members: Members, prompts: Sequence[list[int]], *, max_new_tokens: int, stops: Stops
) -> list[list[list[int]]]:
    """Every member's greedy completion of every prompt: new token ids, the ending one included."""
    made = generate_together(members, prompts, max_new_tokens=max_new_tokens, stops=stops)
    width = len(prompts)
    return [made.tokens[start : start + width] for start in range(0, len(made.tokens), width)]
