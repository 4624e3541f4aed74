"""Rows of a decoding batch: prompts are encoded once, keys and values are in one buffer per layer.

The decoding loop is in scoring/decoding.py; this file gives it `Rows`: prompts read behind the
prefix that they share (left-padded, in passes that fit the processor's cache), one forward step,
and dropping rows. Buffers are written in place and grow in steps, so a long answer costs memory for
the tokens that it has; a cache that appends to a copy moves all of them once per token.

A batch may hold several models (`Forward`): rows are then groups x prompts, one model per group.

Letters: G groups, B rows, W tokens of the longest suffix behind the shared prefix of P tokens, X
keys that the buffer has room for, V vocabulary, K key heads, H head size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

ROOM = 32
"""Tokens by which a buffer grows at least; a quarter of what it holds where that is more."""
PREFILL_TOKENS = {"cpu": 1152, "cuda": 65536}
"""Prompt tokens per pass: on CPU activations stay in the second-level cache (0.51 ms per prompt of
18 tokens on a 1M-parameter model, 0.68 ms in passes of 4608)."""


class Forward:
    """A forward pass over the batch. This class is the same model for every row.

    A subclass with several `groups` serves rows that are ordered by group, equally many of each.
    """

    groups = 1

    def __init__(self, model: Any) -> None:
        self.model = model

    def use(self, groups: slice | torch.Tensor) -> None:
        """Announce the groups of the next passes: a slice of them, or one for each row."""

    def __call__(self, **inputs: Any) -> torch.Tensor:
        """Logits [B, V] after the last token of each row."""
        logits: torch.Tensor = self.model(**inputs, use_cache=True, logits_to_keep=1).logits
        return logits[:, -1]


class Rows:
    """Rows in flight, and the logits of their next tokens."""

    def __init__(
        self, forward: Forward, prompts: Sequence[Sequence[int]], shared: int, steps: int
    ) -> None:
        """Read all prompts for every group.

        Args:
            prompts: not empty; with one group sorted by length, which saves padding.
            shared: tokens that all prompts begin with, less than the shortest has.
            steps: most tokens that will follow.
        """
        self.forward, self.steps = forward, steps
        sizes = torch.tensor([len(prompt) for prompt in prompts])
        device, count = forward.model.device, forward.groups * len(prompts)
        width = int(sizes.max())
        layers = forward.model.config.get_text_config().num_hidden_layers
        self.layers = [Buffer(count, width + min(ROOM, steps)) for _ in range(layers)]
        self.cache = Cache(layers=self.layers)
        self.lengths_B = sizes.repeat(forward.groups).to(device)
        self.group_B = torch.arange(forward.groups, device=device).repeat_interleave(len(prompts))
        self.padding_BX = torch.zeros(count, width, dtype=torch.bool, device=device)
        passes = list(_passes(forward, prompts, shared))
        self._source = 0
        """Column at which row 0 begins."""
        self.logits_BV = torch.cat([self._read(part, shared, part is passes[0]) for part in passes])
        for layer in self.layers:
            layer.window, layer.first = slice(0, count), 0
        forward.use(slice(0, forward.groups))
        self.mask_B11X = self._mask()
        self.most_bytes = self.bytes
        """Most bytes that keys and values have had."""

    def _read(self, part: Pass, shared: int, first: bool) -> torch.Tensor:
        """One pass over some rows; returns their logits.

        The prefix is read once per group. With one group it is copied from the first pass.
        """
        forward, device = self.forward, self.forward.model.device
        forward.use(part.groups)
        total = self.padding_BX.shape[1]
        longest = max(map(len, part.prompts))
        if first:
            self._source = total - longest
        for layer in self.layers:
            layer.open(part.rows, total - longest)
        if shared and (first or forward.groups > 1):
            head = torch.tensor(part.prompts[0][:shared], device=device)
            groups = part.groups.stop - part.groups.start
            places = torch.arange(shared, device=device)
            forward(
                input_ids=head.expand(groups, -1),
                position_ids=places.expand(groups, -1),
                past_key_values=self.cache,
            )
        elif shared:
            for layer in self.layers:
                layer.copy_first_row(self._source, shared)
        inputs = _suffixes(part.prompts, shared, forward.model)
        self.padding_BX[part.rows, : total - longest] = True
        self.padding_BX[part.rows, total - longest + shared :] = inputs.pad.to(device)
        return forward(
            input_ids=inputs.ids.to(device),
            attention_mask=inputs.mask if inputs.mask is None else inputs.mask.to(device),
            position_ids=inputs.positions.to(device),
            past_key_values=self.cache,
        )

    def _mask(self) -> torch.Tensor | None:
        """Additive mask of the steps to come; None where no row is padded."""
        if not bool(self.padding_BX.any()):
            return None
        dtype = self.logits_BV.dtype
        hidden = torch.nn.functional.pad(self.padding_BX, (0, self.steps), value=False)
        mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
        return mask.masked_fill_(hidden, torch.finfo(dtype).min)[:, None, None]

    def step(self, token_B: torch.Tensor, taken: int) -> None:
        """Append a token to each row, the `taken`-th after its prompt; renews `logits_BV`."""
        mask = self.mask_B11X
        if mask is not None:
            mask = mask[..., : self.cache.get_seq_length() + 1]
        self.logits_BV = self.forward(
            input_ids=token_B[:, None],
            attention_mask=mask,
            position_ids=(self.lengths_B + taken)[:, None],
            past_key_values=self.cache,
        )
        self.most_bytes = max(self.most_bytes, self.bytes)

    @property
    def bytes(self) -> int:
        """What the keys and values take now."""
        return sum(layer.bytes for layer in self.layers)

    def take(self, rows: torch.Tensor) -> None:
        """Keep these rows only, each as often as it is named."""
        self.lengths_B, self.group_B = self.lengths_B[rows], self.group_B[rows]
        self.logits_BV = self.logits_BV[rows]
        if self.mask_B11X is not None:
            self.mask_B11X = self.mask_B11X[rows]
        for layer in self.layers:
            layer.take(rows)
        self.most_bytes = max(self.most_bytes, self.bytes)
        self.forward.use(self.group_B)


class Pass(NamedTuple):
    """Rows read in one pass: some groups, each with the same prompts."""

    groups: slice
    rows: slice
    prompts: list[Sequence[int]]
    """Of every row."""


def _passes(forward: Forward, prompts: Sequence[Sequence[int]], shared: int) -> Iterator[Pass]:
    """Several groups are read a few at a time with all prompts, one group a few prompts at a time.

    Every pass is as wide as its longest prompt.
    """
    most = PREFILL_TOKENS["cpu" if forward.model.device.type == "cpu" else "cuda"]
    if forward.groups > 1:
        each = len(prompts)
        at_once = max(1, most // (each * (max(map(len, prompts)) - shared)))
        for start in range(0, forward.groups, at_once):
            stop = min(start + at_once, forward.groups)
            rows = slice(start * each, stop * each)
            yield Pass(slice(start, stop), rows, list(prompts) * (stop - start))
        return
    first = 0
    while first < len(prompts):
        last = first + 1
        while last < len(prompts) and (last + 1 - first) * (len(prompts[last]) - shared) <= most:
            last += 1
        yield Pass(slice(0, 1), slice(first, last), list(prompts[first:last]))
        first = last


class Suffixes(NamedTuple):
    """Inputs of one pass: what follows the shared prefix, left-padded."""

    ids: torch.Tensor
    pad: torch.Tensor
    """True on padding."""
    positions: torch.Tensor
    mask: torch.Tensor | None
    """Additive, [B, 1, W, P + W]; None where causal attention suffices."""


def _suffixes(prompts: Sequence[Sequence[int]], shared: int, model: Any) -> Suffixes:
    sizes = torch.tensor([len(prompt) - shared for prompt in prompts])
    width = int(sizes.max())
    ids = torch.zeros(len(prompts), width, dtype=torch.long)
    for line, prompt in zip(ids, prompts, strict=True):
        line[width - len(prompt) + shared :] = torch.tensor(prompt[shared:])
    pad = torch.arange(width) < (width - sizes)[:, None]
    positions = (torch.arange(width) - (width - sizes)[:, None]).clamp(min=0) + shared
    mask = None
    if shared or bool(pad.any()):
        q, k = torch.arange(width)[:, None], torch.arange(width)[None, :]
        # Padding attends to itself, because an empty row gives NaN.
        seen = (q == k) | ((k <= q) & ~pad[:, None, :])
        mask = torch.zeros(len(prompts), 1, width, shared + width, dtype=model.dtype)
        mask[:, 0, :, shared:].masked_fill_(~seen, torch.finfo(model.dtype).min)
    return Suffixes(ids, pad, positions, mask)


class Buffer(CacheLayerMixin):
    """Keys and values of one layer, [B, K, X, H], written in place and growing in steps."""

    is_sliding = False
    keys: Any
    values: Any

    def __init__(self, rows: int, capacity: int) -> None:
        super().__init__()
        self._shape = (rows, capacity)
        self.window, self.first, self.used = slice(0, rows), 0, 0

    def open(self, rows: slice, first: int) -> None:
        """Let the next passes write to some rows only, from a column on."""
        self.window, self.first, self.used = rows, first, first

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Allocate the buffers, now that heads and sizes are known."""
        rows, capacity = self._shape
        for name, like in (("keys", key_states), ("values", value_states)):
            # Zeros: what padding holds is multiplied by a weight of 0 and must not be NaN.
            setattr(self, name, like.new_zeros(rows, like.shape[1], capacity, like.shape[3]))
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store new keys and values in the window; returns those of the window so far.

        With fewer rows than the window has, each one is stored for equally many rows: the shared
        prefix of a group, which nothing precedes.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin, end = self.used, self.used + key_states.shape[2]
        if end > self.keys.shape[2]:
            self._grow(end)
        copies = (self.window.stop - self.window.start) // len(key_states)
        for buffer, new in ((self.keys, key_states), (self.values, value_states)):
            stored = new.repeat_interleave(copies, 0) if copies > 1 else new
            buffer[self.window, :, begin:end] = stored
        self.used = end
        if copies > 1:
            return key_states, value_states
        past = (self.window, slice(None), slice(self.first, end))
        return self.keys[past], self.values[past]

    @property
    def bytes(self) -> int:
        """Of the buffers, what is not used yet included."""
        return self.keys.nbytes + self.values.nbytes if self.is_initialized else 0

    def copy_first_row(self, source: int, length: int) -> None:
        """Begin the window with `length` entries of row 0, from column `source` on."""
        begin, end = self.used, self.used + length
        for buffer in (self.keys, self.values):
            buffer[self.window, :, begin:end] = buffer[:1, :, source : source + length]
        self.used = end

    def take(self, rows: torch.Tensor) -> None:
        """Keep these rows only, each as often as it is named."""
        self._shape = (len(rows), self._shape[1])
        self.keys, self.values = self._taken(self.keys, rows), self._taken(self.values, rows)
        self.window = slice(0, len(rows))

    def _grow(self, end: int) -> None:
        more = max(ROOM, self.used // 4, end - self.keys.shape[2])
        pad = torch.nn.functional.pad
        self.keys, self.values = (pad(part, (0, 0, 0, more)) for part in (self.keys, self.values))

    def _taken(self, whole: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """Rows of a buffer, copied once."""
        taken = whole.new_empty(len(rows), *whole.shape[1:])
        torch.index_select(whole[:, :, : self.used], 0, rows, out=taken[:, :, : self.used])
        return taken

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of the keys for a query of this length."""
        return self.get_seq_length() + query_length, 0

    def get_seq_length(self) -> int:
        """Tokens stored in the window."""
        return self.used - self.first

    def get_max_length(self) -> int:
        """Tokens that fit before the buffer grows."""
        return int(self.keys.shape[2]) if self.is_initialized else self._shape[1]
