"""TRL's online methods (GRPO, RLOO; SDFT in part) under the rules of `_trl`, with our own rollouts.

TRL keeps advantages, losses and updates. Sampling is `_rollout`'s, so that prompts, stopping and
rewards are those of the evaluation and of our other methods: completions end at the first newline,
distinct prompts are encoded once, and the draws depend on (seed, step) alone, which makes resume
exact. One optimizer step answers `batch_size / num_generations` prompts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from retainbench.trainers._contract import Job, Outcome, TrainingError
from retainbench.trainers._data import encode, generator, item_at
from retainbench.trainers._gradient import GradientOptions

if TYPE_CHECKING:
    from retainbench.harness.generation import Stops
    from retainbench.trainers._model import Policy
    from retainbench.trainers._trajectory import Trajectory


class GroupOptions(GradientOptions):
    """What the methods that answer each prompt several times share."""

    batch_size: int = Field(64, ge=2)
    """Completions per optimizer step."""
    num_generations: int = Field(8, ge=2)
    """Completions per prompt: the group."""
    temperature: float = Field(1.0, gt=0)
    """Of sampling."""


class OnlineOptions(GroupOptions):
    """What GRPO and RLOO share."""

    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate; TRL's default. Sweep it (suite key `sweep`)."""
    epsilon: float = Field(0.2, gt=0)
    """Clip of the probability ratio, 1 - epsilon to 1 + epsilon."""
    rollout: Literal["transformers", "vllm"] = "transformers"
    """Who samples: this process, or TRL's vLLM (needs a GPU and the `vllm` extra)."""


class Rollouts(NamedTuple):
    """Sampling for a TRL trainer; made by `rollouts`."""

    generate: Callable[[list[list[int]]], list[list[int]]]
    """Prompt ids of a whole batch (each prompt `num_generations` times) -> completion ids."""
    stops: Stops
    """Tokens at which a completion ends."""

    @property
    def ends(self) -> list[int]:
        """Ids of those tokens."""
        return [int(token) for token in self.stops.ends_V.nonzero()[:, 0]]


def rollouts(job: Job, policy: Policy, trajectory: Trajectory) -> Rollouts:
    """One sampling per optimizer step from (seed, step), charged to the meter."""
    from retainbench.harness.generation import generate as decode
    from retainbench.trainers import _rollout

    sampler = _rollout.sampler(job, policy, trajectory.meter, job.options.batch_size)
    group = job.options.num_generations

    def generate(prompt_ids: list[list[int]]) -> list[list[int]]:
        with _rollout.autocast(job):
            made = decode(
                policy.model,
                prompt_ids[::group],
                max_new_tokens=job.target.max_new_tokens,
                stops=sampler.stops,
                samples=group,
                temperature=job.options.temperature,
                generator=generator(job.seed, f"rollout/{job.stage}/{trajectory.step}"),
            )
        trajectory.meter.forward(sum(map(len, prompt_ids[::group])))
        trajectory.meter.generated(sum(map(len, made.tokens)))
        trajectory.meter.samples(len(prompt_ids))
        return made.tokens

    return Rollouts(generate, sampler.stops)


def check_groups(options: GroupOptions) -> None:
    """Whole groups only.

    Raises:
        TrainingError: batch and group do not fit.
    """
    if options.batch_size % options.num_generations:
        raise TrainingError(
            f"batch_size {options.batch_size} is not a multiple of num_generations "
            f"{options.num_generations}"
        )


def question_at(options: GroupOptions, row: int) -> int:
    """Position in the shared order of the question that a row of TRL's stream asks.

    A group's rows ask the same. TRL reads a whole batch for every accumulated part and samples for
    the first of them alone, so a step asks for `rows_per_step` rows and the rest repeat the first.
    """
    step, within = divmod(row, rows_per_step(options))
    first = step * options.batch_size
    return (first + within % options.batch_size) // options.num_generations


def rows_per_step(options: GroupOptions) -> int:
    """Rows of the stream that TRL reads in one optimizer step."""
    return options.batch_size * options.accumulation


def run(job: Job, trainer_class: Any, config_class: Any, specific: dict[str, Any]) -> Outcome:
    """Train with one of TRL's online trainers until the budget is spent.

    Args:
        specific: the method's own arguments of `config_class`.

    Raises:
        TrainingError: batch and group do not fit, no completion earns a reward, or no two
            completions of a prompt ever differ in reward.
    """
    from trl.trainer.utils import add_fused_lm_head

    from retainbench.harness import bases
    from retainbench.trainers import _model, _rollout, _trl
    from retainbench.trainers._rollout import PATIENCE
    from retainbench.trainers._trajectory import Trajectory

    options = job.options
    check_groups(options)
    policy = _model.load(job)
    trajectory = Trajectory(job, policy)
    sampling = rollouts(job, policy, trajectory)
    online_grpo = trainer_class.__name__ == "GRPOTrainer"

    def row(position: int) -> dict[str, Any]:
        number = question_at(options, position)
        item = item_at(job.target.train, job.seed, number)
        return {"prompt": job.target.prompt(item), "number": number}

    spent_on_rollout: list[int] = [0]
    unrewarded = [0]

    def rewards(
        completions: list[str], completion_ids: list[list[int]], number: list[int], **_: Any
    ) -> list[float]:
        values = [
            _rollout.earned(
                job.target,
                text.split("\n", 1)[0],
                item_at(job.target.train, job.seed, n),
                _rollout.ended(sampling.stops, ids),
            )
            for text, ids, n in zip(completions, completion_ids, number, strict=True)
        ]
        unrewarded[0] = 0 if any(values) else unrewarded[0] + 1
        if unrewarded[0] == PATIENCE:
            raise TrainingError(f"no completion earned a reward in {PATIENCE} steps")
        return values

    def build(first_row: int, scratch: str) -> Any:
        trainer = trainer_class(
            model=policy.model,
            reward_funcs=[rewards],
            args=config_class(
                **_trl.config_arguments(job, options, scratch),
                num_generations=options.num_generations,
                max_completion_length=job.target.max_new_tokens,
                temperature=options.temperature,
                epsilon=options.epsilon,
                use_vllm=options.rollout == "vllm",
                **specific,
            ),
            train_dataset=_trl.stream(row, ["prompt", "number"], first_row),
            processing_class=policy.tokenizer,
        )
        trainer._get_train_sampler = lambda *_: _trl.in_order(trainer.train_dataset)
        if specific.get("beta") and (trainer.ref_model or job.base != job.reference):
            reference = bases.load(job.reference, device=job.device).model
            add_fused_lm_head(reference, temperature=options.temperature)
            trainer.ref_model = reference.requires_grad_(False)
        trainer._tokenize_prompts = lambda prompts: (
            [encode(policy.tokenizer, prompt).prompt for prompt in prompts],
            None,
            {},
        )
        if options.rollout == "transformers":
            trainer.eos_token_ids = sampling.ends
            trainer._generate_single_turn = generate
        return trainer

    def generate(prompt_ids: list[list[int]], *_: Any, **__: Any) -> Any:
        tokens = sampling.generate(prompt_ids)
        spent_on_rollout[0] = sum(map(len, prompt_ids)) + sum(map(len, tokens))
        return (tokens, None) if online_grpo else tokens

    def count(trajectory: Trajectory, _inputs: Any) -> None:
        tokens = spent_on_rollout[0] // options.accumulation
        references = 1 if specific.get("beta") else 0
        before = 0 if online_grpo else 1  # RLOO computes its samples' log-probabilities anew
        trajectory.meter.forward(tokens * (1 + references + before))
        trajectory.meter.backward(tokens)

    rows = rows_per_step(options)
    outcome = _trl.run(job, options, trajectory, build, count, rows_per_step=rows)
    if trajectory.step and not any_signal(job):
        raise TrainingError(
            "no two completions of a prompt differed in reward, so no step had an advantage: "
            "the base solves every training item, or none"
        )
    return outcome


def any_signal(job: Job) -> bool:
    """Whether a logged step of this stage had a group with different rewards."""
    from retainbench.harness.paths import CellFolder

    lines = CellFolder(job.out).steps.read_text(encoding="utf-8").splitlines()
    mine = (json.loads(line) for line in lines[job.spent.steps :])
    return any(line["frac_reward_zero_std"] < 1 for line in mine)
