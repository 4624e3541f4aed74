"""Supervised fine-tuning on the target's reference answers, through TRL's SFTTrainer.

    L = -(1/M) sum_t m_t log p(y_t | y_<t, x),   M = trained tokens in the global batch

Deviations from TRL's defaults:
1. Only completion tokens are trained (the prompt's have no gradient), the end token included.
2. Rows come in the order that all methods share, already encoded; nothing is truncated.
3. The learning rate follows the share of the budget, not a number of steps.
4. Float32 weights and optimizer; on an accelerator the forward pass may use bfloat16.
"""

from __future__ import annotations

from typing import Any, Literal

from retainbench.trainers._contract import Job, Outcome
from retainbench.trainers._data import encode_item, item_at
from retainbench.trainers._trl import GradientOptions

PAPER = "Ouyang et al. 2022, arXiv:2203.02155, step 1"
ADAPTATIONS = ("full", "lora")
ANCHORS = ()


class Options(GradientOptions):
    """Hyper-parameters; the defaults of GradientOptions hold."""


def train(job: Job) -> Outcome:
    """Run SFT until the budget is spent."""
    return supervised(job, "nll")


def supervised(job: Job, loss: Literal["nll", "dft"]) -> Outcome:
    """SFT with one of TRL's token losses; DFT differs in nothing else."""
    from trl import SFTConfig, SFTTrainer

    from retainbench.trainers import _model, _trl
    from retainbench.trainers._trajectory import Trajectory

    policy = _model.load(job)

    def row(position: int) -> dict[str, Any]:
        item = item_at(job.target.train, job.seed, position)
        example = encode_item(policy.tokenizer, job.target, item)
        ignored = [-100] * len(example.prompt)
        return {
            "input_ids": example.prompt + example.completion,
            "labels": ignored + example.completion,
        }

    def build(first_row: int, scratch: str) -> SFTTrainer:
        return SFTTrainer(
            model=policy.model,
            args=SFTConfig(
                **_trl.config_arguments(job, job.options, scratch),
                loss_type=loss,
                max_length=None,
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=_trl.stream(row, ["input_ids", "labels"], first_row),
            processing_class=policy.tokenizer,
        )

    def count(trajectory: Trajectory, inputs: dict[str, Any]) -> None:
        tokens = int(inputs["attention_mask"].sum())
        trajectory.meter.forward(tokens)
        trajectory.meter.backward(tokens)
        trajectory.meter.samples(len(inputs["attention_mask"]))

    rows = job.options.batch_size
    trajectory = Trajectory(job, policy)
    return _trl.run(job, job.options, trajectory, build, count, rows_per_step=rows)
