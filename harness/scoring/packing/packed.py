"""Run the plan of a token trie through a model and read the wanted predictions at its nodes.

Requests as token ids in, log-likelihood and greedy flag of each out, with an account of the work.
Passes are filled to a token budget that depends on the kind of device alone, so that two models of
one shape get the same passes and the same rounding; it is halved when memory is short or runs out,
and the account says so. No random numbers are drawn.

Left out: models that cannot be packed: scoring/probe.py finds them, single.py scores them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from retainbench.harness.models.inference import ran_out_of_memory
from retainbench.harness.scoring.packing.attention import (
    ATTENTION,
    ForwardPack,
    KeysValues,
    PendingRow,
    build_pack,
)
from retainbench.harness.scoring.packing.layout import TrieLayout, WantedPredictions, lay_out
from retainbench.harness.scoring.packing.single import (
    Readings,
    Scored,
    ScoringWork,
    TokenRequest,
    read,
)
from retainbench.harness.scoring.packing.trie import Costs, IntArray, PackedRow, Stem
from retainbench.harness.scoring.transformers_patches import attention

BoolArray = npt.NDArray[np.bool_]

TOKENS_PER_PASS = {"cpu": 2048, "cuda": 32768}
STEM_OVERHEAD = {"cpu": 32.0, "cuda": 2048.0}
"""Tokens that take as long as the extra calls of one more stem."""
ATTENTION_PRICE = 1.25
"""Time of a multiply-add in masked attention over one in a linear layer (rows of 128-1024, CPU)."""
LOGIT_BYTES = {"cpu": 2**28, "cuda": 2**31}
"""Most bytes of logits that one pass may produce, counted as fp32."""


class Reader(NamedTuple):
    """Where a pass finds its predictions: which of its columns, and what to read there."""

    columns: BoolArray
    """[S] columns whose logits are needed."""
    row: IntArray
    """[I] which of those columns."""
    wanted: IntArray
    """[I] index into `WantedPredictions`."""


def score_packed(
    model: Any,
    requests: Sequence[TokenRequest],
    *,
    budget: int | None = None,
    costs: Costs | None = None,
) -> Scored:
    """Score the requests over their token trie; the model must be `frozen`.

    budget: tokens per pass; None takes the device's, less if memory is short.

    Raises:
        MemoryError: a single row does not fit.
    """
    return score_layout(model, lay_out(requests, costs or prices(model)), budget=budget)


def score_layout(model: Any, layout: TrieLayout, *, budget: int | None = None) -> Scored:
    """Score requests that are laid out already; otherwise as `score_packed`."""
    total = np.zeros(layout.requests)
    greedy = np.ones(layout.requests, dtype=np.bool_)
    wanted, queue = layout.wanted, _Queue(layout.stems, layout.wanted)
    tokens = budget or tokens_per_pass(model)
    predictions = max(
        1, LOGIT_BYTES[_kind(model)] // (4 * model.config.get_text_config().vocab_size)
    )
    computed = passes = 0
    with attention(model, ATTENTION):
        while queue.items:
            items = queue.take(tokens, predictions)
            pack = build_pack(items, layout.stems, queue.keys, model.device, model.dtype)
            reader = queue.reader(pack.nodes)
            readings = _forward(model, layout, pack, reader)
            if readings is None:
                if len(items) == 1:
                    raise MemoryError(f"a row of {pack.nodes.size} tokens does not fit in memory")
                tokens = max(1, min(tokens, pack.nodes.size) // 2)
                queue.give_back(items)
                continue
            queue.done(items, pack.nodes[reader.columns])
            np.add.at(total, wanted.request[reader.wanted], readings.logprob)
            np.logical_and.at(greedy, wanted.request[reader.wanted], readings.best)
            computed += pack.nodes.size
            passes += 1
    rows = sum(len(stem.rows) for stem in layout.stems)
    nodes, stems = layout.token.size, len(layout.stems) - 1
    work = ScoringWork(layout.requests, nodes, computed, passes, stems, rows, tokens, None)
    return Scored(total, greedy, work)


def prices(model: Any) -> Costs:
    """What the planner needs to know of this model and device."""
    config = model.config.get_text_config()
    multiply_adds = 2 * config.num_hidden_layers * attention_width(config)
    pair = ATTENTION_PRICE * multiply_adds / max(1, linear_parameters(model))
    return Costs(pair, STEM_OVERHEAD[_kind(model)])


def attention_width(config: Any) -> int:
    """Query heads times their size: multiply-adds of a query with one key (or one value)."""
    heads = int(config.num_attention_heads)
    return heads * int(getattr(config, "head_dim", None) or config.hidden_size // heads)


def linear_parameters(model: Any) -> int:
    """Weights that every token is multiplied with: all matrices but the embedding and the head."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    outside = {id(layer.weight) for layer in ends if layer is not None}
    return sum(p.numel() for p in model.parameters() if p.ndim >= 2 and id(p) not in outside)


def tokens_per_pass(model: Any) -> int:
    """The device's budget, halved until the activations of a pass take a quarter of free memory."""
    config = model.config.get_text_config()
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    each = (8 * config.hidden_size + 4 * inner) * model.dtype.itemsize
    tokens = TOKENS_PER_PASS[_kind(model)]
    free = _free_memory(model.device)
    while free is not None and tokens > 64 and tokens * each > free / 4:
        tokens //= 2
    return tokens


def _free_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():  # not Linux: halving when memory runs out suffices
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def _kind(model: Any) -> str:
    return "cpu" if model.device.type == "cpu" else "cuda"


class _Queue:
    """Rows ready to run, last in first out, so that few stems' keys are alive at a time."""

    def __init__(self, stems: list[Stem], wanted: WantedPredictions) -> None:
        self.wanted = wanted
        self.open = np.diff(wanted.start) > 0  # nodes with predictions still to be read
        self.keys: dict[int, KeysValues] = {}
        self.below: list[list[PendingRow]] = [
            [PendingRow(i, row, -1) for row in sorted(stem.rows, key=lambda row: row.nodes.size)]
            for i, stem in enumerate(stems)
        ]
        for i, stem in enumerate(stems[1:], start=1):
            chain = PackedRow(stem.nodes, np.full(stem.nodes.size, stem.nodes.size, dtype=np.int64))
            self.below[stem.parent].append(PendingRow(stem.parent, chain, i))
        self.left = [len(items) for items in self.below]
        self.items = list(self.below[0])

    def take(self, tokens: int, predictions: int) -> list[PendingRow]:
        """As many rows as fit the budgets of tokens and of predictions to read; at least one."""
        taken: list[PendingRow] = []
        while self.items:
            nodes = self.items[-1].row.nodes
            tokens -= nodes.size
            predictions -= int(self.open[nodes].sum())
            if taken and (tokens < 0 or predictions < 0):
                break
            taken.append(self.items.pop())
        return taken

    def reader(self, nodes: IntArray) -> Reader:
        """Which columns to read: wanted nodes not read before, each at its first column."""
        first = np.zeros(nodes.size, dtype=np.bool_)
        first[np.unique(nodes, return_index=True)[1]] = True
        columns = first & self.open[nodes]
        start = self.wanted.start[nodes[columns]]
        count = self.wanted.start[nodes[columns] + 1] - start
        row = np.repeat(np.arange(count.size), count)
        within = np.arange(row.size) - np.repeat(np.cumsum(count) - count, count)
        return Reader(columns, row, start[row] + within)

    def give_back(self, items: list[PendingRow]) -> None:
        """Undo `take` after a pass that ran out of memory."""
        for item in items:
            self.keys.pop(item.grows, None)
        self.items.extend(reversed(items))

    def done(self, items: list[PendingRow], nodes: IntArray) -> None:
        """Mark nodes as read, free stems nothing waits for, queue what new stems made ready."""
        self.open[nodes] = False
        for item in items:
            self.left[item.stem] -= 1
            if item.stem and self.left[item.stem] == 0:
                del self.keys[item.stem]
        for item in items:
            if item.grows >= 0:
                self.items.extend(self.below[item.grows])
                if not self.below[item.grows]:
                    del self.keys[item.grows]


def _forward(model: Any, layout: TrieLayout, pack: ForwardPack, reader: Reader) -> Readings | None:
    """One pass; None if memory ran out."""
    device = model.device
    try:
        logits_KV = model(
            input_ids=torch.from_numpy(layout.token[pack.nodes]).to(device)[None],
            position_ids=torch.from_numpy(layout.depth[pack.nodes]).to(device)[None],
            use_cache=False,
            logits_to_keep=torch.from_numpy(reader.columns).to(device)[None],
            retainbench_pack=pack,
        ).logits
        if not pack.layers:
            raise ValueError("its attention does not use transformers' interface")
        row = torch.from_numpy(reader.row).to(device)
        token = torch.from_numpy(layout.wanted.token[reader.wanted]).to(device)
        return read(logits_KV, row, token)
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return None
