"""Scoring speed beside lm-eval's `hf` model: same model and requests, alternating, one process.

`compare` times both on lists of lm-eval requests and checks that they agree; `growth` times ours
against items, choices and shots, beside the arithmetic that it cannot do without. Both return rows;
printing and files are bench.py's.

Every time is given as wall seconds and as CPU seconds of the process: on a machine shared with
others only the second compares. Tokens are counted by a hook on the model for both sides alike, so
padding counts. lm-eval's `auto` includes its search for a batch size, as its users pay it.

Command: `retainbench bench scoring`
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from retainbench.harness import paths
from retainbench.harness.scorer import TrieLM, hold_back
from retainbench.harness.scorer_forward import attention_width, linear_parameters, score_packed
from retainbench.harness.scorer_plain import Request, frozen

BATCHES: tuple[int | str, ...] = (1, 8, 32, "auto")
"""Batch sizes of the peer; users of lm-eval pick one of these."""

Answers = list[tuple[float, bool]]


class SpeedRow(NamedTuple):
    """One backend on one list of requests."""

    work: str
    backend: str
    """`retainbench`, or `hf` with its batch size."""
    requests: int
    tokens: int
    """Tokens through the model in one run, padding included."""
    unique_nodes: int
    """Distinct (context, token) pairs of the requests."""
    wall_s: float
    """Median over the repeats."""
    wall_spread_s: float
    """Largest minus smallest."""
    cpu_s: float
    cpu_spread_s: float
    wall_ratio: float
    """This backend's median over ours: above 1, ours is faster."""
    cpu_ratio: float
    largest_difference: float
    """Of a log-likelihood, against ours."""
    greedy_differences: int


class GrowthRow(NamedTuple):
    """Our time on made-up requests of a given shape."""

    items: int
    choices: int
    shots: int
    unique_nodes: int
    tokens: int
    passes: int
    wall_s: float
    cpu_s: float
    gflop: float
    """Multiply-adds times two of the linear layers, the head and attention between relatives."""
    gemm_gflops: float
    """Rate of one matrix product of the model's width, measured in the same run."""
    share: float
    """gflop / cpu_s / gemm_gflops: what is lost is everything but arithmetic."""


class _Timed(NamedTuple):
    answers: Answers
    tokens: int
    wall_s: float
    cpu_s: float


def own_requests(names: Sequence[str], items: int | None = None) -> dict[str, list[Instance]]:
    """Multiple-choice requests of this project's tasks, by lm-eval name; the first `items` each."""
    manager = TaskManager(include_path=str(paths.TASKS), include_defaults=False)
    requests: dict[str, list[Instance]] = {}
    for name, task in manager.load(list(names))["tasks"].items():
        task.build_all_requests(limit=items)
        scored = [r for r in task.instances if r.request_type == "loglikelihood"]
        if scored:
            requests[name] = scored
    return requests


def file_requests(file: Path, *, shots: int, items: int | None = None) -> list[Instance]:
    """Requests of a multiple-choice file (query, choices, gold) after its first rows as shots."""
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    shown = "".join(
        f"Question: {row['query']}\nAnswer: {row['choices'][row['gold']]}\n\n"
        for row in rows[:shots]
    )
    asked = rows[shots:] if items is None else rows[shots : shots + items]
    return [
        Instance("loglikelihood", row, (f"{shown}Question: {row['query']}\nAnswer:", f" {c}"), i)
        for row in asked
        for i, c in enumerate(row["choices"])
    ]


def compare(
    model: Any,
    tokenizer: Any,
    work: Mapping[str, list[Instance]],
    *,
    batches: Sequence[int | str] = BATCHES,
    repeats: int = 3,
) -> Iterator[SpeedRow]:
    """Time both backends on each list of requests; rows come as each list is done, ours first."""
    ours = TrieLM(model, tokenizer=tokenizer)
    with hold_back("lm_eval.models.huggingface"):
        peers = {f"hf {b}": HFLM(model, tokenizer=tokenizer, batch_size=b) for b in batches}
    first = next(iter(work.values()))[:2]
    ours.loglikelihood(first)  # the probe and lazy set-up are not part of the figures
    for name, requests in work.items():
        runs: dict[str, list[_Timed]] = {key: [] for key in ("retainbench", *peers)}
        for _ in range(repeats):
            for key, timed in runs.items():
                timed.append(_time(model, peers.get(key, ours), requests))
        assert ours.work is not None
        yield from _rows(name, requests, ours.work.unique_nodes, runs)


def _rows(
    name: str, requests: list[Instance], nodes: int, runs: dict[str, list[_Timed]]
) -> Iterator[SpeedRow]:
    reference = runs["retainbench"]
    wall0 = statistics.median(t.wall_s for t in reference)
    cpu0 = statistics.median(t.cpu_s for t in reference)
    for key, timed in runs.items():
        walls, cpus = [t.wall_s for t in timed], [t.cpu_s for t in timed]
        pairs = list(zip(timed[0].answers, reference[0].answers, strict=True))
        yield SpeedRow(
            work=name,
            backend=key,
            requests=len(requests),
            tokens=timed[0].tokens,
            unique_nodes=nodes,
            wall_s=statistics.median(walls),
            wall_spread_s=max(walls) - min(walls),
            cpu_s=statistics.median(cpus),
            cpu_spread_s=max(cpus) - min(cpus),
            wall_ratio=statistics.median(walls) / wall0,
            cpu_ratio=statistics.median(cpus) / cpu0,
            largest_difference=max(abs(a[0] - b[0]) for a, b in pairs),
            greedy_differences=sum(a[1] != b[1] for a, b in pairs),
        )


def _time(model: Any, backend: Any, requests: list[Instance]) -> _Timed:
    tokens = 0

    def count(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal tokens
        tokens += int((kwargs["input_ids"] if "input_ids" in kwargs else args[0]).numel())

    hook = model.register_forward_pre_hook(count, with_kwargs=True)
    with contextlib.redirect_stdout(io.StringIO()):  # lm-eval prints the batch size it found
        wall, cpu = time.perf_counter(), time.process_time()
        answers = backend.loglikelihood(requests, disable_tqdm=True)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    hook.remove()
    return _Timed(answers, tokens, wall, cpu)


def growth(
    model: Any, shapes: Sequence[tuple[int, int, int]], *, repeats: int = 3
) -> Iterator[GrowthRow]:
    """Time ours on made-up requests: (items, choices, shots) with 40-token questions, 60-token
    shots and 6-token choices."""
    config = model.config.get_text_config()
    rate = _gemm_gflops(config.hidden_size, model)
    for items, choices, shots in shapes:
        requests = _made_up(items, choices, shots, config.vocab_size)
        runs = []
        for _ in range(repeats):
            wall, cpu = time.perf_counter(), time.process_time()
            with frozen(model):
                work = score_packed(model, requests).work
            runs.append((time.perf_counter() - wall, time.process_time() - cpu))
        wall, cpu = (statistics.median(column) for column in zip(*runs, strict=True))
        gflop = _arithmetic(model, items, choices, shots, work.unique_nodes) / 1e9
        yield GrowthRow(
            items, choices, shots, work.unique_nodes, work.computed, work.passes,
            wall, cpu, gflop, rate, gflop / cpu / rate,
        )  # fmt: skip


def _made_up(items: int, choices: int, shots: int, vocabulary: int) -> list[Request]:
    generator = torch.Generator().manual_seed(0)

    def draw(count: int) -> list[int]:
        return torch.randint(vocabulary, (count,), generator=generator).tolist()

    shown = draw(60 * shots)
    requests = []
    for _ in range(items):
        question = shown + draw(40)
        for _ in range(choices):
            answer = draw(6)
            requests.append(Request(question + answer[:-1], answer))
    return requests


def _arithmetic(model: Any, items: int, choices: int, shots: int, nodes: int) -> float:
    """FLOPs that any exact scorer with shared prefixes needs for `_made_up` requests."""
    config = model.config.get_text_config()
    linear = linear_parameters(model)
    head = config.hidden_size * config.vocab_size * items * (1 + 5 * choices)
    shown = 60 * shots
    pairs = shown * shown / 2 + items * (40 * (shown + 20) + choices * 5 * (shown + 43))
    attention = 2 * config.num_hidden_layers * attention_width(config) * pairs
    return 2.0 * (linear * nodes + head + attention)


def _gemm_gflops(width: int, model: Any) -> float:
    """Best of five products of the size a linear layer has in a full pass."""
    x = torch.randn(2048, width, dtype=model.dtype, device=model.device)
    weight = torch.randn(4 * width, width, dtype=model.dtype, device=model.device)
    return 2 * 2048 * width * 4 * width / _best_cpu(lambda: x @ weight.T) / 1e9


def _best_cpu(call: Callable[[], Any]) -> float:
    times = []
    for _ in range(5):
        start = time.process_time()
        for _ in range(4):
            call()
        times.append((time.process_time() - start) / 4)
    return min(times)
