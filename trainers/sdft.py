"""Self-distillation fine-tuning: the model, shown the reference answer, teaches itself without it.

    y ~ p(. | x),   teacher q_t = p_T(. | demonstration, x, y_<t),   student p_t = p(. | x, y_<t)
    L = mean over completions of (1/|y|) sum_t D(p_t, q_t)
    D = (1 - a) KL(p_t || m_t) + a KL(q_t || m_t),   m_t = (1 - a) p_t + a q_t

so the data are the student's own samples, and the reference answer affects only the
teacher's probabilities; a = 0 and a = 1 mean KL(q_t || p_t) and KL(p_t || q_t). Loss and
update are those of TRL's experimental SDFTTrainer; `topk_logits` compares the student's most
probable tokens, renormalised. The demonstration is the item itself, answered, before the prompt:

    Question: {query}        <- seen by the teacher alone
    Answer: {answer}

    Question: {query}        <- seen by both
    Answer:

The paper's form is `teacher: ema`, whose weights are a moving average of the student's,
`distillation: full_logits`, `alpha: 1` (reverse KL), `num_generations: 1`; TRL's is the default. A
teacher that does not change is the paper's ablation. The first `skipped_tokens` of an answer, where
the teacher may allude to what it was shown, can be left out of the loss, as both do.

It needs a teacher that can use the answer where the student has begun another one. fruitfly only
copies: on 200 countdown items, shown the answer, it is right in .94 of its answers from the prompt
on, but after four tokens of the student's own sample in .13, the student without it in .15 (where
the sample is right, .59 and .77). So SDFT lowers the loss and loses 9 points there.

Deviations from TRL's defaults:
1. Rollouts are ours (`_gradient/trl_online.py`): they end where the evaluation's answers end.
2. The demonstration comes before the prompt, in the form of the evaluation, because our bases are
   not chat models; TRL appends it, and the paper words it as an instruction.
3. The `base` teacher is the stage's starting point, loaded from its folder (for LoRA: the adapter
   switched off). The `ema` teacher begins there, is moved by us, and is part of the state that is
   resumed from, for LoRA too. Both make resume exact.
4. Rows come in the order that all methods share; the learning rate follows the budget; one update
   per rollout, so no importance weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from retainbench.trainers._gradient.trl_online import GroupOptions
from retainbench.trainers._shared.contract import Item, Job, Outcome, Target, added
from retainbench.trainers._shared.data import item_at

if TYPE_CHECKING:
    from retainbench.trainers._shared.trajectory import Trajectory

PAPER = "Shenfeld et al. 2026, arXiv:2601.19897"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "text")

UNREAD = "\0"
"""TRL's template for the teacher must repeat the prompt; the teacher reads up to here."""

Demonstration = Callable[[Target, Item], str]
"""What the teacher reads before the prompt."""


class Options(GroupOptions):
    """Hyper-parameters; TRL's defaults."""

    learning_rate: float = Field(5e-5, gt=0)
    """Peak learning rate; TRL's default. Sweep it (suite key `sweep`)."""
    num_generations: int = Field(8, ge=1)
    """Completions per prompt."""
    teacher: Literal["base", "live", "ema"] = "base"
    """The teacher, which reads the demonstration: the stage's start, the current student, or a
    moving average of the student."""
    teacher_rate: float = added(0.05, gt=0, le=1)
    """Rate of the moving average; TRL's default, .01 to .05 in the paper."""
    skipped_tokens: int = added(0, ge=0)
    """First tokens of an answer without a loss."""
    distillation: Literal["topk_logits", "full_logits"] = "topk_logits"
    """Tokens that are compared: the student's `topk` most probable ones, or the vocabulary."""
    topk: int = Field(100, ge=1)
    """Tokens that `topk_logits` compares; at most the vocabulary."""
    alpha: float = Field(0.5, ge=0, le=1)
    """a of the divergence: 0 is KL(teacher || student), 1 is KL(student || teacher)."""


def train(job: Job) -> Outcome:
    """Run SDFT until the budget is spent."""
    return distil(job, solved_item)


def solved_item(target: Target, item: Item) -> str:
    """The item with its reference answer, and an empty line."""
    return f"{target.template.solved(item)}\n\n"


def distil(job: Job, demonstration: Demonstration) -> Outcome:
    """SDFT with any demonstration; with an empty one, teacher and student start equal."""
    from retainbench.trainers._gradient import trl, trl_online, trl_patches
    from retainbench.trainers._gradient.moving_average import average_of
    from retainbench.trainers._shared import model as _model
    from retainbench.trainers._shared.trajectory import Trajectory

    options: Options = job.options
    policy = _model.load(job)
    trajectory = Trajectory(job, policy)
    sampling = trl_online.rollouts(job, policy, trajectory)
    taught_by = teacher(job)
    averaging = options.teacher == "ema"
    average = average_of(taught_by, policy.model, options.teacher_rate) if averaging else None
    trainer_class, config_class = trl_patches.sdft(taught_by)
    built: list[Any] = []
    train = job.target.train
    job.target.prompts(train, [demonstration(job.target, item) for item in train])  # all at once

    def row(position: int) -> dict[str, Any]:
        number = trl_online.question_at(options, position)
        item = item_at(job.target.train, job.seed, number)
        return {
            "prompt": job.target.prompt(item),
            "privileged_context": job.target.prompts([item], [demonstration(job.target, item)])[0],
        }

    def build(first_row: int, scratch: str) -> Any:
        trainer = trainer_class(
            model=policy.model,
            args=trl.config(
                config_class,
                job,
                scratch,
                num_generations=options.num_generations,
                max_completion_length=job.target.max_new_tokens,
                max_prompt_length=None,
                temperature=options.temperature,
                teacher_model_kind="live" if averaging else options.teacher,
                num_loss_tokens_to_skip=options.skipped_tokens,
                teacher_prompt_template=f"{{privileged_context}}{UNREAD}{{prompt}}",
                distillation_mode=options.distillation,
                distillation_topk=min(options.topk, _vocabulary(policy.model)),
                distillation_alpha=options.alpha,
            ),
            train_dataset=trl.stream(row, ["prompt", "privileged_context"], first_row),
            processing_class=policy.tokenizer,
        )
        trl_patches.read_in_order(trainer)
        trl_patches.distil_by(trainer, read, sampling.generate)
        trainer.eos_token_ids = sampling.ends
        built.append(trainer)
        return trainer

    def read(texts: list[str]) -> list[list[int]]:
        asked = [text.partition(UNREAD)[0] for text in texts]
        return job.target.rendering.encode(policy.tokenizer, asked)

    def count(trajectory: Trajectory, _inputs: Any) -> None:
        part = trl_patches.part_of_step(built[0])
        student = int(part["prompt_mask"].sum() + part["completion_mask"].sum())
        trajectory.meter.forward(student + int(part["teacher_attention_mask"].sum()))
        trajectory.meter.backward(student)
        trajectory.meter.samples(len(part["prompt_mask"]))

    rows = trl_online.rows_per_step(options)
    return trl.run(trajectory, build, count, rows_per_step=rows, average=average)


def teacher(job: Job) -> Any:
    """The model that is shown the demonstration; None where the student is its own teacher."""
    from retainbench.trainers._shared import model

    if job.options.teacher == "ema":
        return model.load(job).model
    if job.options.teacher != "base" or job.adaptation.kind != "full":
        return None
    return model.starting_point(job)


def _vocabulary(model: Any) -> int:
    return int(model.config.get_text_config().vocab_size)
