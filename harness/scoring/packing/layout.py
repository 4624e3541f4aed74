"""Requests of one call laid out for packed passes: the trie's nodes, its plan, what to read where.

A layout holds no weights: it is the same for every model with this tokenizer and these prices, and
small (its nodes, and one entry per predicted token), so it can be kept (scoring/texts.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from retainbench.harness.scoring.packing.single import TokenRequest
from retainbench.harness.scoring.packing.trie import Costs, IntArray, Stem, Trie, build_trie, plan


class WantedPredictions(NamedTuple):
    """Predictions to read, sorted by node."""

    start: IntArray
    """[M + 1] offsets of each node's predictions."""
    token: IntArray
    request: IntArray


class TrieLayout(NamedTuple):
    """N requests over M nodes."""

    requests: int
    longest: int
    """Tokens of the longest input."""
    token: IntArray
    """[M] token id of a node."""
    depth: IntArray
    """[M] position of a node."""
    stems: list[Stem]
    wanted: WantedPredictions


def lay_out(requests: Sequence[TokenRequest], costs: Costs) -> TrieLayout:
    """Trie, plan and wanted predictions of the requests."""
    trie = build_trie([request.inputs for request in requests])
    longest = int(trie.depth.max()) + 1
    wanted = _wanted(trie, requests)
    return TrieLayout(len(requests), longest, trie.token, trie.depth, plan(trie, costs), wanted)


def _wanted(trie: Trie, requests: Sequence[TokenRequest]) -> WantedPredictions:
    sizes = np.array([len(requests[i].targets) for i in trie.order], dtype=np.int64)
    nodes = np.concatenate([p[p.size - n :] for p, n in zip(trie.paths, sizes, strict=True)])
    token = np.concatenate([np.asarray(requests[i].targets, dtype=np.int64) for i in trie.order])
    by_node = np.argsort(nodes, kind="stable")
    start = np.searchsorted(nodes[by_node], np.arange(trie.token.size + 1))
    return WantedPredictions(
        start.astype(np.int64), token[by_node], np.repeat(trie.order, sizes)[by_node]
    )
