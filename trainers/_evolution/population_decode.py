"""Greedy completions of many prompts by many low-rank perturbed models at once.

Rows are members x prompts. Each member reads what all prompts begin with once, then every prompt's
own tokens (left-padded), in pieces that fit the processor's cache; after that all rows decode
together, the loop ends when all rows have ended, and rows that have ended leave the batch as soon
as they are a quarter of it. Keys and values live in one buffer, written in place: appending to a
copy, as `DynamicCache` does, moves the whole cache once per token.

Works for transformers' causal models with ordinary keys and values (Llama, Qwen, Gemma, SmolLM,
GPT-2 families), not for state-space models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from retainbench.harness.scoring.decoding_rows import PREFILL_TOKENS
from retainbench.trainers._evolution.population import Active, Factors, select

KEEP = 0.75
"""Rows leave the batch once no more than this share of it still runs."""


class Slots(CacheLayerMixin):
    """Keys and values of one layer: a buffer [R, heads, capacity, width] filled in place."""

    is_sliding = False
    keys: Any
    values: Any

    def __init__(self, rows: int, capacity: int) -> None:
        super().__init__()
        self._shape = (rows, capacity)
        self.window = slice(0, rows)
        self.length = 0

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the buffers, now that heads and widths are known."""
        rows, capacity = self._shape
        for name, like in (("keys", key_states), ("values", value_states)):
            shape = (rows, like.shape[1], capacity, like.shape[3])
            setattr(self, name, like.new_empty(shape))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new keys and values in the window's rows; return all of them so far.

        With fewer rows than the window has, each is stored for the same number of rows: a shared
        beginning, which has nothing before it.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows = self.window.stop - self.window.start
        copies = rows // len(key_states)
        begin, self.length = self.length, self.length + key_states.shape[2]
        for buffer, new in ((self.keys, key_states), (self.values, value_states)):
            buffer[self.window, :, begin : self.length] = (
                new.repeat_interleave(copies, 0) if copies > 1 else new
            )
        if copies > 1:
            return key_states, value_states
        past = (self.window, slice(None), slice(self.length))
        return self.keys[past], self.values[past]

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all other rows."""
        self.keys, self.values = self.keys[rows], self.values[rows]
        self.window = slice(0, len(rows))

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys for a query of this length."""
        return self.length + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens stored."""
        return self.length

    def get_max_length(self) -> int:
        """Tokens that fit."""
        return self._shape[1]


class Prompts(NamedTuple):
    """Prompts with what they share split off, on the model's device."""

    shared: torch.Tensor
    """Token ids that all begin with, [L]."""
    rest_PT: torch.Tensor
    """Their own tokens, left-padded."""
    mask_PT: torch.Tensor
    positions_PT: torch.Tensor
    padded: bool


class Completed(NamedTuple):
    """Completions and what they cost."""

    tokens: list[list[list[int]]]
    """Per member and prompt: new token ids, the one that ended it included."""
    prompt_tokens: int
    """Prompt tokens that went through the model, padding left out."""


def split_shared(prompts: Sequence[list[int]], pad: int, device: Any) -> Prompts:
    """Split off the longest common beginning, leaving every prompt a token of its own."""
    low, high = min(prompts), max(prompts)  # all others lie between, so they share as much
    shortest = min(map(len, prompts)) - 1
    length = next((i for i in range(shortest) if low[i] != high[i]), shortest)
    rests = [list(prompt[length:]) for prompt in prompts]
    width = max(map(len, rests))
    rest_PT = torch.tensor([[pad] * (width - len(r)) + r for r in rests], device=device)
    lengths_P = torch.tensor([len(r) for r in rests], device=device)
    places_PT = torch.arange(width, device=device) - (width - lengths_P)[:, None]
    return Prompts(
        shared=torch.tensor(list(prompts[0][:length]), dtype=torch.long, device=device),
        rest_PT=rest_PT,
        mask_PT=(places_PT >= 0).long(),
        positions_PT=length + places_PT.clamp(min=0),
        padded=bool((places_PT < 0).any()),
    )


def complete(
    model: Any,
    active: Active,
    factors: Mapping[str, Factors],
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    stops: torch.Tensor,
    pad: int,
) -> Completed:
    """Every member's greedy completion of every prompt.

    Args:
        active: of the `perturbed` context that hooks the model; what it holds is replaced.
        factors: one group per member.
        stops: bool, [vocabulary]; tokens that end a completion.
    """
    members = len(next(iter(factors.values())).a_Grm)
    split = split_shared(prompts, pad, stops.device)
    with torch.inference_mode():
        tokens_RT = _Batch(model, active, factors, split, members, max_new_tokens, stops).run()
    ended_RT = stops[tokens_RT]
    lengths = torch.where(ended_RT.any(1), ended_RT.int().argmax(1) + 1, tokens_RT.shape[1])
    rows = [row[:length] for row, length in zip(tokens_RT.tolist(), lengths.tolist(), strict=True)]
    width, shared = len(prompts), len(split.shared)
    own = sum(len(prompt) - shared for prompt in prompts)
    grouped = [rows[start : start + width] for start in range(0, len(rows), width)]
    return Completed(grouped, members * (shared + own))


class _Batch:
    """One batch on its way: the cache, and which row stands where."""

    def __init__(
        self,
        model: Any,
        active: Active,
        factors: Mapping[str, Factors],
        split: Prompts,
        members: int,
        max_new_tokens: int,
        stops: torch.Tensor,
    ) -> None:
        self.model, self.active, self.factors, self.split = model, active, factors, split
        self.members, self.new, self.stops = members, max_new_tokens, stops
        self.width = len(split.rest_PT)
        rows = members * self.width
        prompt = len(split.shared) + split.rest_PT.shape[1]
        layers = model.config.get_text_config().num_hidden_layers
        self.layers = [Slots(rows, prompt + max_new_tokens) for _ in range(layers)]
        self.cache = Cache(layers=self.layers)

    def run(self) -> torch.Tensor:
        """New tokens of all rows, [R, T]; a row's tokens after its first stop mean nothing."""
        split, rows = self.split, self.members * self.width
        next_R = self._read_prompts()
        tokens_RT = next_R.new_full((rows, self.new), int(self.stops.int().argmax()))
        standing_R = torch.arange(rows, device=next_R.device)
        running_R = torch.ones_like(next_R, dtype=torch.bool)
        mask_RT = self._mask().repeat(self.members, 1) if split.padded else None
        positions_R = (split.positions_PT[:, -1]).repeat(self.members)
        self.active.factors = self.factors
        for place in range(self.new):
            tokens_RT[standing_R, place] = next_R
            running_R &= ~self.stops[next_R]
            alive = int(running_R.sum())
            if not alive or place + 1 == self.new:
                break
            if alive <= KEEP * len(running_R):
                kept = running_R.nonzero().squeeze(1)
                self._drop(kept, standing_R)
                standing_R, next_R, positions_R = standing_R[kept], next_R[kept], positions_R[kept]
                running_R = running_R[kept]
                mask_RT = mask_RT[kept] if mask_RT is not None else None
            if mask_RT is not None:
                mask_RT = torch.cat([mask_RT, mask_RT.new_ones(len(mask_RT), 1)], dim=1)
            positions_R = positions_R + 1
            next_R = self._forward(next_R[:, None], mask_RT, positions_R[:, None])
        return tokens_RT

    def _mask(self) -> torch.Tensor:
        shared_PL = self.split.mask_PT.new_ones(self.width, len(self.split.shared))
        return torch.cat([shared_PL, self.split.mask_PT], dim=1)

    def _forward(
        self, ids_RT: torch.Tensor, mask_RT: torch.Tensor | None, positions_RT: torch.Tensor
    ) -> torch.Tensor:
        out = self.model(
            input_ids=ids_RT,
            attention_mask=mask_RT,
            position_ids=positions_RT,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1].argmax(-1)

    def _read_prompts(self) -> torch.Tensor:
        """Fill the cache; returns the first new token of every row."""
        split = self.split
        tokens = PREFILL_TOKENS.get(split.rest_PT.device.type, PREFILL_TOKENS["cuda"])
        step = max(1, tokens // split.rest_PT.numel())
        mask_PT = self._mask() if split.padded else None
        firsts = []
        for start in range(0, self.members, step):
            stop = min(start + step, self.members)
            for layer in self.layers:
                layer.window = slice(start * self.width, stop * self.width)
                layer.length = 0
            self.active.factors = select(self.factors, slice(start, stop))
            count = stop - start
            if len(split.shared):
                places = torch.arange(len(split.shared), device=split.shared.device)
                self._forward(split.shared.expand(count, -1), None, places.expand(count, -1))
            firsts.append(
                self._forward(
                    split.rest_PT.repeat(count, 1),
                    mask_PT.repeat(count, 1) if mask_PT is not None else None,
                    split.positions_PT.repeat(count, 1),
                )
            )
        for layer in self.layers:
            layer.window = slice(0, self.members * self.width)
        return torch.cat(firsts)

    def _drop(self, kept: torch.Tensor, standing_R: torch.Tensor) -> None:
        """Keep these rows only; from here on every row has its own copy of its factors."""
        for layer in self.layers:
            layer.keep(kept)
        self.active.factors = select(self.factors, standing_R[kept] // self.width)
