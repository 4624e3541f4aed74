"""TRL's online methods (GRPO, RLOO) under the rules of `_trl`, with our own rollouts.

TRL keeps advantages, losses and updates. Sampling is `_rollout`'s, so that prompts, stopping and
rewards are those of the evaluation and of our other methods: completions end at the first newline,
distinct prompts are encoded once, and the draws depend on (seed, step) alone, which makes resume
exact. One optimizer step answers `batch_size / num_generations` prompts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from retainbench.trainers._contract import Job, Outcome, TrainingError
from retainbench.trainers._data import encode, generator, item_at
from retainbench.trainers._trl import GradientOptions

if TYPE_CHECKING:
    from retainbench.trainers._trajectory import Trajectory

PATIENCE = 50
"""Steps without a single reward after which a run gives up."""


class OnlineOptions(GradientOptions):
    """What GRPO and RLOO share."""

    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate; TRL's default. Sweep it (suite key `sweep`)."""
    batch_size: int = Field(64, ge=2)
    """Completions per optimizer step."""
    num_generations: int = Field(8, ge=2)
    """Completions per prompt: the group."""
    temperature: float = Field(1.0, gt=0)
    """Of sampling."""
    epsilon: float = Field(0.2, gt=0)
    """Clip of the probability ratio, 1 - epsilon to 1 + epsilon."""
    rollout: Literal["transformers", "vllm"] = "transformers"
    """Who samples: this process, or TRL's vLLM (needs a GPU and the `vllm` extra)."""


def run(job: Job, trainer_class: Any, config_class: Any, specific: dict[str, Any]) -> Outcome:
    """Train with one of TRL's online trainers until the budget is spent.

    Args:
        specific: the method's own arguments of `config_class`.

    Raises:
        TrainingError: batch and group do not fit, or no completion earns a reward.
    """
    from retainbench.harness import bases
    from retainbench.trainers import _model, _rollout, _trl
    from retainbench.trainers._trajectory import Trajectory

    options = job.options
    if options.batch_size % options.num_generations:
        raise TrainingError(
            f"batch_size {options.batch_size} is not a multiple of num_generations "
            f"{options.num_generations}"
        )
    policy = _model.load(job)
    trajectory = Trajectory(job, policy)

    def row(position: int) -> dict[str, Any]:
        number = position // options.num_generations
        item = item_at(job.target.train, job.seed, number)
        return {"prompt": job.target.prompt(item), "number": number}

    spent_on_rollout: list[int] = [0]
    unrewarded = [0]

    def rewards(completions: list[str], number: list[int], **_: Any) -> list[float]:
        texts = (completion.split("\n", 1)[0] for completion in completions)
        items = (item_at(job.target.train, job.seed, n) for n in number)
        values = [job.target.reward(t, i) for t, i in zip(texts, items, strict=True)]
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
        if getattr(trainer, "ref_model", None) is not None:
            reference = bases.load(job.reference, device=job.device).model
            trainer.ref_model = reference.requires_grad_(False)
        trainer._tokenize_prompts = lambda prompts: (
            [encode(policy.tokenizer, prompt).prompt for prompt in prompts],
            None,
            {},
        )
        if options.rollout == "transformers":
            trainer._generate_single_turn = generate
        return trainer

    sampler = _rollout.sampler(job, policy, trajectory.meter, options.batch_size)

    def generate(prompt_ids: list[list[int]], *_: Any, **__: Any) -> Any:
        from retainbench.harness.generation import generate as decode

        group = options.num_generations
        made = decode(
            policy.model,
            prompt_ids[::group],
            max_new_tokens=job.target.max_new_tokens,
            stops=sampler.stops,
            samples=group,
            temperature=options.temperature,
            generator=generator(job.seed, f"rollout/{job.stage}/{trajectory.step}"),
        )
        new = sum(map(len, made.tokens))
        prompts = sum(map(len, prompt_ids[::group]))
        trajectory.meter.forward(prompts)
        trajectory.meter.generated(new)
        trajectory.meter.samples(len(prompt_ids))
        spent_on_rollout[0] = sum(map(len, prompt_ids)) + new
        return (made.tokens, None) if trainer_class.__name__ == "GRPOTrainer" else made.tokens

    def count(trajectory: Trajectory, _inputs: Any) -> None:
        tokens = spent_on_rollout[0] // options.accumulation
        references = 1 if specific.get("beta") else 0
        trajectory.meter.forward(tokens * (1 + references))
        trajectory.meter.backward(tokens)

    return _trl.run(job, options, trajectory, build, count, rows_per_step=options.batch_size)
