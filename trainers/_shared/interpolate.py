"""Interpolation between the base and the end of training: a stage without budget.

    theta(w) = theta_0 + w (theta_1 - theta_0)

theta_0 are the weights of the cell's base, theta_1 those that the stages before have left, adapters
merged. Each weight w is one more checkpoint, scored like every other, so that a cell shows what
giving up some of its gain would keep. The end of the cell stays the end of its training.

Deviations from the paper (WiSE-FT mixes a fine-tuned image classifier with its zero-shot start):
1. The base is a language model before any stage, not the start of the last one.
2. No weight is chosen; every one is scored.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from retainbench.harness.core.files.storage import write_json
from retainbench.harness.core.paths import CellFolder
from retainbench.harness.core.records import CheckpointRecord
from retainbench.harness.core.schema import Distinct
from retainbench.harness.models import identity, loading
from retainbench.trainers._shared.contract import Job, Outcome, TrainerOptions, TrainingError

PAPER = "Wortsman et al. 2022, arXiv:2109.01903"
ADAPTATIONS = ("full",)
ANCHORS = ()


class Options(TrainerOptions):
    """What is kept of the change of the weights."""

    weights: Annotated[
        Distinct[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1, max_length=100)
    ] = [0.25, 0.5, 0.75]
    """Shares w of the change that a checkpoint keeps; 0 is the base, 1 the end of training."""


def train(job: Job) -> Outcome:
    """Write a checkpoint for every weight; `points` names each and holds its weight."""
    folder = CellFolder(job.out)
    for name, weight in job.points:
        if folder.checkpoint_record(name).exists():
            continue
        loading.save(mixed(job, weight), folder.checkpoint(name))
        record = CheckpointRecord(
            stage=job.stage,
            fraction=weight,
            folder=str(folder.checkpoint(name).relative_to(folder.root)),
            weights_digest=identity.folder_digest(folder.checkpoint(name)),
            ledger=job.spent,
        )
        write_json(folder.checkpoint_record(name), record, checked=True)
    return Outcome({})


def mixed(job: Job, weight: float) -> loading.Loaded:
    """The model at a weight between base and end.

    Raises:
        TrainingError: the end has other tensors than the base.
    """
    import torch

    end = loading.load(job.base)
    origin = _tensors(loading.load(job.reference).model)
    moved = _tensors(end.model)
    shapes = [{name: value.shape for name, value in part.items()} for part in (origin, moved)]
    if shapes[0] != shapes[1]:
        raise TrainingError(
            "the end of training has other tensors than the base, so nothing is between them: "
            "leave out `method: interpolate`"
        )
    with torch.no_grad():
        for name, value in moved.items():
            value.copy_(origin[name] + weight * (value - origin[name]))
    return end


def _tensors(model: Any) -> dict[str, Any]:
    return dict(model.named_parameters())
