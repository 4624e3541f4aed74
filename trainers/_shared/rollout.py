"""Rollouts: the policy's answers to some items, and the target's rewards.

One path for all methods that sample, so that prompts, stopping, rewards and costs are the same. A
completion ends at a stop string of the target or at the end of turn, as in the evaluation, or is
cut off at the target's longest answer. A completion that was cut off earns nothing: a
reward for unfinished text teaches not to finish (arXiv:2510.18874 does the same).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retainbench.trainers._shared.budget import Meter
from retainbench.trainers._shared.contract import Item, Job, Target, TrainingError

if TYPE_CHECKING:
    import torch

    from retainbench.harness.scoring.stops import Stops
    from retainbench.trainers._shared.model import PolicyModel

Vector = NDArray[np.float64]
PATIENCE = 50
"""Steps without any reward after which a run fails."""


class Sample(NamedTuple):
    """One completion with its reward."""

    item: Item
    prompt: list[int]
    tokens: list[int]
    """Generated ids, the one that ended it included."""
    text: str
    """The text of the tokens, without the end."""
    finished: bool
    """Whether it ended by itself."""
    reward: float
    """As `earned` gives it, in [0, 1]."""


class Sampler(NamedTuple):
    """A policy that answers a target's items; made once per stage by `sampler`."""

    policy: PolicyModel
    target: Target
    stops: Stops
    meter: Meter
    rows: int
    """Completions computed at once; changes memory and speed only."""


def sampler(job: Job, policy: PolicyModel, meter: Meter, rows: int) -> Sampler:
    """Prepare rollouts; decodes every token of the vocabulary once to find those that end."""
    from retainbench.harness.scoring.stops import stop_rule

    ends = job.target.rendering.ends(policy.tokenizer)
    vocabulary = policy.model.config.get_text_config().vocab_size
    stops = stop_rule(ends, vocabulary, job.target.stop, policy.tokenizer)
    return Sampler(policy, job.target, stops, meter, rows)


def prompts(sampler: Sampler, items: Sequence[Item]) -> list[list[int]]:
    """Token ids of the items' prompts."""
    target = sampler.target
    return target.rendering.encode(sampler.policy.tokenizer, target.prompts(items))


def rollout(
    sampler: Sampler,
    items: Sequence[Item],
    *,
    copies: int = 1,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> list[Sample]:
    """Answer every item `copies` times (adjacent in the result), score, and charge the meter.

    Args:
        temperature: 0 is greedy decoding.
        generator: needed at temperatures above 0; its state determines the completions.
    """
    from retainbench.harness.scoring.decoding import generate

    ids = prompts(sampler, items)
    made = generate(
        sampler.policy.model,
        ids,
        max_new_tokens=sampler.target.max_new_tokens,
        stops=sampler.stops,
        samples=copies,
        temperature=temperature,
        generator=generator,
        rows=sampler.rows,
    )
    repeated = [item for item in items for _ in range(copies)]
    samples = score(sampler, repeated, [p for p in ids for _ in range(copies)], made.tokens)
    charge(sampler.meter, sum(map(len, ids)), samples)
    return samples


def score(
    sampler: Sampler,
    items: Sequence[Item],
    prompts: Sequence[list[int]],
    completions: Sequence[list[int]],
) -> list[Sample]:
    """Completions with their texts and rewards."""
    texts = sampler.policy.tokenizer.batch_decode(completions, skip_special_tokens=True)
    samples = []
    for item, prompt, tokens, decoded in zip(items, prompts, completions, texts, strict=True):
        text, finished = sampler.target.response(decoded), ended(sampler.stops, tokens)
        reward = earned(sampler.target, text, item, finished)
        samples.append(Sample(item, prompt, tokens, text, finished, reward))
    return samples


def ended(stops: Stops, tokens: Sequence[int]) -> bool:
    """Whether a completion ended by itself, rather than at the longest answer."""
    return bool(tokens) and (bool(stops.ends_V[tokens[-1]]) or stops.completed(tokens))


def earned(target: Target, text: str, item: Item, finished: bool) -> float:
    """The target's reward for a completion's text; 0 for one that was cut off.

    Raises:
        TrainingError: the reward is not a number in [0, 1]; with NaN the weights would be lost.
    """
    reward = float(target.reward(text, item)) if finished else 0.0
    if not 0.0 <= reward <= 1.0:
        raise TrainingError(
            f"the target's reward gave {reward} for the response {text!r}: it must give a number "
            "in [0, 1] for every response"
        )
    return reward


def charge(meter: Meter, prompt_tokens: int, samples: Sequence[Sample]) -> None:
    """Prompt tokens and new tokens; samples are counted by the update that learns from them."""
    meter.forward(prompt_tokens)
    meter.generated(sum(len(sample.tokens) for sample in samples))


def rewards(samples: Sequence[Sample]) -> Vector:
    """Rewards as float64, in order."""
    return np.array([sample.reward for sample in samples])


def cut_off(samples: Sequence[Sample]) -> float:
    """Share of completions that did not end by themselves."""
    return float(np.mean([not sample.finished for sample in samples]))


def autocast(job: Job) -> AbstractContextManager[Any]:
    """The job's compute dtype; the weights stay float32."""
    import torch

    if job.dtype == "float32":
        return nullcontext()
    return torch.autocast(torch.device(job.device).type, dtype=getattr(torch, job.dtype))
