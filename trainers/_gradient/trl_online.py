"""TRL's online methods (GRPO, RLOO; SDFT in part) under the rules of `trl`, with our own rollouts.

TRL keeps advantages, losses and updates. Sampling is `rollout`'s, so that prompts, stopping and
rewards are those of the evaluation and of our other methods: completions end where its answers end,
distinct prompts are encoded once, and the draws depend on (seed, step) alone, which makes resume
exact. One optimizer step answers `batch_size / num_generations` prompts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import Field, model_validator

from retainbench.trainers._gradient import trl_patches
from retainbench.trainers._gradient.gradient import GradientOptions
from retainbench.trainers._gradient.trl_patches import Tokens
from retainbench.trainers._gradient.trl_refill import Refill
from retainbench.trainers._shared.contract import Job, Outcome, TrainingError
from retainbench.trainers._shared.data import generator, item_at

if TYPE_CHECKING:
    from retainbench.harness.scoring.stops import Stops
    from retainbench.trainers._shared.contract import Item
    from retainbench.trainers._shared.model import PolicyModel
    from retainbench.trainers._shared.rollout import Sampler
    from retainbench.trainers._shared.trajectory import Trajectory


class GroupOptions(GradientOptions):
    """Options of the methods that answer each prompt several times."""

    batch_size: int = Field(64, ge=2)
    """Completions per optimizer step."""
    num_generations: int = Field(8, ge=2)
    """Completions per prompt: the group."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature."""

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.batch_size % self.num_generations:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of num_generations "
                f"{self.num_generations}"
            )
        return self


class OnlineOptions(GroupOptions):
    """Options of GRPO and RLOO."""

    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate; TRL's default. Sweep it (suite key `sweep`)."""
    epsilon: float = Field(0.2, gt=0)
    """Clip of the probability ratio, 1 - epsilon to 1 + epsilon."""
    rollout: Literal["transformers", "vllm"] = "transformers"
    """Who samples: this process, or TRL's vLLM (needs a GPU and the `vllm` extra; its draws depend
    on the engine's state, so a resumed run is not the same to the byte)."""


class Rollouts(NamedTuple):
    """Sampling for a TRL trainer; `rollouts` makes it."""

    generate: Callable[..., list[list[int]]]
    """(prompt ids, each prompt `num_generations` times; number of the attempt) -> completions."""
    charge: Callable[[list[list[int]], list[list[int]]], None]
    """(prompt ids, completion ids) of a batch that something else has sampled -> the meter."""
    sampler: Sampler
    """What it samples with."""

    @property
    def ends(self) -> list[int]:
        """Ids of those tokens."""
        return [int(token) for token in self.sampler.stops.ends_V.nonzero()[:, 0]]


def rollouts(job: Job, policy: PolicyModel, trajectory: Trajectory) -> Rollouts:
    """One sampling per optimizer step from (seed, step, attempt), charged to the meter."""
    from retainbench.harness.scoring.decoding import generate as decode
    from retainbench.trainers._shared import rollout as _rollout

    sampler = _rollout.sampler(job, policy, trajectory.meter, job.options.batch_size)
    group = job.options.num_generations

    def generate(prompt_ids: list[list[int]], attempt: int = 0) -> list[list[int]]:
        again = f"/{attempt}" if attempt else ""
        with _rollout.autocast(job):
            made = decode(
                policy.model,
                prompt_ids[::group],
                max_new_tokens=job.target.max_new_tokens,
                stops=sampler.stops,
                samples=group,
                temperature=job.options.temperature,
                generator=generator(job.seed, f"rollout/{job.stage}/{trajectory.step}{again}"),
            )
        charge(prompt_ids, made.tokens)
        return made.tokens

    def charge(prompt_ids: list[list[int]], tokens: list[list[int]]) -> None:
        trajectory.meter.forward(sum(map(len, prompt_ids[::group])))
        trajectory.meter.generated(sum(map(len, tokens)))

    return Rollouts(generate, charge, sampler)


def check_engine(job: Job) -> None:
    """Check that vLLM can run, where it is wanted.

    Raises:
        TrainingError: naming what is missing.
    """
    from trl.import_utils import is_vllm_available

    if job.options.rollout == "vllm" and not (
        job.device.startswith("cuda") and is_vllm_available()
    ):
        raise TrainingError(
            "rollout: vllm needs `--device cuda` and `pip install retainbench[vllm]`; "
            "rollout: transformers needs neither"
        )


def question_at(options: GroupOptions, row: int, iterations: int = 1) -> int:
    """Position in the shared order of the question that a row of TRL's stream asks.

    The rows of a group ask the same question. TRL reads a whole batch for every accumulated part
    and samples only for the first of them, so a step asks for `rows_per_step` rows and the rest
    repeat the first. The same goes for the steps that share a rollout.

    Args:
        iterations: steps that share a rollout.
    """
    step, within = divmod(row, rows_per_step(options))
    first = step // iterations * options.batch_size
    return (first + within % options.batch_size) // options.num_generations


def rows_per_step(options: GroupOptions) -> int:
    """Rows of the stream that TRL reads in one optimizer step."""
    return options.batch_size * options.accumulation


@dataclass
class OnlineLoop:
    """The rows, the sampling and the account of one of TRL's online trainers."""

    job: Job
    trajectory: Trajectory
    sampling: Rollouts
    trainer_class: Any
    config_class: Any
    specific: dict[str, Any]
    """The method's own arguments of `config_class`."""
    iterations: int
    """Optimizer steps that share a rollout."""
    attempts: int
    """Of replacing groups without variance (`trl_refill`)."""
    in_rollout: int = 0
    """Tokens of the last rollout, prompts included."""
    charged: int = -1
    """The step that was charged last."""

    @cached_property
    def refill(self) -> Refill:
        """Replaces groups without variance."""
        group = self.job.options.num_generations
        sampler, generate = self.sampling.sampler, self.sampling.generate
        return Refill(sampler, generate, self._item, self._question, group, self.attempts)

    def _item(self, number: int) -> Item:
        return item_at(self.job.target.train, self.job.seed, number)

    def _question(self, number: int) -> dict[str, Any]:
        return {"prompt": self.job.target.prompt(self._item(number)), "number": number}

    def row(self, position: int) -> dict[str, Any]:
        """A row of TRL's stream."""
        return self._question(question_at(self.job.options, position, self.iterations))

    def build(self, first_row: int, scratch: str) -> Any:
        """TRL's trainer over the rows from `first_row` on, sampling as we do."""
        from retainbench.trainers._gradient import trl

        job, policy = self.job, self.trajectory.policy
        trainer = self.trainer_class(
            model=policy.model,
            reward_funcs=[rewarding(job, self.sampling.sampler.stops)],
            args=trl.config(
                self.config_class,
                job,
                scratch,
                num_generations=job.options.num_generations,
                max_completion_length=job.target.max_new_tokens,
                temperature=job.options.temperature,
                epsilon=job.options.epsilon,
                **_engine(job.options, self.sampling),
                **self.specific,
            ),
            train_dataset=trl.stream(self.row, ["prompt", "number"], first_row),
            processing_class=policy.tokenizer,
        )
        trl_patches.read_in_order(trainer)
        self._refer(trainer)
        trainer.eos_token_ids = self.sampling.ends
        encode = partial(job.target.rendering.encode, policy.tokenizer)
        trl_patches.sample_by(trainer, encode, self.generate)
        if self.attempts:
            trl_patches.replace_rows(trainer, self.refill.varied)
        return trainer

    def _refer(self, trainer: Any) -> None:
        """Let a KL penalty be to the job's reference, where TRL would take another model."""
        from retainbench.trainers._shared import model

        job = self.job
        if self.specific.get("beta") and (trainer.ref_model or job.base != job.reference):
            trainer.ref_model = trl_patches.scored_reference(
                trainer, model.reference(job), job.options.temperature
            )

    def generate(self, prompt_ids: Tokens, by_trl: Callable[[], Tokens]) -> Tokens:
        """Completions of a rollout's prompts."""
        if self.job.options.rollout == "vllm":
            tokens = by_trl()
            self.sampling.charge(prompt_ids, tokens)
        elif self.attempts:
            tokens = self.refill.take()
        else:
            tokens = self.sampling.generate(prompt_ids)
        self.in_rollout = sum(map(len, prompt_ids)) + sum(map(len, tokens))
        return tokens

    def count(self, trajectory: Trajectory, _inputs: Any) -> None:
        """Charge a step once, since its parts share a rollout."""
        if trajectory.step == self.charged:
            return
        self.charged = trajectory.step
        passes = 1
        if trajectory.step % self.iterations == 0:
            references = 1 if self.specific.get("beta") else 0
            grpo = trl_patches.is_grpo(self.trainer_class)
            old = 1 if self.iterations > 1 else 0 if grpo else references
            passes += references + old  # RLOO's reward reads the old ones for its KL
        trajectory.meter.forward(self.in_rollout * passes)
        trajectory.meter.backward(self.in_rollout)
        trajectory.meter.samples(self.job.options.batch_size)


def run(
    job: Job,
    trainer_class: Any,
    config_class: Any,
    specific: dict[str, Any],
    *,
    iterations: int = 1,
    attempts: int = 0,
) -> Outcome:
    """Train with one of TRL's online trainers until the budget is spent.

    Arguments: as the fields of `OnlineLoop`.

    Raises:
        TrainingError: vLLM cannot run, no completion earns a reward, or
            no two completions of a prompt ever differ in reward.
    """
    from retainbench.trainers._gradient import trl
    from retainbench.trainers._shared import model
    from retainbench.trainers._shared.trajectory import Trajectory

    check_engine(job)
    policy = model.load(job)
    trajectory = Trajectory(job, policy)
    sampling = rollouts(job, policy, trajectory)
    loop = OnlineLoop(
        job, trajectory, sampling, trainer_class, config_class, specific, iterations, attempts
    )
    outcome = trl.run(
        trajectory,
        loop.build,
        loop.count,
        rows_per_step=rows_per_step(job.options),
        steps_per_rollout=iterations,
    )
    if trajectory.step and not any_signal(job):
        raise TrainingError(
            "no two completions of a prompt differed in reward, so no step had an advantage: "
            "the base solves every training item, or none"
        )
    return outcome


def rewarding(job: Job, stops: Stops) -> Callable[..., list[float]]:
    """TRL's reward function; raises TrainingError where no completion earns a reward for long."""
    from retainbench.trainers._shared import rollout as _rollout

    barren = [0]

    def rewards(
        completions: list[str], completion_ids: list[list[int]], number: list[int], **_: Any
    ) -> list[float]:
        values = [
            _rollout.earned(
                job.target,
                job.target.response(text),
                item_at(job.target.train, job.seed, n),
                _rollout.ended(stops, ids),
            )
            for text, ids, n in zip(completions, completion_ids, number, strict=True)
        ]
        barren[0] = 0 if any(values) else barren[0] + 1
        if barren[0] == _rollout.PATIENCE:
            raise TrainingError(f"no completion earned a reward in {barren[0]} steps")
        return values

    return rewards


def _engine(options: OnlineOptions, sampling: Rollouts) -> dict[str, Any]:
    """Arguments by which TRL's vLLM ends completions where our own sampling does."""
    if options.rollout == "transformers":
        return {}
    return {"use_vllm": True, "generation_kwargs": {"stop_token_ids": sampling.ends}}


def any_signal(job: Job) -> bool:
    """Whether a logged step of this stage had a group with different rewards."""
    from retainbench.harness.core.paths import CellFolder
    from retainbench.trainers._shared import step_log

    lines = step_log.steps(CellFolder(job.out).steps)
    return any(line["frac_reward_zero_std"] < 1 for line in lines[job.spent.steps :])
