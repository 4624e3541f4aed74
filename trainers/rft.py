"""Rejection-sampling fine-tuning: train on the policy's own answers that the reward accepts.

    sample K completions per prompt from q, keep those with reward >= tau, then
    L = -(1/M) sum_t log p(y_t | y_<t, x)              (nll), or
    L = -(1/M) sum_t sg(p_t) log p_t                   (dft, arXiv:2508.05629)

over the M completion tokens of the batch. `one_shot`: q is the stage's starting point, sampled
once. `iterative`: q is the current policy, sampled again for every round (arXiv:2510.18874), which
with a 0/1 reward is REINFORCE on fresh samples.

Each accepted prompt counts the same: duplicates are dropped, then it gives exactly
`kept_per_prompt` completions (repeating some if it has fewer). Prompts with no accepted completion
give nothing. The first log line of a round says how many of each prompt's samples were distinct
and accepted, how sampling was done, and the digest of the weights that sampled.

Deviations:
1. A completion that was cut off is never accepted.
2. The accepted text is encoded again and ended by the end token, as reference answers are.
3. The last rows of a round may be fewer than `batch_size`; the learning rate of that step is in
   proportion to them (arXiv:1706.02677), or each of them would count more than the others.
4. One-shot sampling stops at `sampling_share` of the budget or after one pass over the training
   items, whichever comes first; samples are charged to the budget like everything else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from retainbench.harness.models.identity import weights_digest
from retainbench.trainers._gradient.gradient import GradientOptions
from retainbench.trainers._shared.contract import Item, Job, Outcome, Target

if TYPE_CHECKING:
    from retainbench.trainers._gradient.gradient import Stepper
    from retainbench.trainers._shared.data import Example
    from retainbench.trainers._shared.model import PolicyModel
    from retainbench.trainers._shared.rollout import Sample, Sampler
    from retainbench.trainers._shared.trajectory import Trajectory

PAPER = "Yuan et al. 2023, arXiv:2308.01825; iterative: arXiv:2510.18874"
ADAPTATIONS = ("full", "lora")
ANCHORS = ("weights", "kl", "text")


class Options(GradientOptions):
    """Hyper-parameters; those of GradientOptions and these."""

    learning_rate: float = Field(1e-4, gt=0)
    """Peak learning rate (arXiv:2510.18874, models of 1B)."""
    sampling: Literal["one_shot", "iterative"] = "one_shot"
    """Sample once from the start, or in every round from the current policy."""
    objective: Literal["nll", "dft"] = "nll"
    """Loss on the accepted completions."""
    samples_per_prompt: int = Field(4, ge=1)
    """K (arXiv:2508.05629)."""
    prompts_per_round: int = Field(64, ge=1)
    """Prompts sampled at a time."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature (arXiv:2508.05629)."""
    threshold: float = Field(1.0, ge=0, le=1)
    """tau: the least reward that is accepted; 1.0 accepts correct answers only."""
    kept_per_prompt: int = Field(1, ge=1)
    """Completions that each accepted prompt gives to a round."""
    epochs: int = Field(1, ge=1)
    """Passes over a round's completions before the next round (iterative)."""
    sampling_share: float = Field(0.5, gt=0, lt=1)
    """Share of the budget that one-shot sampling may use."""
    rollout_rows: int = Field(512, ge=1)
    """Completions computed at once; changes memory and speed only."""


class Round(NamedTuple):
    """Accepted completions and how much of them has been trained on."""

    sampled: int = 0
    """Sets of prompts sampled so far, over all rounds."""
    fruitless: int = 0
    """Sets since the last one that gave an accepted completion."""
    used: int = 0
    """Rows trained on so far; may pass over `rows` several times."""
    rows: tuple[tuple[str, str], ...] = ()
    """(prompt, completion) texts."""


def train(job: Job) -> Outcome:
    """Run RFT until the budget is spent.

    Raises:
        TrainingError: nothing was accepted before the first update.
    """
    from retainbench.trainers._gradient import gradient
    from retainbench.trainers._shared import model as _model
    from retainbench.trainers._shared import rollout
    from retainbench.trainers._shared.trajectory import Trajectory

    options: Options = job.options
    policy = _model.load(job)
    trajectory = Trajectory(job, policy)
    stepper = gradient.stepper(policy, options)
    current = Round()
    if state := trajectory.resume():
        gradient.restore(stepper.optimizer, state["optimizer"])
        current = Round(*state["round"])
    update = updater(job, policy, trajectory, stepper)
    sampler = rollout.sampler(job, policy, trajectory.meter, options.rollout_rows)
    while trajectory.running:
        account: dict[str, Any] = {}
        while trajectory.running and spent(current, options):
            current, account = sample(job, sampler, current, trajectory)
            if current.fruitless * options.prompts_per_round >= len(job.target.train):
                return trajectory.outcome({}, _nothing(current, options))
        if current.rows and trajectory.running:  # the budget may have ended while it sampled
            current = update(current, account)
    return trajectory.outcome({}, None if current.rows else _nothing(current, options))


def spent(current: Round, options: Options) -> bool:
    """Whether new completions must be sampled."""
    if options.sampling == "one_shot":
        return not current.rows
    return current.used >= options.epochs * len(current.rows)


def sample(
    job: Job, sampler: Sampler, current: Round, trajectory: Trajectory
) -> tuple[Round, dict[str, Any]]:
    """Sample a round's completions; returns the new round and its account for the step log.

    Points of the trajectory that are passed meanwhile hold the weights that sample.
    """
    from retainbench.trainers._shared import model as _model
    from retainbench.trainers._shared import rollout
    from retainbench.trainers._shared.data import batch_at, generator

    options: Options = job.options
    rows: list[tuple[str, str]] = []
    counts: list[int] = []
    number, fruitless, samples = current.sampled, current.fruitless, 0
    digest = weights_digest(_model.trainable_parameters(sampler.policy.model).items())
    while True:
        items = batch_at(job.target.train, job.seed, number, options.prompts_per_round)
        with rollout.autocast(job):
            made = rollout.rollout(
                sampler,
                items,
                copies=options.samples_per_prompt,
                temperature=options.temperature,
                generator=generator(job.seed, f"rft/{job.stage}/{number}"),
            )
        trajectory.passed_while_sampling()
        accepted, number, samples = accept(made, options), number + 1, samples + len(made)
        counts += [len(distinct) for distinct in accepted]
        rows += equalised(job.target, items, accepted, options.kept_per_prompt)
        fruitless = 0 if any(accepted) else fruitless + 1
        if enough(job, sampler, number):
            break
    account = {
        "sampled_from": digest,
        "temperature": options.temperature,
        "samples": samples,
        "accepted_per_prompt": counts,
        "rejected": samples - sum(counts),
    }
    return Round(number, fruitless, 0, tuple(rows)), account


def enough(job: Job, sampler: Sampler, sampled: int) -> bool:
    """Whether a round has sampled enough sets of prompts."""
    options: Options = job.options
    if options.sampling == "iterative":
        return True
    one_pass = sampled * options.prompts_per_round >= len(job.target.train)
    return one_pass or sampler.meter.share >= options.sampling_share


def accept(samples: Sequence[Sample], options: Options) -> list[list[str]]:
    """Distinct accepted texts of each prompt, in the order they were sampled.

    Args:
        samples: `samples_per_prompt` of each prompt, adjacent.
    """
    size = options.samples_per_prompt
    groups = [samples[start : start + size] for start in range(0, len(samples), size)]
    return [
        list(dict.fromkeys(s.text for s in g if s.finished and s.reward >= options.threshold))
        for g in groups
    ]


def equalised(
    target: Target, items: Sequence[Item], accepted: Sequence[Sequence[str]], kept: int
) -> list[tuple[str, str]]:
    """Exactly `kept` (prompt, completion) rows of every prompt with an accepted text."""
    return [
        (prompt, texts[place % len(texts)])
        for prompt, texts in zip(target.prompts(items), accepted, strict=True)
        if texts
        for place in range(kept)
    ]


def updater(
    job: Job, policy: PolicyModel, trajectory: Trajectory, stepper: Stepper
) -> Callable[[Round, dict[str, Any]], Round]:
    """A function that takes one optimizer step on a round's next rows and logs it."""
    from retainbench.trainers._gradient import general_text, pulls, updates

    loss = updates.token_losses(job.options.objective)
    anchored = pulls.anchored(job, policy)
    penalty = pulls.penalty(job)
    text_terms = general_text.terms(job, policy)

    def update(current: Round, account: dict[str, Any]) -> Round:
        examples = next_rows(job, policy.tokenizer, current)
        metrics = updates.accumulate(trajectory, examples, loss, penalty)
        metrics |= text_terms(trajectory.step, trajectory.meter)
        full = len(examples) / job.options.batch_size
        metrics["gradient_norm"], rate = stepper.step(trajectory.meter.share, full)
        anchored(rate)
        done = current._replace(used=current.used + len(examples))
        trajectory.meter.samples(len(examples))
        trajectory.after_step(
            metrics,
            lambda: {"optimizer": stepper.optimizer.state_dict()["state"], "round": list(done)},
            details=account,
        )
        return done

    return update


def next_rows(job: Job, tokenizer: Any, current: Round) -> list[Example]:
    """The next batch, encoded; at most one whole pass over the rows."""
    from retainbench.trainers._shared.data import example, item_at, seed_for

    rows = [{"prompt": prompt, "completion": text} for prompt, text in current.rows]
    seed = seed_for(job.seed, f"rft/{job.stage}/order/{current.sampled}")
    left = job.options.epochs * len(rows) - current.used
    if job.options.sampling == "one_shot":
        left = len(rows)
    chosen = range(current.used, current.used + min(job.options.batch_size, left))
    picked = [item_at(rows, seed, place) for place in chosen]
    rendering = job.target.rendering
    return [example(tokenizer, row["prompt"], row["completion"], rendering) for row in picked]


def _nothing(current: Round, options: Options) -> str:
    prompts = current.sampled * options.prompts_per_round
    return (
        f"nothing accepted: of {prompts} prompts x {options.samples_per_prompt} samples, the last "
        f"{current.fruitless * options.prompts_per_round} prompts gave no completion with a reward "
        f"of at least {options.threshold:g}; lower the threshold, sample more per prompt, or start "
        "from a base that sometimes solves the target"
    )
