"""EGGROLL: the noise, the batched population against a loop of perturbed models, the update."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fixtures.trainer_cases import job
from results.performance import eggroll as bench_eggroll
from retainbench.harness.core.stages import Anchor
from retainbench.harness.models import loading
from retainbench.harness.scoring.decoding import generate
from retainbench.harness.scoring.stops import stop_rule
from retainbench.trainers import eggroll, es
from retainbench.trainers._evolution import noise as _noise
from retainbench.trainers._evolution import population as _population
from retainbench.trainers._evolution import population_decode
from retainbench.trainers._shared import anchor as _anchor

END = "checkpoints/s0-1.0000"
VOCABULARY = 84
Drawn = dict[str, _population.Factors]


def options_of(**values: Any) -> eggroll.Options:
    return eggroll.Options(**values)


def llama(folder: Path) -> Any:
    """The tiny Llama with larger weights, so that greedy answers differ between members."""
    model = loading.load(folder).model
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6.0 if parameter.ndim > 1 else 1.0)
    return model


def gpt2() -> Any:
    """Conv1D layers, learned positions, biases."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=64,
        initializer_range=0.15,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return GPT2LMHeadModel(config).eval()


def draw(model: Any, rank: int, directions: int) -> Drawn:
    found = _population.matrices(model)
    return _population.draw(found, _noise.Noise(9, 4, directions), rank, range(directions))


def moved(model: Any, drawn: Drawn, member: _noise.Direction, sigma: float) -> Any:
    """A copy of the model whose matrices are perturbed one by one."""
    made = copy.deepcopy(model)
    weights = torch.zeros(len(next(iter(drawn.values())).a_Grm))
    weights[member.direction] = member.sign * sigma
    _population.add_to_weights(_population.matrices(made), drawn, weights)
    return made


@pytest.mark.parametrize("rank", [1, 4, 16])
def test_noise_has_variance_one_at_every_rank(tiny_base: Path, rank: int) -> None:
    """64 directions: the variance's sd is below 0.02 even at rank 1, whose entries are products."""
    drawn = draw(loading.load(tiny_base).model, rank, 64)
    a, b = next(iter(drawn.values()))
    noise = torch.einsum("drm,drn->dmn", a, b) / rank**0.5
    assert float(noise.var()) == pytest.approx(1.0, abs=0.08)
    assert abs(float(noise.mean())) < 0.02


@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_batched_population_equals_a_loop_of_models(
    tiny_base: Path, family: str, rank: int
) -> None:
    """Logits to 1e-4 (float32, another order of summation), and the same greedy answers."""
    model = llama(tiny_base) if family == "llama" else gpt2()
    population = _noise.members(8, True)
    drawn = draw(model, rank, 4)
    factors = _population.of_members(drawn, population, 0.05)
    numbers = np.random.default_rng(rank)
    prompts = [[5, 6, 7, *numbers.integers(2, 80, size).tolist()] for size in (3, 9, 5, 6)]
    found = _population.matrices(model)
    stops = stop_rule(numbers.choice(VOCABULARY, 12).tolist(), VOCABULARY)
    ids = torch.tensor([prompts[0]])
    with _population.perturbed(found) as active:
        active.factors = factors
        with torch.no_grad():
            logits = model(input_ids=ids.expand(8, -1)).logits
        done = population_decode.complete(
            population_decode.Members(model, active, factors),
            prompts,
            max_new_tokens=12,
            stops=stops,
        )
    for row, member in enumerate(population):
        single = moved(model, drawn, member, 0.05)
        with torch.no_grad():
            wanted = single(input_ids=ids).logits[0]
        torch.testing.assert_close(logits[row], wanted, atol=1e-4, rtol=1e-4)
        answers = generate(single, prompts, max_new_tokens=12, stops=stops)
        assert done[row] == answers.tokens
    lengths = {len(tokens) for answers in done for tokens in answers}
    assert len(lengths) > 2, "rows must end at different steps for this test to mean something"
    assert not any(module._forward_hooks for module in model.modules())


def test_update_is_the_dense_sum(tiny_base: Path) -> None:
    options = options_of(population=6, rank=2, learning_rate=0.3)
    model = loading.load(tiny_base).model
    before = copy.deepcopy(model.state_dict())
    found = _population.matrices(model)
    noise = eggroll.noise_of(options, 21, 5)
    fitness = np.array([0.1, 0.4, 0.3, 0.2, 0.9, 0.0])
    eggroll.update(found, noise, options, fitness)
    z = _noise.z_scores(fitness)
    drawn = _population.draw(found, noise, 2, range(3))
    for name, (a, b) in drawn.items():
        wanted = sum(
            0.3 / 6 * (1 - 2 * (i % 2)) * z[i] * (a[i // 2].T @ b[i // 2]).double() / 2**0.5
            for i in range(6)
        )
        change = model.state_dict()[f"{name}.weight"].double() - before[f"{name}.weight"].double()
        torch.testing.assert_close(change, wanted, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("population", "rank", "wanted"), [(8, 1, 4), (8, 4, 16), (32, 4, 32)])
def test_rank_of_one_step(tiny_base: Path, population: int, rank: int, wanted: int) -> None:
    """min(N/2 x r, m, n) with antithetic pairs; q_proj is 32 x 32."""
    options = options_of(population=population, rank=rank, learning_rate=1.0)
    model = loading.load(tiny_base).model
    found = {
        n: m for n, m in _population.matrices(model).items() if n.endswith("0.self_attn.q_proj")
    }
    (weight,) = [matrix.module.weight.data for matrix in found.values()]
    weight.zero_()
    fitness = np.random.default_rng(1).random(population)
    eggroll.update(found, eggroll.noise_of(options, 2, 0), options, fitness)
    assert int(torch.linalg.matrix_rank(weight, rtol=1e-4)) == wanted


@pytest.mark.parametrize("rank", [1, 4])
def test_step_is_as_long_as_a_dense_one(tiny_base: Path, rank: int) -> None:
    model = loading.load(tiny_base).model
    found = _population.matrices(model)
    dense = {name: torch.zeros_like(m.module.weight) for name, m in found.items()}
    for matrix in found.values():
        matrix.module.weight.data.zero_()
    fitness = np.random.default_rng(0).random(64)
    low = options_of(population=64, rank=rank, antithetic=False, learning_rate=0.1)
    full = es.Options(**{"population": 64, "learning_rate": 0.1})
    eggroll.update(found, eggroll.noise_of(low, 3, 0), low, fitness)
    es.update(dense, es.noise_of(full, 3, 0), full, fitness)
    ours = sum(m.module.weight.data.square().sum() for m in found.values()) ** 0.5
    theirs = sum(value.square().sum() for value in dense.values()) ** 0.5
    assert float(ours / theirs) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("anchor", [None, Anchor(kind="weights", norm="l1", strength=0.01)])
def test_step_log_replays_to_the_same_bytes(
    tiny_base: Path, tmp_path: Path, anchor: Anchor | None
) -> None:
    chosen = job(tiny_base, tmp_path, "eggroll", anchor=anchor)
    outcome = eggroll.train(chosen)
    model = loading.load(tiny_base).model
    matrices = _population.matrices(model)
    parameters = {name: matrix.module.weight.data for name, matrix in matrices.items()}
    origin = {name: value.clone() for name, value in parameters.items()} if anchor else None
    for line in map(json.loads, (tmp_path / "steps.jsonl").read_text().splitlines()):
        noise = eggroll.noise_of(chosen.options, line["noise_key"], line["noise_step"])
        eggroll.update(matrices, noise, chosen.options, np.array(line["fitness"]))
        _anchor.after_step(anchor, parameters, origin, chosen.options.learning_rate)
    saved = load_file(tmp_path / END / "model.safetensors")
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
    assert ("es_null" in outcome.metrics) == (anchor is None)


def test_only_linear_layers_move(tiny_base: Path, tmp_path: Path) -> None:
    outcome = eggroll.train(job(tiny_base, tmp_path, "eggroll"))
    before = load_file(tiny_base / "model.safetensors")
    after = load_file(tmp_path / END / "model.safetensors")
    moving = {name for name in before if not torch.equal(before[name], after[name])}
    assert moving == {name for name in before if "_proj" in name}
    first = json.loads((tmp_path / "steps.jsonl").read_text().splitlines()[0])
    assert {f"{name}.weight" for name in first["perturbed"]} == moving
    assert outcome.trainable == sum(before[name].numel() for name in moving)


def test_rows_at_once_do_not_change_the_fitness(tiny_base: Path, tmp_path: Path) -> None:
    for rows in (16, 1024):
        folder = tmp_path / str(rows)
        eggroll.train(job(tiny_base, folder, "eggroll", options={"rollout_rows": rows}))
    logs = [(tmp_path / str(rows) / "steps.jsonl").read_text() for rows in (16, 1024)]
    fitness = [[json.loads(line)["fitness"] for line in log.splitlines()] for log in logs]
    assert fitness[0] == fitness[1]


def test_bench_measures_every_way_and_leaves_no_trace(tiny_base: Path) -> None:
    rows = bench_eggroll.bench(str(tiny_base), population=4, prompts=3, new_tokens=3, repeats=1)
    assert [row.way for row in rows] == list(bench_eggroll.WAYS)
    assert all(row.tokens_per_cpu_s > 0 for row in rows)
    assert rows[1].cpu_over_plain == rows[3].cpu_over_loop == 1.0
