"""Attention of packed rows: every linear layer sees one flat sequence without any padding.

A forward pass takes S tokens as one sequence [1, S]. Only inside attention are they gathered into
blocks of rows, where each row attends to its own trie (and to the stem it continues) and to nothing
else. Attention is the cheap part at these lengths, so padding there costs little, and padding
elsewhere is avoided altogether.

Works through transformers' attention interface, under the name `ATTENTION`, and passes the pack as
a keyword through the model's forward. The probe (scoring/probe.py) detects a model that drops
keywords or has its own attention.

Letters: S tokens of a pass, B rows of a block, R tokens of its longest row, P tokens of its stem,
H query heads, K key heads, D head size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from retainbench.harness.scoring.packing.trie import IntArray, PackedRow, Stem

ATTENTION = "retainbench_tree"
FILL = 0.75
"""Rows share a block if each fills at least this part of its width."""


class PendingRow(NamedTuple):
    """One row waiting to be computed below the stem `stem`."""

    stem: int
    row: PackedRow
    grows: int
    """The stem whose keys and values this row yields; -1 for an ordinary row."""


class RowBlock(NamedTuple):
    """Rows below one stem, adjacent in the flat sequence from `first` to `last`."""

    stem: int
    first: int
    last: int
    columns_BR: torch.Tensor | None
    """Flat column of each slot; None for a single row, which needs no gathering."""
    slots: torch.Tensor | None
    """Real (not padding) slots among B*R, in flat order."""
    mask_B1RX: torch.Tensor | None
    """Additive mask over P + R keys; None for a chain without a stem, which is plainly causal."""


KeysValues = dict[int, tuple[torch.Tensor, torch.Tensor]]
"""Layer -> keys and values [1, K, P, D] of a whole prefix."""


@dataclass
class ForwardPack:
    """What one forward pass computes."""

    nodes: IntArray
    blocks: list[RowBlock]
    grown: list[tuple[int, int, int, int]]
    """(stem, its parent, first and last flat column) whose keys are to be kept."""
    stems: dict[int, KeysValues]
    """Keys of the stems in use, shared by all packs; this pass adds the grown ones."""
    layers: set[int] = field(default_factory=set)
    """Layers that asked for this pack: empty after a pass means the model ignored it."""


def build_pack(
    items: list[PendingRow],
    stems: list[Stem],
    keys: dict[int, KeysValues],
    device: torch.device,
    dtype: torch.dtype,
) -> ForwardPack:
    """Arrange the items, grouped by stem and sorted by length, longest first."""
    ordered = sorted(items, key=lambda item: (item.stem, -item.row.nodes.size))
    pack = ForwardPack(np.concatenate([item.row.nodes for item in ordered]), [], [], keys)
    first = at = 0
    while at < len(ordered):
        stem, width = ordered[at].stem, ordered[at].row.nodes.size
        stop = at + 1
        while (
            stop < len(ordered)
            and ordered[stop].stem == stem
            and ordered[stop].row.nodes.size >= FILL * width
        ):
            stop += 1
        rows = [item.row for item in ordered[at:stop]]
        pack.blocks.append(_block(rows, stem, stems[stem].depth, first, device, dtype))
        for item in ordered[at:stop]:
            last = first + item.row.nodes.size
            if item.grows >= 0:
                pack.grown.append((item.grows, stem, first, last))
            first = last
        at = stop
    return pack


def _block(
    rows: list[PackedRow],
    stem: int,
    depth: int,
    first: int,
    device: torch.device,
    dtype: torch.dtype,
) -> RowBlock:
    sizes = np.array([row.nodes.size for row in rows])
    width, last = int(sizes.max()), first + int(sizes.sum())
    if len(rows) == 1 and depth == 0 and bool((rows[0].ends == width).all()):
        return RowBlock(stem, first, last, None, None, None)
    column = np.arange(width)
    ends = np.zeros((len(rows), width), dtype=np.int64)
    for line, row in zip(ends, rows, strict=True):
        line[: row.ends.size] = row.ends
    # Query q sees key k if k is q itself (padding too: a row of nothing is NaN) or its ancestor.
    q, k = column[:, None], column[None, :]
    visible = (q == k) | ((k <= q) & (q < ends[:, None, :]))
    mask = torch.zeros(len(rows), 1, width, depth + width, dtype=dtype, device=device)
    hidden = torch.from_numpy(~visible).to(device)[:, None]
    mask[..., depth:].masked_fill_(hidden, torch.finfo(dtype).min)
    if len(rows) == 1:
        return RowBlock(stem, first, last, None, None, mask)
    starts = first + np.cumsum(sizes) - sizes
    columns = starts[:, None] + np.minimum(column, sizes[:, None] - 1)
    slots = np.flatnonzero((column < sizes[:, None]).reshape(-1))
    return RowBlock(
        stem,
        first,
        last,
        torch.from_numpy(columns).to(device),
        torch.from_numpy(slots).to(device),
        mask,
    )


def tree_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    retainbench_pack: ForwardPack | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attend within rows. query [1, H, S, D]; key, value [1, K, S, D]; returns [1, S, H, D].

    Raises:
        ValueError: called outside a scoring pass.
    """
    if retainbench_pack is None:
        raise ValueError(f"attention {ATTENTION!r} needs a pack, which this model does not pass on")
    pack = retainbench_pack
    layer = int(module.layer_idx)  # type: ignore[arg-type]
    pack.layers.add(layer)
    parts: list[torch.Tensor] = []
    for block in pack.blocks:
        q, k, v = (_rows(x, block) for x in (query, key, value))
        if block.stem:
            before_k, before_v = pack.stems[block.stem][layer]
            k = torch.cat([before_k.expand(k.shape[0], -1, -1, -1), k], dim=2)
            v = torch.cat([before_v.expand(v.shape[0], -1, -1, -1), v], dim=2)
        out_SHD = _attend(q, k, v, block.mask_B1RX, scaling, softcap).transpose(1, 2).flatten(0, 1)
        parts.append(out_SHD if block.slots is None else out_SHD[block.slots])
    for stem, parent, first, last in pack.grown:
        k, v = key[:, :, first:last], value[:, :, first:last]
        if parent:
            k = torch.cat([pack.stems[parent][layer][0], k], dim=2)
            v = torch.cat([pack.stems[parent][layer][1], v], dim=2)
        pack.stems.setdefault(stem, {})[layer] = (k.clone(), v.clone())
    return torch.cat(parts)[None], None


def _rows(x_1HSD: torch.Tensor, block: RowBlock) -> torch.Tensor:
    """[1, H, S, D] -> [B, H, R, D]."""
    if block.columns_BR is None:
        return x_1HSD[:, :, block.first : block.last]
    return x_1HSD[0][:, block.columns_BR].transpose(0, 1)


def _attend(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    mask: torch.Tensor | None,
    scaling: float | None,
    softcap: float | None,
) -> torch.Tensor:
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    if softcap is None:
        return scaled_dot_product_attention(
            q, k, v, attn_mask=mask, is_causal=mask is None, scale=scaling
        )
    scale = q.shape[-1] ** -0.5 if scaling is None else scaling
    weights = torch.tanh(q @ k.transpose(2, 3) * scale / softcap) * softcap
    if mask is None:
        mask = torch.full_like(weights[0, 0], torch.finfo(q.dtype).min).triu(1)
    return torch.softmax(weights + mask, dim=-1, dtype=torch.float32).to(q.dtype) @ v


AttentionInterface.register(ATTENTION, tree_attention)
