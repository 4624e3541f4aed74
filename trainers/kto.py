"""Kahneman-Tversky optimisation: good and bad answers on their own, through TRL's KTOTrainer.

    r = beta (log p(y) - log p_ref(y)),   z = beta max(0, mean KL estimate of the batch)
    L = w_d (1 - sigmoid(r - z)) for a desirable y,  w_u (1 - sigmoid(z - r)) for an undesirable one

The estimate is the mean of log p(y') - log p_ref(y') over mismatched answers: each prompt with the
answer of the row before it in its part of the batch, without gradient. The reference is the stage's
starting point. Desirable are the preferred answers of `_gradient/preference_pairs.py`, undesirable
the others, each a row of its own: one of each for every two rows.

Deviations from TRL's defaults:
1. Rows come in the order that all methods share, already encoded; nothing is truncated.
2. The learning rate follows the share of the budget; sampling the answers is charged to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from retainbench.trainers._gradient.preference_pairs import PairOptions, PreferencePairs
from retainbench.trainers._shared.contract import Job, Outcome

if TYPE_CHECKING:
    from retainbench.trainers._shared.trajectory import Trajectory

PAPER = "Ethayarajh et al. 2024, arXiv:2402.01306"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "text")


class Options(PairOptions):
    """Hyper-parameters; TRL's defaults."""

    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate; TRL's default. Sweep it (suite key `sweep`)."""
    beta: float = Field(0.1, gt=0)
    """Strength of the pull to the reference; TRL's default."""
    desirable_weight: float = Field(1.0, gt=0)
    """w_d; TRL's default."""
    undesirable_weight: float = Field(1.0, gt=0)
    """w_u; TRL's default."""

    @model_validator(mode="after")
    def _mismatched(self) -> Options:
        if self.batch_size % (2 * self.accumulation) or self.batch_size // self.accumulation < 4:
            raise ValueError(
                "batch_size must be even and at least 4 in every part: mismatched answers are "
                "taken from the other rows"
            )
        return self


def train(job: Job) -> Outcome:
    """Run KTO until the budget is spent.

    Raises:
        TrainingError: the starting point's answers never differ in reward.
    """
    from trl import KTOConfig, KTOTrainer

    from retainbench.trainers._gradient import trl, trl_patches
    from retainbench.trainers._shared import model
    from retainbench.trainers._shared.trajectory import Trajectory

    options: Options = job.options
    policy = model.load(job)
    reference = model.starting_point(job)
    trajectory = Trajectory(job, policy)
    pairs = PreferencePairs(job, reference, policy, options.batch_size // 2)

    def build(first_row: int, scratch: str) -> Any:
        return trl_patches.encoded(KTOTrainer)(
            model=policy.model,
            ref_model=reference,
            args=trl.config(
                KTOConfig,
                job,
                scratch,
                beta=options.beta,
                desirable_weight=options.desirable_weight,
                undesirable_weight=options.undesirable_weight,
                max_length=None,
            ),
            train_dataset=trl.stream(
                lambda k: row(pairs, k, options.batch_size // options.accumulation),
                ["prompt_ids", "completion_ids", "KL_completion_ids", "label"],
                first_row,
            ),
            processing_class=policy.tokenizer,
        )

    def count(trajectory: Trajectory, inputs: dict[str, Any]) -> None:
        tokens, mismatched = (
            int(inputs[name].sum()) for name in ("attention_mask", "KL_attention_mask")
        )
        trajectory.meter.forward(2 * (tokens + mismatched))  # policy and reference
        trajectory.meter.backward(tokens)
        trajectory.meter.samples(len(inputs["attention_mask"]))
        pairs.charge_for_step(trajectory)

    return trl.run(trajectory, build, count, rows_per_step=options.batch_size)


def row(pairs: PreferencePairs, place: int, part: int) -> dict[str, Any]:
    """The row at a place: pair place / 2, its preferred answer first.

    Args:
        part: rows that TRL computes at once; mismatched answers are cycled within them.
    """
    prompt, own = _answer(pairs, place)
    start = place - place % part
    _, other = _answer(pairs, start + (place - start - 1) % part)
    label = place % 2 == 0
    return {
        "prompt_ids": prompt,
        "completion_ids": own,
        "KL_completion_ids": other,
        "label": label,
    }


def _answer(pairs: PreferencePairs, place: int) -> tuple[list[int], list[int]]:
    pair = pairs.at(place // 2).row
    return pair["prompt_ids"], pair["rejected_ids" if place % 2 else "chosen_ids"]
