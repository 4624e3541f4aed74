"""Rows of a decoding batch: prompts encoded once, keys and values in buffers that grow and shrink.

The decoding loop is scoring/decoding.py's; this file gives it `prefill` (distinct prompts,
left-padded behind a prefix they share), `Rows` (one forward step; dropping rows) and nothing else.

Letters: D distinct prompts, B rows, W tokens of the longest suffix behind the shared prefix of P
tokens, X keys there is room for, V vocabulary, K key heads, H head size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

ROOM = 32
"""Tokens by which the buffers grow."""
PREFILL_TOKENS = {"cpu": 1152, "cuda": 65536}
"""Prompt tokens per pass: on CPU activations stay in the second-level cache (0.51 ms per prompt of
18 tokens on a 1M-parameter model, 0.68 ms in passes of 4608)."""


class Prefilled(NamedTuple):
    """Distinct prompts, encoded."""

    logits_DV: torch.Tensor
    cache: Cache
    lengths_D: torch.Tensor
    padding_DX: torch.Tensor
    """True where a column of the P + W keys is padding."""


def encode_prefix(model: Any, prefix: Sequence[int]) -> DynamicCache:
    """Keys and values [1, K, P, H] of the tokens all prompts start with; may be none."""
    cache = DynamicCache()
    if prefix:
        ids = torch.tensor([prefix], device=model.device)
        model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
    return cache


def prefill(
    model: Any, prompts: Sequence[Sequence[int]], prefix: DynamicCache, shared: int
) -> Prefilled:
    """Encode the prompts behind their first `shared` tokens, which are in `prefix`.

    Several passes, each as wide as its longest prompt: give prompts sorted by length.
    """
    most = PREFILL_TOKENS["cpu" if model.device.type == "cpu" else "cuda"]
    passes, first = [], 0
    while first < len(prompts):
        last = first + 1
        while last < len(prompts) and (last + 1 - first) * (len(prompts[last]) - shared) <= most:
            last += 1
        passes.append(_encode(model, prompts[first:last], prefix, shared))
        first = last
    return passes[0] if len(passes) == 1 else _joined(passes)


def _encode(
    model: Any, prompts: Sequence[Sequence[int]], prefix: DynamicCache, shared: int
) -> Prefilled:
    """One pass over some of the prompts."""
    device = model.device
    sizes = torch.tensor([len(prompt) - shared for prompt in prompts])
    width = int(sizes.max())
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    for line, prompt in zip(ids, prompts, strict=True):
        line[width - len(prompt) + shared :] = torch.tensor(prompt[shared:])
    pad = torch.arange(width) < (width - sizes)[:, None]
    positions = (torch.arange(width) - (width - sizes)[:, None]).clamp(min=0) + shared
    cache = _lend(prefix, len(prompts)) if shared else DynamicCache()
    mask = None
    if shared or bool(pad.any()):
        q, k = torch.arange(width)[:, None], torch.arange(width)[None, :]
        # Padding sees itself, because a row of nothing is NaN.
        seen = (q == k) | ((k <= q) & ~pad[:, None, :])
        mask = torch.zeros(len(prompts), 1, width, shared + width, dtype=model.dtype)
        mask[:, 0, :, shared:].masked_fill_(~seen, torch.finfo(model.dtype).min)
        mask = mask.to(device)
    logits = model(
        input_ids=ids.to(device),
        attention_mask=mask,
        position_ids=positions.to(device),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    ).logits[:, -1]
    behind = torch.nn.functional.pad(pad, (shared, 0), value=False).to(device)
    return Prefilled(logits, cache, (sizes + shared).to(device), behind)


def _joined(passes: Sequence[Prefilled]) -> Prefilled:
    """The passes as one; narrower ones get padding in front."""
    pad = torch.nn.functional.pad
    widths = [part.padding_DX.shape[1] for part in passes]
    gaps = [max(widths) - width for width in widths]
    cache = DynamicCache()
    for i in range(len(passes[0].cache.layers)):
        keys, values = (
            torch.cat(
                [
                    pad(getattr(part.cache.layers[i], name), (0, 0, gap, 0))
                    for part, gap in zip(passes, gaps, strict=True)
                ]
            )
            for name in ("keys", "values")
        )
        cache.update(keys, values, i)
    paddings = [
        pad(part.padding_DX, (gap, 0), value=True) for part, gap in zip(passes, gaps, strict=True)
    ]
    return Prefilled(
        torch.cat([part.logits_DV for part in passes]),
        cache,
        torch.cat([part.lengths_D for part in passes]),
        torch.cat(paddings),
    )


class Rows:
    """Rows in flight; each continues one of the prefilled prompts."""

    def __init__(self, prefilled: Prefilled, prompt_of_row: torch.Tensor, steps: int) -> None:
        """prompt_of_row: [B] index into the prompts; steps: most tokens still to come."""
        self.lengths_B = prefilled.lengths_D[prompt_of_row]
        self.logits_BV = prefilled.logits_DV[prompt_of_row]
        self.cache = Cache(
            layers=[
                _Buffer(layer, prompt_of_row, min(ROOM, steps)) for layer in prefilled.cache.layers
            ]
        )
        self.mask_B11X: torch.Tensor | None = None
        padding = prefilled.padding_DX[prompt_of_row]
        if bool(padding.any()):
            dtype = prefilled.logits_DV.dtype
            hidden = torch.nn.functional.pad(padding, (0, steps), value=False)
            self.mask_B11X = torch.zeros(
                hidden.shape, dtype=dtype, device=hidden.device
            ).masked_fill_(hidden, torch.finfo(dtype).min)[:, None, None]

    def step(self, model: Any, token_B: torch.Tensor, taken: int) -> None:
        """Append a token to each row, the `taken`-th after its prompt; renews `logits_BV`."""
        mask = self.mask_B11X
        if mask is not None:
            mask = mask[..., : self.cache.get_seq_length() + 1]
        self.logits_BV = model(
            input_ids=token_B[:, None],
            attention_mask=mask,
            position_ids=(self.lengths_B + taken)[:, None],
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these."""
        self.lengths_B = self.lengths_B[rows]
        if self.mask_B11X is not None:
            self.mask_B11X = self.mask_B11X[rows]
        for layer in self.cache.layers:
            layer.keep(rows)


class _Buffer(DynamicLayer):
    """Keys and values [B, K, X, H] with room ahead, so that a step does not copy what is there."""

    def __init__(self, filled: Any, rows: torch.Tensor, room: int) -> None:
        super().__init__()
        self.used, self.room = int(filled.keys.shape[2]), room
        self.keys, self.values = self._taken(filled.keys, rows), self._taken(filled.values, rows)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.keys is not None
        assert self.values is not None
        if self.used + key_states.shape[2] > self.keys.shape[2]:
            self.keep(torch.arange(len(self.keys), device=self.keys.device))
        first, self.used = self.used, self.used + key_states.shape[2]
        self.keys[:, :, first : self.used] = key_states
        self.values[:, :, first : self.used] = value_states
        return self.keys[:, :, : self.used], self.values[:, :, : self.used]

    def get_seq_length(self) -> int:
        return self.used

    def keep(self, rows: torch.Tensor) -> None:
        """Drop all rows but these."""
        assert self.keys is not None
        assert self.values is not None
        self.keys, self.values = self._taken(self.keys, rows), self._taken(self.values, rows)

    def _taken(self, whole: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Rows of a buffer, copied once, with room behind what is used."""
        made = whole.new_empty(len(rows), whole.shape[1], self.used + self.room, whole.shape[3])
        torch.index_select(whole[:, :, : self.used], 0, rows, out=made[:, :, : self.used])
        return made


def _lend(prefix: DynamicCache, rows: int) -> DynamicCache:
    """A cache that starts with the prefix in every row; the prefix itself is left alone."""
    cache = DynamicCache()
    for i, layer in enumerate(prefix.layers):
        keys, values = layer.keys, layer.values
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), i)
    return cache
