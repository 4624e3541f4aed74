"""EGGROLL's population in one batch, against plain inference and perturb-and-restore loops.

Five ways to answer the same prompts greedily with the same number of new tokens, run alternately
and repeated, so that a slow moment of the machine affects all of them:

    population      every member has its own rank-r perturbation, all in one batch (ours)
    plain           the same batch and the same decoding loop without perturbation
    generate        the same batch through transformers' own `generate`, without perturbation
    loop            member by member: add dense noise to the weights, `generate`, take it off again,
                    as published ES code does
    loop_ours       the same with our decoding loop

Answers have a fixed length (nothing stops early), so that all ways compute the same tokens. Times
are wall seconds and CPU seconds of the process: on a machine shared with others only the second
compares.

Command: `python -m results.performance.build eggroll`.
Left out: the update, which is a few matrix products.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from retainbench.harness.models import bases, loading
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.rendering.encoding import encode

WAYS = ("population", "plain", "generate", "loop", "loop_ours")
SIGMA = 1e-3

ABOUT = """Sixty-four perturbed members answer the same prompts greedily, with the same number of
new tokens each way. `population` is ours, all members in one batch; `plain` the same batch without
perturbation; `loop` perturbs the weights, calls `generate` and restores them, member by member."""


class Speed(NamedTuple):
    """One way; medians over the repeats."""

    way: str
    wall_s: float
    wall_spread_s: float
    """Largest minus smallest."""
    cpu_s: float
    cpu_spread_s: float
    tokens_per_cpu_s: float
    """Prompt and new tokens of all members."""
    cpu_over_plain: float
    """Throughput as a share of `plain`'s; goal for population >= 0.9."""
    cpu_over_loop: float
    """Throughput in multiples of `loop`'s."""
    wall_over_plain: float
    wall_over_loop: float


class Work(NamedTuple):
    """What every way does once."""

    model: Any
    prompts: list[list[int]]
    population: int
    rank: int
    new_tokens: int


def bench(
    base: str = "fruitfly",
    target: str = "countdown",
    *,
    population: int = 64,
    prompts: int = 16,
    rank: int = 1,
    new_tokens: int = 12,
    repeats: int = 3,
    device: str = "cpu",
) -> list[Speed]:
    """Measure all ways."""
    loaded = loading.load(bases.resolve(base).folder, device=device)
    rows = catalogue.prompts(catalogue.own()[target])[:prompts]
    ids = encode(loaded.tokenizer, rows)
    work = Work(loaded.model, ids, population, rank, new_tokens)
    ways = {name: globals()[f"_{name}"] for name in WAYS}
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in WAYS}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            way(work)
            _wait(device)
            if repeat:  # the first round warms up
                taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return [_speed(name, taken, work) for name in WAYS]


def _speed(name: str, taken: dict[str, list[tuple[float, float]]], work: Work) -> Speed:
    tokens = work.population * sum(len(prompt) + work.new_tokens for prompt in work.prompts)
    (walls, cpus), medians = zip(*taken[name], strict=True), {}
    for way, times in taken.items():
        medians[way] = [statistics.median(kind) for kind in zip(*times, strict=True)]
    wall, cpu = medians[name]
    return Speed(
        way=name,
        wall_s=wall,
        wall_spread_s=max(walls) - min(walls),
        cpu_s=cpu,
        cpu_spread_s=max(cpus) - min(cpus),
        tokens_per_cpu_s=tokens / cpu,
        cpu_over_plain=medians["plain"][1] / cpu,
        cpu_over_loop=medians["loop"][1] / cpu,
        wall_over_plain=medians["plain"][0] / wall,
        wall_over_loop=medians["loop"][0] / wall,
    )


def _wait(device: str) -> None:
    import torch

    if device != "cpu":
        torch.cuda.synchronize()


def _population(work: Work) -> None:
    from retainbench.trainers._evolution import noise as _noise
    from retainbench.trainers._evolution import population as _population

    found = _population.matrices(work.model)
    noise = _noise.Noise(0, 0, work.population)
    drawn = _population.draw(found, noise, work.rank, range(work.population))
    members = _noise.members(work.population, False)
    factors = _population.of_members(drawn, members, SIGMA)
    with _population.perturbed(found) as active:
        _complete(work, active, factors)


def _plain(work: Work) -> None:
    import torch

    from retainbench.trainers._evolution import population as _population

    nothing = torch.zeros(work.population, 1, 1)
    factors = {n: _population.Factors(nothing, nothing) for n in _population.matrices(work.model)}
    _complete(work, _population.Active(), factors)


def _complete(work: Work, active: Any, factors: Any) -> None:
    from retainbench.harness.scoring.stops import stop_rule
    from retainbench.trainers._evolution import population_decode

    vocabulary = work.model.config.get_text_config().vocab_size
    population_decode.complete(
        population_decode.Members(work.model, active, factors),
        work.prompts,
        max_new_tokens=work.new_tokens,
        stops=stop_rule([], vocabulary),
    )


def _generate(work: Work) -> None:
    _transformers(work, copies=work.population)


def _transformers(work: Work, copies: int = 1) -> None:
    import torch

    width = max(map(len, work.prompts))
    rows = [[0] * (width - len(prompt)) + prompt for prompt in work.prompts] * copies
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in work.prompts] * copies
    device = work.model.device
    with torch.inference_mode():
        work.model.generate(
            input_ids=torch.tensor(rows, device=device),
            attention_mask=torch.tensor(mask, device=device),
            max_new_tokens=work.new_tokens,
            min_new_tokens=work.new_tokens,
            do_sample=False,
            pad_token_id=0,
        )


def _loop(work: Work) -> None:
    _perturb_and_restore(work, lambda: _transformers(work))


def _loop_ours(work: Work) -> None:
    import torch

    from retainbench.harness.scoring.decoding import generate
    from retainbench.harness.scoring.stops import Stops

    vocabulary = work.model.config.get_text_config().vocab_size
    stops = Stops(torch.zeros(vocabulary, dtype=torch.bool), None, (), None)
    _perturb_and_restore(
        work,
        lambda: generate(work.model, work.prompts, max_new_tokens=work.new_tokens, stops=stops),
    )


def _perturb_and_restore(work: Work, answer: Callable[[], object]) -> None:
    """Seeded noise on, answer, the same noise off; the weights are put back exactly at the end."""
    import torch

    kept = [value.detach().clone() for value in work.model.parameters()]
    generator = torch.Generator(device=work.model.device)

    def shift(member: int, scale: float) -> None:
        generator.manual_seed(member)
        with torch.no_grad():
            for value in work.model.parameters():
                noise = torch.empty_like(value).normal_(generator=generator)
                value.add_(noise, alpha=scale)

    for member in range(work.population):
        shift(member, SIGMA)
        answer()
        shift(member, -SIGMA)
    with torch.no_grad():
        for value, old in zip(work.model.parameters(), kept, strict=True):
            value.copy_(old)


def findings(rows: list[dict[str, Any]]) -> list[str]:
    """What the stored rows show."""
    ours = next(row for row in rows if row["way"] == "population")
    return [
        f"{ours['wall_over_plain']:.0%} of plain batched inference (goal 90%) and "
        f"{ours['wall_over_loop']:.1f} times a perturb-and-restore loop (goal 5)."
    ]
