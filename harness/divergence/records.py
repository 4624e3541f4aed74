"""What a KL measurement reads and returns, as records; `divergence.json` holds the summary.

Reads and writes nothing. All divergences are in nats.
"""

from __future__ import annotations

from typing import Literal

from retainbench.harness.core.records import SCHEMA_VERSION, Record

KlDirection = Literal["base || candidate", "candidate || base"]


class Continuation(Record):
    """A prompt and what the sampler wrote after it, as token ids."""

    prompt: str
    prompt_ids: list[int]
    ids: list[int]
    """Sampled tokens, with the one that ended the continuation."""
    ended: bool
    """Ended by itself; False if it was cut off at the longest length."""
    digest: str
    """SHA-256 of the cache key, the row's number and its tokens."""


class KlEstimate(Record):
    """One estimator of one direction on one set of continuations."""

    direction: KlDirection
    estimator: str
    """`exact` over the vocabulary, or k1, k2, k3 on the sampled tokens."""
    per_token: float
    """Every token weighs the same."""
    per_token_error: float | None
    """Standard error with prompts as clusters; None for a single prompt."""
    per_prompt: float
    """Mean over prompts of the mean over the prompt's tokens."""
    per_sequence: float
    """Mean over prompts of the sum over tokens: the KL between whole continuations, cut off at the
    longest length."""


class DivergenceReport(Record):
    """Base against candidate on one set of prompts."""

    schema_version: int = SCHEMA_VERSION
    prompt_set: str
    sampler: Literal["base", "candidate"]
    """Who wrote the continuations; both directions are taken in these contexts."""
    temperature: float = 1.0
    prompts: int
    tokens: int
    """Sampled tokens; ends of continuations count, prompts and padding do not."""
    ended: int
    """Continuations that ended by themselves."""
    dtypes: dict[str, str]
    estimates: list[KlEstimate]

    def find(self, direction: KlDirection, estimator: str) -> KlEstimate:
        """The estimate of that direction by that estimator.

        Raises:
            KeyError: the sampler was the other model, so k1, k2, k3 estimate the other direction.
        """
        for one in self.estimates:
            if (one.direction, one.estimator) == (direction, estimator):
                return one
        raise KeyError((direction, estimator))
