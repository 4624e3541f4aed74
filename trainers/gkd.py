"""On-policy distillation: a teacher corrects the student's own answers, token by token (GKD).

    y ~ p(. | x) in a share of the steps, the reference answer in the others
    p_t = p(. | x, y_<t),   teacher q_t = q(. | x, y_<t)
    L = (1/M) sum_t D(q_t || p_t) over the M completion tokens of the batch
    D = b KL(q_t || m_t) + (1 - b) KL(p_t || m_t),   m_t = b q_t + (1 - b) p_t

so that b = 0 means KL(q_t || p_t), as in usual distillation, and b = 1 KL(p_t || q_t), MiniLLM's
divergence (arXiv:2306.08543). Answers are sampled without gradient. The loss is that of TRL's
GKDTrainer, with which a test compares it.

The stage names the teacher: `teacher:` is a base or a folder, of any size, with the base's
tokenizer; a checkpoint that another recipe has ended with, say. Its forward passes are charged to
the budget by its own size.

Deviations:
1. Samples end as in the evaluation, at the longest answer at the latest; TRL samples up to 128
   tokens at temperature .9.
2. Where the embeddings have unlike numbers of rows (padding), the rows that both have are compared.
3. Without on-policy data the answers are the target's, never the teacher's (TRL's `seq_kd`).
4. The learning rate follows the share of the budget; rows come in the order that all methods share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from retainbench.trainers._gradient.gradient import GradientOptions
from retainbench.trainers._shared.contract import Job, Outcome

if TYPE_CHECKING:
    import torch

    from retainbench.trainers._gradient.gradient import TargetPositions
    from retainbench.trainers._gradient.pulls import Penalty
    from retainbench.trainers._shared.data import Batch, Example
    from retainbench.trainers._shared.rollout import Sampler

PAPER = "Agarwal et al. 2024, arXiv:2306.13649"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "kl", "text")
TEACHER = True


class Options(GradientOptions):
    """Hyper-parameters; TRL's defaults but for the temperature."""

    learning_rate: float = Field(1e-7, gt=0)
    """Peak learning rate; TRL's default. Sweep it (suite key `sweep`)."""
    on_policy_share: float = Field(0.5, ge=0, le=1)
    """lambda: probability of a step on the student's own answers; 1 in the paper's best runs."""
    beta: float = Field(0.5, ge=0, le=1)
    """b of the divergence: 0 is KL(teacher || student), 1 is KL(student || teacher)."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature."""


def train(job: Job) -> Outcome:
    """Distil until the budget is spent."""
    from retainbench.trainers._gradient import gradient, updates
    from retainbench.trainers._shared import model as _model
    from retainbench.trainers._shared import rollout
    from retainbench.trainers._shared.trajectory import Trajectory

    options: Options = job.options
    policy, teacher = _model.load(job), _model.teacher(job)
    size = sum(parameter.numel() for parameter in teacher.parameters())
    trajectory = Trajectory(job, policy)
    sampler = rollout.sampler(job, policy, trajectory.meter, options.batch_size)

    def loss(
        logits_BTV: torch.Tensor, batch: Batch, places: TargetPositions, trained: int
    ) -> tuple[torch.Tensor, dict[str, float]]:
        with rollout.autocast(job):
            teacher_BTV = gradient.reference_logits(teacher, batch, places, trajectory.meter, size)
        divergence_BT = jensen_shannon(logits_BTV, teacher_BTV, options.beta)
        value = (divergence_BT * places.mask_BT).sum() / trained
        return value, {"loss": float(value.detach())}

    def backward(step: int, penalty: Penalty) -> dict[str, float]:
        examples, metrics = batch_of_step(job, sampler, step)
        return metrics | updates.accumulate(trajectory, examples, loss, penalty)

    return updates.run(trajectory, backward, lambda: trajectory.meter.samples(options.batch_size))


def batch_of_step(job: Job, sampler: Sampler, step: int) -> tuple[list[Example], dict[str, float]]:
    """The rows of a step, all of them sampled or all reference answers, and what the log says."""
    import torch

    from retainbench.trainers._shared import rollout
    from retainbench.trainers._shared.data import Example, batch_at, example_of, generator

    options: Options = job.options
    items = batch_at(job.target.train, job.seed, step, options.batch_size)
    draws = generator(job.seed, f"gkd/{job.stage}/{step}")
    if float(torch.rand(1, generator=draws)) >= options.on_policy_share:
        tokenizer = sampler.policy.tokenizer
        return [example_of(tokenizer, job.target, item) for item in items], {"on_policy": 0.0}
    with rollout.autocast(job):
        made = rollout.rollout(sampler, items, temperature=options.temperature, generator=draws)
    metrics = {"on_policy": 1.0, "reward": float(rollout.rewards(made).mean())}
    return [Example(sample.prompt, sample.tokens) for sample in made], metrics


def jensen_shannon(
    student_BTV: torch.Tensor, teacher_BTV: torch.Tensor, beta: float
) -> torch.Tensor:
    """Generalised Jensen-Shannon divergence at every place, in nats, [B, T]; D above.

    Args:
        student_BTV: logits; the gradient flows here alone.
        teacher_BTV: logits at the same places; columns that only one of them has are left out.

    Worked: p (.5, .3, .2) and q (.4, .4, .2) give KL(q || p) 0.0258154 at b 0, KL(p || q)
    0.0252672 at b 1 and 0.0063672 at b 1/2.
    """
    import torch

    shared = min(student_BTV.shape[-1], teacher_BTV.shape[-1])
    p, q = (
        logits[..., :shared].float().log_softmax(-1)
        for logits in (student_BTV, teacher_BTV.detach())
    )
    if beta in (0.0, 1.0):
        one, other = (q, p) if beta == 0.0 else (p, q)
        return (one.exp() * (one - other)).sum(-1)
    weights = torch.tensor([beta, 1.0 - beta], device=p.device).log()
    m = torch.logaddexp(q + weights[0], p + weights[1])
    kl_teacher, kl_student = ((x.exp() * (x - m)).sum(-1) for x in (q, p))
    return beta * kl_teacher + (1.0 - beta) * kl_student
