"""The policy that a trainer moves: loading, adapters, saving.

Master weights are float32 always; the compute dtype is the job's, by autocast.
LoRA and the other adapters of PEFT are adaptations of any method (models/adaptation.py). Such a
checkpoint is the adapter alone; whoever scores it merges it into the stage's starting point.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from retainbench.harness.models import loading, shared
from retainbench.harness.models.adaptation import peft_config
from retainbench.trainers._shared.contract import Job
from retainbench.trainers._shared.data import seed_for

if TYPE_CHECKING:
    import torch


class PolicyModel(NamedTuple):
    """The model under training (a PEFT model for LoRA) and its tokenizer."""

    model: Any
    tokenizer: Any
    parameters: int
    trainable: int


def load(job: Job) -> PolicyModel:
    """The stage's starting point in float32, with fresh adapters where the job asks for them.

    LoRA starts at zero effect (B = 0), so the untrained policy equals its base exactly; what is
    random in an adapter is drawn from (seed, "lora") without touching the global generators.
    """
    import torch

    loaded = _loaded(job.base, job)
    model: Any = loaded.model
    parameters = sum(p.numel() for p in model.parameters())
    if job.adaptation.kind == "lora":
        from peft import get_peft_model

        with torch.random.fork_rng():
            torch.manual_seed(seed_for(job.seed, f"lora/{job.stage}"))
            model = get_peft_model(model, peft_config(job.adaptation))
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return PolicyModel(model, loaded.tokenizer, parameters, trainable)


def starting_point(job: Job) -> Any:
    """The model that the stage starts from, frozen."""
    return _loaded(job.base, job).model.requires_grad_(False)


def reference(job: Job) -> Any:
    """The cell's base, frozen: what KL penalties are measured from."""
    return _loaded(job.reference, job).model.requires_grad_(False)


def teacher(job: Job) -> Any:
    """The model that the stage learns from, frozen."""
    assert job.teacher is not None, "suites/methods.py refuses a stage without one"
    return loading.load(job.teacher, device=job.device).model.requires_grad_(False)


def _loaded(folder: Path, job: Job) -> loading.Loaded:
    """A copy to change; of the cell's base the process keeps one, for all cells."""
    if folder == job.reference:
        return shared.fresh(folder, job.device)
    return loading.load(folder, device=job.device)


def save(policy: PolicyModel, folder: Path, *, merged: bool = False) -> None:
    """Write a checkpoint: the full model, or the adapter; atomic, readers see all or nothing.

    Args:
        merged: writes an adapter merged into its starting point. Later stages do, because their
            starting point is not the cell's base.
    """
    model = copy.deepcopy(policy.model).merge_and_unload() if merged else policy.model
    loading.save(loading.Loaded(model, policy.tokenizer), folder)


def trainable_parameters(model: Any) -> dict[str, torch.nn.Parameter]:
    """Parameters that a method may move, by name, tied ones once, in a fixed order."""
    return {name: p for name, p in sorted(model.named_parameters()) if p.requires_grad}


def overflowed(values: Iterable[torch.Tensor]) -> bool:
    """Whether weights are NaN, infinite, or so large that their squares do not fit their dtype."""
    return not all(bool(value.detach().square().sum().isfinite()) for value in values)


def reference_parameters(job: Job, policy: PolicyModel) -> dict[str, torch.Tensor]:
    """Float32 copies of the base's values for every trainable parameter: the anchor.

    The values are those of `job.reference`, not of the stage's start; for LoRA those of the adapter
    untrained, which has no effect. Neither is read from the policy, which may have moved.
    """
    if job.adaptation.kind == "lora":
        untrained = trainable_parameters(load(job).model)
        return {name: value.detach() for name, value in untrained.items()}
    reference = _loaded(job.reference, job).model
    values = dict(reference.named_parameters())
    return {n: values[n].detach().clone() for n in trainable_parameters(policy.model)}
