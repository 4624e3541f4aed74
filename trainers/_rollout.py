"""Rollouts: what the policy writes for some items, and the target's reward for it.

One path for all methods that sample (ES, RFT, PPO), so that prompts, stopping, rewards and costs
are the same. A completion ends at the first newline or end-of-text token, or at the target's
longest answer; one that was cut off has reward 0, because rewarding it would teach the policy not
to stop (arXiv:2510.18874 zeroes it too).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from retainbench.trainers._budget import Meter
from retainbench.trainers._contract import Item, Job, Target
from retainbench.trainers._data import encode

if TYPE_CHECKING:
    import torch

Vector = NDArray[np.float64]


class Sample(NamedTuple):
    """One completion with its reward."""

    item: Item
    prompt: list[int]
    tokens: list[int]
    """Sampled ids, the one that ended it included."""
    text: str
    """What the tokens say, without what ended them."""
    finished: bool
    """Whether it ended by itself."""
    reward: float
    """In [0, 1]; 0 where it did not end by itself."""


class Sampling(NamedTuple):
    """How to draw completions."""

    temperature: float
    """0 is greedy decoding."""
    generator: torch.Generator | None
    """On the model's device; unused by greedy decoding."""
    rows: int
    """Completions computed at once; changes memory and speed only."""


def prompts(tokenizer: Any, target: Target, items: Sequence[Item]) -> list[list[int]]:
    """Token ids of the items' prompts."""
    return [encode(tokenizer, target.prompt(item)).prompt for item in items]


def rollout(
    model: Any,
    tokenizer: Any,
    target: Target,
    items: Sequence[Item],
    sampling: Sampling,
    meter: Meter,
) -> list[Sample]:
    """Complete every item once, score the completions and charge the meter for all of it."""
    from retainbench.harness.generation import generate

    samples: list[Sample] = []
    for start in range(0, len(items), sampling.rows):
        part = items[start : start + sampling.rows]
        ids = prompts(tokenizer, target, part)
        generated = generate(
            model,
            tokenizer,
            ids,
            max_new_tokens=target.max_new_tokens,
            temperature=sampling.temperature,
            generator=sampling.generator,
        )
        samples += [
            scored(tokenizer, target, item, prompt, tokens)
            for item, prompt, tokens in zip(part, ids, generated, strict=True)
        ]
    charge(meter, samples)
    return samples


def scored(
    tokenizer: Any, target: Target, item: Item, prompt: list[int], tokens: list[int]
) -> Sample:
    """A completion with its text and reward."""
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    finished = "\n" in text or bool(tokens and tokens[-1] == tokenizer.eos_token_id)
    text = text.split("\n", 1)[0]
    reward = float(target.reward(text, item)) if finished else 0.0
    return Sample(item, prompt, tokens, text, finished, reward)


def charge(meter: Meter, samples: Sequence[Sample]) -> None:
    """Prompt tokens forwards, new tokens as generated, one sample per completion."""
    meter.forward(sum(len(sample.prompt) for sample in samples))
    meter.generated(sum(len(sample.tokens) for sample in samples))
    meter.samples(len(samples))


def rewards(samples: Sequence[Sample]) -> Vector:
    """Rewards as float64, in order."""
    return np.array([sample.reward for sample in samples])


def autocast(job: Job) -> AbstractContextManager[Any]:
    """The job's compute dtype on an accelerator; float32 on CPU."""
    import torch

    if job.device == "cpu" or job.dtype == "float32":
        return nullcontext()
    return torch.autocast(torch.device(job.device).type, dtype=getattr(torch, job.dtype))
