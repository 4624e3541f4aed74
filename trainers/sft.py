"""Supervised fine-tuning on the target's reference answers, through TRL's SFTTrainer.

    L = -(1/M) sum_t m_t log p(y_t | y_<t, x),   M = trained tokens in the global batch

Deviations from TRL's defaults:
1. Only completion tokens are trained (the prompt's have no gradient), the end token included; of a
   conversation every turn of the assistant.
2. Rows come in the order that all methods share, already encoded; nothing is truncated.
3. The learning rate follows the share of the budget, not a number of steps.
4. Float32 weights and optimizer; the forward pass may use bfloat16.
5. With `anchor: kl` the loss is computed here from whole logits, which the penalty needs and TRL's
   fused head does not build; it is the same loss, of the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from retainbench.trainers._gradient.gradient import GradientOptions, TargetPositions
from retainbench.trainers._shared.anchor import kl_strength
from retainbench.trainers._shared.contract import Job, Outcome
from retainbench.trainers._shared.data import item_at, trained

if TYPE_CHECKING:
    import torch

    from retainbench.trainers._shared.trajectory import Trajectory

PAPER = "Ouyang et al. 2022, arXiv:2203.02155, step 1"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "kl", "text")
SPLITS = True


class Options(GradientOptions):
    """Hyper-parameters: those of GradientOptions with their defaults."""


def train(job: Job) -> Outcome:
    """Run SFT until the budget is spent."""
    return supervised(job, "nll")


TokenLoss = Callable[["torch.Tensor", TargetPositions, int], "torch.Tensor"]
"""(logits [B, T, V], places, tokens trained in the step) -> the step's loss, or its part of it."""
Loss = Literal["nll", "dft"] | TokenLoss


def supervised(job: Job, loss: Loss) -> Outcome:
    """SFT with one of TRL's token losses or one of your own; DFT differs only in the loss."""
    from trl import SFTConfig, SFTTrainer

    from retainbench.trainers._gradient import trl
    from retainbench.trainers._shared import model as _model
    from retainbench.trainers._shared.trajectory import Trajectory

    policy = _model.load(job)
    trajectory = Trajectory(job, policy)

    def row(position: int) -> dict[str, Any]:
        item = item_at(job.target.train, job.seed, position)
        ids, mask = trained(policy.tokenizer, job.target, item)
        labels = [token if learn else -100 for token, learn in zip(ids, mask, strict=True)]
        return {"input_ids": ids, "labels": labels}

    anchored = kl_strength(job.anchor) > 0
    trainer_class = held(job, trajectory, loss) if anchored or callable(loss) else SFTTrainer

    def build(first_row: int, scratch: str) -> Any:
        return trainer_class(
            model=policy.model,
            args=trl.config(
                SFTConfig,
                job,
                scratch,
                loss_type="nll" if callable(loss) else loss,
                max_length=None,
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
            train_dataset=trl.stream(row, ["input_ids", "labels"], first_row),
            processing_class=policy.tokenizer,
        )

    def count(trajectory: Trajectory, inputs: dict[str, Any]) -> None:
        tokens = int(inputs["attention_mask"].sum())
        trajectory.meter.forward(tokens)
        trajectory.meter.backward(tokens)
        trajectory.meter.samples(len(inputs["attention_mask"]))

    rows = job.options.batch_size
    return trl.run(trajectory, build, count, rows_per_step=rows)


def held(job: Job, trajectory: Trajectory, loss: Loss) -> Any:
    """TRL's trainer with a loss of our own: the KL to the base, per trained token, added to it."""
    from trl import SFTTrainer

    from retainbench.trainers._gradient import gradient, pulls, trl_patches
    from retainbench.trainers._shared import collective

    penalty = pulls.penalty(job)

    class StageTrainer(SFTTrainer):
        def compute_loss(
            self, model: Any, inputs: Any, *_others: Any, num_items_in_batch: Any, **_named: Any
        ) -> Any:
            batch, places = gradient.placed(inputs)
            trained = int(num_items_in_batch)
            logits_BTV = gradient.logits(model, batch, places)
            if callable(loss):
                plain = loss(logits_BTV, places, trained)
            else:
                plain, _ = gradient.token_loss(logits_BTV, places, loss, trained)
            extra, measured = penalty(batch, logits_BTV, places, trained, trajectory.meter)
            # The log shows the mean over the parts of a step and over the processes, which is also
            # what becomes of the gradient over processes; these values are parts of a sum.
            processes = collective.number()
            for name, value in measured.items():
                trl_patches.log_of_step(self, name, value * job.options.accumulation * processes)
            return (plain + extra) * processes

    return StageTrainer
