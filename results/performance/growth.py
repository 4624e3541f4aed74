"""How scoring time grows with items, choices and shots, next to the arithmetic that explains it.

Made-up requests of random tokens: 40 per question, 60 per shot, 6 per choice. One shape is the
centre; each line changes one of its numbers.

Command: `python -m results.performance.build growth`
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch

from results.performance.arithmetic import flops, gemm_rate
from retainbench.harness.models import bases, loading
from retainbench.harness.models.inference import frozen
from retainbench.harness.scoring.packing.layout import lay_out
from retainbench.harness.scoring.packing.packed import prices, score_layout
from retainbench.harness.scoring.packing.single import TokenRequest

SHAPES = (
    *((items, 4, 0) for items in (25, 50, 100, 200)),
    *((50, choices, 0) for choices in (2, 8)),
    *((50, 4, shots) for shots in (5, 10, 20)),
)
QUESTION, SHOT, CHOICE = 40, 60, 6
"""Tokens."""

ABOUT = f"""Made-up requests of random tokens ({QUESTION} per question, {SHOT} per shot, {CHOICE}
per choice). `arithmetic_s` is what the trie's nodes cost at the rate of this machine's matrix
products, measured in the same run; `share` is that time over the time taken."""


class GrowthRow(NamedTuple):
    """Our time on requests of one shape; medians over the repeats."""

    items: int
    choices: int
    shots: int
    unique_nodes: int
    tokens: int
    """Through the model."""
    wall_s: float
    wall_spread_s: float
    cpu_s: float
    gflop: float
    gemm_gflop_per_s: float
    arithmetic_s: float
    share: float


def bench(
    base: str,
    *,
    repeats: int,
    shapes: Sequence[tuple[int, int, int]] = SHAPES,
    device: str = "cpu",
    dtype: str = "float32",
) -> Iterator[GrowthRow]:
    """Measure every shape; layout included, tokenisation not."""
    model = loading.load(bases.resolve(base).folder, device=device, dtype=dtype).model
    _spend(model, made_up(2, 2, 1, model.config.vocab_size))  # lazy set-up is no part of it
    for items, choices, shots in shapes:
        requests = made_up(items, choices, shots, model.config.vocab_size)
        layout, rate = lay_out(requests, prices(model)), gemm_rate(model)
        runs = [_spend(model, requests) for _ in range(repeats)]
        walls = [run.wall_s for run in runs]
        wall, gflop = statistics.median(walls), flops(model, layout) / 1e9
        yield GrowthRow(
            items=items,
            choices=choices,
            shots=shots,
            unique_nodes=layout.token.size,
            tokens=runs[0].tokens,
            wall_s=wall,
            wall_spread_s=max(walls) - min(walls),
            cpu_s=statistics.median(run.cpu_s for run in runs),
            gflop=gflop,
            gemm_gflop_per_s=rate / 1e9,
            arithmetic_s=1e9 * gflop / rate,
            share=1e9 * gflop / rate / wall,
        )


class _Run(NamedTuple):
    wall_s: float
    cpu_s: float
    tokens: int


def _spend(model: Any, requests: list[TokenRequest]) -> _Run:
    wall, cpu = time.perf_counter(), time.process_time()
    with frozen(model):
        work = score_layout(model, lay_out(requests, prices(model))).work
    return _Run(time.perf_counter() - wall, time.process_time() - cpu, work.computed)


def made_up(items: int, choices: int, shots: int, vocabulary: int) -> list[TokenRequest]:
    """Requests whose questions follow the same shots and whose choices follow the same question."""
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> list[int]:
        return torch.randint(vocabulary, (count,), generator=generator).tolist()

    shown = draw(SHOT * shots)
    requests = []
    for _ in range(items):
        question = shown + draw(QUESTION)
        for _ in range(choices):
            answer = draw(CHOICE)
            requests.append(TokenRequest(question + answer[:-1], answer))
    return requests


def findings(rows: list[dict[str, Any]]) -> list[str]:
    """What the stored rows show."""
    shares = [row["share"] for row in rows]
    per_node = [1e3 * row["wall_s"] / row["unique_nodes"] for row in rows]
    return [
        f"{min(shares):.0%} to {max(shares):.0%} of the time is that arithmetic.",
        f"A node takes {min(per_node):.2f} to {max(per_node):.2f} ms: time follows the number of "
        "distinct tokens, whether items, choices or shots bring them.",
    ]
