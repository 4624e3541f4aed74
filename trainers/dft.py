"""Dynamic fine-tuning: SFT whose token losses are scaled by the detached token probability.

    L = -(1/M) sum_t m_t sg(p_t) log p_t,   p_t = p(y_t | y_<t, x),   sg = stop-gradient

so the gradient at the logits is p_t times that of cross-entropy: confident tokens count, rare ones
hardly. Loss and gradient are 10 to 20 times smaller than SFT's, but Adam divides by the gradient's
size: give SFT and DFT the same grid of learning rates.
Computed by TRL's SFTTrainer (`loss_type="dft"`); everything else is `sft`, to the batch.

Deviations from the paper's code:
1. The normaliser is the number of trained tokens of the global batch, also under accumulation
   (yongliang-wu/DFT:verl/trainer/fsdp_dft_trainer.py normalises per rank and micro-batch, and
   weights by probability only where sequences are not split over devices).
2. The deviations of `sft`.
"""

from __future__ import annotations

from pydantic import Field

from retainbench.trainers import sft
from retainbench.trainers._gradient.gradient import GradientOptions
from retainbench.trainers._shared.contract import Job, Outcome

PAPER = "Wu et al. 2025, arXiv:2508.05629"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "kl", "text")
SPLITS = True


class Options(GradientOptions):
    """Hyper-parameters of SFT with the paper's learning rate."""

    learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate; 5e-5 in the paper (2e-5 for 8B). Sweep it (suite key `sweep`)."""


def train(job: Job) -> Outcome:
    """Run DFT until the budget is spent."""
    return sft.supervised(job, "dft")
