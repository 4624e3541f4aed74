"""Speed measured beside the peers, in one run on one machine.

`bench_*.py` measure and return rows; this file chooses what to run and prints. Each measurement
alternates ours and the peer's, so that a machine that is busy with other things slows both.

Command: `retainbench bench scoring|eggroll|drift`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Literal

from retainbench.harness import bases

CORE = ("capitals", "elements", "agreement", "arithmetic", "sequences", "quantities", "dates")


def lines(
    what: Literal["scoring", "eggroll", "drift"], *, base: str, repeats: int
) -> Iterator[str]:
    """The rows of one measurement as aligned text, the header first."""
    if what == "scoring":
        yield from aligned(_scoring(base, repeats))
    elif what == "eggroll":
        from retainbench.harness import bench_eggroll

        yield from aligned(bench_eggroll.bench(base, repeats=repeats))
    else:
        from retainbench.harness import bench_drift

        yield from aligned(bench_drift.bench(repeats=repeats))


def _scoring(base: str, repeats: int) -> Iterable[Any]:
    from retainbench.harness import bench_scoring

    loaded = bases.load(bases.resolve(base).folder)
    requests = bench_scoring.own_requests(CORE)
    return bench_scoring.compare(loaded.model, loaded.tokenizer, requests, repeats=repeats)


def aligned(rows: Iterable[Any]) -> Iterator[str]:
    """NamedTuples of one kind as lines of equal columns; numbers with four significant digits."""
    for number, row in enumerate(rows):
        if not number:
            yield "  ".join(f"{name:>16}" for name in row._fields)
        yield "  ".join(f"{_text(value):>16}" for value in row)


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
