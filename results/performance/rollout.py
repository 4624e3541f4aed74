"""Rollouts next to transformers' `generate`: same model, prompts, ends and batch, alternating.

    greedy     one response per prompt, as evaluations ask for
    sampled    eight responses per prompt at temperature 1, as GRPO, RLOO, PPO and RFT ask for

Both stop at the tokens that end a response of the target (end of text, or a newline in the token)
and at its longest answer; `generate` gets the prompts padded on the left, at most ROWS responses in
one call. Sampled responses differ, since random numbers do: compare tokens per second there.

Command: `python -m results.performance.build rollout`
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from results.performance.arithmetic import wait
from results.performance.process import OURS
from retainbench.harness.models import bases, loading
from retainbench.harness.models.inference import frozen
from retainbench.harness.scoring.decoding import generate
from retainbench.harness.scoring.stops import Stops, stop_rule
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.rendering.encoding import encode
from retainbench.harness.tasks.rendering.prompts import STOP

TARGET = "countdown"
ROWS = 512
SAMPLES = 8
PEER = "transformers generate"

ABOUT = f"""Responses to prompts of {TARGET} on one loaded model, in turn: ours beside transformers'
`generate` with the same prompts, ends and responses in flight. `tokens` are new ones, those that
end a response included. `times_ours` compares tokens per second: above 1, ours is faster."""


class RolloutRow(NamedTuple):
    """One way to answer the prompts; medians over the repeats."""

    work: str
    way: str
    prompts: int
    responses: int
    tokens: int
    """New ones, of the first run."""
    wall_s: float
    wall_spread_s: float
    cpu_s: float
    cpu_spread_s: float
    tokens_per_s: float
    times_ours: float
    """Tokens per second of ours over this way's."""
    same_responses: float
    """Share of responses equal to ours."""


Responses = list[list[int]]


class _Work(NamedTuple):
    """What both ways do."""

    model: Any
    prompts: list[list[int]]
    stops: Stops
    new_tokens: int
    samples: int
    """1 is greedy."""


def bench(
    base: str,
    *,
    repeats: int,
    items: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Iterator[RolloutRow]:
    """Measure both kinds of rollouts.

    Args:
        items: prompts of the target's test split; None takes 512 for greedy, 64 for sampled ones.
    """
    loaded = loading.load(bases.resolve(base).folder, device=device, dtype=dtype)
    info = catalogue.own()[TARGET]
    size = loaded.model.config.get_text_config().vocab_size
    stops = stop_rule([loaded.tokenizer.eos_token_id], size, [STOP], loaded.tokenizer)
    for title, samples in (("greedy", 1), ("sampled", SAMPLES)):
        asked = catalogue.prompts(info)[: items or ROWS // samples]
        ids = encode(loaded.tokenizer, asked)
        work = _Work(loaded.model, ids, stops, info.max_new_tokens, samples)
        yield from _rows(title, work, repeats)


def _rows(title: str, work: _Work, repeats: int) -> Iterator[RolloutRow]:
    ways: dict[str, Callable[[_Work, int], Responses]] = {OURS: _ours, PEER: _peer}
    made: dict[str, list[Responses]] = {way: [] for way in ways}
    spent: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for repeat in range(repeats + 1):  # the first round warms up
        for way, run in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            found = run(work, repeat)
            wait(work.model.device)
            if repeat:
                spent[way].append((time.perf_counter() - wall, time.process_time() - cpu))
                made[way].append(found)
    rates = {
        way: statistics.median(
            sum(map(len, found)) / wall
            for found, (wall, _) in zip(made[way], spent[way], strict=True)
        )
        for way in ways
    }
    for way, times in spent.items():
        walls, cpus = zip(*times, strict=True)
        first, reference = made[way][0], made[OURS][0]
        yield RolloutRow(
            work=title,
            way=way,
            prompts=len(work.prompts),
            responses=len(first),
            tokens=sum(map(len, first)),
            wall_s=statistics.median(walls),
            wall_spread_s=max(walls) - min(walls),
            cpu_s=statistics.median(cpus),
            cpu_spread_s=max(cpus) - min(cpus),
            tokens_per_s=rates[way],
            times_ours=rates[OURS] / rates[way],
            same_responses=sum(a == b for a, b in zip(first, reference, strict=True)) / len(first),
        )


def _ours(work: _Work, seed: int) -> Responses:
    sampled = work.samples > 1
    return generate(
        work.model,
        work.prompts,
        max_new_tokens=work.new_tokens,
        stops=work.stops,
        samples=work.samples,
        temperature=1.0 if sampled else 0.0,
        generator=torch.Generator().manual_seed(seed) if sampled else None,
        rows=ROWS,
    ).tokens


def _peer(work: _Work, seed: int) -> Responses:
    ends = work.stops.ends_V.nonzero()[:, 0].tolist()
    sampled = work.samples > 1
    options: dict[str, Any] = {"do_sample": False, "temperature": None, "top_k": None}
    if sampled:
        options = {"do_sample": True, "temperature": 1.0, "top_k": 0}
        options["num_return_sequences"] = work.samples
    found: Responses = []
    step = max(1, ROWS // work.samples)
    with frozen(work.model), torch.random.fork_rng():
        torch.manual_seed(seed)
        for first in range(0, len(work.prompts), step):
            ids, mask = _padded(work.prompts[first : first + step], work.model.device)
            made = work.model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=work.new_tokens,
                eos_token_id=ends,
                pad_token_id=ends[0],
                top_p=1.0 if sampled else None,
                **options,
            )
            found += [_cut(row, ends) for row in made[:, ids.shape[1] :].tolist()]
    return found


def _padded(prompts: list[list[int]], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, prompts))
    ids = [[0] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _cut(row: list[int], ends: list[int]) -> list[int]:
    """Up to the token that ends it, that one included."""
    stop = next((i for i, token in enumerate(row) if token in ends), len(row) - 1)
    return row[: stop + 1]


def findings(rows: list[dict[str, Any]]) -> list[str]:
    """What the stored rows show."""
    return [
        f"{row['work']}: {row['times_ours']:.2f} times the tokens per second of `generate`; "
        + (
            f"{row['same_responses']:.1%} of the responses are the same."
            if row["work"] == "greedy"
            else "responses are other draws."
        )
        for row in rows
        if row["way"] == PEER
    ]
