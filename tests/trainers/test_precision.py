"""`dtype` and `device`: bfloat16 computing over float32 weights, on CPU and, where one is, on CUDA.

Runs over discovery. The GPU cases carry the marker `gpu` and are skipped without one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers.models.llama.modeling_llama import LlamaMLP

from fixtures.trainer_cases import DEVICES, ON_GPU, job
from fixtures.trainer_oracle import log_of
from retainbench.harness.core.schema import Budget
from retainbench.harness.core.stages import Anchor
from retainbench.harness.running import run as runner
from retainbench.harness.suites import loading, methods
from retainbench.harness.suites import plan as planning
from retainbench.trainers._shared import state
from retainbench.trainers._shared.contract import Job, TrainingError

METHODS = methods.methods()
CASES = [
    (method, adaptation) for method in METHODS for adaptation in methods.load(method).ADAPTATIONS
]
ANCHORED = [
    name for name in METHODS if "kl" in methods.load(name).ANCHORS and name not in ("eggroll", "es")
]
"""Members of a population are at a distance from the base from the first step on."""
END = "checkpoints/s0-1.0000"


class KilledError(Exception):
    """Stands for SIGKILL in the middle of a run."""


@contextmanager
def computed() -> Iterator[set[torch.dtype]]:
    """Dtypes of what the models' layers made, in training and sampling, policy and reference.

    A model that is new to the process is tried on one row in float32, which does not count.
    """
    seen: set[torch.dtype] = set()

    def look(module: torch.nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(module, LlamaMLP) and len(output) > 1:
            seen.add(output.dtype)

    hook = torch.nn.modules.module.register_module_forward_hook(look)
    try:
        yield seen
    finally:
        hook.remove()


def tensors(tree: Any) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, (dict, list)):
        for value in tree.values() if isinstance(tree, dict) else tree:
            yield from tensors(value)


def final_weights(chosen: Job) -> dict[str, torch.Tensor]:
    (file,) = (chosen.out / END).glob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("method", "adaptation"), CASES)
def test_bfloat16_is_for_computing_alone(
    tiny_base: Path, tmp_path: Path, method: str, adaptation: str, device: str
) -> None:
    """Every forward pass is in bfloat16; checkpoint, optimizer and values stay float32."""
    plain = job(tiny_base, tmp_path, method, adaptation=adaptation, steps=2)
    chosen = dataclasses.replace(plain, dtype="bfloat16", device=device)
    with computed() as seen:
        methods.load(method).train(chosen)
    assert seen == {torch.bfloat16}
    kept = [*final_weights(chosen).values(), *tensors(state.load(tmp_path / "state-0"))]
    assert {value.dtype for value in kept if value.is_floating_point()} == {torch.float32}
    assert all(bool(value.isfinite().all()) for value in kept)
    assert [line["step"] for line in log_of(chosen)] == [1, 2]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("method", ANCHORED)
def test_penalty_compares_like_with_like(
    tiny_base: Path, tmp_path: Path, method: str, device: str
) -> None:
    """A base in another precision than the policy would be at a distance from it from the start."""
    plain = job(tiny_base, tmp_path, method, anchor=Anchor(kind="kl", strength=0.1))
    chosen = dataclasses.replace(plain, dtype="bfloat16", device=device)
    methods.load(method).train(chosen)
    first, *_, last = log_of(chosen)
    assert abs(first["kl"]) < 1e-6 < abs(last["kl"])


@pytest.mark.parametrize("device", [ON_GPU])
@pytest.mark.parametrize(("method", "adaptation"), CASES)
def test_interrupted_run_on_a_gpu_goes_on_where_it_was(
    tiny_base: Path, tmp_path: Path, method: str, adaptation: str, device: str
) -> None:
    """Sums of CUDA kernels may come in another order, so not to the byte as on CPU: to a tenth of
    the way that the whole run went. Lost moments or repeated data would be of that size."""
    whole = job(tiny_base, tmp_path / "whole", method, adaptation=adaptation)
    whole = dataclasses.replace(whole, dtype="bfloat16", device=device)
    methods.load(method).train(whole)

    def die(share: float, _metrics: dict[str, float]) -> None:
        if share >= 0.75:
            raise KilledError

    cut = dataclasses.replace(whole, out=tmp_path / "cut")
    with pytest.raises(KilledError):
        methods.load(method).train(dataclasses.replace(cut, progress=die))
    methods.load(method).train(cut)
    (start,) = (whole.out / "checkpoints/s0-0.0000").glob("*.safetensors")
    before, one, other = load_file(start), final_weights(whole), final_weights(cut)
    moved = sum(float((one[name] - before[name]).square().sum()) for name in before)
    apart = sum(float((one[name] - other[name]).square().sum()) for name in before)
    assert moved > 0
    assert apart <= 0.1**2 * moved


@pytest.mark.parametrize("device", [ON_GPU])
def test_the_quick_suite_runs_on_a_gpu_in_bfloat16(tmp_path: Path, device: str) -> None:
    """All its recipes, on a fiftieth of the budget and the first items of each task."""
    quick = loading.load("quick")
    small = quick.model_copy(
        update={
            "dtype": "bfloat16",
            "budget": Budget(unit="flops", amount=quick.budget.amount / 50),
            "items_per_task": 20,
            "noise_floor": [],
        }
    )
    cards = runner.run(planning.plan(small, planning.gather(small)), tmp_path, device=device)
    assert {card.name: card.reason for card in cards if card.status != "done"} == {}
    assert len(cards) == len(quick.recipes)


@pytest.mark.parametrize("device", [ON_GPU])
@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_vllm_samples_and_is_charged(
    tiny_base: Path, tmp_path: Path, method: str, device: str
) -> None:
    pytest.importorskip("vllm")
    plain = job(tiny_base, tmp_path, method, steps=2, options={"rollout": "vllm"})
    chosen = dataclasses.replace(plain, dtype="bfloat16", device=device)
    methods.load(method).train(chosen)
    first, second = log_of(chosen)
    assert first["reward"] > 0, "answers that end at a newline earn at least 0.1"
    assert 0 < first["share"] < second["share"]


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_vllm_without_a_gpu_is_refused(tiny_base: Path, tmp_path: Path, method: str) -> None:
    with pytest.raises(TrainingError, match="rollout: vllm needs `--device cuda` and"):
        methods.load(method).train(job(tiny_base, tmp_path, method, options={"rollout": "vllm"}))


def test_a_numbered_gpu_is_refused_where_trl_would_take_another(
    tiny_base: Path, tmp_path: Path
) -> None:
    """`meta` stands for cuda:1, which a machine without GPUs cannot even load a model to."""
    elsewhere = dataclasses.replace(job(tiny_base, tmp_path, "sft", steps=1), device="meta")
    elsewhere = dataclasses.replace(elsewhere, points=())
    with pytest.raises(TrainingError, match="not on meta: set CUDA_VISIBLE_DEVICES"):
        methods.load("sft").train(elsewhere)
