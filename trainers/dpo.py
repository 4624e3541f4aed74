"""Direct preference optimisation on pairs made from the target's reward, through TRL's DPOTrainer.

    L = -log sigmoid(beta [(log p(y+) - log p_ref(y+)) - (log p(y-) - log p_ref(y-))])

with sums over completion tokens and the stage's starting point as reference; how the pairs are made
is in `_gradient/preference_pairs.py`.

`loss` names TRL's losses, whose weighted sum is minimised: `[sigmoid, sft]` adds the negative
log-likelihood of y+, `ipo` (arXiv:2310.12036) aims at a fixed margin, `robust` (arXiv:2403.00409)
expects `label_smoothing` of the pairs to be the wrong way round. Pairs that differ in a digit can
make y+ less likely too (likelihood displacement, arXiv:2402.13228): the step log has log p(y+) as
`logps/chosen`, and its change times beta as `rewards/chosen`, which is then negative. `anchor: kl`
adds the KL to the cell's base on both answers, averaged over their tokens.

Deviations from TRL's defaults:
1. Rows come in the order that all methods share, already encoded; nothing is truncated.
2. The learning rate follows the share of the budget; sampling the pairs is charged to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from retainbench.trainers._gradient.preference_pairs import PairOptions, PreferencePairs
from retainbench.trainers._shared.anchor import kl_strength
from retainbench.trainers._shared.contract import Job, Outcome, added

if TYPE_CHECKING:
    from retainbench.trainers._shared.trajectory import Trajectory

PAPER = "Rafailov et al. 2023, arXiv:2305.18290"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "kl", "text")

PairLoss = Literal[
    "sigmoid", "hinge", "ipo", "robust", "nca_pair", "bco_pair", "sppo_hard", "apo_zero",
    "apo_down", "sigmoid_norm", "sft",
]  # fmt: skip


class Options(PairOptions):
    """Hyper-parameters; TRL's defaults."""

    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate; TRL's default. Sweep it (suite key `sweep`)."""
    beta: float = Field(0.1, gt=0)
    """Strength of the pull to the reference; TRL's default."""
    loss: list[PairLoss] = added(["sigmoid"], min_length=1)
    """TRL's `loss_type`: the losses that are summed."""
    loss_weights: list[float] | None = added(None)
    """Weight of each loss; None = 1 each."""
    label_smoothing: float = added(0.0, ge=0, lt=0.5)
    """Share of pairs that `robust` expects to be the wrong way round."""

    @model_validator(mode="after")
    def _weighted(self) -> Options:
        if self.loss_weights is not None and len(self.loss_weights) != len(self.loss):
            raise ValueError(f"loss_weights: {len(self.loss)} losses need as many weights")
        return self


def train(job: Job) -> Outcome:
    """Run DPO until the budget is spent.

    Raises:
        TrainingError: the starting point's answers never differ in reward.
    """
    from trl import DPOConfig, DPOTrainer

    from retainbench.trainers._gradient import trl, trl_patches
    from retainbench.trainers._shared import model
    from retainbench.trainers._shared.trajectory import Trajectory

    policy = model.load(job)
    reference = model.starting_point(job)
    trajectory = Trajectory(job, policy)
    pairs = PreferencePairs(job, reference, policy)
    options = job.options
    trainer_class = trl_patches.encoded(DPOTrainer)
    if kl_strength(job.anchor):
        trainer_class = trl_patches.with_term(trainer_class, kl_on_answers(job, trajectory))

    def build(first_row: int, scratch: str) -> Any:
        columns = ["prompt_ids", "chosen_ids", "rejected_ids"]
        return trainer_class(
            model=policy.model,
            ref_model=reference,
            args=trl.config(
                DPOConfig,
                job,
                scratch,
                beta=options.beta,
                loss_type=options.loss,
                loss_weights=options.loss_weights,
                label_smoothing=options.label_smoothing,
                max_length=None,
            ),
            train_dataset=trl.stream(lambda k: pairs.at(k).row, columns, first_row),
            processing_class=policy.tokenizer,
        )

    def count(trajectory: Trajectory, inputs: dict[str, Any]) -> None:
        tokens = int(inputs["attention_mask"].sum())
        trajectory.meter.forward(2 * tokens)  # policy and reference
        trajectory.meter.backward(tokens)
        trajectory.meter.samples(len(inputs["attention_mask"]))  # both answers of every pair
        pairs.charge_for_step(trajectory)

    return trl.run(trajectory, build, count, rows_per_step=options.batch_size)


def kl_on_answers(job: Job, trajectory: Trajectory) -> Callable[[Any, Any], Any]:
    """The KL to the base on both answers of a batch's pairs, by a pass with whole logits."""
    from retainbench.trainers._gradient import gradient, pulls

    penalty = pulls.penalty(job)

    def term(model: Any, inputs: Any) -> Any:
        trained_BT = inputs["completion_mask"]
        labels_BT = inputs["input_ids"].masked_fill(trained_BT == 0, -100)
        batch, places = gradient.placed({**inputs, "labels": labels_BT})
        logits_BTV = gradient.logits(model, batch, places)
        trajectory.meter.forward(places.tokens)
        trajectory.meter.backward(places.tokens)
        return penalty(batch, logits_BTV, places, int(trained_BT.sum()), trajectory.meter)

    return term
