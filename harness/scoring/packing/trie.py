"""Token trie of all requests of one call, and the plan that computes each of its nodes about once.

Pure numpy. A trie node represents one token in one context; its number follows depth-first order.
The plan cuts the sorted sequences into *rows* (runs of neighbours, laid out as a small trie) and
factors long shared prefixes out into *stems*, whose keys and values are computed once and
shared with every row and stem below them.

Where to cut is a trade-off: a cut computes the shared ancestors twice, a longer row computes
attention for every pair of its tokens. `Costs` prices both in units of one token's matrix products,
and the cuts are the exact minimum (dynamic programme over the sorted order).

Reads token ids, writes nothing. Left out: batching of rows (memory decides it, packed.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


class Costs(NamedTuple):
    """Prices in units of one token's pass through the linear layers."""

    pair: float
    """One query attending to one key."""
    stem: float
    """Overhead of one more forward pass for a stem of its own."""
    row_tokens: int = 1024
    """Longest row that joins several sequences; a single longer sequence keeps a row of its own."""


class Trie(NamedTuple):
    """Prefix tree over N sequences in lexicographic order, M nodes in depth-first order."""

    order: IntArray
    """[N] index of each sorted sequence in the caller's list."""
    shared: IntArray
    """[N] tokens shared with the sorted predecessor; 0 for the first."""
    paths: list[IntArray]
    """[N] node numbers along each sorted sequence."""
    token: IntArray
    """[M] token id of a node."""
    depth: IntArray
    """[M] position of a node, from 0."""


class PackedRow(NamedTuple):
    """One packed sequence of T nodes, ancestors before descendants."""

    nodes: IntArray
    """[T] node numbers."""
    ends: IntArray
    """[T] first column behind a node's subtree: k is an ancestor of q iff k <= q < ends[k]."""


class Stem(NamedTuple):
    """A shared prefix computed once, and the rows that continue it."""

    parent: int
    """Index of the stem it continues; -1 for the root, which is empty."""
    nodes: IntArray
    """Node numbers this stem adds to its parent's."""
    depth: int
    """Length of the whole prefix, parents included."""
    rows: list[PackedRow]


def build_trie(sequences: Sequence[Sequence[int]]) -> Trie:
    """Sort the sequences and number the distinct prefixes.

    Raises:
        ValueError: an empty sequence; every request has at least one input token.
    """
    arrays = [np.asarray(s, dtype=np.int64) for s in sequences]
    empty = [i for i, a in enumerate(arrays) if a.size == 0]
    if empty:
        raise ValueError(f"sequences {empty[:5]} are empty; each needs at least one token")
    # Big-endian bytes sort like the ids themselves, at the speed of memcmp.
    keys = [a.astype(">u4").tobytes() for a in arrays]
    order = np.array(sorted(range(len(arrays)), key=keys.__getitem__), dtype=np.int64)
    shared = np.zeros(len(order), dtype=np.int64)
    paths: list[IntArray] = []
    tokens: list[IntArray] = []
    count = 0
    for i, request in enumerate(order):
        sequence = arrays[request]
        if i:
            shared[i] = _common_prefix(arrays[order[i - 1]], sequence)
        new = np.arange(count, count + sequence.size - shared[i])
        paths.append(np.concatenate([paths[-1][: shared[i]], new]) if i else new)
        tokens.append(sequence[shared[i] :])
        count += new.size
    depth = np.empty(count, dtype=np.int64)
    for i, path in enumerate(paths):
        depth[path[shared[i] :]] = np.arange(shared[i], path.size)
    token = np.concatenate(tokens) if tokens else np.empty(0, dtype=np.int64)
    return Trie(order, shared, paths, token, depth)


def plan(trie: Trie, costs: Costs) -> list[Stem]:
    """Stems (parents before children) and rows that together cover every node of the trie."""
    stems = [Stem(-1, np.empty(0, dtype=np.int64), 0, [])]
    work = [(0, 0, len(trie.paths))]
    while work:
        here, low, high = work.pop()
        depth = stems[here].depth
        loose: list[int] = []
        for a, b, common in _intervals(trie, low, high, depth, costs):
            if common <= depth:
                loose.extend(range(a, b))
                continue
            stems.append(Stem(here, trie.paths[a][depth:common], common, []))
            work.append((len(stems) - 1, a, b))
        stems[here].rows.extend(_cut_rows(trie, loose, depth, costs))
    return stems


def _intervals(
    trie: Trie, low: int, high: int, depth: int, costs: Costs
) -> Iterator[tuple[int, int, int]]:
    """Split sorted sequences [low, high) into (start, end, prefix length worth a stem, else 0)."""
    stack = [(low, high)]
    while stack:
        a, b = stack.pop()
        inner = trie.shared[a + 1 : b]
        common = int(inner.min()) if inner.size else 0
        below = sum(path.size for path in trie.paths[a:b]) - int(inner.sum()) - common
        saved = _saved_by_stem(common - depth, below, costs)
        if saved > costs.stem:
            yield a, b, common
        elif inner.size == 0:
            yield a, b, 0
        else:
            cuts = [a, *(np.flatnonzero(inner == common) + a + 1).tolist(), b]
            stack.extend(reversed(list(pairwise(cuts))))


def _saved_by_stem(prefix: int, below: int, costs: Costs) -> float:
    """What computing this prefix once, by itself, saves over carrying it in rows.

    Carried in one row with all n tokens below it, a prefix of s tokens is attended densely: s*s/2
    pairs more than by itself, plus s*n for its masked part and n*n for rows that need not be one.
    Carried in rows of T tokens it is repeated n/T times at `pair`*T more attention per token; the
    minimum over T is 2*n*sqrt(s*pair). The cheaper of both is what a stem has to beat.
    """
    if prefix <= 0:
        return 0.0
    alone = costs.pair * prefix * prefix / 2
    repeated = 2.0 * below * float(np.sqrt(prefix * costs.pair))
    if prefix + below > costs.row_tokens:
        return alone + repeated
    return alone + min(repeated, costs.pair * below * (prefix + below))


def _cut_rows(trie: Trie, members: list[int], depth: int, costs: Costs) -> list[PackedRow]:
    """Cheapest cut of the members (sorted sequences below a stem of this depth) into rows."""
    kept, shared = _distinct(trie, members, depth)
    if not kept:
        return []
    lengths = np.array([trie.paths[i].size for i in kept], dtype=np.int64)
    first = lengths - depth
    grown = np.cumsum(lengths - shared)
    best = np.zeros(len(kept) + 1)
    start = np.zeros(len(kept) + 1, dtype=np.int64)
    for end in range(1, len(kept) + 1):
        # Rows [a, end): the first sequence whole, the others from their branching point.
        low = int(np.searchsorted(grown, grown[end - 1] - costs.row_tokens))
        a = np.arange(min(low, end - 1), end)
        tokens = first[a] + grown[end - 1] - grown[a]
        price = best[a] + tokens * (1 + costs.pair * (depth + tokens))
        price[(tokens > costs.row_tokens) & (a < end - 1)] = np.inf
        choice = int(np.argmin(price))
        best[end], start[end] = price[choice], a[choice]
    rows: list[PackedRow] = []
    end = len(kept)
    while end:
        a0 = int(start[end])
        rows.append(_lay_out([trie.paths[i] for i in kept[a0:end]], shared[a0:end], depth))
        end = a0
    return rows[::-1]


def _distinct(trie: Trie, members: list[int], depth: int) -> tuple[list[int], IntArray]:
    """Members that add nodes below the stem, with the tokens each shares with the one before."""
    kept: list[int] = []
    shared: list[int] = []
    common = depth
    previous = -1
    for i in members:
        if previous >= 0:
            common = min(common, int(trie.shared[previous + 1 : i + 1].min()))
        previous = i
        if trie.paths[i].size > max(common, depth):
            kept.append(i)
            shared.append(max(common, depth))
            common = trie.paths[i].size
    return kept, np.array(shared, dtype=np.int64)


def _lay_out(paths: list[IntArray], shared: IntArray, depth: int) -> PackedRow:
    """Columns of a row: the first path below the stem, then what each later path adds."""
    starts = shared.copy()
    starts[0] = depth
    nodes = np.concatenate([path[s:] for path, s in zip(paths, starts, strict=True)])
    ends = np.full(nodes.size, nodes.size, dtype=np.int64)
    columns = np.empty(0, dtype=np.int64)  # of the current path, by depth below the stem
    column = 0
    for path, s in zip(paths, starts, strict=True):
        ends[columns[s - depth :]] = column
        new = np.arange(column, column + path.size - s)
        columns = np.concatenate([columns[: s - depth], new])
        column += new.size
    return PackedRow(nodes, ends)


def _common_prefix(a: IntArray, b: IntArray) -> int:
    size = min(a.size, b.size)
    different = np.flatnonzero(a[:size] != b[:size])
    return int(different[0]) if different.size else size
